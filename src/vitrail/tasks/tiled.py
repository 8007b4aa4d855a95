"""What a detector has found in the tiles of a large picture, as one answer."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from vitrail.geometry.boxes import area, overlap, share
from vitrail.geometry.tiles import AGREE, Answers, Tile, gathered, seen_whole
from vitrail.tasks.detected import Detected

SURER = 2.0  # times as sure as the whole picture must a piece be to be believed against it


def joined(results: Sequence[Detected], tiles: Sequence[Tile]) -> Detected:
    """Put together what was found in each tile, best first.

    What two tiles have found is told once: with the best of their scores, the box that is not cut or the box around all
    pieces, and the masks as one. See `geometry.tiles`.

    Args:
        results: one for each tile, placed in pixels of the whole picture.
        tiles: as `tiles_of` gives them.
    """
    first = results[0]
    assert first.size is not None, "the tiles are not placed yet"
    boxes, scores, labels, queries = (
        torch.cat([getattr(result, name) for result in results])
        for name in ("boxes_xyxy", "scores", "labels", "queries")
    )
    tile_of = torch.cat([torch.full((len(result),), number) for number, result in enumerate(results)])
    groups = gathered(Answers(boxes, scores, labels, tile_of, boxes.new_tensor(tiles)), first.size)
    best = scores.new_tensor([float(scores[list(group.places)].max()) for group in groups])
    heads = torch.tensor([group.places[0] for group in groups], dtype=torch.long)
    masks = None
    if first.masks is not None:
        layers = torch.cat([result.masks for result in results if result.masks is not None])
        masks = torch.stack([layers[:0].any(dim=0), *(layers[list(group.places)].any(dim=0) for group in groups)])[1:]
    whole = replace(
        first,
        boxes_xyxy=torch.stack([boxes.new_zeros(4), *(group.box_xyxy for group in groups)])[1:],
        masks=masks,
        scores=best,
        labels=labels[heads],
        queries=queries[heads],
    )
    return whole.only(best.argsort(descending=True, stable=True))


def completed(pieces: Detected, whole: Detected, tiles: Sequence[Tile]) -> Detected:
    """Add what no tile sees whole, as the whole picture shows it, in place of its pieces; best first.

    A piece gives way if no tile sees all of it, at least half of it lies in a longer object of its class, and it is not
    twice as sure as that; if one is, the longer object is left out. The longer object has the best score of its pieces
    and itself; of several, the one believed most takes them.

    Args:
        pieces: what the tiles have found, put together.
        whole: what was found in the picture in one look.
        tiles: as `tiles_of` gives them.
    """
    assert pieces.size is not None, "the tiles are not placed yet"
    frames = pieces.boxes_xyxy.new_tensor(tiles)
    longer = whole.only(~seen_whole(whole.boxes_xyxy, frames, pieces.size).any(dim=1))
    cut = ~seen_whole(pieces.boxes_xyxy, frames, pieces.size).any(dim=1)
    shared, _ = overlap(pieces.boxes_xyxy[:, None], longer.boxes_xyxy[None])
    inside = share(shared, area(pieces.boxes_xyxy)[:, None].expand_as(shared)) >= AGREE
    about = cut[:, None] & inside & (pieces.labels[:, None] == longer.labels)
    surer = about & (pieces.scores[:, None] > SURER * longer.scores)
    added = ~surer.any(dim=0)
    beliefs = (about & added) * longer.scores
    replaced = (beliefs > 0) & (beliefs == beliefs.amax(dim=1, keepdim=True)) if len(longer) else about
    best = torch.cat([longer.scores[None], pieces.scores[:, None] * replaced]).amax(dim=0)
    both = (pieces.only(~replaced.any(dim=1)), replace(longer, scores=best).only(added))
    columns = ("boxes_xyxy", "scores", "labels", "queries")
    found = replace(pieces, **{name: torch.cat([getattr(one, name) for one in both]) for name in columns})
    return found.only(found.scores.argsort(descending=True, stable=True))
