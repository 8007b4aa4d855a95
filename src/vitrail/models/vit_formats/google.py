"""Google's .npz archives: google-research/vision_transformer, and big_vision.

Flax keeps kernels as (in, out), convolutions as (rows, columns, in, out), and the heads as an axis of their own.

Source: github.com/google-research/vision_transformer and big_vision (names and layouts of their checkpoints).
"""

from typing import Any

from vitrail.models.family import Format, Shapes
from vitrail.weights.keymap import Alias, KeyMap, Rearrange, Rename

NAMES = (
    Alias("opt/target/{rest}", "{rest}"),
    Alias("params/{rest}", "{rest}"),
    Rename("cls", "class_token"),
    Rearrange(
        "embedding/kernel", "patch_embed.project.weight", "rows columns channels dim -> dim channels rows columns"
    ),
    Rename("embedding/bias", "patch_embed.project.bias"),
    Rename("Transformer/encoder_norm/scale", "norm.weight"),
    Rename("Transformer/encoder_norm/bias", "norm.bias"),
    Rearrange("pre_logits/kernel", "representation.weight", "dim width -> width dim"),
    Rename("pre_logits/bias", "representation.bias"),
    Rearrange("head/kernel", "head.weight", "dim classes -> classes dim"),
    Rename("head/bias", "head.bias"),
)


def google_block(attention: str, mlp: str, second_norm: str) -> tuple:
    """The rows for one block; the two repositories number its modules differently."""
    block = "Transformer/encoderblock_{i}"
    projections = [
        rule
        for part in ("query", "key", "value")
        for rule in (
            Rearrange(
                f"{block}/{attention}/{part}/kernel",
                f"blocks.{{i}}.attention.{part}.weight",
                "dim heads width -> (heads width) dim",
            ),
            Rearrange(
                f"{block}/{attention}/{part}/bias",
                f"blocks.{{i}}.attention.{part}.bias",
                "heads width -> (heads width)",
            ),
        )
    ]
    return (
        Rename(f"{block}/LayerNorm_0/scale", "blocks.{i}.around_attention.norm.weight"),
        Rename(f"{block}/LayerNorm_0/bias", "blocks.{i}.around_attention.norm.bias"),
        *projections,
        Rearrange(
            f"{block}/{attention}/out/kernel", "blocks.{i}.attention.out.weight", "heads width dim -> dim (heads width)"
        ),
        Rename(f"{block}/{attention}/out/bias", "blocks.{i}.attention.out.bias"),
        Rename(f"{block}/{second_norm}/scale", "blocks.{i}.around_mlp.norm.weight"),
        Rename(f"{block}/{second_norm}/bias", "blocks.{i}.around_mlp.norm.bias"),
        Rearrange(f"{block}/{mlp}/Dense_0/kernel", "blocks.{i}.mlp.expand.weight", "dim hidden -> hidden dim"),
        Rename(f"{block}/{mlp}/Dense_0/bias", "blocks.{i}.mlp.expand.bias"),
        Rearrange(f"{block}/{mlp}/Dense_1/kernel", "blocks.{i}.mlp.contract.weight", "hidden dim -> dim hidden"),
        Rename(f"{block}/{mlp}/Dense_1/bias", "blocks.{i}.mlp.contract.bias"),
    )


VISION_TRANSFORMER = (
    Rename("Transformer/posembed_input/pos_embedding", "positions.table"),
    *google_block("MultiHeadDotProductAttention_1", "MlpBlock_3", "LayerNorm_2"),
)
BIG_VISION = (
    Rename("pos_embedding", "positions.table"),
    *google_block("MultiHeadDotProductAttention_0", "MlpBlock_0", "LayerNorm_1"),
)


def infer_google(shapes: Shapes) -> dict[str, Any]:
    """Heads are an axis of their own in these files."""
    heads = {shape[1] for name, shape in shapes.items() if name.endswith("/query/kernel") and len(shape) == 3}
    return {"heads": heads.pop()} if len(heads) == 1 else {}


FORMATS = tuple(
    Format(
        library="google",
        keymap=KeyMap((*NAMES, *block)),
        defaults={"eps": 1e-6, "dialect": "jax"},
        preprocessing={"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)},
        infer=infer_google,
    )
    for block in (VISION_TRANSFORMER, BIG_VISION)
)
