"""What the tests of killed and stopped runs share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from reliability.tiny import Trainee, write_pictures


@pytest.fixture(scope="module")
def trainee() -> Iterator[Trainee]:
    """A process that trains when told to, started once."""
    trainee = Trainee()
    yield trainee
    trainee.close()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures"))
