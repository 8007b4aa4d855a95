"""A look at what a model is about to learn from: as it is shown the pictures, and not as the files have them."""

from collections.abc import Callable, Iterator

from vitrail.core.tokens import extent
from vitrail.errors import many
from vitrail.evaluate.plots import Tile, sheet
from vitrail.explain.boxes import colour_of, draw_objects
from vitrail.explain.figures import png
from vitrail.geometry.boxes import to_xyxy
from vitrail.pixels import MODES, to_image
from vitrail.preprocessing import PicturePreprocessing, seen_again
from vitrail.samples import Batch, Images
from vitrail.train.building import card_of
from vitrail.train.observers import Observer
from vitrail.train.run import Run

SHOWN = 16  # pictures
LOOKED_FOR = 8  # batches at most

Say = Callable[[str], None]


def tiles(batch: Batch, preprocessing: PicturePreprocessing, classes: tuple[str, ...]) -> Iterator[Tile]:
    """The pictures of a batch with the boxes and masks that are to be found in them."""
    for pixels, valid, target in zip(batch.inputs.pixels, batch.inputs.valid, batch.target, strict=True):
        rows, columns = extent(valid)
        image = to_image(seen_again(pixels[:, :rows, :columns], preprocessing.mean, preprocessing.std))
        boxes = to_xyxy(target.boxes) * target.boxes.new_tensor([columns, rows, columns, rows])
        labels = target.labels.tolist()
        masks = None if target.masks is None else target.masks[:, :rows, :columns]
        drawn = draw_objects(
            image, boxes, [classes[label] for label in labels], [colour_of(label) for label in labels], masks=masks
        )
        yield Tile(drawn, (f"{many(len(labels), 'object')}, {columns} x {rows} pixels",), None)


class FirstBatch(Observer):
    """Draws the first pictures as the model is shown them, with what it is to find, into `targets.png` of the run.

    Args:
        say: told where.
    """

    def __init__(self, say: Say = print) -> None:
        self.say = say

    def begin(self, run: Run) -> None:
        """Draw them before the first step; data whose targets have no places is left alone."""
        preprocessing, classes = card_of(run.model).preprocessing, run.splits.train.classes
        shown: list[Tile] = []
        for batch, _ in zip(run.loader.epoch(0), range(LOOKED_FOR), strict=False):
            if not isinstance(batch.inputs, Images) or preprocessing.channels not in MODES:
                return
            shown += tiles(batch, preprocessing, classes)
            if len(shown) >= SHOWN:
                break
        words = "As the model is shown them in its first steps: cut, resized and mirrored, with what it is to find."
        path = run.folder / "targets.png"
        path.write_bytes(png(sheet(shown[:SHOWN], "The first pictures to learn from", words)))
        self.say(f"The first pictures, as the model is shown them with what it is to find, are in {path}.")
