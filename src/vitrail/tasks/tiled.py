"""What a detector has found in the tiles of a large picture, as one answer."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from vitrail.geometry.tiles import Answers, Tile, gathered
from vitrail.tasks.detected import Detected


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
