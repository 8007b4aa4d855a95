"""Checkpoints by their name on a hub, fetched once and kept in huggingface_hub's cache.

`HF_HOME`, `HF_HUB_OFFLINE` and tokens are honoured, because `huggingface_hub` does the fetching. Only files of
configurations and tensors are asked for, and nothing in them is run.
"""

import re
from pathlib import Path

from vitrail.errors import CheckpointError
from vitrail.weights.files import shard_names

ID = re.compile(r"(?:hf[-_]hub:)?(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@(?P<revision>[\w./-]+))?")
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
BESIDE = ("preprocessor_config.json", "card.json", "manifest.json")
TEXT = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "source.spm",
    "target.spm",
    "generation_config.json",
)  # fmt: skip; of a model that has a vocabulary
IMAGENET = ("huggingface/label-files", "imagenet-1k-id2label.json")  # a data set of the hub, and a file in it


def is_id(source: str) -> bool:
    """Whether a name has the form of a hub id: `owner/name`, with `@revision` where one is meant."""
    return ID.fullmatch(source) is not None


def fetch(source: str) -> Path:
    """The folder in the cache that holds a hub id's configuration and weights, fetched where it is not there yet.

    Raises:
        CheckpointError: there is no such id, no network and nothing in the cache, or no weights in it.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    found = ID.fullmatch(source)
    if found is None:
        raise CheckpointError(f"{source!r} is not a hub id. One looks like google/vit-base-patch16-224.")
    repo, revision = found["repo"], found["revision"]

    def download(name: str) -> Path:
        return Path(hf_hub_download(repo, name, revision=revision))

    def download_if_there(name: str) -> Path | None:
        try:
            return download(name)
        except EntryNotFoundError:  # also when offline and not in the cache
            return None

    try:
        if try_to_load_from_cache(repo, "config.json", revision=revision) is None:
            get_hf_file_metadata(hf_hub_url(repo, "config.json", revision=revision))  # fails at once, downloads retry
        config = download("config.json")
        folder = config.parent
        weights = next((path for name in WEIGHTS if (path := download_if_there(name))), None)
        if weights is not None and weights.name.endswith(".index.json"):
            for shard in shard_names(weights):
                download(shard)
        text = "vocab" in config.read_text(encoding="utf-8", errors="replace")
        for name in (*BESIDE, *(TEXT if text else ())):
            download_if_there(name)
    except CheckpointError:
        raise
    except GatedRepoError as error:
        raise CheckpointError(
            f"{repo} asks for consent: accept its terms on the hub, then run `hf auth login`."
        ) from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(f"The hub has no {repo!r}, or it is private: then run `hf auth login`.") from error
    except Exception as error:  # whatever the network raises depends on the HTTP client of huggingface_hub's version
        if isinstance(error, HfHubHTTPError | EntryNotFoundError | ValueError) and not isinstance(
            error, LocalEntryNotFoundError
        ):
            raise CheckpointError(f"{repo} could not be fetched: {str(error).splitlines()[0]}") from error
        raise CheckpointError(
            f"{repo} is not in the cache ({constants.HF_HUB_CACHE}) and the hub cannot be reached. On a machine with a "
            f"network run `hf download {repo} --local-dir FOLDER`, copy FOLDER here, and give its path instead."
        ) from error
    if weights is None:
        raise CheckpointError(
            f"{repo} has none of {', '.join(WEIGHTS)}, or they are not in the cache and there is no network."
        )
    return folder


def imagenet_names() -> Path | None:
    """The file with the names of ImageNet's 1,000 classes, fetched once; none where there is no network either."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache

    there = try_to_load_from_cache(*IMAGENET, repo_type="dataset")
    if isinstance(there, str):
        return Path(there)
    try:
        get_hf_file_metadata(hf_hub_url(*IMAGENET, repo_type="dataset"))  # fails at once, downloads retry
        return Path(hf_hub_download(*IMAGENET, repo_type="dataset"))
    except Exception:  # whatever the network raises: the model answers without them
        return None
