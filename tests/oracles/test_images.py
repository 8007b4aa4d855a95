"""Pictures whose right answer is known: pixels planted, colours computed by hand, parts cut from a full decoding."""

import dataclasses
import io
import json
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from vitrail.data.decoding import explain
from vitrail.data.images import TURNS, ImageFile, PictureArray, read_image, stored_box
from vitrail.errors import ConfigError, ImageError
from vitrail.pixels import to_channels, to_eight_bits, to_image, to_pixels
from vitrail.preprocessing import Preprocessing
from vitrail.weights.card import build

ORIENTATION = 0x0112


def scene(rows, columns):
    """A smooth picture in which every place has its own colour, so that a shifted or mirrored one shows."""
    down, across = np.mgrid[0:rows, 0:columns]
    red, green = 255 * across / max(columns - 1, 1), 255 * down / max(rows - 1, 1)
    return np.stack([red, green, 128 + 100 * np.sin(across / 9) * np.cos(down / 7)], axis=2).astype(np.uint8)


def colours(pixels):
    """Rows, columns and channels of a tensor, as numpy has them."""
    return pixels.permute(1, 2, 0).numpy()


def save(path, image, **options):
    image.save(path, **options)
    return path


def turned(orientation):
    """EXIF that says how the camera was held."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def stored_for(image, orientation):
    """How a camera held in that way stores what it sees: the opposite of how it must be turned to be shown."""
    opposite = {6: 8, 8: 6}.get(orientation, orientation)
    return image.transpose(TURNS[opposite]) if orientation > 1 else image


# orientation -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["png", "tiff", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_picture_is_seen_as_it_was(tmp_path, kind, orientation):
    seen = Image.fromarray(scene(21, 34))
    options = {"lossless": True} if kind == "webp" else {}
    path = save(tmp_path / f"turned.{kind}", stored_for(seen, orientation), exif=turned(orientation), **options)
    assert np.array_equal(colours(read_image(path)), np.asarray(seen))
    assert ImageFile(path).size == (21, 34)


def test_the_first_row_and_column_stand_where_exif_says(tmp_path):
    """The EXIF standard's own table: where row 0 and column 0 of the file are seen."""
    stored = np.zeros((2, 2, 3), np.uint8)
    stored[0, 0] = 255  # the corner of row 0 and column 0
    corners = {1: (0, 0), 2: (0, 1), 3: (1, 1), 4: (1, 0), 5: (0, 0), 6: (0, 1), 7: (1, 1), 8: (1, 0)}
    for orientation, corner in corners.items():
        path = save(tmp_path / "corner.png", Image.fromarray(stored), exif=turned(orientation))
        assert colours(read_image(path))[..., 0].argmax() == 2 * corner[0] + corner[1]


def test_rotated_is_not_mirrored(tmp_path):
    stored = np.zeros((2, 3, 3), np.uint8)
    stored[0] = [10], [20], [30]  # the first row, from left to right
    expected = {
        6: "right column downwards",
        8: "left column upwards",
        5: "left column downwards",
        7: "right column upwards",
    }
    for orientation, place in expected.items():
        path = save(tmp_path / "row.png", Image.fromarray(stored), exif=turned(orientation))
        column = colours(read_image(path))[:, -1 if "right" in place else 0, 0].tolist()
        assert column == ([10, 20, 30] if "downwards" in place else [30, 20, 10]), (orientation, place)


def test_an_orientation_behind_the_pixels_of_a_png_counts(tmp_path):
    picture = Image.fromarray(scene(5, 9))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    body = b"eXIf" + turned(6).tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    path = tmp_path / "late.png"
    path.write_bytes(buffer.getvalue()[:-12] + chunk + buffer.getvalue()[-12:])
    assert ImageFile(path).size == (9, 5)
    assert np.array_equal(colours(read_image(path)), np.asarray(picture.transpose(Image.Transpose.ROTATE_270)))


@pytest.mark.parametrize("nonsense", [0, 9, 4000])
def test_an_orientation_that_does_not_exist_turns_nothing(tmp_path, nonsense):
    path = save(tmp_path / "nonsense.png", Image.fromarray(scene(5, 9)), exif=turned(nonsense))
    assert np.array_equal(colours(read_image(path)), scene(5, 9))


# depth and colour --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["png", "tif", "pgm", "big-endian.tif"])
def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path, kind):
    values = np.linspace(0, 65535, 64 * 48).reshape(48, 64).astype(np.uint16)
    path = tmp_path / f"deep.{kind}"
    if kind == "pgm":
        path.write_bytes(b"P5 64 48 65535\n" + values.astype(">u2").tobytes())
    elif kind.startswith("big"):
        header = struct.pack(">2sHI", b"MM", 42, 8)
        entries = [
            (256, 3, 64),
            (257, 3, 48),
            (258, 3, 16),
            (259, 3, 1),
            (262, 3, 1),
            (273, 4, 200),
            (278, 3, 48),
            (279, 4, 6144),
        ]
        directory = b"".join(struct.pack(">HHIHH", tag, 3, 1, value, 0) for tag, _, value in entries)
        header += struct.pack(">H", len(entries)) + directory + bytes(4)
        path.write_bytes(header.ljust(200, b"\0") + values.astype(">u2").tobytes())
    else:
        Image.fromarray(values).save(path)
    expected = np.rint(values / 257)
    assert np.array_equal(colours(read_image(path)), np.stack([expected] * 3, axis=2))


@pytest.mark.parametrize(
    ("values", "black", "white"),
    [
        (np.linspace(0, 1, 60), 0, 1),  # shares of white
        (np.linspace(0, 0.25, 60), 0, 1),
        (np.linspace(10, 200, 60), 0, 255),  # 8 bits
        (np.linspace(-3, 5, 60), -3, 5),  # anything else is stretched
        (np.linspace(0, 40000, 60), 0, 40000),
    ],
    ids=lambda value: "" if isinstance(value, int) else f"{value[0]} to {value[-1]}",
)
def test_floats_are_scaled_by_the_range_they_lie_in(tmp_path, values, black, white):
    values = values.astype(np.float32).reshape(6, 10)
    path = save(tmp_path / "float.tif", Image.fromarray(values))
    expected = np.rint((values.astype(np.float64) - black) / (white - black) * 255)
    assert np.abs(colours(read_image(path))[..., 0] - expected).max() <= 1  # .5 may round either way in float32
    assert len(np.unique(read_image(path))) > 50 or white == 1


@pytest.mark.parametrize(("most", "white"), [(200, 255), (60_000, 65535), (1_000_000, 1_000_000)])
def test_32_bit_integers_are_scaled_by_the_range_they_lie_in(tmp_path, most, white):
    values = np.linspace(0, most, 60).reshape(6, 10).astype(np.int32)
    path = save(tmp_path / "integers.tif", Image.fromarray(values))
    assert np.abs(colours(read_image(path))[..., 0] - np.rint(values / white * 255)).max() <= 1


def test_what_is_not_a_number_is_black_and_the_infinite_is_the_end(tmp_path):
    values = np.array([[0.0, 0.5, 1.0, np.nan, np.inf, -np.inf]], dtype=np.float32)
    path = save(tmp_path / "strange.tif", Image.fromarray(values))
    assert colours(read_image(path))[0, :, 0].tolist() == [0, 128, 255, 0, 255, 0]


@pytest.mark.parametrize("value", [0.0, 7.0, 1e6, np.nan])
def test_a_constant_picture_of_floats_has_some_colour(tmp_path, value):
    path = save(tmp_path / "constant.tif", Image.fromarray(np.full((2, 3), value, np.float32)))
    assert len(np.unique(read_image(path))) == 1


@pytest.mark.parametrize("highest", [1, 7, 100, 255, 1000, 65535])
@pytest.mark.parametrize("kind", ["P2", "P3", "P5", "P6"])
def test_every_depth_of_ppm_reaches_white(tmp_path, kind, highest):
    values = np.random.default_rng(highest).integers(0, highest + 1, (7, 5, 3 if kind in ("P3", "P6") else 1))
    values.flat[0] = highest
    header = f"{kind} # a comment\n5 7\n# another\n{highest}\n".encode()
    if kind in ("P2", "P3"):
        body = b"# numbers\n" + b"\n".join(b"%d" % value for value in values.ravel())
    else:
        body = values.astype(">u2" if highest > 255 else "u1").tobytes()
    path = tmp_path / "some.ppm"
    path.write_bytes(header + body)
    expected = np.broadcast_to(values * 255 / highest, (7, 5, 3))
    assert np.abs(colours(read_image(path)) - expected).max() <= 0.5


def test_a_palette_and_one_bit_become_colours(tmp_path):
    palette = save(tmp_path / "palette.png", Image.fromarray(scene(30, 30)).quantize(16))
    assert np.array_equal(colours(read_image(palette)), np.asarray(Image.open(palette).convert("RGB")))
    bits = save(tmp_path / "bits.png", Image.fromarray(np.eye(9) > 0))
    assert np.array_equal(colours(read_image(bits))[..., 0], 255 * np.eye(9))


@pytest.mark.parametrize("kind", ["png", "tiff", "webp"])
def test_transparency_lies_on_white(tmp_path, kind):
    pixels = np.dstack([scene(16, 16), np.linspace(0, 255, 256).reshape(16, 16).astype(np.uint8)])
    options = {"lossless": True, "exact": True} if kind == "webp" else {}
    path = save(tmp_path / f"glass.{kind}", Image.fromarray(pixels), **options)
    alpha = pixels[..., 3:] / 255
    expected = alpha * pixels[..., :3] + (1 - alpha) * 255
    assert np.abs(colours(read_image(path)) - expected).max() <= 1


def test_transparent_palette_entries_and_keys_lie_on_white(tmp_path):
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.putdata([0, 1])
    for kind in ("png", "gif"):
        path = save(tmp_path / f"hole.{kind}", palette, transparency=0)
        assert colours(read_image(path)).tolist() == [[[255, 255, 255], [200, 100, 50]]]
    path = save(tmp_path / "half.png", palette, transparency=b"\x80\xff")
    assert colours(read_image(path))[0, 0].tolist() == pytest.approx([132, 137, 142], abs=1)
    path = save(
        tmp_path / "key.png", Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8)), transparency=(1, 2, 3)
    )
    assert colours(read_image(path)).tolist() == [[[255, 255, 255], [4, 5, 6]]]
    path = save(tmp_path / "grey.png", Image.fromarray(np.array([[7, 9]], np.uint8)), transparency=7)
    assert colours(read_image(path))[..., 0].tolist() == [[255, 9]]


def test_a_transparent_grey_of_sixteen_bits_lies_on_white(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(np.array([[257, 514, 771]], np.uint16)).save(buffer, "PNG")
    key = b"tRNS" + struct.pack(">H", 514)
    chunk = struct.pack(">I", 2) + key + struct.pack(">I", zlib.crc32(key))
    path = tmp_path / "deep.png"
    path.write_bytes(buffer.getvalue()[:33] + chunk + buffer.getvalue()[33:])
    assert colours(read_image(path))[..., 0].tolist() == [[1, 255, 3]]


def ink(cyan, magenta, yellow, black):
    """What inks of 0 to 255 leave of white light."""
    return [round((255 - colour) * (255 - black) / 255) for colour in (cyan, magenta, yellow)]


INKS = [(0, 0, 0, 0), (255, 0, 0, 0), (0, 255, 0, 0), (0, 0, 255, 0), (0, 0, 0, 255), (60, 120, 30, 40)]


@pytest.mark.parametrize("kind", ["jpg", "tif", "lzw.tif"])
@pytest.mark.parametrize("inks", INKS, ids=str)
def test_inks_become_colours(tmp_path, kind, inks):
    options = {"quality": 100} if kind == "jpg" else {"compression": "tiff_lzw"} if "lzw" in kind else {}
    path = save(tmp_path / f"ink.{kind}", Image.new("CMYK", (16, 16), inks), **options)
    assert colours(read_image(path))[8, 8].tolist() == pytest.approx(ink(*inks), abs=3)


def without_adobe(jpeg):
    """The same JPEG without the segment by which Adobe's inverted inks are recognised."""
    start = jpeg.index(b"\xff\xee")
    return jpeg[:start] + jpeg[start + 2 + int.from_bytes(jpeg[start + 2 : start + 4]) :]


@pytest.mark.parametrize("inks", INKS, ids=str)
def test_inks_are_inverted_only_where_adobe_says_so(tmp_path, inks):
    buffer = io.BytesIO()
    inverted = tuple(255 - value for value in inks)
    Image.new("CMYK", (16, 16), inverted).save(buffer, "JPEG", quality=100)  # Pillow inverts, and says Adobe
    path = tmp_path / "plain.jpg"
    path.write_bytes(without_adobe(buffer.getvalue()))
    assert colours(read_image(path))[8, 8].tolist() == pytest.approx(ink(*inks), abs=3)


def test_lab_becomes_colour(tmp_path):
    lab = [[255, 0, 0], [0, 0, 0], [138, 81, 70], [75, 68, 256 - 112]]  # L* of 100 is 255; a* and b* are signed
    picture = Image.frombytes("LAB", (4, 1), np.array(lab, np.uint8).tobytes())
    seen = colours(read_image(save(tmp_path / "lab.tif", picture)))[0]
    expected = [[255] * 3, [0] * 3, [255, 0, 0], [0, 0, 255]]  # sRGB's white, black, red and blue under D50
    assert seen[:3] == pytest.approx(np.array(expected[:3]), abs=5)
    assert seen[3] == pytest.approx(np.array(expected[3]), abs=25)  # 8 bits of a* and b* are coarse in deep blue


def test_an_animation_shows_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "lime", "blue")]
    for kind, options in {"gif": {}, "webp": {"lossless": True}, "png": {}, "tiff": {}}.items():
        path = save(tmp_path / f"moving.{kind}", frames[0], save_all=True, append_images=frames[1:], **options)
        assert colours(read_image(path))[3, 4].tolist() == [255, 0, 0], kind


# parts -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def photograph(tmp_path):
    """A smooth JPEG held in any way, of which any part can be told from any other."""

    def take(orientation, rows=301, columns=487):
        picture = Image.fromarray(scene(rows, columns))
        exif = turned(orientation)
        return save(
            tmp_path / f"{orientation}.jpg", stored_for(picture, orientation), exif=exif, quality=98, subsampling=0
        )

    return take


BOXES = [(0, 0, 487, 301), (16, 32, 208, 128), (101, 53, 333, 276), (291, 0, 487, 301), (3.5, 7.25, 402.5, 290.75)]


@pytest.mark.parametrize("box", BOXES, ids=str)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_part_decoded_small_is_the_right_part(photograph, orientation, box):
    file = ImageFile(photograph(orientation))
    assert file.size == (301, 487)
    small = file.read(box, least=(24, 20))
    size = (small.width, small.height)
    full = file.read().resize(size, Image.Resampling.BOX, box=box)
    difference = np.abs(np.asarray(small, np.int16) - np.asarray(full, np.int16))
    assert difference.mean() < 2  # one level across is 0.5 to 0.9 pixels of the file: half a pixel astray would show
    assert small.width >= 20
    assert small.height >= 24
    assert small.width < (box[2] - box[0]) / 2 + 1  # it was indeed decoded small


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_part_in_full_is_the_crop_of_the_whole(photograph, orientation):
    file = ImageFile(photograph(orientation))
    part = file.read((101, 53, 333, 276))
    assert np.array_equal(np.asarray(part), np.asarray(file.read())[53:276, 101:333])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_box_finds_its_pixels_in_the_stored_picture(orientation):
    seen = Image.fromarray(scene(6, 9))
    stored = stored_for(seen, orientation)
    part = stored.crop(stored_box((2, 1, 7, 4), (6, 9), orientation))
    shown = part.transpose(TURNS[orientation]) if orientation > 1 else part
    assert np.array_equal(np.asarray(shown), scene(6, 9)[1:4, 2:7])


@pytest.mark.parametrize(
    "least", [(301, 487), (151, 244), (150, 243), (76, 122), (75, 121), (38, 61), (37, 60), (1, 1)]
)
def test_a_whole_picture_is_never_decoded_smaller_than_asked(photograph, least):
    for orientation in (1, 6):
        small = ImageFile(photograph(orientation)).read(least=least)
        assert small.height >= least[0]
        assert small.width >= least[1]


def test_other_formats_have_no_small_decoding_and_give_the_part_in_full(tmp_path):
    path = save(tmp_path / "whole.png", Image.fromarray(scene(50, 60)))
    assert ImageFile(path).read((10, 10, 40, 30), least=(2, 2)).size == (30, 20)


def test_the_parts_of_a_deep_picture_are_as_bright_as_the_whole(tmp_path):
    path = save(tmp_path / "deep.tif", Image.fromarray(np.linspace(-10, 10, 200, dtype=np.float32).reshape(10, 20)))
    part = np.asarray(ImageFile(path).read((5, 2, 10, 6)))
    assert np.array_equal(part, np.asarray(ImageFile(path).read())[2:6, 5:10])


# in memory ---------------------------------------------------------------------------------------------------------


def test_what_is_no_path_is_not_read():
    program = """
from vitrail import errors, read_image
for given in (5, None, b"rose.jpg"):
    try:
        read_image(given)
    except errors.ConfigError as error:
        print(error)
"""  # in a process of its own, in which types are not checked
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    ends = [line.rsplit("it was given ", 1)[-1] for line in said.splitlines()]
    assert ends == ["int.", "NoneType.", "bytes."]


def test_arrays_tensors_and_pillow_images_are_the_same_picture():
    pixels = scene(12, 17)
    pictures = [
        PictureArray(Image.fromarray(pixels)),
        PictureArray(pixels),
        PictureArray(torch.from_numpy(pixels).permute(2, 0, 1)),
    ]
    for picture in pictures:
        assert picture.size == (12, 17)
        assert np.array_equal(np.asarray(picture.read()), pixels)
        assert np.array_equal(np.asarray(picture.read((3, 2, 9, 11), least=(1, 1))), pixels[2:11, 3:9])


def test_grey_arrays_need_no_channels():
    grey = scene(5, 6)[..., 0]
    for pixels in (grey, grey[..., None], torch.from_numpy(grey), torch.from_numpy(grey)[None]):
        assert np.array_equal(np.asarray(PictureArray(pixels).read()), grey)


@pytest.mark.parametrize(
    "pixels", [np.zeros((4, 5), np.float32), np.zeros((2, 3, 4, 5), np.uint8), np.zeros((0, 3), np.uint8)]
)
def test_arrays_that_are_no_picture_are_said_so(pixels):
    with pytest.raises(ConfigError, match=r"uint8|shape"):
        PictureArray(pixels)


def test_a_pillow_image_that_cannot_be_decoded_is_an_image_error(tmp_path):
    path = save(tmp_path / "cut.jpg", Image.fromarray(scene(50, 50)))
    path.write_bytes(path.read_bytes()[:-100])
    with Image.open(path) as image, pytest.raises(ImageError, match="the third frame") as caught:
        PictureArray(image, "the third frame").read()
    assert caught.value.code == "truncated"


@pytest.mark.parametrize(
    "mode",
    ["L", "RGB", "RGBA", "LA", "P", "1", "CMYK", "LAB", "HSV", "YCbCr", "I", "F", "I;16", "PA", "RGBX", "RGBa"],
)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_every_mode_becomes_1_3_or_4_channels(mode, channels):
    picture = to_channels(Image.new(mode, (5, 4)), channels)
    assert picture.mode == {1: "L", 3: "RGB", 4: "RGBA"}[channels]
    assert picture.size == (5, 4)


@pytest.mark.parametrize("channels", [0, 2, 5, 6])
def test_other_channels_are_asked_for_as_a_tensor(channels):
    with pytest.raises(ConfigError, match=rf"reads {channels}.*\({channels}, rows, columns\)"):
        to_channels(Image.new("RGB", (5, 4)), channels)


# preprocessing -----------------------------------------------------------------------------------------------------

PREPROCESSINGS = {
    "imagenet": Preprocessing.imagenet(56),
    "squash": Preprocessing(size=(40, 72), resize=(40, 72)),
    "squash-crop": Preprocessing(size=(40, 61), resize=(51, 72)),
    "cover": Preprocessing.imagenet((33, 70)),
    "contain": Preprocessing(size=(60, 60), resize=(60, 60), fit="contain"),
    "tensor": Preprocessing.imagenet(56, resampler="tensor", margin="zero"),
    "no-resize": Preprocessing(size=(56, 40), resize=None, margin="floor"),
    "bordered": Preprocessing(size=(91, 230), resize=None),
}


@pytest.mark.parametrize("name", PREPROCESSINGS)
@pytest.mark.parametrize("at", [(61, 52), (75, 40), (70, 66)], ids=str)  # x, y; inside what every crop keeps
def test_a_marked_pixel_is_found_where_the_placement_says(name, at):
    pixels = np.zeros((101, 140, 3), np.uint8)
    pixels[at[1] - 1 : at[1] + 2, at[0] - 1 : at[0] + 2] = 255
    prepared = PREPROCESSINGS[name](pixels)
    bright = prepared.pixels.mean(0)
    weights = torch.where(bright > bright.median() + 0.1, bright - bright.median(), 0)
    down, across = torch.meshgrid(*(torch.arange(side) + 0.5 for side in bright.shape), indexing="ij")
    found = torch.stack([(across * weights).sum(), (down * weights).sum()]) / weights.sum()
    centre = torch.tensor([at[0] + 0.5, at[1] + 0.5])
    torch.testing.assert_close(prepared.placement.forward(centre), found, rtol=0, atol=0.35)
    torch.testing.assert_close(prepared.placement.back(found), centre, rtol=0, atol=0.8)
    assert prepared.placement.source == (101, 140)
    assert prepared.placement.size == PREPROCESSINGS[name].size == prepared.pixels.shape[1:]


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (300, 2), (13, 57), (56, 56), (57, 56)], ids=str)
@pytest.mark.parametrize("name", PREPROCESSINGS)
def test_any_size_of_picture_is_prepared(name, size):
    pixels, placement = PREPROCESSINGS[name](np.full((*size, 3), 90, np.uint8))
    assert pixels.shape == (3, *PREPROCESSINGS[name].size)
    assert torch.isfinite(pixels).all()
    corner = torch.tensor([[0.0, 0.0], [float(size[1]), float(size[0])]])
    torch.testing.assert_close(placement.back(placement.forward(corner)), corner, rtol=0, atol=1e-3)


def test_a_border_has_the_colour_that_was_asked_for():
    ours = Preprocessing(
        size=(8, 8), resize=(8, 8), fit="contain", fill=(10, 20, 30), mean=(0.0,) * 3, std=(1 / 255.0,) * 3
    )
    pixels = ours(np.full((4, 8, 3), 200, np.uint8)).pixels
    assert pixels[:, 0, 0].tolist() == pytest.approx([10, 20, 30], abs=1e-4)
    assert pixels[:, 4, 4].tolist() == pytest.approx([200] * 3, abs=1e-4)


def test_six_channels_come_from_tensors_each_like_a_grey_picture():
    ours = Preprocessing(
        size=(20, 24), resize=23, mean=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6), std=(0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    )
    tensor = torch.randint(0, 256, (6, 41, 33), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for pixels in (tensor, tensor.permute(1, 2, 0).numpy()):
        prepared = ours(pixels).pixels
        assert prepared.shape == (6, 20, 24)
        for channel in range(6):
            alone = Preprocessing(size=(20, 24), resize=23, mean=(ours.mean[channel],), std=(ours.std[channel],))
            assert torch.equal(prepared[channel], alone(tensor[channel]).pixels[0])


def test_a_file_cannot_give_six_channels(tmp_path):
    path = save(tmp_path / "colour.png", Image.new("RGB", (9, 9)))
    six = Preprocessing.imagenet(8).for_channels(6)
    with pytest.raises(ConfigError, match=r"the model reads 6.*uint8 tensor of shape \(6, rows, columns\)"):
        six(ImageFile(path))
    with pytest.raises(ConfigError, match=r"has 5 channels, and the model reads 6.*--set model\.channels=5"):
        six(torch.zeros(5, 9, 9, dtype=torch.uint8))


def test_grey_and_alpha_models_read_colour_files(tmp_path):
    path = save(tmp_path / "colour.png", Image.fromarray(scene(20, 20)))
    for channels in (1, 4):
        assert Preprocessing.imagenet(16).for_channels(channels)(ImageFile(path)).pixels.shape == (channels, 16, 16)


def test_another_size_keeps_the_share_of_the_picture():
    ours = Preprocessing.imagenet(224)
    assert (ours.for_size((384, 384)).resize, ours.for_size((448, 448)).resize) == (438, 512)
    rectangular = ours.for_size((224, 112))
    assert (rectangular.resize, rectangular.fit) == ((256, 128), "cover")
    assert Preprocessing(size=(224, 224), resize=(224, 224)).for_size((384, 96)).resize == (384, 96)
    assert ours.for_size((224, 224)) == ours


def test_a_picture_too_narrow_to_resize_is_refused_by_name(tmp_path):
    path = save(tmp_path / "thread.png", Image.new("L", (60000, 1)))
    with pytest.raises(ImageError, match="60000 x 1 pixels") as caught:
        Preprocessing.imagenet(224)(ImageFile(path))
    assert (caught.value.code, caught.value.path) == ("too-narrow", str(path))
    assert Preprocessing(size=(32, 32), resize=(32, 32))(ImageFile(path)).pixels.shape == (3, 32, 32)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"interpolation": "bycubic"}, "Did you mean bicubic"),
        ({"resampler": "tensor", "interpolation": "lanczos"}, "no interpolation called 'lanczos'"),
        ({"size": (0, 3)}, "from 1 to 65,536"),
        ({"resize": -1}, "from 1 to 65,536"),
        ({"mean": (0.5, 0.5)}, "one value for each channel"),
        ({"mean": (), "std": ()}, "one value for each channel"),
        ({"fill": (1, 2)}, "one value for each channel"),
        ({"std": (0.1, 0.0, 0.1)}, "not zero"),
        ({"mean": (0.1, float("nan"), 0.1)}, "finite"),
    ],
)
def test_a_preprocessing_that_makes_no_sense_cannot_exist(fields, sentence):
    with pytest.raises(ConfigError, match=sentence):
        Preprocessing(**fields)


def test_a_preprocessing_is_plain_values_and_comes_back_from_json():
    for ours in PREPROCESSINGS.values():
        assert build(Preprocessing, json.loads(json.dumps(dataclasses.asdict(ours))), "card.json") == ours


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("values", "levels"),
    [
        (np.full((1, 2), np.nan, np.float32), [0, 0]),
        (np.array([[np.inf, -np.inf, 0, 1]], np.float32), [255, 0, 0, 255]),
        (np.array([[3e38, -3e38, 0, np.nan]], np.float32), [255, 0, 128, 0]),
        (np.array([[2**31 - 1, -(2**31)]], np.int32), [255, 0]),
    ],
    ids=["nothing", "infinite", "huge", "whole"],
)
def test_odd_numbers_have_their_levels_and_numpy_does_not_warn(values, levels):
    assert to_eight_bits(values)[0].tolist() == levels


def test_many_values_have_the_levels_that_each_has_alone():
    values = np.random.default_rng(0).integers(0, 2**16, (5, 2**20), dtype=np.uint16)
    assert np.array_equal(to_eight_bits(values), np.concatenate([to_eight_bits(row[None]) for row in values]))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 1), (33, 20)], ids=str)
def test_pixels_stand_where_the_picture_has_them(mode, size):
    noise = np.random.default_rng(0).integers(0, 256, (*reversed(size), len(mode)), dtype=np.uint8)
    pixels = to_pixels(to_image(torch.from_numpy(noise).permute(2, 0, 1)))
    assert np.array_equal(pixels.permute(1, 2, 0).numpy(), noise)
    assert pixels.is_contiguous()


@pytest.mark.parametrize("alpha", [0, 100, 254, 255])
def test_what_cannot_be_seen_through_keeps_its_colours(alpha):
    noise = np.random.default_rng(0).integers(0, 256, (5, 6, 4), dtype=np.uint8)
    noise[..., 3] = 255
    noise[2, 3, 3] = alpha
    laid, share = np.asarray(to_channels(Image.fromarray(noise), 3)), alpha / 255
    expected = noise[..., :3].astype(np.float64)
    expected[2, 3] = share * expected[2, 3] + 255 * (1 - share)
    assert np.abs(laid - expected).max() <= 0.5


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("broken PNG file (chunk b'ID\\x00T')", "(broken PNG file (chunk ID?T))"),
        ("invalid literal for int() with base 10: b'2s5'", "(text where a number was expected: 2s5)"),
        ("Token too long found in header: b'P\\n'", "(Token too long found in header: P?)"),
    ],
)
def test_what_pillow_says_of_bytes_is_said_in_words(said, words):
    code, hint = explain(ValueError(said))
    assert code == "damaged"
    assert words in hint
