"""The wish to keep freed memory is only made where the C library knows it, and nobody has made another."""

import sys

import pytest

from vitrail.core.memory import keep_freed_memory


@pytest.fixture(autouse=True)
def asked_anew():
    keep_freed_memory.cache_clear()
    yield
    keep_freed_memory.cache_clear()


def test_settings_made_by_hand_stay(monkeypatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1000000")
    assert not keep_freed_memory()


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_freed_memory()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has glibc")
def test_glibc_takes_the_wish(monkeypatch):
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)
    assert isinstance(keep_freed_memory(), bool)
    assert keep_freed_memory() is keep_freed_memory()
