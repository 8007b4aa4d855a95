"""Eight-bit pixels in 1, 3 or 4 channels, out of whatever Pillow decodes, and between Pillow and torch.

Colours are those that Pillow's own conversions give; colour profiles inside a file are not applied. What can be
seen through is laid on white, as browsers and transformers do.
"""

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from vitrail.errors import ConfigError

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
RANGES = {  # of black and white, by kind of number
    "u": ((0.0, 65535.0),),
    "i": ((0.0, 255.0), (0.0, 65535.0)),
    "f": ((0.0, 1.0), (0.0, 255.0)),
}


def black_and_white(values: np.ndarray) -> tuple[float, float]:
    """Which grey values stand for black and for white.

    Unsigned 16-bit numbers: 0 and 65535. Other integers: 0 and 255 if none lies outside, else 0 and 65535 if none lies
    outside. Floats: 0 and 1 if none lies outside, else 0 and 255 if none lies outside. Anything else: the smallest and
    the largest.
    """
    if values.dtype.kind == "f" and not np.isfinite([values.min(), values.max()]).all():
        values = values[np.isfinite(values)]
    least, most = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    for black, white in RANGES[values.dtype.kind]:
        if black <= least and most <= white:
            return black, white
    return least, most


def to_eight_bits(values: np.ndarray) -> UInt8[np.ndarray, "rows columns"]:
    """Grey values of any depth as 0 to 255, scaled and not clipped. NaN is black, the infinite white or black."""
    if values.dtype == np.uint16 and values.size > 2**22:  # each of so many values is looked up sooner
        return levels_of(np.arange(2**16, dtype=np.uint16))[values]
    with np.errstate(all="ignore"):  # what is no number, or too large for one, has its level all the same
        return levels_of(values)


def levels_of(values: np.ndarray) -> UInt8[np.ndarray, "..."]:
    """The same, with numpy's warnings."""
    black, white = black_and_white(values)
    levels = values.astype(np.float32 if (black, white) in RANGES[values.dtype.kind] else np.float64)
    levels -= black
    levels *= 255 / ((white - black) or 1)
    np.fmin(np.fmax(levels, 0, out=levels), 255, out=levels)  # unlike clip, they make 0 of NaN
    return np.rint(levels, out=levels).astype(np.uint8)


def shallow(image: Image.Image) -> Image.Image:
    """A picture of 16 or 32 bits in 8, with the grey value that a PNG may declare transparent."""
    values = np.asarray(image)
    grey = Image.fromarray(to_eight_bits(values))
    hole = image.info.get("transparency")
    if hole is None:
        return grey
    alpha = Image.fromarray(np.where(values == hole, 0, 255).astype(np.uint8))
    return Image.merge("RGBA", (grey, grey, grey, alpha))


def plain(image: Image.Image) -> Image.Image:
    """The same picture in grey (`L`), in colour (`RGB`), or in colour with alpha (`RGBA`)."""
    if image.mode.startswith(("I", "F")):
        return shallow(image)
    if image.has_transparency_data:
        return image if image.mode == "RGBA" else image.convert("RGBA")
    if image.mode in ("L", "RGB"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def to_channels(image: Image.Image, channels: int) -> Image.Image:
    """Grey (1), colour (3), or colour and alpha (4). The first two show what can be seen through on white.

    Raises:
        ConfigError: Pillow has no pictures with that many channels.
    """
    if channels not in MODES:
        raise ConfigError(
            f"A picture has 1, 3 or 4 channels, and the model reads {channels}. "
            f"Give it a uint8 tensor of shape ({channels}, rows, columns) instead."
        )
    image = plain(image)
    if image.mode == MODES[channels]:
        return image
    if image.mode == "RGBA" and image.getchannel("A").getextrema() != (255, 255):
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(MODES[channels])


def to_pixels(image: Image.Image) -> UInt8[Tensor, "channels rows columns"]:
    """A Pillow image of mode `L`, `RGB` or `RGBA` as a tensor.

    Band by band, as the tensor has them: photographs take half as long as with all bands at once, taken apart later.
    """
    bands = image.getbands()
    pixels = np.empty((len(bands), image.height, image.width), dtype=np.uint8)
    for plane, band in zip(pixels, bands, strict=True):
        plane[:] = np.frombuffer(image.tobytes("raw", band), dtype=np.uint8).reshape(plane.shape)
    return torch.from_numpy(pixels)


def to_image(pixels: UInt8[Tensor, "channels rows columns"]) -> Image.Image:
    """A tensor of 1, 3 or 4 channels as a Pillow image.

    Raises:
        ConfigError: another number of channels.
    """
    if pixels.shape[0] not in MODES:
        raise ConfigError(
            f"A picture has 1, 3 or 4 channels, and this one has {pixels.shape[0]}. "
            "Give the tensor itself to the model's preprocessing."
        )
    rows_first = pixels.permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(np.ascontiguousarray(rows_first if pixels.shape[0] > 1 else rows_first[:, :, 0]))


def channels_first(pixels: Tensor | np.ndarray) -> UInt8[Tensor, "channels rows columns"]:
    """The pixels of a tensor (channels, rows, columns) or an array (rows, columns, channels); grey may lack channels.

    Raises:
        ConfigError: not uint8, or another shape.
    """
    shape, dtype = tuple(pixels.shape), str(pixels.dtype).removeprefix("torch.")
    if dtype != "uint8":
        raise ConfigError(f"Pixels should be uint8, from 0 to 255, and these are {dtype}. Scale and convert them.")
    if len(shape) not in (2, 3) or 0 in shape:
        raise ConfigError(
            f"One picture should be a tensor of shape (channels, rows, columns) or an array of shape (rows, columns, "
            f"channels), and this one has shape {shape}."
        )
    if isinstance(pixels, Tensor):
        return pixels if pixels.ndim == 3 else pixels[None]
    return torch.from_numpy(np.require(np.atleast_3d(pixels), requirements=["C", "W"])).permute(2, 0, 1)
