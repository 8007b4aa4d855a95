"""What panoptic DETR promises: masks that do not depend on what stands beside a picture, and segments that share it."""

import pytest
import torch
from torch import Tensor, nn

from vitrail.errors import ConfigError
from vitrail.models.detr import DETRConfig
from vitrail.models.panoptic import Panoptic, PanopticConfig
from vitrail.models.resnet import ResNetConfig
from vitrail.models.vit import ViTConfig
from vitrail.tasks.panoptic_merge import merge, uncovered

PICTURES = [(75, 97), (64, 33), (101, 61)]  # rows and columns


def panoptic(dilated: bool = False, *, placed: bool = False) -> Panoptic:
    """A small model in which every number says something."""
    torch.manual_seed(2)
    backbone = ResNetConfig(
        stem=4, widths=(4, 6, 8, 10), layers=(1, 1, 1, 1), norm="frozen", classes=0, dilated=dilated
    )
    detr = DETRConfig(
        backbone=backbone, dim=128, heads=8, encoder_depth=1, decoder_depth=1, mlp_dim=24, queries=3, classes=3,
        anchors=placed,
    )  # fmt: skip
    model = Panoptic(PanopticConfig(detr=detr, classes=3, placed=placed)).eval()
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            nn.init.uniform_(tensor, 0.5, 1.5)
        elif tensor.ndim > 1:
            nn.init.normal_(tensor, std=2.0 * tensor[0].numel() ** -0.5)
        else:
            nn.init.normal_(tensor, std=0.2, mean=float(name.endswith("norm.weight")))
    return model.double()


def side_by_side() -> tuple[Tensor, Tensor]:
    """Noise in one frame; what is beside it is no number at all."""
    pixels = torch.full((3, 3, 101, 97), float("nan"), dtype=torch.float64)
    valid = torch.zeros(3, 101, 97, dtype=torch.bool)
    for place, (high, wide) in enumerate(PICTURES):
        pixels[place, :, :high, :wide] = torch.randn(3, high, wide)
        valid[place, :high, :wide] = True
    return pixels, valid


@pytest.mark.parametrize(("dilated", "placed"), [(False, False), (True, False), (False, True)])
def test_a_picture_is_painted_alone_as_in_a_batch(dilated, placed):
    model = panoptic(dilated, placed=placed)
    pixels, valid = side_by_side()
    together = model(pixels, valid)
    for place, (high, wide) in enumerate(PICTURES):
        alone = model(pixels[place : place + 1, :, :high, :wide])
        rows, columns = alone.masks.shape[2:]
        torch.testing.assert_close(together.masks[place, :, :rows, :columns], alone.masks[0], rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(together.boxes[place], alone.boxes[0], rtol=1e-9, atol=1e-9)
        enlarged = uncovered(alone.masks[0], (high, wide), (high, wide))
        torch.testing.assert_close(uncovered(together.masks[place], (101, 97), (high, wide)), enlarged)


def test_a_query_looks_once_over_all_heads_and_cells():
    model = panoptic()
    pixels, valid = side_by_side()
    memory = model.detr.encode(pixels, valid)
    looks = model.look(model.detr.decode(memory)[-1].x, memory)
    torch.testing.assert_close(looks.sum(dim=(2, 3, 4)), torch.ones(3, 3, dtype=torch.float64))
    assert not looks.movedim(0, -3)[..., ~memory.tokens.valid.unflatten(1, memory.tokens.grid)].any()


def test_a_frame_without_a_picture_gives_numbers():
    model = panoptic()
    pixels, valid = side_by_side()
    valid[1] = False
    assert all(part.isfinite().all() for part in model(pixels, valid))


def told(*labels: int, score: float = 0.9, classes: int = 3) -> Tensor:
    """Beliefs of queries that are as sure as `score` of these classes."""
    belief = torch.full((len(labels), classes + 1), (1 - score) / classes)
    belief[torch.arange(len(labels)), torch.tensor(labels)] = score
    return belief


def painted(*boxes: tuple[int, int, int, int], size: tuple[int, int] = (12, 12)) -> Tensor:
    """Logits of queries that claim rows and columns, the later the stronger."""
    logits = torch.full((len(boxes), *size), -5.0)
    for place, (top, left, bottom, right) in enumerate(boxes):
        logits[place, top:bottom, left:right] = 5.0 + place
    return logits


WORDS = {"classes": ("cat", "dog", "grass"), "things": (True, True, False)}


def test_every_pixel_goes_to_the_strongest_and_one_stuff_is_one_segment():
    logits = painted((0, 0, 6, 12), (6, 0, 12, 12), (4, 4, 8, 8))
    found = merge(told(2, 2, 0), logits, (12, 12), **WORDS)
    assert found.summary() == "1 cat, grass"
    assert dict(zip([segment.label for segment in found.segments], found.areas, strict=True))[0] == 16
    assert int((found.numbers == 0).sum()) == 0


def test_segments_of_four_pixels_go_and_those_of_five_stay():
    for wide, count in ((4, 1), (5, 2)):
        found = merge(told(0, 1), painted((0, 0, 12, 12), (0, 0, 1, wide)), (12, 12), **WORDS)
        assert len(found.segments) == count
        assert sum(found.areas) == 144


def test_where_no_query_is_sure_there_is_no_segment():
    for belief in (told(0, score=0.84), told(3, score=0.99)):
        found = merge(belief, painted((0, 0, 12, 12)), (12, 12), **WORDS)
        assert found.segments == ()
        assert not found.numbers.any()


def test_a_configuration_that_makes_no_sense_is_refused():
    with pytest.raises(ConfigError, match="should be one number"):
        PanopticConfig(classes=3)
    with pytest.raises(ConfigError, match="has to be a ResNet of 3 or 4 stages"):
        PanopticConfig(detr=DETRConfig(backbone=ViTConfig(classes=0), classes=250))
    with pytest.raises(ConfigError, match="dim=192 should be a multiple of 128"):
        PanopticConfig(detr=DETRConfig(dim=192, classes=250))


def chosen(*pairs):
    """Places of pictures, and queries, in the order in which they are asked for."""
    pictures, queries = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T
    return pictures, queries


@pytest.mark.parametrize("pairs", [[(2, 1), (0, 2), (2, 0), (2, 2), (0, 0)], [(1, 1)], []])
def test_masks_that_are_asked_for_are_those_of_all_queries(pairs):
    model = panoptic()
    pixels, valid = side_by_side()
    pictures, queries = chosen(*pairs)
    whole = model(pixels, valid).masks
    asked = model.layers(pixels, valid)[-1].masks[pictures, queries]
    assert asked.shape == (len(pairs), *whole.shape[2:])
    torch.testing.assert_close(asked, whole[pictures, queries], rtol=1e-10, atol=1e-10)


def test_no_more_is_painted_than_is_asked_for():
    model = panoptic()
    painted = []
    model.mask_head.register_forward_hook(lambda head, inputs, output: painted.append(len(output)))
    canvas = model.layers(*side_by_side())[-1].masks
    assert painted == []
    canvas[chosen((0, 1), (2, 0), (2, 2))]
    canvas[chosen()]
    assert painted == [1, 2, 1]  # picture 0, picture 2, and one in vain


def test_where_nothing_is_asked_for_all_parts_still_learn():
    """Processes of which one has only empty pictures must agree on what has a gradient."""
    model = panoptic()
    model.layers(*side_by_side())[-1].masks[chosen()].sum().backward()
    gradients = [part.grad for part in (model.mask_head.out.weight, model.look.query.weight)]
    assert all(gradient is not None and not gradient.any() for gradient in gradients)


def test_even_looks_are_shares_times_how_many_there_are():
    model = panoptic()
    pixels, valid = side_by_side()
    memory = model.detr.encode(pixels, valid)
    x = model.detr.decode(memory)[-1].x
    shares = model.look(x, memory)
    model.look.even = True
    cells = memory.tokens.valid.sum(dim=1)[:, None, None, None, None]
    torch.testing.assert_close(model.look(x, memory), shares * 8 * cells)
    torch.testing.assert_close(model.look(x, memory).sum(dim=(2, 3, 4)), (8.0 * cells.double()).view(3, 1).expand(3, 3))


def test_a_fresh_look_that_is_told_places_is_nearest_to_the_middle_of_the_box():
    torch.manual_seed(0)
    detr = DETRConfig(
        backbone=ResNetConfig(stem=4, widths=(4, 6, 8), layers=(1, 1, 1), classes=0), dim=128, heads=4,
        encoder_depth=1, decoder_depth=1, mlp_dim=24, queries=12, classes=3, anchors=True,
    )  # fmt: skip
    model = Panoptic(PanopticConfig(detr=detr, classes=3, looks=8, placed=True)).eval()
    with torch.no_grad():
        memory = model.detr.encode(torch.rand(1, 3, 128, 128))
        nothing = memory._replace(tokens=memory.tokens._replace(x=torch.zeros_like(memory.tokens.x)))
        points = torch.rand(1, 12, 2)
        looks = model.look(torch.zeros(1, 12, 128), nothing, model.detr.positions.at(points)).sum(dim=2)[0]
    cell = looks.flatten(1).argmax(dim=1)
    found = torch.stack([cell % 8, cell // 8], dim=1)
    assert ((found + 0.5) / 8 - points[0]).abs().max() < 0.15  # a cell is an eighth


def test_looks_are_told_places_only_where_queries_are_points():
    detr = DETRConfig(backbone=ResNetConfig(stem=4, widths=(4, 6, 8), layers=(1, 1, 1)), dim=128, heads=4, classes=3)
    with pytest.raises(ConfigError, match=r"needs detr\.anchors=True"):
        PanopticConfig(detr=detr, classes=3, looks=8, placed=True)
