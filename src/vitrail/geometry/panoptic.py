"""A picture in which every pixel is of one segment, as a map of numbers, and that map as COCO's PNG.

A number is written as a colour: red + 256 green + 256 x 256 blue. 0 is no segment.

Source: Kirillov et al., "Panoptic Segmentation", CVPR 2019, and the format of its data.
"""

import numpy as np
from jaxtyping import Bool, Int, UInt8

VOID = 0  # where nothing is known, or said
LARGEST = 256**3 - 1  # number that a colour can be


def in_colours(numbers: Int[np.ndarray, "rows columns"]) -> UInt8[np.ndarray, "rows columns colour"]:
    """Numbers of segments, 0 to `LARGEST`, as red, green and blue."""
    assert numbers.size == 0 or 0 <= numbers.min() <= numbers.max() <= LARGEST, "no colour stands for this number"
    return np.stack([numbers & 255, (numbers >> 8) & 255, (numbers >> 16) & 255], axis=-1).astype(np.uint8)


def from_colours(colours: UInt8[np.ndarray, "rows columns colour"]) -> Int[np.ndarray, "rows columns"]:
    """The numbers that red, green and blue stand for."""
    red, green, blue = np.moveaxis(colours.astype(np.int64), -1, 0)
    return red + (green << 8) + (blue << 16)


def numbered(masks: Bool[np.ndarray, "objects rows columns"]) -> Int[np.ndarray, "rows columns"]:
    """Masks as one map, in which the first is 1; where several claim a pixel, the last has it."""
    numbers = np.full(masks.shape[1:], VOID, np.int64)
    for number, mask in enumerate(masks, start=1):
        numbers[mask] = number
    return numbers
