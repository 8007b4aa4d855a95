"""Hub ids: read from the cache without a network, and a sentence where that is not enough."""

import json
import shutil

import pytest
import torch
from huggingface_hub import constants

from vitrail.cli.main import main
from vitrail.errors import CheckpointError
from vitrail.loading import create_model, from_pretrained, save_pretrained
from vitrail.weights import hub
from vitrail.weights.cards import checkpoints


def quiet(sentence: str) -> None:
    """An announcement nobody reads."""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of huggingface_hub, and no network."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def cached(cache, repo: str, format: str, **config) -> torch.nn.Module:
    """Put a tiny model into the cache, as huggingface_hub lays it out, under a hub id."""
    model = create_model("vit-tiny-16", dim=16, heads=2, mlp_dim=24, depth=1, image=16, patch=8, **config).eval()
    home = cache / f"models--{repo.replace('/', '--')}"
    save_pretrained(model, home / "plain", format=format, announce=quiet)
    (home / "blobs").mkdir()
    snapshot = home / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
    snapshot.mkdir(parents=True)
    for path in (home / "plain").iterdir():
        path.rename(home / "blobs" / path.name)
        (snapshot / path.name).symlink_to(home / "blobs" / path.name)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(snapshot.name)
    return model


@pytest.mark.parametrize("format", ["transformers", "timm", "vitrail"])
def test_a_hub_id_is_read_from_the_cache(cache, format):
    model = cached(cache, "someone/vit-tiny", format, classes=3)
    heard = []
    again = from_pretrained("someone/vit-tiny", announce=heard.append)
    images = torch.rand(1, 3, 16, 16)
    assert torch.equal(again(images), model(images))
    assert heard[0] == "someone/vit-tiny is no path here and no published size: taking it for a hub id."


def test_a_sharded_hub_id_is_read_from_the_cache(cache):
    cached(cache, "someone/vit-tiny", "transformers", classes=3)
    snapshot = next((cache / "models--someone--vit-tiny/snapshots").iterdir())
    (snapshot / "model.safetensors").rename(snapshot / "model-00001-of-00001.safetensors")
    from safetensors.torch import load_file

    names = load_file(snapshot / "model-00001-of-00001.safetensors")
    places = {"weight_map": dict.fromkeys(names, "model-00001-of-00001.safetensors")}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps(places))
    assert isinstance(from_pretrained("someone/vit-tiny", announce=quiet), torch.nn.Module)


def test_a_published_size_takes_its_default_checkpoint_and_its_page(cache):
    cached(cache, checkpoints()["vit-tiny-16"].source, "timm", classes=3)
    heard = []
    model = from_pretrained("vit-tiny-16", announce=heard.append)
    assert heard[0] == (
        "vit-tiny-16 is a published size: taking timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k from the hub "
        "(licence apache-2.0)."
    )
    assert model.card.model == "vit-tiny-16"
    assert model.card.scores == {"imagenet-top1": 75.452}
    assert model.card.licence == "apache-2.0"
    assert "Steiner" in model.card.origin


def test_a_published_classifier_of_imagenet_calls_its_classes_by_name(cache):
    cached(cache, checkpoints()["vit-tiny-16"].source, "timm", classes=1000)
    heard = []
    assert from_pretrained("vit-tiny-16", announce=heard.append).card.labels == ()
    assert "`hf download huggingface/label-files imagenet-1k-id2label.json --repo-type dataset` fetches" in heard[-1]
    home = cache / "datasets--huggingface--label-files"
    snapshot = home / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
    snapshot.mkdir(parents=True)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(snapshot.name)
    (snapshot / "imagenet-1k-id2label.json").write_text(json.dumps({str(one): f"thing {one}" for one in range(1000)}))
    assert from_pretrained("vit-tiny-16", announce=heard.append).card.labels[281] == "thing 281"
    assert heard[-1] == "The names of its classes are those of huggingface/label-files."
    assert from_pretrained("vit-tiny-16", announce=quiet, classes=3).card.labels == ()


def test_an_existing_path_comes_before_a_name_and_a_hub_id(cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("vit-tiny-16", "someone/vit-tiny"):
        save_pretrained(create_model("vit-tiny-16", depth=1, classes=2), name, announce=quiet)
        heard = []
        assert from_pretrained(name, announce=heard.append).config.classes == 2
        assert heard[0] == f"Reading {name}."


@pytest.mark.parametrize("source", ["someone/unheard-of", "vit-base-16", "hf-hub:timm/vit_x.y", "someone/x@v1.0"])
def test_what_is_neither_cached_nor_reachable_is_a_sentence(cache, source):
    with pytest.raises(CheckpointError, match=r"is not in the cache .* run `hf download .*copy FOLDER here") as raised:
        from_pretrained(source, announce=quiet)
    assert "\n" not in str(raised.value)


def test_a_cache_without_the_weights_is_a_sentence(cache):
    cached(cache, "someone/vit-tiny", "transformers", classes=3)
    (next((cache / "models--someone--vit-tiny/snapshots").iterdir()) / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"has none of model.safetensors.*or they are not in the cache"):
        from_pretrained("someone/vit-tiny", announce=quiet)
    shutil.rmtree(cache)


@pytest.mark.parametrize("source", ["vit-bse-16", "no such thing", "../../etcetera", "a/b/c", "", "/nowhere/at/all"])
def test_what_leads_nowhere_is_a_sentence(cache, source):
    if source == "":
        return  # the current folder, which exists
    with pytest.raises(CheckpointError, match=r"There is no (run in|run, folder or model called)"):
        from_pretrained(source, announce=quiet)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("vit-bse-16", "vit-base-16"), ("vit-base", "vit-base-8, vit-base-16, vit-base-32 or")],
)
def test_what_was_meant_is_suggested(typed, meant):
    with pytest.raises(CheckpointError, match=f"Did you mean {meant}"):
        from_pretrained(typed, announce=quiet)


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A folder to work in, with three runs and a folder of something else."""
    for name in ("int", "multi", "classify/flowers5"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "recipe.json").write_text("{}")
    (tmp_path / "timm" / "tests").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("runs/mult", "There is no run in runs/mult. There are: runs/multi, runs/int, runs/classify/flowers5."),
        ("runs/nosuch", "There is no run in runs/nosuch. There are: "),
        ("./runs/clasify/flowers5", "There is no run in ./runs/clasify/flowers5. There are: runs/classify/flowers5, "),
        ("runs/multi/last", "There is no run in runs/multi/last. There are: runs/multi."),
        ("runs/multi.safetensors", "There is no file runs/multi.safetensors."),
        ("/nowhere/at/all", "There is no run in /nowhere/at/all. There are: runs/"),
        ("timm/vit_x", "There is no run in timm/vit_x, and none near it. `vitrail train` leaves such folders. For "
                       "timm/vit_x on the hub, type hf-hub:timm/vit_x."),
        ("nosuch", "There is no run, folder or model called 'nosuch'. `vitrail models` lists all models. Runs here: "
                   "runs/classify/flowers5, runs/int, runs/multi."),
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", ["predict {} x.jpg", "info {}", "evaluate {} --data x", "convert {} out"])
def test_a_mistyped_run_is_no_hub_id_and_the_runs_there_are_are_named(runs, typed, sentence, command, capsys):
    assert main(command.format(typed).split()) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"vitrail: {sentence}")
    assert len(said.splitlines()) == 1


def test_where_there_is_no_run_a_run_is_explained(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=r"'nosuch'.* A run is called by its folder: runs/classify/x\.$"):
        from_pretrained("nosuch", announce=quiet)


def test_a_hub_id_is_one_where_no_folder_is_called_like_its_owner(runs, cache):
    heard = []
    for typed in ("someone/unheard-of", "hf-hub:timm/vit_x"):
        with pytest.raises(CheckpointError, match="is not in the cache"):
            from_pretrained(typed, announce=heard.append)
    assert heard[0] == "someone/unheard-of is no path here and no published size: taking it for a hub id."


@pytest.mark.parametrize(
    ("text", "is_id"),
    [
        ("google/vit-base-patch16-224", True),
        ("timm/vit_base_patch16_224.augreg_in21k", True),
        ("hf-hub:timm/vit_base_patch16_224.augreg_in21k", True),
        ("a/b@refs/pr/3", True),
        ("vit-base-16", False),
        ("../secrets", False),
        ("/etc/passwd", False),
        ("a/b/c", False),
        ("a/..", False),
    ],
)
def test_a_hub_id_has_one_form(text, is_id):
    assert hub.is_id(text) == is_id
