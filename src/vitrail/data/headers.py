"""Opening every picture before it is needed, so that a broken one is not met in the middle of a training, nor one that
is learned from in a score.

Only the beginning and the end of a file are read; it is decoded where its end is not that of a whole file.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from vitrail.data.dataset import Dataset
from vitrail.data.decoding import open_file
from vitrail.data.files import digest, fingerprint
from vitrail.data.images import ImageFile
from vitrail.errors import ImageError

THREADS = min(8, 2 * (os.cpu_count() or 1))  # most of the time goes to waiting for the disk
ENDS = {b"\xff\xd8": b"\xff\xd9", b"\x89P": b"\xaeB`\x82", b"GI": b";"}  # of JPEG, PNG and GIF, by how they begin
LONGEST = max(map(len, ENDS.values()))


def ends_well(picture: ImageFile) -> bool:
    """Whether a file ends as one that is whole does; `True` of a format that has no such end."""
    with open_file(picture.path) as file:
        begin = file.read(2)
        file.seek(-min(LONGEST, os.fstat(file.fileno()).st_size), os.SEEK_END)
        return file.read().endswith(ENDS.get(begin, b""))


def fault_of(picture: ImageFile) -> ImageError | None:
    """Why a picture cannot be read, as far as its beginning and its end tell."""
    try:
        _ = picture.size
        if not ends_well(picture):
            picture.read()
    except ImageError as error:
        return error
    return None


def files_of(dataset: Dataset) -> Iterator[ImageFile]:
    """The pictures that are files; what is made or read as a whole cannot be broken one by one."""
    for index in range(len(dataset)):
        picture = getattr(dataset[index], "picture", None)  # texts have none
        if not isinstance(picture, ImageFile):
            return
        yield picture


def unreadable(pictures: Iterable[ImageFile]) -> Iterator[ImageError]:
    """What is wrong with some pictures, of those with which anything is."""
    with ThreadPoolExecutor(THREADS) as threads:
        yield from filter(None, threads.map(fault_of, pictures))


def in_both(learned: Sequence[ImageFile], judged: Sequence[ImageFile]) -> list[tuple[str, str]]:
    """The pictures to be judged by that are learned from as well: where they are here, and where there."""
    lengths = {os.path.getsize(picture.path) for picture in judged}
    alike = [picture.path for picture in learned if os.path.getsize(picture.path) in lengths]
    known = {fingerprint(path): path for path in alike}
    begin = [(here.path, known[found]) for here in judged if known and (found := fingerprint(here.path)) in known]
    return [(str(here), str(there)) for here, there in begin if digest(Path(here)) == digest(Path(there))]
