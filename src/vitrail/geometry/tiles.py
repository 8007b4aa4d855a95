"""Large pictures in tiles that overlap, so that small objects stay large enough to be found.

        0   640 800      1440        What lies in the overlap is seen twice; what is longer than the overlap is cut.
        +---+---+--------+           An answer that touches an inner border of its tile is a piece of something. It
        | A |A B|   B    |           is dropped where another tile sees all of it and more, since that tile knows
        +---+---+--------+           better; otherwise the pieces are put together.

What no tile sees whole is asked of the whole picture, made small: its answers take the place of their pieces.

Two answers of one class from two tiles are about the same object if they agree where both tiles look: cut to what the
tiles share, they overlap by at least a half. Small objects beside a large one, or on it, so stay what they are.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vitrail.errors import ConfigError
from vitrail.geometry.boxes import area, share
from vitrail.geometry.placement import Size

AGREE = 0.5  # overlap from which two tiles tell of the same object
TOUCHING = 0.01  # of the side of a tile: how near its border an answer ends that is taken to be cut

Tile = tuple[int, int, int, int]  # left, top, right, bottom in pixels


def starts(side: int, tile: int, overlap: float) -> list[int]:
    """Where tiles begin along one side; the last is moved inward, so that it ends where the picture does."""
    if side <= tile:
        return [0]
    step = max(int(tile * (1 - overlap)), 1)
    count = math.ceil((side - tile) / step) + 1
    return [min(place * step, side - tile) for place in range(count)]


def tiles_of(size: Size, tile: int, overlap: float = 0.2) -> list[Tile]:
    """The tiles that cover a picture, row by row; one that is smaller than a tile is its own only tile.

    Args:
        size: rows and columns of the picture.
        tile: side of a tile, pixels.
        overlap: the share of a tile that its neighbour sees too; more, where the last is moved inward.

    Raises:
        ConfigError: tiles without pixels, or that never get on.
    """
    if tile < 1 or not 0 <= overlap < 1:
        raise ConfigError(
            f"tile={tile} and overlap={overlap:g} make no tiles. A tile has at least 1 pixel and shares from 0 to less "
            "than 1 of its side with its neighbour; usual are --tile 800 --overlap 0.2."
        )
    rows, columns = size
    return [
        (left, top, min(left + tile, columns), min(top + tile, rows))
        for top in starts(rows, tile, overlap)
        for left in starts(columns, tile, overlap)
    ]


def within(
    boxes_xyxy: Float[Tensor, "objects 4"], tiles: Float[Tensor, "#objects 4"], size: Size
) -> Bool[Tensor, " objects"]:
    """Whether boxes end before the borders of tiles; the edge of the picture is no border, since nothing is beyond."""
    rows, columns = size
    edges = tiles.new_tensor([0, 0, columns, rows])
    sides = (tiles[:, 2:] - tiles[:, :2]).repeat(1, 2)
    outward = tiles.new_tensor([-1, -1, 1, 1])
    room = (tiles - boxes_xyxy) * outward  # how far inside each border a box ends
    return ((room > TOUCHING * sides) | ((tiles == edges) & (room >= -TOUCHING * sides))).all(dim=1)


def seen_whole(
    boxes_xyxy: Float[Tensor, "objects 4"], tiles: Float[Tensor, "tiles 4"], size: Size
) -> Bool[Tensor, "objects tiles"]:
    """Which tiles see which boxes uncut."""
    return torch.stack([within(boxes_xyxy, tile[None], size) for tile in tiles], dim=1)


def seen_better(
    boxes_xyxy: Float[Tensor, "objects 4"],
    tile_of: Int[Tensor, " objects"],
    tiles: Float[Tensor, "tiles 4"],
    size: Size,
) -> Bool[Tensor, " objects"]:
    """The boxes that are cut by their own tile and lie whole within another."""
    whole = seen_whole(boxes_xyxy, tiles, size)
    return ~whole.gather(1, tile_of[:, None])[:, 0] & whole.any(dim=1)


def cut_to(boxes_xyxy: Float[Tensor, "*objects 4"], frame: Float[Tensor, "*objects 4"]) -> Float[Tensor, "*objects 4"]:
    """What of boxes lies within frames; of nothing, a box without area."""
    first = torch.maximum(boxes_xyxy[..., :2], frame[..., :2])
    last = torch.minimum(boxes_xyxy[..., 2:], frame[..., 2:])
    return torch.cat([first, torch.maximum(first, last)], dim=-1)


def agreement(
    box_xyxy: Float[Tensor, "1 4"],
    tile: Float[Tensor, "1 4"],
    boxes: Float[Tensor, "many 4"],
    tiles: Float[Tensor, "many 4"],
) -> Float[Tensor, " many"]:
    """Overlap of an answer of one tile with answers of others, where both tiles look: 0 to 1."""
    shared = cut_to(tile.expand_as(tiles), tiles)
    ours, theirs = cut_to(box_xyxy.expand_as(boxes), shared), cut_to(boxes, shared)
    common = area(cut_to(ours, theirs))
    return share(common, area(ours) + area(theirs) - common)


class Group(NamedTuple):
    """Answers of different tiles about one object.

    Attributes:
        box_xyxy: around it, pixels of the picture.
        places: of the answers; the first tells best where the object is.
    """

    box_xyxy: Float[Tensor, "4"]
    places: tuple[int, ...]


class Answers(NamedTuple):
    """All answers of all tiles.

    Attributes:
        boxes_xyxy: in pixels of the picture.
        scores, labels: how much each is believed, and its class.
        tile_of: which of the tiles gave it.
        tiles: left, top, right, bottom of each.
    """

    boxes_xyxy: Float[Tensor, "objects 4"]
    scores: Float[Tensor, " objects"]
    labels: Int[Tensor, " objects"]
    tile_of: Int[Tensor, " objects"]
    tiles: Float[Tensor, "tiles 4"]

    def agreeing(self, place: int, left: Bool[Tensor, " objects"]) -> list[int]:
        """Of each other tile the answer that agrees best with one, of its class and among those that are left."""
        tile = self.tile_of[place]
        candidates = torch.nonzero(left & (self.labels == self.labels[place]) & (self.tile_of != tile))[:, 0]
        tiles = self.tiles[self.tile_of]
        one = slice(place, place + 1)
        found = agreement(self.boxes_xyxy[one], tiles[one], self.boxes_xyxy[candidates], tiles[candidates])
        best: dict[int, int] = {}
        for number in found.argsort(descending=True, stable=True).tolist():
            if found[number] >= AGREE:
                best.setdefault(int(self.tile_of[candidates[number]]), int(candidates[number]))
        return list(best.values())

    def group(self, place: int, whole: bool, left: Bool[Tensor, " objects"]) -> Group:
        """One answer and those that agree with it; of a piece, those that agree with these too. Takes them from `left`.

        Args:
            whole: whether no border cuts it; then its box is that of the object, and else the box around all pieces.
        """
        places, asked = [place], [place]
        left[place] = False
        while asked:
            for other in self.agreeing(asked.pop(0), left):
                if self.tile_of[other] not in self.tile_of[places]:
                    places.append(other)
                    left[other] = False
                    asked += [] if whole else [other]
        if whole:
            return Group(self.boxes_xyxy[place], tuple(places))
        pieces = self.boxes_xyxy[places]
        return Group(torch.cat([pieces[:, :2].amin(dim=0), pieces[:, 2:].amax(dim=0)]), tuple(places))


def gathered(answers: Answers, size: Size) -> list[Group]:
    """The objects that answers of tiles tell of. Whole ones take first what agrees with them, the most believed before.

    Args:
        answers: of all tiles.
        size: rows and columns of the picture.
    """
    tiles = answers.tiles[answers.tile_of]
    whole = within(answers.boxes_xyxy, tiles, size)
    left = ~seen_better(answers.boxes_xyxy, answers.tile_of, answers.tiles, size)
    order = answers.scores.argsort(descending=True, stable=True)
    order = order[(~whole[order]).int().argsort(stable=True)]
    return [answers.group(place, bool(whole[place]), left) for place in order.tolist() if left[place]]
