"""Files that come whole or not at all, where a disk is full."""

import errno
import os
from pathlib import Path

import pytest

from vitrail.cli.main import main
from vitrail.writing import write_whole


@pytest.fixture
def full(monkeypatch):
    """A disk that takes half of what is written."""
    write = Path.write_bytes

    def half(self, content):
        write(self, content[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", half)


def test_a_file_is_written_and_replaced(tmp_path):
    assert write_whole(tmp_path / "a.txt", "Straße \ud800").read_bytes() == "Straße ".encode() + b"\\ud800"
    assert write_whole(tmp_path / "a.txt", b"\0\1").read_bytes() == b"\0\1"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_on_a_full_disk_the_earlier_file_stays_and_nothing_else(tmp_path, full):
    (tmp_path / "a.txt").write_text("earlier")
    with pytest.raises(OSError, match=r"a\.txt") as raised:
        write_whole(tmp_path / "a.txt", "new and longer")
    assert raised.value.filename == str(tmp_path / "a.txt")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["earlier"]


@pytest.mark.parametrize("name", [None, "report.html"])
def test_a_full_disk_is_a_sentence_whoever_notices_it(monkeypatch, capsys, name):
    def fails(arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *([name] if name else []))

    monkeypatch.setattr("vitrail.cli.main.run", fails)
    assert main(["train"]) == 1
    said = capsys.readouterr().err
    assert said == f"vitrail: {'report.html: ' if name else ''}No space left on device.\n"
