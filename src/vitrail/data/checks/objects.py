"""Faults of pictures with marked objects, whatever format says them."""

from collections.abc import Iterator
from pathlib import Path

from vitrail.data.checks.faults import Fault, fault
from vitrail.data.datasets import coco, panoptic, voc, yolo
from vitrail.data.strict import FileError


def check_coco(path: Path) -> Iterator[Fault]:
    """All faults of COCO's JSON and its pictures."""
    for source in coco.sources(path).values():
        try:
            yield from coco.read(source).faults
        except FileError as error:
            yield fault(error.code, error.path, error.hint)


def check_voc(path: Path) -> Iterator[Fault]:
    """All faults of VOC's XML and its pictures."""
    for part in voc.sources(path):
        yield from voc.read(path, part).faults


def check_panoptic(path: Path) -> Iterator[Fault]:
    """All faults of COCO's panoptic JSON and its pictures."""
    for source in coco.sources(path).values():
        try:
            yield from panoptic.read(source).reading.faults
        except FileError as error:
            yield fault(error.code, error.path, error.hint)


def check_yolo(path: Path) -> Iterator[Fault]:
    """All faults of YOLO's text files and their pictures."""
    for part in yolo.sources(path):
        yield from yolo.read(path, part).faults
