"""Tokenizers in the files that published models come with.

A folder has `tokenizer.json`; or, before there was one, `vocab.txt` (BERT), `vocab.json` and `merges.txt` (GPT-2), or
`source.spm`, `target.spm` and `vocab.json` (Marian). `tokenizer_config.json` and `special_tokens_map.json` say which
of the pieces are special.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from vitrail.errors import CheckpointError
from vitrail.tokenizing.bounds import LARGEST_FILE, parsed
from vitrail.tokenizing.engines import MARIAN, engine_of, no_panics
from vitrail.tokenizing.preprocessing import MOST_TOKENS, TextPreprocessing
from vitrail.tokenizing.training import BERT_TOKENS, END_OF_TEXT, bert_preprocessing, bert_tokenizer

FIELDS = {
    "pad_token": "pad_token",
    "unk_token": "unknown_token",
    "bos_token": "start_token",
    "eos_token": "end_token",
    "mask_token": "mask_token",
    "cls_token": "class_token",
    "sep_token": "separator_token",
}  # transformers' names, and ours
ADDED = "added_tokens_decoder"  # in tokenizer_config.json
OF_NO_FAMILY = ("PreTrainedTokenizerFast", "TokenizersBackend")  # tokenizer_class of files that say all themselves
MARIAN_FILES = ("source.spm", "target.spm", "vocab.json")


def read_bytes(path: Path) -> bytes:
    """What a file holds, if that is not too much.

    Raises:
        CheckpointError: it is too large, or cannot be read.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}).") from error
    if len(content) > LARGEST_FILE:
        raise CheckpointError(f"{path} is larger than {LARGEST_FILE >> 20} MB, which no tokenizer is.")
    return content


def read_text(path: Path) -> str:
    """The same as text.

    Raises:
        CheckpointError: it is too large, cannot be read, or is not UTF-8.
    """
    try:
        return read_bytes(path).decode()
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is not UTF-8 (byte {error.start:,}). Fetch it anew.") from error


def read_settings(folder: Path) -> dict[str, Any]:
    """What a folder says beside its tokenizer; the later file has the last word."""
    settings: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        path = folder / name
        if path.is_file():
            settings |= parsed(read_text(path), str(path))
    if (path := folder / "added_tokens.json").is_file():  # as transformers wrote them until 2023
        known = settings.get(ADDED)
        before = {str(number): {"content": token} for token, number in parsed(read_text(path), str(path)).items()}
        settings[ADDED] = before | (known if isinstance(known, dict) else {})
    return settings


def further(settings: Mapping[str, Any], where: str) -> dict[int, AddedToken]:
    """The pieces that were added to a list of pieces, by their numbers.

    Raises:
        CheckpointError: the settings do not say so in the way that transformers does.
    """
    told = settings.get(ADDED, {})
    try:
        return {
            int(number): AddedToken(
                token["content"],
                **{name: bool(token.get(name, False)) for name in ("single_word", "lstrip", "rstrip", "special")},
                normalized=bool(token.get("normalized", not token.get("special"))),
            )
            for number, token in told.items()
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"The added tokens beside {where} are not numbers with a content each.") from error


def extend(tokenizer: Tokenizer, settings: Mapping[str, Any], where: str) -> None:
    """Give a tokenizer the pieces that were added to its list, or that stand in it and are never to be cut apart.

    As in transformers, a piece that is not in the list gets the next number.

    Raises:
        CheckpointError: the settings do not say so in the way that transformers does.
    """
    added = further(settings, where)
    more = settings.get("additional_special_tokens")
    names = [spelled(token) for token in (more if isinstance(more, list) else [])]
    with no_panics(f"The added tokens beside {where} are not those of a tokenizer"):
        tokenizer.add_tokens([token for _, token in sorted(added.items(), key=lambda one: one[0])])
        tokenizer.add_special_tokens([AddedToken(name, special=True) for name in names if name is not None])


def spelled(value: Any) -> str | None:
    """A special token, which is written as itself or as an object with its `content`."""
    if isinstance(value, Mapping):
        value = value.get("content")
    return value if isinstance(value, str) and value else None


def common(settings: Mapping[str, Any], max_tokens: int | None) -> dict[str, Any]:
    """The fields that any kind of tokenizer has, from a folder's settings.

    Raises:
        CheckpointError: special tokens in a text are to be cut like any other word.
    """
    if settings.get("split_special_tokens"):
        raise CheckpointError(
            "tokenizer_config.json says split_special_tokens=true, and here a [MASK] or </s> that stands in a text is "
            "always that token and never cut into pieces. Write false there if it should be."
        )
    said = settings.get("model_max_length")
    reads = int(said) if isinstance(said, int | float) and 0 < said <= MOST_TOKENS else None
    known = [length for length in (reads, max_tokens) if length is not None]
    padding = "left" if settings.get("padding_side") == "left" else "right"
    inputs = settings.get("model_input_names")
    untold = isinstance(inputs, list) and "token_type_ids" not in inputs  # of which of two texts a token is
    return {
        "padding": padding,
        **({"max_tokens": min(known)} if known else {}),
        **({"segments": False} if untold else {}),
    }


def special_tokens(settings: Mapping[str, Any], vocabulary: Mapping[str, int]) -> dict[str, Any]:
    """The special tokens that a folder names and the vocabulary has, by our names."""
    named = {ours: spelled(settings.get(theirs)) for theirs, ours in FIELDS.items()}
    return {ours: token for ours, token in named.items() if token is not None and token in vocabulary}


def settled(values: dict[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """A tokenizer.json with what its folder's settings change in it: letters for BERT, the first space for GPT-2.

    As in transformers, they change nothing for a tokenizer that is said to be of no family.
    """
    if settings.get("tokenizer_class") in OF_NO_FAMILY:
        return values
    normalizer, before = values.get("normalizer"), values.get("pre_tokenizer")
    if isinstance(normalizer, dict) and normalizer.get("type") == "BertNormalizer":
        names = {"lowercase": "do_lower_case", "strip_accents": "strip_accents"}
        names["handle_chinese_chars"] = "tokenize_chinese_chars"
        changes = {ours: settings[theirs] for ours, theirs in names.items() if theirs in settings}
        values = {**values, "normalizer": {**normalizer, **changes}}
    if isinstance(before, dict) and before.get("type") == "ByteLevel" and "add_prefix_space" in settings:
        values = {**values, "pre_tokenizer": {**before, "add_prefix_space": bool(settings["add_prefix_space"])}}
    return values


def asks_for_segments(values: Mapping[str, Any]) -> bool:
    """Whether a tokenizer.json numbers the second of two texts differently, as BERT's does."""
    after = values.get("post_processor")
    if not isinstance(after, Mapping):
        return False
    if after.get("type") == "BertProcessing":
        return True
    pair = after.get("pair") if after.get("type") == "TemplateProcessing" else None
    inside = (
        [part for item in pair if isinstance(item, dict) for part in item.values()] if isinstance(pair, list) else []
    )
    return any(isinstance(part, dict) and part.get("type_id") == 1 for part in inside)


def from_json(
    content: str,
    settings: Mapping[str, Any] | None = None,
    *,
    max_tokens: int | None = None,
    where: str = "tokenizer.json",
) -> TextPreprocessing:
    """A tokenizer.json of the `tokenizers` library.

    Args:
        content: of the file.
        settings: what tokenizer_config.json says beside it.
        max_tokens: how many the model reads at once, where that is known.
        where: what to call the file in an error.

    Raises:
        CheckpointError: it is damaged, or asks for what is not run on a person's text.
    """
    settings = settings or {}
    values = settled(parsed(content, where), settings)
    content = json.dumps(values, ensure_ascii=False)
    vocabulary = engine_of(content, where).vocabulary()
    named = special_tokens(settings, vocabulary)
    return TextPreprocessing(
        tokenizer=content,
        **{"segments": asks_for_segments(values), **common(settings, max_tokens)},
        **(named or guessed(values, vocabulary)),
    )


def guessed(values: Mapping[str, Any], vocabulary: Mapping[str, int]) -> dict[str, Any]:
    """The special tokens of a file that comes without settings: those that are spelled as everybody does."""
    usual = {
        "pad_token": ("[PAD]", "<pad>"),
        "unknown_token": ("[UNK]", "<unk>"),
        "start_token": ("<s>", END_OF_TEXT),
        "end_token": ("</s>", END_OF_TEXT),
        "mask_token": ("[MASK]", "<mask>"),
        "class_token": ("[CLS]",),
        "separator_token": ("[SEP]",),
    }
    added = values.get("added_tokens")
    special = {
        token.get("content")
        for token in (added if isinstance(added, list) else [])
        if isinstance(token, Mapping) and token.get("special")
    }
    found = {
        field: next((name for name in names if name in special & set(vocabulary)), None)
        for field, names in usual.items()
    }
    return {field: name for field, name in found.items() if name is not None}


def from_word_list(
    content: str, settings: Mapping[str, Any] | None = None, *, max_tokens: int | None = None, where: str = "vocab.txt"
) -> TextPreprocessing:
    """BERT's vocab.txt: one piece a line, its number being the line's.

    Args:
        content: of the file.
        settings: tokenizer_config.json: `do_lower_case` (true unless it says otherwise), `strip_accents`,
            `tokenize_chinese_chars`.
        max_tokens: how many the model reads at once, where that is known.
        where: what to call the file in an error.

    Raises:
        CheckpointError: a special token is missing.
    """
    settings = settings or {}
    lines = content.removesuffix("\n").split("\n")
    ids = {piece.removesuffix("\r"): number for number, piece in enumerate(lines)}
    absent = [token for token in BERT_TOKENS if token not in ids]
    if absent:
        raise CheckpointError(f"{where} has {len(ids):,} pieces, and no {', '.join(absent)} among them.")
    with no_panics(f"{where} is not a list of word pieces"):
        tokenizer = bert_tokenizer(
            ids,
            lower_case=bool(settings.get("do_lower_case", True)),
            strip_accents=settings.get("strip_accents"),
            chinese=bool(settings.get("tokenize_chinese_chars", True)),
        )
    extend(tokenizer, settings, where)
    return replace(bert_preprocessing(tokenizer, max_tokens or 512), **common(settings, max_tokens))


def from_merges(
    vocabulary: str,
    merges: str,
    settings: Mapping[str, Any] | None = None,
    *,
    max_tokens: int | None = None,
    where: str = "vocab.json",
) -> TextPreprocessing:
    """GPT-2's vocab.json and merges.txt.

    Args:
        vocabulary: vocab.json, an object that gives each piece its number.
        merges: merges.txt, a line for each pair, the most frequent first.
        settings: tokenizer_config.json: `add_prefix_space` and the special tokens.
        max_tokens: how many the model reads at once, where that is known.
        where: what to call the vocabulary in an error.

    Raises:
        CheckpointError: they do not fit each other.
    """
    settings = settings or {}
    ids = parsed(vocabulary, where)
    if not ids or not all(isinstance(number, int) and 0 <= number < 1 << 31 for number in ids.values()):
        raise CheckpointError(f"{where} should give each piece its number.")
    lines = [line for line in merges.splitlines() if line.strip() and not line.startswith("#version")]
    pairs = [(first, second) for first, _, second in (line.partition(" ") for line in lines)]
    bad = next((line for line in lines if line.count(" ") != 1), None)
    if bad is not None:
        raise CheckpointError(f"The merges beside {where} have the line {bad!r:.60}, which is not a pair of pieces.")
    with no_panics(f"{where} and its merges do not fit each other"):
        tokenizer = Tokenizer(models.BPE(vocab=ids, merges=pairs))
        spaced = bool(settings.get("add_prefix_space", False))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=spaced)
        tokenizer.decoder = decoders.ByteLevel()
        usual = dict.fromkeys(("unk_token", "bos_token", "eos_token"), END_OF_TEXT)
        named = special_tokens({**usual, **settings}, ids)
        tokenizer.add_special_tokens([AddedToken(token, special=True) for token in dict.fromkeys(named.values())])
    extend(tokenizer, settings, where)
    named = special_tokens({**usual, **settings}, tokenizer.get_vocab(with_added_tokens=True))
    return TextPreprocessing(tokenizer=tokenizer.to_str(), **common(settings, max_tokens), **named)


def from_sentence_pieces(
    source: bytes,
    target: bytes,
    vocabulary: str,
    settings: Mapping[str, Any] | None = None,
    *,
    max_tokens: int | None = None,
    where: str = "vocab.json",
) -> TextPreprocessing:
    """Marian's source.spm, target.spm and vocab.json.

    Raises:
        CheckpointError: one of them is damaged, or the two languages have vocabularies of their own.
    """
    settings = settings or {}
    if settings.get("separate_vocabs"):
        raise CheckpointError(
            f"{where} is for the source alone. Models with a vocabulary for each language are not read."
        )
    values = {
        "kind": MARIAN,
        "source": base64.b64encode(source).decode(),
        "target": base64.b64encode(target).decode(),
        "vocab": parsed(vocabulary, where),
    }
    content = json.dumps(values, ensure_ascii=False)
    ids = engine_of(content, where).vocabulary()
    usual = {"pad_token": "<pad>", "unk_token": "<unk>", "eos_token": "</s>"}
    return TextPreprocessing(
        tokenizer=content, **common(settings, max_tokens), **special_tokens({**usual, **settings}, ids)
    )


def find_tokenizer(folder: Path, max_tokens: int | None = None) -> TextPreprocessing | None:
    """The tokenizer in a folder of a published model; `None` where there is none.

    Args:
        folder: where its files are.
        max_tokens: how many the model reads at once, where that is known.

    Raises:
        CheckpointError: there is one that cannot be read, or that asks for what is not run on a person's text.
    """
    settings = read_settings(folder)
    whole, words, ids = folder / "tokenizer.json", folder / "vocab.txt", folder / "vocab.json"
    if all((folder / name).is_file() for name in MARIAN_FILES):
        source, target = (read_bytes(folder / name) for name in MARIAN_FILES[:2])
        return from_sentence_pieces(source, target, read_text(ids), settings, max_tokens=max_tokens, where=str(ids))
    if whole.is_file():
        return from_json(read_text(whole), settings, max_tokens=max_tokens, where=str(whole))
    if words.is_file():
        return from_word_list(read_text(words), settings, max_tokens=max_tokens, where=str(words))
    if ids.is_file() and (folder / "merges.txt").is_file():
        merges = read_text(folder / "merges.txt")
        return from_merges(read_text(ids), merges, settings, max_tokens=max_tokens, where=str(ids))
    return None
