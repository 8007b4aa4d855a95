"""What can be wrong with a data set, in one table, so that a code always weighs the same."""

from pathlib import Path
from typing import Literal, NamedTuple

from vitrail.data.files import shown

Severity = Literal["error", "warning", "note"]

ERRORS = {  # training would stop, or its scores would be wrong
    "no-data": "cannot be opened as a data set at all",
    "cannot-open": "sound in its parts, and cannot be learned from as a whole",
    "no-pictures": "a part without a single picture",
    "one-class": "nothing to tell apart",
    "empty-class": "a class without a picture",
    "class-case-clash": "two classes whose names differ only in case, or in how accents are written",
    "class-name": "a class whose name is not UTF-8",
    "class-not-in-train": "a class to be judged by that is never shown",
    "duplicate-across-parts": "the same picture to learn from and to be judged by",
    "missing-column": "a table that does not say where the pictures are, or what",
    "missing-file": "a table names a file that is not there; or sentences without their translations",
    "wrong-columns": "a line with too many or too few columns",
    "bad-json": "a line that is not a JSON object, or a file that is not JSON",
    "bad-csv": "a line that no CSV reader understands",
    "empty-label": "a line without a label",
    "no-part": "a line that names no part where others do",
    "unknown-split": "a line whose part is none of train, val and test",
    "conflicting-rows": "one picture with two labels, or in two parts",
    "encoding": "a table, or a line of text, that is not UTF-8",
    "long-line": "a line so long that it is no line of text",
    "which-way": "more than two languages, and nobody has said which is read",
    "not-a-text": "a column of texts that holds something else",
    "empty-text": "a row with a label and no text",
    "missing-tag": "a word without a tag",
    "wrong-field": "a question without what SQuAD v1.1 says of each",
    "answer-not-there": "an answer that does not stand where the file says",
    "no-answer": "a question without an answer",
    "empty": "a file without content",
    "wrong-magic": "not an idx file of bytes",
    "wrong-shape": "an idx file whose sizes are not those of pictures or labels",
    "count-mismatch": "not one label for each picture, or one translation for each sentence",
    "too-large": "a file larger than is read",
    "truncated": "a file that is cut short",
    "trailing-bytes": "a file that goes on after its end",
    "unreadable": "a file that cannot be read",
    "damaged": "a picture, or a gzipped text, that cannot be decoded",
    "format": "a file that is no picture, under a picture's name",
    "missing": "a link that leads nowhere",
    "directory": "a folder under a picture's name",
    "not-a-file": "a pipe or device under a picture's name",
}
WARNINGS = {  # probably not what was meant
    "duplicate": "the same picture twice in a class",
    "duplicate-across-classes": "the same picture in two classes",
    "duplicate-row": "the same line twice",
    "comma-in-label": "a name that may be several labels",
    "one-picture-class": "a class that cannot be both learned and judged",
    "class-only-in-train": "a class that is never judged",
    "file-case-clash": "two files whose names differ only in case, or in how accents are written",
    "hidden-file": "a file that programs leave behind",
    "not-a-picture": "a file that is not read",
    "loose-picture": "a picture beside the class folders, which is not read",
    "nested-folder": "a folder inside a class",
    "beside-parts": "a folder beside those of the parts, which is not read",
    "outside-root": "a link, or the path of a picture, that leads out of the data set",
    "space-in-name": "a class whose name begins or ends with a space",
    "wrong-extension": "a picture whose name says another format",
    "tiny": "fewer pixels than show anything",
    "huge": "many more pixels than any model reads",
    "extreme-aspect": "a picture of which a crop shows little",
    "uneven-pair": "a sentence and a translation that is much longer or shorter",
    "text-across-parts": "the same text to learn from and to be judged by",
    "two-labels": "the same text twice, with two labels",
    "duplicate-id": "two questions of one name",
    "empty-side": "a sentence without its translation",
    "empty-document": "a file without text beside others",
    "uneven-columns": "a line with another number of columns than the first",
    "odd-tag": "a tag that is not spelled as the others",
    "lost-character": "a mark in place of a character that another program could not read",
    "mis-decoded": "UTF-8 that another program took for Latin-1",
    "control-character": "a character that is none to be seen",
}
NOTES = {  # read well, and good to know
    "same-text": "a sentence that is its own translation",
    "duplicate-text": "the same text twice, with the same truth",
    "imbalance": "some classes are much rarer than others",
    "rotated": "turned by EXIF orientation",
    "grey": "read as colour, or the other way round",
    "cmyk": "converted to RGB",
    "deep": "scaled from 16 bits to 8",
    "transparent": "laid on white",
    "animated": "only the first frame is read",
    "long": "a square cut out of the middle shows little of the rest",
    "bom": "a mark in front of UTF-8 that some programs trip over",
}
MARKED_ERRORS = {  # the same three of marked objects
    "bad-yaml": "a file that is not YAML",
    "bad-xml": "a file that is not XML",
    "duplicate-key": "a name that stands twice in one JSON object",
    "too-deep": "a file that is nested more deeply than annotations are",
    "not-coco": "JSON that is not laid out as COCO's",
    "not-voc": "XML that is not laid out as Pascal VOC's",
    "not-yolo": "YAML that does not describe a data set",
    "bad-record": "a picture, annotation or category that is no JSON object",
    "no-classes": "annotations without a single class",
    "wrong-id": "an id that is no whole number",
    "duplicate-picture-id": "two pictures with one id",
    "duplicate-category-id": "two categories with one id",
    "duplicate-category-name": "two categories with one name",
    "unknown-category": "an object of a class that is not listed",
    "unnamed-class": "a class or a picture without a name",
    "missing-box": "an object without a box",
    "box-length": "a box that is not four numbers",
    "text-box": "a box with text where a number was expected",
    "nan-box": "a box with a value that is not a number",
    "infinite-box": "a box that goes on for ever",
    "huge-box": "a box with numbers that no picture has",
    "negative-box": "a box of negative width or height",
    "box-elsewhere": "a box that lies wholly outside its picture",
    "corners-for-sizes": "boxes given by two corners where width and height were expected",
    "not-normalised": "a box in pixels where shares of the picture were expected",
    "size-disagrees": "annotations made for a picture of another size",
    "missing-picture": "annotations of a picture that is not there",
    "wrong-class": "a class number that is none of those named",
    "listed-twice": "one picture under two ids",
    "no-objects": "a part in which nothing is marked",
    "map-mode": "a map of segments that is not in colour",
    "names-count": "a number of classes that is not that of their names",
}
MARKED_WARNINGS = {
    "zero-box": "a box without area",
    "outside-box": "a box that reaches beyond its picture",
    "unknown-picture": "an object in a picture that is not listed",
    "duplicate-object-id": "two objects with one id",
    "wrong-outline": "an outline that is none",
    "rle-size": "a mask of another size than its picture",
    "bad-rle": "a mask whose runs cannot be read",
    "wrong-area": "an area that no box of this size has",
    "duplicate-object": "an object that is marked twice",
    "keypoints-length": "keypoints of another number than their category has",
    "filename-disagrees": "a file of objects that names another picture",
    "sides-exchanged": "a picture whose width and height are said the wrong way round",
    "no-segments": "a picture without a segment",
    "segment-without-pixels": "a segment that is nowhere in its map",
    "unlisted-segment": "pixels of a segment that is not listed",
    "label-without-picture": "a text file of objects of which there is no picture",
    "wrong-crowd": "a mark for crowds that is neither 0 nor 1",
}
MARKED_NOTES = {
    "turned-objects": "objects marked for a picture before it is turned",
    "class-without-objects": "a class that is listed and never marked",
    "single-class": "all objects are of one class",
    "many-classes": "more classes than are usually learned",
    "category-zero": "a category with the id 0",
    "category-gaps": "category ids that do not follow each other",
    "unlisted-picture": "pictures that nobody lists",
    "unmarked-picture": "pictures without a file of objects",
    "missing-size": "a picture whose width and height are not said",
    "missing-area": "objects whose area is not said",
    "missing-crowd": "objects that are not said to be one or a crowd",
    "missing-outline": "objects without an outline, where others have one",
    "difficult-object": "objects that are neither learned nor judged",
    "from-zero": "boxes that begin at 0, where the format counts from 1",
    "nameless-classes": "classes that have only numbers",
    "other-annotations": "a file of annotations beside the one that is read",
}
SEVERITIES: dict[str, Severity] = {
    **dict.fromkeys((*ERRORS, *MARKED_ERRORS), "error"),
    **dict.fromkeys((*WARNINGS, *MARKED_WARNINGS), "warning"),
    **dict.fromkeys((*NOTES, *MARKED_NOTES), "note"),
}


class Fault(NamedTuple):
    """One thing that is wrong, or good to know.

    Attributes:
        code: a short, stable word for its kind.
        path: the file, folder or line (`labels.csv:12`).
        reason: what is wrong, with the values, and what to do.
        severity: `error`, `warning` or `note`.
    """

    code: str
    path: str
    reason: str
    severity: Severity


def fault(code: str, path: Path | str, reason: str) -> Fault:
    return Fault(code, shown(path), shown(reason), SEVERITIES.get(code, "error"))
