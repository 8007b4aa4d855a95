"""Files that may be anything, opened and decoded by Pillow under guard.

Whatever is wrong with a file comes out as one `ImageError`; Pillow's warnings stay inside; and what would take
seconds or gigabytes is refused from its header.
"""

import ctypes
import errno
import logging
import math
import os
import re
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
import PIL
from PIL import (
    ExifTags,
    Image,
    ImageChops,
    ImageFile,
    TiffImagePlugin,  # noqa: F401 - for these two Pillow would otherwise import all the formats it knows
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)

from vitrail.errors import ImageError, VitrailError
from vitrail.pixels import plain

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
READABLE = "JPEG, PNG, WebP, BMP, GIF, TIFF and PPM"

LARGEST = 64_000_000  # pixels; 8000 x 8000 takes Pillow 0.2 to 2.3 s (lossless WebP) and 256 MB
MOST_SCANS = 64  # of a progressive JPEG; encoders write about 10, and each goes over the whole picture
MOST_CHUNKS = 200_000  # of a PNG; 64 million pixels in the usual 8 kB pieces make 25,000

JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")

# how Python and Pillow speak of bytes, and of what is no number
BYTES = re.compile(r"""\bb(['"])(.*?)\1""")
NO_NUMBER = re.compile(r"invalid literal for int\(\) with base \d+:")

OURS = rb"\xff\xd8\xff|\x89PNG\r\n|RIFF....WEBP|BM|GIF8|II[*+]\x00|MM\x00[*+]|P[1-7f]\s"
OTHERS = {
    rb"....ftyp(hei|hev|mif1|msf1|avif)": "a HEIF or AVIF picture",
    rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51": "a JPEG 2000 picture",
    rb"\x00\x00[\x01\x02]\x00": "an icon",
    rb"8BPS": "a Photoshop document",
    rb"%PDF": "a PDF document",
    rb"%!PS": "a PostScript document",
    rb"PK\x03\x04|\x1f\x8b|7z\xbc\xaf": "a compressed archive",
    rb"\s*<(!doctype|html)": "a web page",
    rb"\s*<(\?xml|svg)": "an SVG drawing or other XML",
}


class Quiet:
    """Keeps Pillow's warnings and log lines inside while any thread is reading, and only then.

    (`warnings.catch_warnings` would put back the filters of another thread.)
    """

    def __init__(self) -> None:
        self.lock, self.readers = threading.Lock(), 0
        self.mute = logging.NullHandler()

    def __enter__(self) -> None:
        with self.lock:
            self.readers += 1
            if self.readers == 1:
                warnings.filterwarnings("ignore", module=r"PIL\.(?#while vitrail reads)")
                self.filter = warnings.filters[0]
                logging.getLogger("PIL").addHandler(self.mute)

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.readers -= 1
            if self.readers == 0:
                with suppress(ValueError):  # somebody else put other filters in their place meanwhile
                    warnings.filters.remove(self.filter)  # pyright: ignore[reportAttributeAccessIssue]
                logging.getLogger("PIL").removeHandler(self.mute)


quiet = Quiet()


def plain_bytes(found: re.Match[str]) -> str:
    """The letters of some bytes as Python writes them (`b'IDAT'`), with a question mark for what is no letter."""
    return re.sub(r"\\x..|\\.", "?", found[2])


def explain(error: Exception) -> tuple[str, str]:
    """A code and a sentence for what Pillow raised."""
    words = NO_NUMBER.sub("text where a number was expected:", BYTES.sub(plain_bytes, str(error)))
    words = words.rstrip(".") or type(error).__name__
    if isinstance(error, Image.DecompressionBombError | MemoryError):
        return "too-large", f"It is too large to be decoded ({words})."
    if isinstance(error, OSError) and error.errno is not None:
        return "unreadable", f"It cannot be read ({error.strerror})."
    if isinstance(error, EOFError) or "truncated" in words.lower():
        return "truncated", "It is cut short. Copy or download it again."
    return "damaged", f"It is damaged, or of a kind that is not read here ({words}). Save it anew or leave it out."


@cache
def hush_libtiff() -> None:
    """Keep the library that decodes TIFF for Pillow from writing what it finds wrong onto the terminal, past Python.

    Pillow hears of it all the same. Where the library is not the one that comes with Pillow, it goes on writing.
    """
    for library in Path(PIL.__file__).parents[1].glob("pillow.libs/libtiff*"):
        with suppress(OSError, AttributeError):
            tiff = ctypes.CDLL(str(library))
            tiff.TIFFSetErrorHandler(None)
            tiff.TIFFSetWarningHandler(None)


@contextmanager
def guarded(name: str | Path) -> Iterator[None]:
    """Whatever Pillow finds wrong inside is an `ImageError` about that picture, and no warning leaves.

    Only `UnidentifiedImageError` passes: it takes the file's first bytes to explain it.
    """
    try:
        with quiet:
            yield
    except (VitrailError, UnidentifiedImageError):
        raise
    except Exception as error:  # Pillow's decoders raise nearly every kind
        code, hint = explain(error)
        raise ImageError(code, name, hint) from error


def without_waiting(path: str, flags: int) -> int:
    """Open like `os.open`, but do not wait at a pipe that nobody writes to."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def open_file(path: Path) -> BinaryIO:
    """Open a regular file, or say why not.

    Raises:
        ImageError: missing, a folder, a pipe or device, or not allowed.
    """
    try:
        file = open(path, "rb", opener=without_waiting)  # noqa: SIM115 - the caller closes it
    except IsADirectoryError as error:
        raise ImageError("directory", path, "It is a folder. Name a picture inside it.") from error
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise ImageError("missing", path, nothing_there(path)) from error
    except PermissionError as error:
        raise ImageError("unreadable", path, "It may not be read. Change its permissions.") from error
    except OSError as error:
        code = "not-a-file" if error.errno == errno.ENXIO else "unreadable"
        raise ImageError(code, path, f"It cannot be opened ({error.strerror}).") from error
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise ImageError("not-a-file", path, "It is a pipe or a device, and not a file.")


def nothing_there(path: Path) -> str:
    """What to say of a path that leads to no file."""
    if path.is_symlink():
        return "It is a link to a file that does not exist."
    text = (not path.suffix or " " in path.suffix or path.suffix == ".") and len(path.name.split()) > 2
    return "There is no such file or folder." + (" Name a picture, if this was meant as a text." if text else "")


def unrecognised(path: Path, head: bytes) -> ImageError:
    """What to say of a file that Pillow cannot identify, from its first bytes."""
    if not head:
        return ImageError("empty", path, "It is empty. Copy or download it again.")
    if re.match(OURS, head, re.DOTALL):
        return ImageError("damaged", path, "It begins like a picture, but is damaged, cut short or of a rare kind.")
    for start, kind in OTHERS.items():
        if re.match(start, head, re.DOTALL | re.IGNORECASE):
            return ImageError("format", path, f"It is {kind}. Save it as one of the formats that are read: {READABLE}.")
    return ImageError("format", path, f"It is no picture of the formats that are read: {READABLE}.")


def check_size(image: Image.Image, path: Path) -> None:
    """Refuse a picture without pixels, or with too many."""
    if min(image.size) < 1:
        raise ImageError("damaged", path, "It has no pixels.")
    if image.width * image.height > LARGEST:
        raise ImageError(
            "too-large",
            path,
            f"It has {image.width} x {image.height} pixels, and at most {LARGEST // 1_000_000} million are read. "
            "Make it smaller.",
        )


@contextmanager
def opened(path: Path) -> Iterator[tuple[ImageFile.ImageFile, BinaryIO]]:
    """A picture whose header has been read and is not absurd, and its file.

    Raises:
        ImageError: it is none, or something goes wrong with it inside the block.
    """
    with open_file(path) as file:
        try:
            with guarded(path):
                image = Image.open(file, formats=FORMATS)
                check_size(image, path)
                if image.format == "TIFF":
                    hush_libtiff()
                yield image, file
        except UnidentifiedImageError as error:
            file.seek(0)
            raise unrecognised(path, file.read(64)) from error


def png_chunks(file: BinaryIO) -> list[bytes]:
    """The kinds of the whole chunks of a PNG, in their order; the file stays where it was."""
    place, kinds = file.tell(), []
    file.seek(8)
    while b"IEND" not in kinds[-1:] and len(kinds) < MOST_CHUNKS and len(head := file.read(8)) == 8:
        file.seek(int.from_bytes(head[:4]), os.SEEK_CUR)
        if len(file.read(4)) == 4:  # its checksum
            kinds.append(head[4:])
    file.seek(place)
    return kinds


def speaks_late(image: ImageFile.ImageFile, file: BinaryIO) -> bool:
    """Whether a PNG says something about itself, perhaps its orientation, only after its pixels."""
    kinds = png_chunks(file) if image.format == "PNG" else []
    after = kinds[len(kinds) - kinds[::-1].index(b"IDAT") :] if b"IDAT" in kinds else []
    return not {b"eXIf", b"iTXt", b"tEXt", b"zTXt"}.isdisjoint(after)


def jpeg_scans(data: bytes) -> int:
    """How many times a JPEG goes over its picture, up to the end of the first picture in the file."""
    scans, place = 0, 2
    while (marker := JPEG_MARKER.search(data, place)) and marker[0] != b"\xff\xd9":
        scans += marker[0] == b"\xff\xda"
        place = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2])
    return scans


def decode_ppm(image: ImageFile.ImageFile, file: BinaryIO) -> Image.Image:
    """The kinds of PPM that Pillow decodes one number at a time (seconds for a photograph)."""
    decoder, _, offset, settings = image.tile[0]
    highest = settings[-1] if isinstance(settings, tuple) and decoder != "raw" else 65535
    shape = (image.height, image.width, len(image.getbands()))
    file.seek(offset)
    if decoder == "ppm_plain":
        text = re.sub(rb"#[^\r\n]*", b"", file.read())
        if text.translate(None, b"0123456789 \t\r\n\v\f"):
            raise ValueError("text where a number was expected")
        numbers = np.fromstring(text, dtype=np.int64, sep=" ")[: math.prod(shape)]
    else:
        kind = np.dtype(">u2" if highest > 255 else "u1")
        data = file.read(math.prod(shape) * kind.itemsize)
        numbers = np.frombuffer(data[: len(data) // kind.itemsize * kind.itemsize], kind)
    if numbers.size < math.prod(shape):
        raise EOFError
    numbers = np.minimum(numbers, highest).astype(np.uint32)
    values = ((numbers * 255 + highest // 2) // highest).astype(np.uint8).reshape(shape)
    return Image.fromarray(values if shape[2] == 3 else values[:, :, 0])


def check_whole(image: ImageFile.ImageFile, file: BinaryIO) -> None:
    """Refuse a PNG that does not end, and a JPEG made to keep a decoder busy."""
    if image.format == "PNG" and b"IEND" not in png_chunks(file):
        raise EOFError
    if image.info.get("progressive"):
        place = file.tell()
        file.seek(0)
        if (scans := jpeg_scans(file.read())) > MOST_SCANS:
            raise ValueError(f"{scans} scans over one picture")
        file.seek(place)


def decode(image: ImageFile.ImageFile, file: BinaryIO) -> Image.Image:
    """The pixels of an opened picture as they are stored, in grey, in colour, or in colour with alpha."""
    if image.format == "PPM" and (image.mode == "I" or (image.mode in ("L", "RGB") and image.tile[0][0] != "raw")):
        return decode_ppm(image, file)
    check_whole(image, file)
    image.load()
    if image.mode == "CMYK" and image.format in ("JPEG", "MPO") and "adobe" not in image.info:
        return plain(ImageChops.invert(image))  # Pillow takes the inks of every JPEG to be inverted, as Adobe's are
    return plain(image)


def orientation(image: Image.Image) -> int:
    """How the camera was held, 1 to 8 as in EXIF, from what has been read of the file so far.

    Broken EXIF says nothing. A TIFF that has been decoded was turned by Pillow, and says 1.
    """
    try:
        turn = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)  # PNG's own would decode the picture
        return int(turn) if turn in range(1, 9) else 1
    except Exception:
        return 1
