"""The attention that is shown of a detector is that which transformers reports of the same weights."""

import pytest
import torch

from parity.references import agree, load, saved
from parity.test_detr import build, pictures
from vitrail.explain.kinds import kinds
from vitrail.explain.recording import recording
from vitrail.models.detr import DETR

SIZES = [(70, 101), (97, 64), (33, 90)]


def recorded(model: DETR, kind: str, pixels: torch.Tensor, valid: torch.Tensor) -> list[torch.Tensor]:
    """The attention of one kind, layer by layer."""
    twin, records = recording(model, kinds(model)[kind])
    twin.eval()(pixels, valid)
    return [record.maps[0] for record in records.values()]


@pytest.mark.parametrize("precise", [False, True])
def test_attention_is_what_transformers_reports_in_batches_with_padding_too(tmp_path, precise):
    torch.manual_seed(0)  # some draws give scores so far apart that their rounding alone is more than is allowed
    theirs = build(attn_implementation="eager")
    ours = load(saved(theirs, tmp_path), backbone={"padding": "original"})
    if precise:
        theirs, ours = theirs.double(), ours.double()
    pixels, valid = pictures(*SIZES, dtype=torch.float64 if precise else torch.float32)
    told = theirs(pixels, valid.long(), output_attentions=True)
    shown = ours.see(pixels, valid).valid.flatten(1)
    found = {kind: recorded(ours, kind, pixels, valid) for kind in ("encoder", "decoder", "cross")}
    reported = {"encoder": told.encoder_attentions, "decoder": told.decoder_attentions, "cross": told.cross_attentions}
    for kind, layers in reported.items():
        assert len(found[kind]) == len(layers)
        for mine, other in zip(found[kind], layers, strict=True):
            for place in range(len(SIZES)):  # what padding looks at is nobody's business
                rows = shown[place] if kind == "encoder" else slice(None)
                agree(mine[place][:, rows], other[place][:, rows], precise)


def test_nobody_looks_at_padding_and_a_picture_is_looked_at_as_if_it_were_alone(tmp_path):
    model = load(saved(build(), tmp_path)).double()  # padding as we do it: nothing bleeds
    pixels, valid = pictures(*SIZES, dtype=torch.float64)
    shown = model.see(pixels, valid).valid.flatten(1)
    assert not shown.all()
    for kind in ("encoder", "cross"):
        together = recorded(model, kind, pixels, valid)
        for place, (high, wide) in enumerate(SIZES):
            alone = recorded(
                model, kind, pixels[place : place + 1, :, :high, :wide], valid[place : place + 1, :high, :wide]
            )
            rows = shown[place] if kind == "encoder" else slice(None)
            for many, one in zip(together, alone, strict=True):
                assert many[place][:, rows][..., ~shown[place]].abs().max() == 0 if not shown[place].all() else True
                torch.testing.assert_close(many[place][:, rows][..., shown[place]], one[0], rtol=1e-9, atol=1e-9)
