"""Whatever is called a picture gives one, or one `ImageError` with a sentence: never anything else, never slowly."""

import io
import json
import os
import pickle
import random
import struct
import subprocess
import sys
import threading
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL import ImageFile as PillowFile

from vitrail.data import decoding
from vitrail.data.images import ImageFile, PictureArray, read_image
from vitrail.errors import ImageError

CODES = {
    "missing", "directory", "not-a-file", "unreadable", "empty", "format", "damaged", "truncated", "too-large",
}  # fmt: skip
SECONDS = 2.0  # what any one file may take; on a loaded machine most take a thousandth of it


def outcome(path):
    """`ok`, or the code of the `ImageError`; anything else that happens fails the test that asked."""
    start, fault = time.process_time(), None
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a warning that leaves is a failure
        try:
            pixels = read_image(path)
            size = ImageFile(path).size
        except ImageError as error:
            fault = error
    assert time.process_time() - start < SECONDS, f"{path} took {time.process_time() - start:.1f} s"
    if fault is None:
        assert (pixels.dtype, pixels.ndim, pixels.shape[0]) == (torch.uint8, 3, 3)
        assert size == tuple(pixels.shape[1:])
        assert pixels.is_contiguous()
        return "ok"
    assert fault.code in CODES
    assert fault.path == str(path)
    assert fault.hint.endswith(".")
    assert "\n" not in fault.hint
    return fault.code


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def put(folder, name, content):
    path = folder / name
    path.write_bytes(content)
    return path


def gradient(rows=24, columns=31):
    down, across = np.mgrid[0:rows, 0:columns]
    return Image.fromarray(np.stack([across * 8, down * 10, across + down], axis=2).astype(np.uint8))


def chunk(kind, body=b""):
    """One chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


PNG = b"\x89PNG\r\n\x1a\n"


def png_header(width, height, bits=8, colour=2):
    return PNG + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))


# real files that broke Pillow -----------------------------------------------------------------------------------------


def test_every_file_of_pillows_own_collection_gives_a_picture_or_an_image_error(shared):
    folder = shared / "data" / "bad_images" / "pillow"
    probe = json.loads((folder / "pillow_13_probe.json").read_text())
    outcomes = {name: outcome(folder / name) for name in probe}
    assert len(outcomes) > 400

    readable = {"JPEG", "MPO", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM"}
    decodes = {name for name, seen in probe.items() if seen.get("decodes") and seen["format"] in readable}
    assert {name for name, code in outcomes.items() if code == "ok"} == decodes
    assert {outcomes[name] for name in probe if name.endswith((".jp2", ".psd", ".avif", ".fli", ".tga", ".dds"))} == {
        "format"
    }
    assert {outcomes[f"bad/{name}"] for name in ("truncated_jpeg.jpg", "truncated_image.png")} == {"truncated"}
    assert {outcomes[f"bad/{name}"] for name in ("decompression_bomb.gif", "bmp/b/reallybig.bmp")} == {"too-large"}


@pytest.mark.parametrize("kind", ["jpg", "webp"])
def test_the_same_photograph_held_in_seven_ways_is_the_same_photograph(shared, kind):
    folder = shared / "data" / "bad_images" / "pillow" / "bad"
    upright = read_image(shared / "data" / "bad_images" / "pillow" / "modes" / "hopper_8bit.ppm").float()
    for orientation in range(2, 9):
        seen = read_image(folder / f"hopper_orientation_{orientation}.{kind}").float()
        assert (seen - upright).abs().mean() < 6  # compressed after it was turned; any other way of turning is over 58
    assert (seen.flip(2) - upright).abs().mean() > 50


# a matrix of made files ----------------------------------------------------------------------------------------------

KINDS = {
    "JPEG": ("L", "RGB", "CMYK"),
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "WEBP": ("RGB", "RGBA", "L"),
    "BMP": ("1", "L", "P", "RGB", "RGBA"),
    "GIF": ("1", "L", "P", "RGB", "RGBA"),
    "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "LAB", "I;16", "I", "F", "YCbCr"),
    "PPM": ("1", "L", "RGB", "I", "F"),
}
MATRIX = [(kind, mode) for kind, modes in KINDS.items() for mode in modes]
CUTS = (0, 1, 2, 3, 5, 8, 13, 16, 20, 30, 45, 60)  # sixtieths of a file that are left, besides its last bytes


def made(kind, mode, **options):
    image = gradient()
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    return encoded(image.convert(mode) if mode != image.mode else image, kind, **options)


@pytest.mark.parametrize(("kind", "mode"), MATRIX)
def test_every_kind_of_picture_is_read_whatever_it_is_called(tmp_path, kind, mode):
    whole = made(kind, mode)
    for name in (
        "picture",
        "picture.txt",
        "picture.png",
        "picture.jpg",
        "picture.tif",
        "bild ü 图.webp",
        "new\nline.gif",
    ):
        assert outcome(put(tmp_path, name, whole)) == "ok"
    assert outcome(put(tmp_path, "more.bin", whole + b"something after the end")) == "ok"
    assert ImageFile(tmp_path / "picture").size == (24, 31)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("kind", "mode"), [pair for pair in MATRIX if pair[0] in ("JPEG", "PNG", "WEBP", "TIFF")])
def test_every_kind_of_picture_is_turned(tmp_path, kind, mode, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = put(tmp_path, "turned", made(kind, mode, exif=exif))
    assert outcome(path) == "ok"
    assert ImageFile(path).size == ((31, 24) if orientation >= 5 else (24, 31))


@pytest.mark.parametrize(("kind", "mode"), MATRIX)
def test_every_picture_cut_short_is_an_image_error(tmp_path, kind, mode):
    whole = made(kind, mode)
    for part in CUTS[:-1]:
        cut = whole[: len(whole) * part // 60]
        assert outcome(put(tmp_path, "cut", cut)) in ({"empty"} if not cut else {"truncated", "damaged", "format"})
    for missing in range(1, 30):
        code = outcome(put(tmp_path, "cut", whole[:-missing]))
        # behind the last pixel of a BMP stands padding, and of a GIF the mark of its end
        assert code != "ok" or (kind in ("BMP", "GIF") and missing <= 3), f"{missing} bytes short"


@pytest.mark.parametrize("kind", KINDS)
def test_a_header_and_noise_is_an_image_error_or_a_picture(tmp_path, kind):
    whole, noise = made(kind, "RGB"), np.random.default_rng(0).bytes(3000)
    for kept in (2, 4, 8, 12, 16, 24, 33, 40, 60, 100):
        outcome(put(tmp_path, "noise", whole[:kept] + noise))
        outcome(put(tmp_path, "zeros", whole[:kept] + bytes(3000)))


@pytest.mark.parametrize("shape", [(1, 1), (1, 60000), (60000, 1), (1, 2), (3, 1)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_one_pixel_and_threads_are_pictures_too(tmp_path, kind, shape):
    rows, columns = shape
    path = tmp_path / "thread"
    if kind == "WEBP" and max(shape) > 16383:
        pytest.skip("WebP has no such pictures")
    path.write_bytes(encoded(Image.new("RGB", (columns, rows), (10, 200, 30)), kind))
    assert outcome(path) == "ok"
    assert read_image(path).shape == (3, rows, columns)


def test_what_libtiff_thinks_of_a_broken_file_stays_off_the_terminal(tmp_path, capfd):
    whole = encoded(Image.effect_noise((40, 40), 60).convert("RGB"), "TIFF", compression="tiff_lzw")
    rng = random.Random(0)
    for number in range(40):
        broken = bytearray(whole)
        for _ in range(30):
            broken[rng.randrange(8, len(broken))] = rng.randrange(256)
        outcome(put(tmp_path, f"{number}.tif", bytes(broken)))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_a_thousand_frames_the_first_is_read_quickly(tmp_path, kind):
    frames = [Image.new("L", (16, 16), shade) for shade in range(256)] * 4
    path = put(tmp_path, "moving", encoded(frames[37], kind, save_all=True, append_images=frames[:1000]))
    assert outcome(path) == "ok"
    assert read_image(path).float().mean() == pytest.approx(37, abs=2)


# files that are no pictures ------------------------------------------------------------------------------------------

STRANGERS = {
    b"": "empty",
    b"x": "format",
    b"hello, I am a text file\n" * 20: "format",
    b"<!DOCTYPE html><html><body>404</body></html>": "format",
    b"<?xml version='1.0'?><svg width='4' height='4'/>": "format",
    b"\0" * 5000: "format",
    b"%PDF-1.7 ...": "format",
    b"PK\x03\x04" + bytes(60): "format",
    b"\0\0\0\x20ftypheic" + bytes(60): "format",
    b"\0\0\0\x20ftypavif" + bytes(60): "format",
    b"\xff\xd8\xff": "damaged",
    b"\xff\xd8\xff\xe0": "damaged",
    PNG: "damaged",
    PNG + b"garbage" * 10: "truncated",
    b"GIF89a": "damaged",
    b"RIFF\x10\0\0\0WEBPVP8 ": "damaged",
    b"BM": "damaged",
    b"II*\0": "damaged",
    b"MM\0*\0\0\0\x08": "damaged",
    b"P6": "damaged",
    b"P6 ": "damaged",
    b"P6 3 3 255\n": "truncated",
    b"P3 2 2 255\n1 2 3 4 5": "truncated",
    b"P3 1 1 255\n1 2 x": "damaged",
    b"P3 1 1 0\n1 2 3": "damaged",
}


@pytest.mark.parametrize(("content", "code"), STRANGERS.items(), ids=lambda value: repr(value)[:30])
def test_files_that_are_no_pictures_are_told_apart(tmp_path, content, code):
    assert outcome(put(tmp_path, "stranger.jpg", content)) == code


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\0\0\0\x20ftypheic" + bytes(60), "a HEIF or AVIF picture"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"8BPS" + bytes(40), "a Photoshop document"),
    ],
)
def test_a_stranger_is_named_and_what_to_save_it_as(tmp_path, content, words):
    with pytest.raises(ImageError, match=f"{words}.*JPEG, PNG, WebP, BMP, GIF, TIFF and PPM"):
        read_image(put(tmp_path, "holiday.jpg", content))


def test_what_is_not_a_file_is_said_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")  # nobody writes to it: opening it the usual way would wait for ever
    (tmp_path / "link-to-pipe.jpg").symlink_to(tmp_path / "pipe.jpg")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "link-to-nothing.png").symlink_to(tmp_path / "nothing")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    good = put(tmp_path, "good.png", made("PNG", "RGB"))
    (tmp_path / "link.png").symlink_to(good)
    expected = {
        tmp_path / "pipe.jpg": "not-a-file",
        tmp_path / "link-to-pipe.jpg": "not-a-file",
        Path("/dev/null"): "not-a-file",
        Path("/dev/zero"): "not-a-file",
        tmp_path / "folder.png": "directory",
        tmp_path: "directory",
        tmp_path / "nothing.png": "missing",
        tmp_path / "link-to-nothing.png": "missing",
        good / "inside.png": "missing",
        tmp_path / "with\0zero": "missing",
        tmp_path / "loop.png": "unreadable",
        tmp_path / ("long" * 100): "unreadable",
        tmp_path / "link.png": "ok",
    }
    assert {path: outcome(path) for path in expected} == expected
    with pytest.raises(ImageError, match="link to a file that does not exist"):
        read_image(tmp_path / "link-to-nothing.png")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_said_so(tmp_path):
    path = put(tmp_path, "secret.png", made("PNG", "RGB"))
    path.chmod(0)
    assert outcome(path) == "unreadable"


def test_a_file_name_that_is_no_unicode_is_read(tmp_path):
    path = os.path.join(os.fsencode(tmp_path), b"caf\xe9.png")
    with open(path, "wb") as file:
        file.write(made("PNG", "RGB"))
    assert outcome(Path(os.fsdecode(path))) == "ok"


def test_text_and_path_are_both_names(tmp_path):
    path = put(tmp_path, "good.png", made("PNG", "RGB"))
    assert torch.equal(read_image(str(path)), read_image(path))


# bombs ---------------------------------------------------------------------------------------------------------------


def png_bomb(side):
    """Half a megabyte that would unpack to 530 MB."""
    rows = zlib.compress(bytes(side * 3 + 1) * 64, 9)
    return png_header(side, side) + chunk(b"IDAT", rows * 40) + chunk(b"IEND")


def gif_bomb(side):
    return (
        b"GIF89a"
        + struct.pack("<HH", side, side)
        + b"\x80\0\0"
        + bytes(6)
        + b","
        + struct.pack("<HHHH", 0, 0, side, side)
    )


BOMBS = {
    "png": png_bomb(13300),
    "png-just-over": png_header(8000, 8001) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND"),
    "png-absurd": png_header(2**31 - 1, 2**31 - 1) + chunk(b"IDAT", b"") + chunk(b"IEND"),
    "gif": gif_bomb(65535) + b"\0\2\0;",
    "bmp": b"BM"
    + struct.pack("<IHHI", 1000, 0, 0, 54)
    + struct.pack("<IiiHHIIiiII", 40, 40000, 40000, 1, 24, *[0] * 6),
    "ppm": b"P6 40000 40000 255\n" + bytes(1000),
    "plain-ppm": b"P3 40000 40000 255\n" + b"1 " * 1000,
    "jpeg": made("JPEG", "RGB").replace(struct.pack(">HH", 24, 31), struct.pack(">HH", 65500, 65500)),
    "tiff": made("TIFF", "RGB").replace(struct.pack("<HHII", 256, 4, 1, 31), struct.pack("<HHII", 256, 4, 1, 9999999)),
    "webp": b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xfe\x3f\0" * 2 + b"VP8 " + bytes(12),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_from_their_header(tmp_path, name):
    path = put(tmp_path, name, BOMBS[name])
    outcome(path)  # imports and first use
    times = []
    for _ in range(5):
        start = time.process_time()
        assert outcome(path) in {"too-large", "damaged"}
        times.append(time.process_time() - start)
    assert min(times) < 0.010


def test_64_megapixels_are_the_limit_and_it_is_said(tmp_path):
    with pytest.raises(ImageError, match="8000 x 8001 pixels, and at most 64 million") as caught:
        read_image(put(tmp_path, "over.png", BOMBS["png-just-over"]))
    assert caught.value.code == "too-large"
    under = (
        png_header(8000, 8000, bits=1, colour=0) + chunk(b"IDAT", zlib.compress(bytes(1001 * 8000))) + chunk(b"IEND")
    )
    assert ImageFile(put(tmp_path, "under.png", under)).size == (8000, 8000)


def test_a_limit_that_somebody_set_in_pillow_is_an_image_error_too(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert outcome(put(tmp_path, "small.png", made("PNG", "RGB"))) == "too-large"


def progressive_bomb(scans):
    """A small progressive JPEG of many pixels that tells the decoder to go over them again and again."""
    jpeg = encoded(Image.new("L", (4000, 4000)), "JPEG", progressive=True)
    scan = jpeg[jpeg.rindex(b"\xff\xda") : -2]
    return jpeg[:-2] + scan * scans + jpeg[-2:]


def test_a_jpeg_that_keeps_the_decoder_busy_is_refused(tmp_path):
    assert outcome(put(tmp_path, "usual.jpg", progressive_bomb(0))) == "ok"
    with pytest.raises(ImageError, match="scans over one picture"):
        read_image(put(tmp_path, "busy.jpg", progressive_bomb(2000)))


def test_scans_behind_the_end_of_a_jpeg_are_not_its_own(tmp_path):
    video = b"\xff\xda" * 500  # a camera appends a film whose bytes may look like anything
    assert outcome(put(tmp_path, "motion.jpg", made("JPEG", "RGB", progressive=True) + video)) == "ok"


def many_chunks(count):
    png = made("PNG", "RGB")
    return png[:33] + chunk(b"prVt") * count + png[33:]


SLOW = {
    "16-bit ppm": b"P6 1500 1000 65535\n" + bytes(9_000_000),
    "odd ppm": b"P6 2000 1500 100\n" + bytes(9_000_000),
    "plain ppm": b"P3 1000 1000 255\n" + b"123 " * 3_000_000,
    "comment in a ppm": b"P6 #" + b"x" * 1_000_000 + b"\n1 1 255\nabc",
    "chunks in a png": many_chunks(50_000),
    "markers in a jpeg": (jpeg := made("JPEG", "RGB"))[:2] + b"\xff\xfe\0\x02" * 300_000 + jpeg[2:],
    "blocks in a gif": (gif := made("GIF", "L"))[:-1] + b"!\xfe\0" * 300_000 + gif[-1:],
    "text in a png": made("PNG", "RGB")[:33]
    + chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(20_000_000)))
    + made("PNG", "RGB")[33:],
}


@pytest.mark.parametrize("name", SLOW)
def test_files_made_or_grown_slow_are_not(tmp_path, name):
    outcome(put(tmp_path, "slow", SLOW[name]))


# damage at random -----------------------------------------------------------------------------------------------------

SEEDS = [made(kind, mode) for kind, mode in MATRIX] + [
    made("JPEG", "RGB", progressive=True),
    made("TIFF", "RGB", compression="tiff_lzw"),
    made("TIFF", "RGB", compression="jpeg"),
    made("TIFF", "1", compression="group4"),
    made("WEBP", "RGBA", lossless=True),
    encoded(gradient(), "GIF", save_all=True, append_images=[gradient().rotate(90)]),
    b"P3 2 2 255\n1 2 3 4 5 6 7 8 9 10 11 12\n",
]


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.sampled_from(SEEDS),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=0, max_size=4)), max_size=6),
    cut=st.floats(0, 1),
)
@example(seed=SEEDS[0], changes=[], cut=1.0)
def test_files_with_bytes_changed_lost_and_gained_give_a_picture_or_an_image_error(tmp_path, seed, changes, cut):
    content = bytearray(seed)
    for place, new in changes:
        at = int(place * len(content))
        content[at : at + max(len(new) - 1, 1)] = new
    outcome(put(tmp_path, "mutated", bytes(content[: int(cut * len(content)) + 1 if cut < 0.9 else None])))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=200), start=st.sampled_from([seed[:n] for seed in SEEDS[::4] for n in (0, 4, 12, 40)])
)
def test_bytes_at_random_give_a_picture_or_an_image_error(tmp_path, content, start):
    outcome(put(tmp_path, "random", start + content))


# what stays as it was -------------------------------------------------------------------------------------------------


def noisy_tiff():
    """Good pixels and bad metadata, at which Pillow warns."""
    tiff = made("TIFF", "RGB")
    return tiff.replace(struct.pack("<HHI", 258, 3, 3), struct.pack("<HHI", 258, 3, 3), 1).replace(
        struct.pack("<HHI", 277, 3, 1), struct.pack("<HHI", 277, 3, 7)
    )


def warner(tmp_path):
    path = put(tmp_path, "noisy.tif", noisy_tiff())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            with Image.open(path) as image:
                image.load()
        except Exception:
            pass
    assert caught, "this file is here because Pillow warns at it"
    return path


def test_warnings_of_pillow_stay_inside_and_those_of_others_do_not(tmp_path):
    path = warner(tmp_path)
    before = list(warnings.filters)
    assert outcome(path)
    assert list(warnings.filters) == before
    with pytest.warns(UserWarning, match="mine"):
        warnings.warn("mine", UserWarning, stacklevel=1)


def test_threads_that_read_together_leave_the_filters_as_they_were(tmp_path):
    path, good = warner(tmp_path), put(tmp_path, "good.png", made("PNG", "RGB"))
    before, wrong = list(warnings.filters), []

    def work():
        for _ in range(60):
            try:
                read_image(good)
                read_image(path)
            except ImageError:
                pass
            except BaseException as error:
                wrong.append(error)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong
    assert list(warnings.filters) == before
    assert decoding.quiet.readers == 0


def test_pillow_is_left_as_it_was(tmp_path):
    settings_of_pillow = lambda: (  # noqa: E731
        PillowFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS, Image.WARN_POSSIBLE_FORMATS, dict(Image.DECODERS),
    )  # fmt: skip
    before = settings_of_pillow()
    for name, content in BOMBS.items():
        outcome(put(tmp_path, name, content))
    outcome(put(tmp_path, "good.ppm", b"P3 1 1 255 1 2 3"))
    assert settings_of_pillow() == before
    assert PillowFile.LOAD_TRUNCATED_IMAGES is False


def test_reading_imports_seven_formats_and_not_forty(tmp_path):
    path = put(tmp_path, "good.webp", made("WEBP", "RGB"))
    script = (
        "import sys; from vitrail.data.images import read_image; read_image(sys.argv[1]); "
        "print([name for name in sys.modules if name.endswith(('PsdImagePlugin', 'FpxImagePlugin', 'EpsImagePlugin'))])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script, path], capture_output=True, text=True, timeout=120, check=True
    )
    assert answer.stdout.strip() == "[]"


def test_no_file_stays_open(tmp_path):
    opened = lambda: len(os.listdir("/proc/self/fd"))  # noqa: E731
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("counts open files in /proc")
    good, bad = put(tmp_path, "good.tif", made("TIFF", "RGB")), put(tmp_path, "bad.png", made("PNG", "RGB")[:50])
    before = opened()
    for path in (good, bad, tmp_path, tmp_path / "none") * 5:
        outcome(path)
    assert opened() == before


def test_a_picture_travels_to_another_process_without_its_pixels(tmp_path):
    file = ImageFile(put(tmp_path, "good.png", made("PNG", "RGB")))
    file.read()
    assert len(pickle.dumps(file)) < 500
    assert pickle.loads(pickle.dumps(file)).size == (24, 31)


def test_an_image_error_names_the_picture_in_memory():
    with pytest.raises(ImageError, match="frame 7"), Image.open(io.BytesIO(made("JPEG", "RGB")[:-20])) as image:
        PictureArray(image, "frame 7").read()
