"""How other libraries write the Vision Transformer down: tensor names, configurations, and what shapes tell.

One file for each library. Its names are tables that read and write (`weights.keymap`); compared with transformers,
timm, torchvision and google-research in tests/parity and tests/contracts/test_keymaps.py.
"""

from vitrail.models.family import Family
from vitrail.models.vit import VARIANTS, ViT, ViTConfig
from vitrail.models.vit_formats import dinov2, google, timm, torchvision, transformers
from vitrail.models.vit_formats.changes import change, resize
from vitrail.models.vit_formats.shapes import infer

FAMILY = Family(
    name="vit",
    config=ViTConfig,
    build=ViT,
    variants=VARIANTS,
    formats=(
        *transformers.FORMATS,
        *timm.FORMATS,
        *torchvision.FORMATS,
        *google.FORMATS,
        *dinov2.FORMATS,
    ),
    heads=("head.*", "distillation_head.*"),
    before_heads=("representation.*",),
    training=("drop_path", "dropout", "embed_dropout", "attention_dropout", "mask_token"),
    identity=(
        "patch",
        "dim",
        "depth",
        "heads",
        "mlp_dim",
        "stem",
        "backbone",
        "class_token",
        "distillation_token",
        "registers",
        "position",
        "norm",
        "gated",
    ),
    flexible=("classes", "image", "channels", "dialect"),
    untold={"heads": "dim"},
    assumed=("heads", "norm", "activation", "pool"),
    learns={"classify": "classify"},
    infer=infer,
    change=change,
    resize=resize,
)
