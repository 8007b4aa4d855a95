"""What `vitrail doctor` finds out about a machine."""

import pytest

from vitrail import environment
from vitrail.environment import examine, numbers, package, size


@pytest.mark.parametrize(("version", "expected"), [("2.13.0+cpu", (2, 13, 0)), ("13.0.0rc1", (13, 0, 0)), ("dev", ())])
def test_versions_compare_by_their_numbers(version, expected):
    assert numbers(version) == expected


def test_version_ten_is_newer_than_version_nine():
    assert numbers("2.10") > numbers("2.9.1")


@pytest.mark.parametrize(
    ("quantity", "words"), [(0, "0 B"), (999, "999 B"), (346_270_624, "346 MB"), (25.3e9, "25.3 GB"), (2e12, "2 TB")]
)
def test_sizes_are_read_aloud(quantity, words):
    assert size(quantity) == words


def test_a_missing_package_says_what_to_type():
    finding = package("no-such-package-anywhere", "1.2")
    assert finding == ("no-such-package-anywhere", "missing", 'pip install "no-such-package-anywhere>=1.2"', True)


def test_an_old_package_says_what_to_type():
    finding = package("torch", "999.0")
    assert finding.needed
    assert finding.advice == 'pip install --upgrade "torch>=999.0"'


def test_word_vectors_may_lack_what_trains_them(monkeypatch):
    def missing(name):
        raise environment.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(environment.importlib.metadata, "version", missing)
    finding = environment.gensim()
    assert not finding.needed
    assert finding.advice == "pip install vitrail[gensim]"


def test_a_healthy_machine_needs_nothing():
    findings = examine()
    assert not [finding for finding in findings if finding.needed]
    looked_at = {finding.subject for finding in findings}
    assert looked_at >= {"vitrail", "Python", "torch", "pillow", "JPEG decoder", "processor", "threads", "GPU"}


def test_every_dependency_has_a_least_version():
    import importlib.metadata

    declared = [line for line in importlib.metadata.requires("vitrail") if "extra ==" not in line]
    assert len(list(environment.packages())) == len(declared)


def test_a_pillow_without_a_decoder_is_reported(monkeypatch):
    monkeypatch.setattr(environment.features, "check", lambda library: library != "webp")
    [webp] = [finding for finding in environment.codecs() if finding.needed]
    assert (webp.subject, webp.advice) == ("WebP decoder", "pip install --force-reinstall pillow")
