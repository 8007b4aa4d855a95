"""Pictures from files and from memory: seven formats, as displayed, and one kind of error.

JPEG, PNG, WebP, BMP, GIF, TIFF and PPM are recognised by their content, whatever the file is called. Of an animation
the first frame is taken. EXIF orientation is applied; 16-bit and float pixels are scaled to 8 bits
(`pixels.to_eight_bits` says how); what can be seen through is laid on white where a model reads no alpha.
"""

import os
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import IMAGELENGTH, IMAGEWIDTH, TiffImageFile
from torch import Tensor

from vitrail.data.decoding import decode, guarded, opened, orientation, speaks_late
from vitrail.errors import ConfigError
from vitrail.geometry.placement import Box, Size
from vitrail.pixels import MODES, channels_first, plain, to_channels, to_image, to_pixels
from vitrail.samples import Picture

Transpose = Image.Transpose
TURNS = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}  # what makes a stored picture stand as it was seen, by EXIF orientation


def displayed_size(image: Image.Image) -> Size:
    """Rows and columns of a picture once it is turned, before it is decoded."""
    columns, rows = image.size
    if isinstance(image, TiffImageFile):  # Pillow has exchanged them already where the orientation asks for it
        columns, rows = image.tag_v2[IMAGEWIDTH], image.tag_v2[IMAGELENGTH]
    return (columns, rows) if orientation(image) >= 5 else (rows, columns)


def stored_box(box: Box, size: Size, turn: int) -> Box:
    """Where a part of the displayed picture lies in the stored one.

    Args:
        box: left, top, right, bottom, in displayed pixels.
        size: rows and columns as displayed.
        turn: EXIF orientation.
    """
    left, top, right, bottom = box
    rows, columns = size
    if turn in (2, 3, 6, 7):
        left, right = columns - right, columns - left
    if turn in (3, 4, 7, 8):
        top, bottom = rows - bottom, rows - top
    return (top, left, bottom, right) if turn >= 5 else (left, top, right, bottom)


def draft(image: Image.Image, box: Box | None, least: Size) -> int:
    """Have a JPEG decoded at a half, a quarter or an eighth where that leaves enough of the part, or of the whole.

    Returns:
        How many pixels of the file make one of the decoded picture, in each direction.
    """
    if not isinstance(image, JpegImageFile):
        return 1
    rows, columns = displayed_size(image)
    left, top, right, bottom = box or (0, 0, columns, rows)
    spare = min((bottom - top) / least[0], (right - left) / least[1], *image.size)
    shrink = max(step for step in (1, 2, 4, 8) if step <= max(spare, 1))
    if shrink > 1:
        image.draft(None, (image.width // shrink, image.height // shrink))
    return shrink


def cut(image: Image.Image, box: Box, shrink: int = 1) -> Image.Image:
    """A part of a picture that has been decoded `shrink` times smaller; between pixels where the box is."""
    left, top, right, bottom = (side / shrink for side in box)
    if (left, top, right, bottom) == (0, 0, *image.size):
        return image
    if all(side.is_integer() for side in (left, top, right, bottom)):
        return image.crop((int(left), int(top), int(right), int(bottom)))
    size = (max(round(right - left), 1), max(round(bottom - top), 1))
    return image.resize(size, Image.Resampling.BICUBIC, box=(left, top, right, bottom))


class ImageFile:
    """A picture in a file, which is opened each time something is asked, and never kept open.

    Args:
        path: the file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"ImageFile({self.name!r})"

    @property
    def name(self) -> str:
        """The path."""
        return str(self.path)

    @property
    def size(self) -> Size:
        """Rows and columns as displayed, from the header.

        Raises:
            ImageError: the file is no picture that is read here.
        """
        with opened(self.path) as (image, file):
            if speaks_late(image, file):
                image.load()
            return displayed_size(image)

    def read(self, box: Box | None = None, least: Size | None = None) -> Image.Image:
        """Decode, as displayed, to a Pillow image in mode `L`, `RGB` or `RGBA`.

        Args:
            box: left, top, right, bottom of the part that is wanted, in displayed pixels, inside the picture.
            least: rows and columns below which the part need not be resolved. A JPEG is then decoded at 1/2, 1/4 or
                1/8, which is up to four times faster, and the part comes smaller, but no smaller than that.

        Raises:
            ImageError: it cannot be decoded.
        """
        with opened(self.path) as (image, file):
            width, height = image.size
            shrink = 1 if least is None else draft(image, box, least)
            picture, turn = decode(image, file), orientation(image)
        if box is not None:
            size = (width, height) if turn >= 5 else (height, width)
            picture = cut(picture, stored_box(box, size, turn), shrink)
        return picture.transpose(TURNS[turn]) if turn in TURNS else picture


class PictureArray:
    """A picture in memory, taken as it stands.

    Args:
        pixels: a Pillow image of any mode, a uint8 array (rows, columns) or (rows, columns, channels), or a uint8
            tensor (channels, rows, columns), of 1, 3 or 4 channels.
        name: how to call it in front of a person.

    Raises:
        ConfigError: other numbers, or another shape.
    """

    def __init__(self, pixels: Image.Image | np.ndarray | Tensor, name: str = "a picture in memory") -> None:
        self.image = pixels if isinstance(pixels, Image.Image) else to_image(channels_first(pixels))
        self.name = name

    @property
    def size(self) -> Size:
        """Rows and columns."""
        return self.image.height, self.image.width

    def read(self, box: Box | None = None, least: Size | None = None) -> Image.Image:
        """The picture, or a part of it, in mode `L`, `RGB` or `RGBA`; `least` makes no difference.

        Raises:
            ImageError: a Pillow image that was opened but not yet decoded, and cannot be.
        """
        with guarded(self.name):
            self.image.load()
            picture = plain(self.image)
            return picture if box is None else cut(picture, box)


class PictureLayers:
    """A picture in memory with a number of channels that no picture file has, such as the bands of a satellite.

    Args:
        pixels: a uint8 array (rows, columns, channels) or tensor (channels, rows, columns).
        name: how to call it in front of a person.
    """

    def __init__(self, pixels: np.ndarray | Tensor, name: str = "a picture in memory") -> None:
        self.pixels: UInt8[Tensor, "channels rows columns"] = channels_first(pixels)
        self.name = name

    @property
    def size(self) -> Size:
        """Rows and columns."""
        return self.pixels.shape[1], self.pixels.shape[2]

    def read(self, box: Box | None = None, least: Size | None = None) -> Image.Image:
        """What can be seen of it: its first three channels as colours, or the first of two as grey."""
        seen = to_image(self.pixels[: 3 if self.pixels.shape[0] >= 3 else 1])
        return seen if box is None else cut(seen, box)


def picture_of(pixels: np.ndarray, name: str) -> Picture:
    """A uint8 array (rows, columns) or (rows, columns, channels) as a picture, with any number of channels."""
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    return PictureArray(pixels, name) if channels in MODES else PictureLayers(pixels, name)


def read_image(path: str | os.PathLike[str]) -> UInt8[Tensor, "3 rows columns"]:
    """The picture in a file, in colour and as displayed: EXIF orientation applied, transparency on white.

    Raises:
        ConfigError: what is given is no path.
        ImageError: its `hint` says what is wrong and its `code` is one of `missing`, `directory`, `not-a-file`,
            `unreadable`, `empty`, `format` (none of the seven), `damaged`, `truncated` and `too-large` (over 64
            million pixels).
    """
    if not isinstance(path, str | os.PathLike):
        raise ConfigError(f"read_image reads a file, and takes its path; it was given {type(path).__name__}.")
    return to_pixels(to_channels(ImageFile(path).read(), 3))
