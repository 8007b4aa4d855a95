"""Tokenizers as transformers writes them down; they are read by `vitrail.tokenizing.find_tokenizer`."""

import base64
import json
from collections.abc import Sequence
from typing import Any

from vitrail.tokenizing import TextPreprocessing
from vitrail.tokenizing.engines import MARIAN, MarianTokenizer
from vitrail.tokenizing.reading import FIELDS


def special_tokens(preprocessing: TextPreprocessing) -> dict[str, str]:
    """The special tokens that a tokenizer has, by transformers' names; the padding with which Marian's translations
    begin has no second name there."""
    found = {theirs: getattr(preprocessing, ours) for theirs, ours in FIELDS.items()}
    if isinstance(preprocessing.engine, MarianTokenizer):
        found.pop("bos_token")
    return {name: token for name, token in found.items() if token is not None}


def numbers(preprocessing: TextPreprocessing) -> dict[str, int]:
    """What a config of transformers says of the tokenizer: the numbers of some special tokens."""
    if not preprocessing.tokenizer:
        return {}
    tokens = special_tokens(preprocessing)
    told = ("pad_token", "bos_token", "eos_token")
    return {f"{name}_id": preprocessing.id_of(tokens[name]) for name in told if name in tokens}


def to_transformers(
    preprocessing: TextPreprocessing, languages: Sequence[str] = ()
) -> tuple[dict[str, Any], list[str]]:
    """The files of a tokenizer, and what they cannot say of it; no files where there is no tokenizer.

    Args:
        preprocessing: what it is part of.
        languages: of a translator, from which to which it goes; Marian's files say it.
    """
    if not preprocessing.tokenizer:
        return {}, []
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": preprocessing.max_tokens,
        "padding_side": preprocessing.padding,
        "model_input_names": ["input_ids", *["token_type_ids"] * preprocessing.segments, "attention_mask"],
        **special_tokens(preprocessing),
    }
    lost = [f"longer texts are cut (overflow={preprocessing.overflow})"] * (preprocessing.overflow != "refuse")
    values = json.loads(preprocessing.tokenizer)
    if values.get("kind") != MARIAN:
        files = {"tokenizer.json": preprocessing.tokenizer.encode(), "tokenizer_config.json": settings}
        return files, lost
    pieces = {f"{side}.spm": base64.b64decode(values[side]) for side in ("source", "target")}
    settings = settings | {"tokenizer_class": "MarianTokenizer", "separate_vocabs": False}
    if len(languages) == 2:
        settings |= dict(zip(("source_lang", "target_lang"), languages, strict=True))
    return {**pieces, "vocab.json": values["vocab"], "tokenizer_config.json": settings}, lost
