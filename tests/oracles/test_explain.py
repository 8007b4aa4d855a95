"""Where a model looked: models built so that the answer is known, and the attention that other libraries report."""

import io
import math
import subprocess
import sys
import threading
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from vitrail.cli.main import main
from vitrail.core.attention import Attention
from vitrail.core.tokens import Tokens
from vitrail.data.images import ImageFile, PictureArray
from vitrail.errors import ExplanationError
from vitrail.explain.attention import check_head, explain, look, pixel_at, sheet
from vitrail.explain.drawing import HeatMap, Page, Panel, brightest, draw, overlay, visible
from vitrail.explain.evidence import evidence
from vitrail.explain.figures import KINDS, drawable
from vitrail.explain.recording import chosen_layers, recording
from vitrail.geometry.placement import Placement
from vitrail.loading import from_pretrained, save_pretrained
from vitrail.models.vit import ViT, ViTConfig
from vitrail.predict import predictor
from vitrail.preprocessing import Preprocessing
from vitrail.weights.card import Card

PATCH, GRID = 8, (6, 8)
SIZE = (GRID[0] * PATCH, GRID[1] * PATCH)
PLACES = GRID[0] * GRID[1]
READ_ALL = Preprocessing(size=SIZE, resize=SIZE, fit="squash", mean=(0.0,) * 3, std=(1.0,) * 3)
READ_32 = Preprocessing(size=(32, 32), resize=None, mean=(0.5,) * 3, std=(0.5,) * 3)
MIDDLE = Preprocessing(size=SIZE, resize=SIZE, fit="cover", mean=(0.0,) * 3, std=(1.0,) * 3)


class Planted(nn.Module):
    """A model of one attention layer whose weights are set by hand; `prefix` tokens of zeros stand first."""

    def __init__(self, dim: int, prefix: int = 1, class_token: bool = True) -> None:
        super().__init__()
        self.prefix = prefix
        self.class_token = nn.Parameter(torch.zeros(1, 1, dim)) if class_token else None
        self.attention = Attention(dim, heads=1, scale=1.0)
        for parameter in self.attention.parameters():
            nn.init.zeros_(parameter)

    def tokens(self, images):
        raise NotImplementedError

    def encode(self, images):
        x = torch.nn.functional.pad(self.tokens(images), (0, 0, self.prefix, 0))
        return Tokens(self.attention(x, x, x), GRID, self.prefix)


class Bright(Planted):
    """Everybody looks at bright patches."""

    def __init__(self, **how) -> None:
        super().__init__(1, **how)
        nn.init.ones_(self.attention.query.bias)
        nn.init.constant_(self.attention.key.weight, 50.0)

    def tokens(self, images):
        return nn.functional.avg_pool2d(images.mean(1, keepdim=True), PATCH).flatten(2).transpose(1, 2)


class Vain(Planted):
    """Every patch looks at itself, and those without a place at nothing in particular."""

    def __init__(self, **how) -> None:
        super().__init__(PLACES, **how)
        for part in (self.attention.query, self.attention.key):
            part.weight.data = torch.eye(PLACES) * 5

    def tokens(self, images):
        return torch.eye(PLACES).expand(images.shape[0], -1, -1)


def tiny(**changes) -> ViT:
    torch.manual_seed(0)
    return ViT(
        ViTConfig(**{"image": 32, "patch": 8, "dim": 24, "depth": 3, "heads": 4, "mlp_dim": 48} | changes)
    ).eval()


def blank(rows: int, columns: int) -> np.ndarray:
    return np.zeros((rows, columns, 3), dtype=np.uint8)


def brightest_patch(explanation) -> torch.Tensor:
    """The corners, in pixels of the file, of the patch that is looked at most."""
    row, column = divmod(int(explanation.map.argmax()), GRID[1])
    left, top = column * PATCH, row * PATCH
    box = torch.tensor([[left, top], [left + PATCH, top + PATCH]], dtype=torch.float64)
    return explanation.placement.back(box)


SHAPES = [(480, 640), (640, 480), (90, 700), (700, 90), (48, 64), (31, 53)]


@pytest.mark.parametrize("preprocessing", [READ_ALL, MIDDLE], ids=["all", "middle"])
@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_the_patch_under_the_pixel_that_was_asked_answers(rows, columns, preprocessing):
    """Each patch looks at itself, so the map must light up beneath the question, wherever that is in the file."""
    picture, model = PictureArray(blank(rows, columns)), Vain()
    left, top, right, bottom = visible(preprocessing(picture).placement)
    chance = np.random.default_rng(0)
    for _ in range(12):
        x = int(chance.integers(math.ceil(left), math.floor(right)))
        y = int(chance.integers(math.ceil(top), math.floor(bottom)))
        explanation = explain(model, preprocessing, picture, at=(x, y))
        (first_x, first_y), (last_x, last_y) = brightest_patch(explanation).tolist()
        assert first_x - 1e-9 <= x + 0.5 <= last_x + 1e-9  # on the edge between two patches, either
        assert first_y - 1e-9 <= y + 0.5 <= last_y + 1e-9
        corners = explanation.asked.mark.patch
        assert corners.amin(0).tolist() == pytest.approx([first_x, first_y])
        assert corners.amax(0).tolist() == pytest.approx([last_x, last_y])


@pytest.mark.parametrize("preprocessing", [READ_ALL, MIDDLE], ids=["all", "middle"])
@pytest.mark.parametrize(("rows", "columns"), [(480, 640), (640, 480), (300, 1000), (1000, 300)])
def test_a_bright_spot_in_the_file_is_found_where_it_is(rows, columns, preprocessing):
    y, x = round(rows * 0.52), round(columns * 0.47)  # a place that both see
    pixels = blank(rows, columns)
    pixels[y - 5 : y + 5, x - 5 : x + 5] = 255
    (left, top), (right, bottom) = brightest_patch(explain(Bright(), preprocessing, PictureArray(pixels))).tolist()
    assert left - 5 <= x <= right + 5
    assert top - 5 <= y <= bottom + 5


def test_points_are_those_of_the_picture_as_displayed(tmp_path):
    """A camera held upright stores the picture lying down; the question counts pixels of what one sees."""
    stored = blank(60, 80)
    stored[10:20, 50:60] = 255  # turned by 90 degrees clockwise: x = 60 - 1 - row, y = column
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(stored).save(tmp_path / "upright.png", exif=exif)
    picture = ImageFile(tmp_path / "upright.png")
    assert picture.size == (80, 60)

    (left, top), (right, bottom) = brightest_patch(explain(Bright(), READ_ALL, picture)).tolist()
    assert left <= 45 <= right
    assert top <= 55 <= bottom
    explain(Vain(), READ_ALL, picture, at=(59, 79))
    with pytest.raises(ExplanationError, match="x runs from 0 to 59 and y from 0 to 79"):
        explain(Vain(), READ_ALL, picture, at=(70, 10))


@pytest.mark.parametrize(("rows", "columns"), [(480, 640), (300, 1000), (1000, 300)])
def test_the_drawing_lights_up_where_the_bright_spot_is(rows, columns):
    """Read back from the drawn pixels, as a person would."""
    y, x = round(rows * 0.52), round(columns * 0.47)
    pixels = blank(rows, columns)
    pixels[y - 5 : y + 5, x - 5 : x + 5] = 255
    explanation = explain(Bright(), MIDDLE, PictureArray(pixels))
    image = np.asarray(overlay(Image.fromarray(pixels), explanation.placement, HeatMap("", explanation.map)))

    assert image.shape[:2] == pytest.approx((rows, columns), abs=1)
    red, blue = image[..., 0].astype(int), image[..., 2].astype(int)
    found = np.argwhere(red - blue == (red - blue).max())  # the brightest colour is the yellowest
    (left, top), (right, bottom) = brightest_patch(explanation).tolist()
    assert left - 2 <= found[:, 1].min()
    assert found[:, 1].max() <= right + 2
    assert top - 2 <= found[:, 0].min()
    assert found[:, 0].max() <= bottom + 2


@pytest.mark.parametrize(
    ("matrix", "corner"),
    [
        ((0.5, 0, 0, 0, 0.5, 0), "top left"),
        ((-0.5, 0, 40, 0, 0.5, 0), "top right"),
        ((0, 0.5, 0, -0.5, 0, 40), "top right"),  # turned by a quarter
        ((0, -0.5, 40, 0.5, 0, 0), "bottom left"),
        ((-0.5, 0, 40, 0, -0.5, 40), "bottom right"),
    ],
)
def test_a_map_is_drawn_through_any_placement(matrix, corner):
    """The first patch is the bright one; a mirrored or turned view brings it to another corner of the file."""
    values = torch.zeros(4, 4)
    values[0, 0] = 1
    placement = Placement(tuple(map(float, matrix)), (80, 80), (40, 40))
    image = np.asarray(overlay(Image.new("RGB", (80, 80)), placement, HeatMap("", values))).astype(int)
    y, x = np.argwhere(image[..., 0] - image[..., 2] > 40).mean(axis=0)
    assert f"{'top' if y < 40 else 'bottom'} {'left' if x < 40 else 'right'}" == corner


def test_what_the_model_does_not_read_is_faded_in_the_drawing():
    pixels = np.full((400, 1200, 3), 100, dtype=np.uint8)
    explanation = explain(Bright(), MIDDLE, PictureArray(pixels))
    image = np.asarray(overlay(Image.fromarray(pixels), explanation.placement, HeatMap("", explanation.map)))
    left, _, right, _ = visible(explanation.placement)
    inside, outside = image[200, round((left + right) / 2)], image[200, round(left / 2)]
    assert outside.min() > 180
    assert np.ptp(outside) == 0
    assert inside.max() != outside.max()


def test_attention_is_that_of_transformers(tmp_path):
    config = transformers.ViTConfig(
        hidden_size=24, num_hidden_layers=3, num_attention_heads=4, intermediate_size=48, image_size=32, patch_size=8
    )
    torch.manual_seed(0)
    theirs = transformers.ViTForImageClassification._from_config(config, attn_implementation="eager").eval()
    for parameter in theirs.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    with torch.no_grad():
        images = READ_32(PictureArray(pixels)).pixels[None]
        attentions = theirs(images, output_attentions=True).attentions
    theirs.save_pretrained(tmp_path)
    ours = from_pretrained(tmp_path, announce=lambda sentence: None)

    for layer in (0, 1, 2, -1):
        seen = explain(ours, READ_32, PictureArray(pixels), layer=layer, head="all")
        torch.testing.assert_close(seen.weights.float(), attentions[layer][0, :, 0], rtol=1e-5, atol=1e-6)
    asked = explain(ours, READ_32, PictureArray(pixels), at=(20, 9), layer=1, head=2)  # row 1, column 2 of 4 x 4
    torch.testing.assert_close(asked.weights[0].float(), attentions[1][0, 2, 1 + 4 + 2], rtol=1e-5, atol=1e-6)


def test_attention_is_that_of_timm(shared, tmp_path):
    """As recorded by vit-explain's hooks on a timm model."""
    fixture = load_file(shared / "golden/explain/vit_rollout.safetensors")
    weights = {name.removeprefix("weight."): tensor for name, tensor in fixture.items() if name.startswith("weight.")}
    save_file(weights, tmp_path / "model.safetensors")
    model = from_pretrained(
        tmp_path / "model.safetensors", format="timm", model="vit-tiny-16", heads=4, announce=lambda sentence: None
    )
    twin, records = recording(model)
    with torch.no_grad():
        logits = twin(fixture["input.image"])

    torch.testing.assert_close(logits, fixture["output.logits"], rtol=1e-5, atol=1e-5)
    for layer in range(3):
        weights = records[f"blocks.{layer}.attention"].maps[0]
        torch.testing.assert_close(weights, fixture[f"output.attn{layer}"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("prefix", [0, 1, 5])
def test_what_goes_to_tokens_without_a_place_is_counted_and_written_down(prefix):
    explanation = explain(Vain(prefix=prefix), READ_ALL, PictureArray(blank(50, 70)), at=(3, 3))
    score = math.exp(25)  # of a patch with itself; every other token scores 1
    assert explanation.weights.shape == (1, prefix + PLACES)
    assert explanation.unplaced == pytest.approx(prefix / (score + prefix + PLACES - 1))
    assert explanation.unplaced + float(explanation.map.sum()) == pytest.approx(1)
    notes = " ".join(explanation.caption().notes)
    assert ("without a place" in notes) == (prefix > 0)
    assert "6 by 8 patches of 8 by 8 pixels" in notes


def test_the_class_token_is_asked_unless_a_place_is():
    explanation = explain(tiny(), READ_32, PictureArray(blank(32, 32)))
    assert explanation.asked.rows == [0]
    assert explanation.asked.words == "the class token"
    assert explanation.asked.mark is None


def test_a_model_without_class_token_is_asked_for_the_mean_of_its_patches_and_says_so():
    model = tiny(class_token=False, pool="mean", registers=2)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    explanation = explain(model, READ_32, PictureArray(pixels), head="all")

    twin, records = recording(model, -1)
    twin(READ_32(PictureArray(pixels)).pixels[None])
    expected = records["blocks.2.attention"].maps[0][0, :, 2:].mean(dim=1)
    torch.testing.assert_close(explanation.weights.float(), expected.detach())
    assert "average patch (this model has no class token)" in explanation.caption().question


@pytest.mark.parametrize(("pool", "rows"), [("class", [0]), ("class+mean", [0]), ("mean", list(range(1, 17)))])
def test_who_is_asked_is_what_the_head_reads(pool, rows):
    explanation = explain(tiny(pool=pool), READ_32, PictureArray(blank(32, 32)))
    assert explanation.asked.rows == rows
    assert ("does not read its class token" in explanation.asked.words) == (pool == "mean")


def test_a_question_costs_one_row(monkeypatch):
    kept = []
    monkeypatch.setattr(
        "vitrail.explain.attention.recording",
        lambda *given: kept.append(recording(*given)) or kept[-1],
    )
    explain(tiny(), READ_32, PictureArray(blank(32, 32)), at=(3, 3))
    assert [record.maps[0].shape for record in kept[0].records.values()] == [(1, 4, 1, 17)]


def test_explaining_leaves_the_model_as_it_was():
    model = tiny(drop_path=0.5).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [part.training for part in model.modules()]
    explanation = explain(model, READ_32, PictureArray(blank(32, 32)))

    assert [part.training for part in model.modules()] == modes
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(hasattr(part, "record") for part in model.modules())
    again = explain(model, READ_32, PictureArray(blank(32, 32)))
    assert torch.equal(explanation.weights, again.weights)  # in eval mode: nothing is dropped at random


def test_a_picture_with_many_channels_is_explained_over_its_first_three():
    model = tiny(channels=6)
    preprocessing = Preprocessing(size=(32, 32), resize=None, mean=(0.5,) * 6, std=(0.5,) * 6)
    explanation = explain(model, preprocessing, torch.randint(0, 256, (6, 32, 32), dtype=torch.uint8))
    assert explanation.figure().get_axes()


# what cannot be answered


def test_a_pixel_outside_the_picture_is_a_sentence_with_its_size():
    with pytest.raises(
        ExplanationError, match=r"x=640, y=3 in .* 640 x 480 pixels: x runs from 0 to 639 and y from 0 to"
    ):
        explain(Vain(), READ_ALL, PictureArray(blank(480, 640)), at=(640, 3))


def test_a_pixel_that_is_cropped_away_is_moved_to_the_nearest_that_is_read_and_this_is_said():
    picture = PictureArray(blank(60, 800), "panorama.jpg")  # 80 of its 800 columns are read: 360 to 439
    explanation = explain(Vain(), MIDDLE, picture, at=(5, 30))
    assert explanation.asked.wanted == (5, 30)
    assert explanation.asked.used == (360, 30)
    assert explanation.weights.equal(explain(Vain(), MIDDLE, picture, at=(360, 30)).weights)
    said = "the patch at x = 360, y = 30 (the nearest point that the model sees to 5, 30)"
    assert explanation.asked.words == said
    assert said in texts(explanation.figure())
    assert explain(Vain(), MIDDLE, picture, at=(790, 59)).asked.used == (439, 59)


def test_a_pixel_that_is_read_is_not_moved():
    picture = PictureArray(blank(60, 800))
    for pixel in ((360, 0), (439, 59)):
        asked = explain(Vain(), MIDDLE, picture, at=pixel).asked
        assert asked.wanted == asked.used == pixel
        assert "nearest" not in asked.words


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 2), (2, 1), (1, 6), (7, 2)])
def test_any_pixel_of_a_very_small_picture_can_be_asked_about(rows, columns):
    for x in range(columns):
        for y in range(rows):
            asked = explain(Vain(), MIDDLE, PictureArray(blank(rows, columns)), at=(x, y)).asked
            assert asked.wanted == (x, y)


@pytest.mark.parametrize("at", [(math.nan, 3), (3, math.inf)])
def test_a_point_that_is_not_finite_is_a_sentence(at):
    with pytest.raises(ExplanationError, match=r"is no point\. Give two finite numbers"):
        explain(Vain(), READ_ALL, PictureArray(blank(48, 64)), at=at)


@pytest.mark.parametrize("at", [(1,), (1, 2, 3), "ab", "12", 7, (True, 2), ("1", 2), (None, 2)], ids=str)
def test_what_is_not_two_numbers_is_no_point(at):
    with pytest.raises(ExplanationError, match=r"is no point\. Give two finite numbers"):
        pixel_at(at)


def test_a_point_between_pixels_lies_in_the_pixel_that_holds_it():
    assert pixel_at([np.float32(2.7), np.int64(5)]) == (2, 5)


@pytest.mark.parametrize("head", [True, 1.0, "most", None, (1,)], ids=str)
def test_what_is_no_head_is_a_sentence(head):
    with pytest.raises(ExplanationError, match=r"names no head\. Give 'mean', 'all' or a whole number"):
        check_head(head)


def test_true_is_neither_a_head_nor_a_layer():
    for given in ({"head": True}, {"layer": True}):
        with pytest.raises(ExplanationError, match=r"=True names no"):
            explain(tiny(), READ_32, PictureArray(blank(32, 32)), **given)
    with pytest.raises(ExplanationError, match=r"=True names no layer"):
        chosen_layers(tiny(), [0, True])


def test_a_layer_by_a_name_that_does_not_exist_is_quoted():
    with pytest.raises(ExplanationError, match=r"There is no layer 'last one'\. This"):
        explain(tiny(), READ_32, PictureArray(blank(32, 32)), layer="last one")


@pytest.mark.parametrize("layer", [3, -4])
def test_a_layer_that_does_not_exist_names_the_range(layer):
    with pytest.raises(ExplanationError, match=f"There is no layer {layer}. This model has layers 0 to 2"):
        explain(tiny(), READ_32, PictureArray(blank(32, 32)), layer=layer)


def test_a_head_that_does_not_exist_names_the_range():
    with pytest.raises(ExplanationError, match=r"There is no head 4: .* has heads 0 to 3"):
        explain(tiny(), READ_32, PictureArray(blank(32, 32)), head=4)


def test_a_pattern_for_several_layers_is_refused():
    with pytest.raises(ExplanationError, match=r"means 3 layers\. Ask one of them"):
        explain(tiny(), READ_32, PictureArray(blank(32, 32)), layer="blocks.*")


def test_models_without_attention_or_tokens_say_so():
    with pytest.raises(ExplanationError, match="Linear has no attention to show"):
        explain(nn.Linear(3, 3), READ_32, PictureArray(blank(32, 32)))
    with pytest.raises(ExplanationError, match="Attention does not say where its tokens lie"):
        explain(Attention(8, 2), READ_32, PictureArray(blank(32, 32)))


# how it is drawn


def texts(figure) -> str:
    return " | ".join(text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text())


def test_a_drawing_says_layer_head_question_and_scale():
    figure = explain(tiny(), READ_32, PictureArray(blank(32, 32), "folder/rose.png"), at=(20, 9), layer=1).figure()
    figure.canvas.draw()
    said = texts(figure)
    assert "Attention in layer 2 of 3" in said
    assert "mean of 4 heads" in said
    assert "the patch at x = 20, y = 9 looks, in rose.png" in said
    assert "share of the attention, per patch" in said
    assert "%" in said
    assert "4 by 4 patches" in said


def test_a_sheet_shows_every_head_and_a_chosen_head_is_alone():
    model, picture = tiny(), PictureArray(blank(32, 32))
    every = texts(explain(model, READ_32, picture, head="all").figure())
    assert all(f"head {head}" in every for head in (1, 2, 3, 4))
    assert "mean of 4 heads" in every
    one = texts(explain(model, READ_32, picture, head=2).figure())
    assert "head 3" in one  # people count from 1
    assert "head 2" not in one


@pytest.mark.parametrize(("rows", "columns"), [(32, 32), (2000, 30), (30, 2000), (1, 400), (400, 1), (1, 1)])
@pytest.mark.parametrize("count", [1, 7])
def test_any_shape_of_picture_fits_on_a_page(rows, columns, count, tmp_path):
    placement = Placement.resize((rows, columns), (32, 32))
    panels = [Panel(), *(Panel(HeatMap(f"head {number}", torch.rand(4, 4))) for number in range(count))]
    explanation = explain(tiny(), READ_32, PictureArray(blank(32, 32)))
    figure = draw(Image.new("RGB", (columns, rows)), placement, panels, explanation.caption())
    width, height = figure.get_size_inches()
    assert 4 < width < 13
    assert 1.5 < height < 13
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=20)
    assert Image.open(buffer).size == (int(width * 20), int(height * 20))


@pytest.mark.parametrize("count", range(1, 30))
@pytest.mark.parametrize("aspect", [0.01, 0.5, 1.0, 1.5, 100.0])
def test_panels_do_not_overlap_and_stay_on_the_page(count, aspect):
    page = Page.of(count, aspect)
    boxes = [page.place(panel) for panel in range(count)]
    for number, (left, bottom, width, height) in enumerate(boxes):
        assert left >= 0
        assert bottom >= 0
        assert left + width <= 1
        assert bottom + height <= 1
        for other_left, other_bottom, other_width, other_height in boxes[:number]:
            apart_across = left >= other_left + other_width or other_left >= left + width
            apart_down = bottom >= other_bottom + other_height or other_bottom >= bottom + height
            assert apart_across or apart_down


def test_one_patch_that_attracts_everything_does_not_blacken_the_rest():
    values = torch.full((20, 20), 0.002)
    values[3, 3] = 0.9
    assert brightest([HeatMap("", values)]) < 0.05
    assert brightest([HeatMap("", torch.zeros(4, 4))]) == 4 / 16


def test_attention_that_is_spread_evenly_looks_flat_and_attention_to_one_thing_does_not():
    """Both with their own scale, which would make the faintest difference as bright as the strongest."""
    even = torch.full((6, 8), 1 / 48) + torch.linspace(-1e-4, 1e-4, 48).view(6, 8)
    focused = torch.full((6, 8), 0.001)
    focused[3, 4] = 0.9
    placement = Placement.resize((60, 80), (48, 64))
    seen = [
        np.asarray(overlay(Image.new("RGB", (80, 60), "grey"), placement, HeatMap("", values))).astype(int)
        for values in (even, focused)
    ]
    flat, hot = ((image[..., 0] - image[..., 2]).max() for image in seen)
    assert np.ptp(seen[0], axis=(0, 1)).max() < 16
    assert flat < 0 < 60 < hot


def test_a_drawing_says_how_many_even_shares_its_strongest_patch_gets():
    heat = HeatMap("mean", torch.tensor([[0.1, 0.1], [0.1, 0.6]]))
    assert heat.even == 0.25
    assert heat.strongest == pytest.approx(2.4)
    picture = PictureArray(blank(48, 64))
    uniform, alone = (explain(model, READ_ALL, picture, at=(3, 3)).figure() for model in (Bright(), Vain()))
    assert "up to 1.0 times even" in texts(uniform)
    assert "up to 48.0 times even" in texts(alone)
    for figure in (uniform, alone):
        assert "white line: even, 2.08%" in texts(figure)
        assert "each would get 1/48" in texts(figure)
        marked = [line for axes in figure.get_axes() for line in axes.get_lines() if line.get_color() == "white"]
        assert [list(line.get_xdata()) for line in marked] == [pytest.approx([1 / 48, 1 / 48])]


def test_a_drawing_says_the_answer_where_it_is_known():
    explanation = explain(tiny(), READ_32, PictureArray(blank(32, 32)))
    assert "answer" not in texts(explanation.figure())
    answered = replace(explanation, answer="The model's answer: rose 87.0%")
    assert "The model's answer: rose 87.0%" in texts(answered.figure())


@pytest.mark.parametrize(("rows", "columns"), [(150, 900), (900, 150), (300, 300), (200, 300)])
def test_the_page_has_the_shape_of_the_picture_and_cuts_no_words(rows, columns):
    whole = Preprocessing(size=(32, 32), resize=(32, 32), fit="squash", mean=(0.5,) * 3, std=(0.5,) * 3)
    explanation = explain(tiny(), whole, PictureArray(blank(rows, columns), f"{'long ' * 20}.png"))
    figure = replace(explanation, answer="The model's answer: " + "a class of a long name 12.3%, " * 4).figure()
    figure.draw_without_rendering()
    unseen = figure.get_axes()[-1].get_xticklabels()  # some lie beyond the colour bar and are not drawn
    for text in figure.findobj(matplotlib.text.Text):
        if text.get_text() and text not in unseen:
            box = text.get_window_extent()
            assert figure.bbox.x0 <= box.x0 <= box.x1 <= figure.bbox.x1, text.get_text()
            assert figure.bbox.y0 <= box.y0 <= box.y1 <= figure.bbox.y1, text.get_text()
    panels = [axes.get_position() for axes in figure.get_axes()[:2]]
    covered = max(panel.x1 for panel in panels) - min(panel.x0 for panel in panels)
    assert covered > 0.6
    assert all(panel.size[0] > 0.9 for panel in panels) == (columns == 900)  # one below the other


def pixels_of(figure, **how) -> np.ndarray:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", **how)
    return np.asarray(Image.open(buffer).convert("RGB")).astype(int)


@pytest.mark.parametrize(("rows", "columns"), [(2500, 100), (100, 2500), (2500, 2400)])
@pytest.mark.parametrize("points", [1, pytest.param(40, marks=pytest.mark.slow)])
def test_a_sheet_of_any_picture_and_of_many_questions_stays_of_a_size_that_can_be_opened(rows, columns, points):
    whole = Preprocessing(size=(32, 32), resize=(32, 32), fit="squash", mean=(0.5,) * 3, std=(0.5,) * 3)
    asked = [(number, number) for number in range(points)]
    figure = sheet(look(tiny(), whole, PictureArray(blank(rows, columns)), at=asked, head="all")).figure()
    across, down = figure.canvas.get_width_height()
    assert across * down <= 40_100_000
    assert max(across, down) <= 16_000
    panels = [axes.get_position() for axes in figure.get_axes()[:-1]]
    if points == 1:
        assert all(panel.height * down > 100 for panel in panels if rows > columns)


@pytest.mark.parametrize(("rows", "columns"), [(300, 400), (400, 300), (90, 260)])
def test_titles_of_a_sheet_do_not_run_into_each_other(rows, columns):
    model = tiny(heads=12, dim=48, depth=11)
    figure = sheet(
        look(model, READ_32, PictureArray(blank(rows, columns)), at=[None], layers=[9, 10], head="all")
    ).figure()
    figure.draw_without_rendering()
    shown = [axes.title if axes.title.get_text() else axes._left_title for axes in figure.get_axes()]
    boxes = [title.get_window_extent() for title in shown if title.get_text()]
    assert len(boxes) == 2 * 14
    for number, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:number])


@pytest.mark.parametrize(("rows", "columns"), [(400, 600), (371, 640), (640, 371), (500, 333), (301, 299), (1, 1)])
def test_what_is_not_read_is_faded_to_the_last_row_and_column(rows, columns):
    """A picture of black, of which the middle is read: every pixel on the edge of its panel is the same pale grey."""
    figure = explain(Bright(), MIDDLE, PictureArray(blank(rows, columns))).figure()
    image = pixels_of(figure)
    for axes in figure.get_axes()[:2]:
        box = axes.get_window_extent()
        left, right = round(box.x0), round(box.x1)
        top, bottom = image.shape[0] - round(box.y1), image.shape[0] - round(box.y0)
        around = image[top - 1 : bottom + 1, left - 1 : right + 1]
        seen = visible(explain(Bright(), MIDDLE, PictureArray(blank(rows, columns))).placement)
        edges = [around[:2].reshape(-1, 3), around[-2:].reshape(-1, 3)] if seen[1] > 0.004 * rows else []
        edges += [around[:, :2].reshape(-1, 3), around[:, -2:].reshape(-1, 3)] if seen[0] > 0.004 * columns else []
        assert edges
        assert all(edge.min() > 150 for edge in edges)


@pytest.mark.parametrize(
    ("rows", "columns", "drawn"),
    [
        (120, 3000, (1400, 1600, 0, 120)),
        (3000, 120, (0, 120, 1400, 1600)),
        (100, 250, (0, 250, 0, 100)),
        (1, 1, (0, 1, 0, 1)),
    ],
)
def test_of_a_picture_far_longer_than_what_is_read_that_part_is_drawn_and_this_is_said(rows, columns, drawn):
    square = replace(READ_32, resize=(38, 38), fit="cover")
    explanation = explain(tiny(), square, PictureArray(blank(rows, columns)), at=(0, 0))
    figure = explanation.figure()
    said = "only the part around what the model reads is drawn"
    for axes in figure.get_axes()[:2]:
        (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
        assert (left, right, top, bottom) == pytest.approx(drawn, abs=2)
        used = explanation.asked.used
        assert left <= used[0] < right
        assert top <= used[1] < bottom
    whole = drawn == (0, columns, 0, rows)
    assert (said in texts(figure)) is not whole


def test_a_sheet_asks_in_english():
    looks = look(tiny(), READ_32, PictureArray(blank(32, 32), "wide.jpg"), at=[None, (3, 4)], layers=[0])
    said = sheet(looks).caption().question
    assert said == "Where the class token and the patch at x = 3, y = 4 looked, in wide.jpg"


def test_letters_that_the_font_lacks_are_explained_and_the_class_gets_its_number():
    known, foreign = (PictureArray(blank(32, 32), name) for name in ("rose.png", "\u82b1.png"))
    said = "\u25a1 is a letter that this figure's font lacks."
    assert said not in texts(explain(tiny(), READ_32, known).figure())
    assert said in texts(explain(tiny(), READ_32, foreign).figure())
    model = tiny(classes=2)
    found = evidence(model, READ_32, known, target=1, labels=("rose", "\u83ca"))
    assert "Relevance for class 1 (\u25a1)" in texts(found.figure())
    assert said in texts(found.figure())
    assert found.target_name == "\u83ca"


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".JPEG", ".webp", ".pdf", ".svg"])
def test_a_drawing_is_written_as_its_name_ends(suffix, tmp_path):
    path = explain(tiny(), READ_32, PictureArray(blank(32, 32))).save(tmp_path / "new" / f"map{suffix}")
    start = path.read_bytes()[:12]
    magic = {".png": b"\x89PNG", ".jpg": b"\xff\xd8", ".jpeg": b"\xff\xd8", ".webp": b"RIFF", ".pdf": b"%PDF"}
    assert start.startswith(magic.get(suffix.lower(), b"<?xml"))


def test_a_drawing_that_cannot_be_written_is_refused_before_any_work(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for out, said in {
        tmp_path
        / "x.txt": f"x.txt does not end like a picture. Give a name that ends with {', '.join(KINDS)}, such as",
        tmp_path / "none": "does not end like a picture",
        tmp_path: "is a folder. Give the name of a file in it",
        tmp_path / "file" / "x.png": "is a file and not a folder",
    }.items():
        assert main(["explain", "no-such-model", "no-such-picture.jpg", "--out", str(out)]) == 1
        assert said in capsys.readouterr().err


def test_the_command_says_the_answer_and_the_class_that_a_folder_is_called_by(tmp_path, capsys):
    card = Card(model="vit-tiny-16", preprocessing=READ_32, labels=("daisy", "rose"))
    model = tiny(classes=2)
    model.card = card
    save_pretrained(model, tmp_path / "model", announce=lambda sentence: None)
    for folder, known in (("rose", True), ("anything", False)):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (32, 32), "red").save(tmp_path / folder / "a.png")
        picture, out = str(tmp_path / folder / "a.png"), str(tmp_path / "new" / "map.png")
        assert main(["explain", str(tmp_path / "model"), picture, "--out", out]) == 0
        printed = capsys.readouterr().out
        assert "The model's answer: " in printed
        assert ("lies in a folder called rose" in printed) == known


def test_a_model_that_names_nothing_is_explained_without_an_answer():
    model = tiny(classes=0)
    model.card = Card(model="vit-tiny-16", preprocessing=READ_32)
    assert predictor(model).answer(PictureArray(blank(32, 32))) == ""


def test_names_with_dollars_line_breaks_and_foreign_letters_are_drawn(tmp_path, recwarn):
    picture = PictureArray(blank(32, 32), "a$x^2_$\n\u65e5\u672c.png")
    assert drawable(picture.name) == "a$x^2_$ \u25a1\u25a1.png"
    path = explain(tiny(), READ_32, picture).save(tmp_path / "new" / "map.png")
    assert Image.open(path).format == "PNG"
    assert not [warning for warning in recwarn if "lyph" in str(warning.message)]


def test_drawing_changes_no_setting_of_matplotlib_and_works_in_threads():
    before = dict(matplotlib.rcParams)
    explanation = explain(tiny(), READ_32, PictureArray(blank(32, 32)))
    failures = []

    def work() -> None:
        try:
            explanation.figure().savefig(io.BytesIO(), dpi=20)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert dict(matplotlib.rcParams) == before


def test_matplotlib_is_imported_only_when_something_is_drawn_and_pyplot_never():
    script = """
import sys
import torch
from vitrail.data.images import PictureArray
from vitrail.explain.attention import explain
from vitrail.models.vit import ViT, ViTConfig
from vitrail.preprocessing import Preprocessing
import vitrail.predict, vitrail.evaluate.report

model = ViT(ViTConfig(image=32, patch=8, dim=24, depth=1, heads=4, mlp_dim=48))
picture = PictureArray(torch.zeros(3, 32, 32, dtype=torch.uint8))
explanation = explain(model, Preprocessing(size=(32, 32), resize=None), picture)
assert "matplotlib" not in sys.modules
explanation.figure()
assert "matplotlib.pyplot" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
