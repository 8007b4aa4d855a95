"""How a model's sentences are written, word by word: what a published checkpoint says beside its numbers.

The words of transformers' `generation_config.json` are read and written here; what they do is in `decoding`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple

from vitrail.errors import ConfigError
from vitrail.fields import Range, check_fields, check_ranges

ID, COUNT = Range(0, 2**31), Range(0, 2**24)
RANGES = {
    "start": ID, "end": ID, "padding": ID, "beams": Range(1, 1000), "top_k": COUNT,
    "temperature": Range(0, above=True, usual="0.7 to 1"), "top_p": Range(0, 1, above=True),
    "length_penalty": Range(-100, 100, usual="0.6 to 1"), "max_tokens": Range(1, 2**24), "max_length": Range(1, 2**24),
    "min_tokens": COUNT, "min_length": COUNT, "repetition_penalty": Range(0, above=True, usual="1 to 1.3"),
    "no_repeat": Range(0, 1000), "forced_start": ID, "forced_end": ID,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Generation:
    """Everything that decides which sentence is written, given a model. The defaults are greedy decoding.

    Lengths count the words of one sentence. Padding beside a prompt counts nowhere, so that no answer depends on what
    else is in the batch; transformers counts it in `max_length` and `min_length`.
    """

    start: int | None = None  # what a decoder's sentence begins with; None where a sentence goes on from a prompt
    end: tuple[int, ...] = ()  # each of these ends a sentence
    padding: int | None = None  # what fills the room after the end; None: the first of `end`

    beams: int = 1  # sentences that are followed side by side; 1 is greedy
    length_penalty: float = 1.0  # the exponent; larger prefers longer sentences
    penalty: Literal["power", "gnmt"] = "power"  # log probability / length ** x, or / ((5 + length) / 6) ** x
    early_stopping: bool | Literal["never"] = False  # when a beam search ends; see decoding/beam.py

    sample: bool = False  # draw each word instead of taking the likeliest
    temperature: float = 1.0  # below 1 makes likely words likelier
    top_k: int = 0  # draw among so many; 0 for all
    top_p: float = 1.0  # draw among the likeliest that have so much of the probability together

    max_tokens: int | None = 128  # new ones, the end included
    max_length: int | None = None  # the start or the prompt included; the smaller of the two holds
    min_tokens: int = 0  # new ones before the end may come
    min_length: int = 0  # the start or the prompt included; where min_tokens is given, that one holds

    repetition_penalty: float = 1.0  # above 1 makes words that are there already less likely
    no_repeat: int = 0  # no run of so many words twice; 0 allows all
    forbidden: tuple[tuple[int, ...], ...] = ()  # runs of words that are never written
    forced_start: int | None = None  # what the first word must be
    forced_end: tuple[int, ...] = ()  # what the last word must be when there is room for no other

    def __post_init__(self) -> None:
        check_fields(self)
        check_ranges(self, "", **RANGES)
        if self.max_tokens is None and self.max_length is None:
            raise ConfigError("max_tokens and max_length are both None: nothing would end a sentence. Set one of them.")
        if self.sample and self.beams > 1:
            raise ConfigError(f"sample=True draws one sentence, and beams={self.beams} follows several. Use beams=1.")
        if not all(self.forbidden):
            raise ConfigError("forbidden holds a run of no words. Leave it out.")

    def most(self, prompt: int) -> int:
        """How long a sentence may get that begins with a prompt, or a start symbol, of so many words."""
        ends = [None if self.max_tokens is None else prompt + self.max_tokens, self.max_length]
        return min(end for end in ends if end is not None)

    def least(self, prompt: int) -> int:
        """How long it must get before its end may come."""
        return prompt + self.min_tokens if self.min_tokens else self.min_length


SAME = {  # transformers' words for fields of ours, where the values are the same
    "num_beams": "beams", "length_penalty": "length_penalty", "early_stopping": "early_stopping",
    "do_sample": "sample", "temperature": "temperature", "top_k": "top_k", "top_p": "top_p",
    "max_new_tokens": "max_tokens", "max_length": "max_length", "min_new_tokens": "min_tokens",
    "min_length": "min_length", "repetition_penalty": "repetition_penalty", "no_repeat_ngram_size": "no_repeat",
    "forced_bos_token_id": "forced_start", "pad_token_id": "padding",
}  # fmt: skip
IDS = {"eos_token_id": "end", "forced_eos_token_id": "forced_end"}  # one or several
CHANCELESS = {"temperature": 1.0, "top_k": 0, "top_p": 1.0}  # where nothing is drawn, nobody looks at them
DEFAULT_LENGTH, DEFAULT_TOP_K = 20, 50  # new tokens, and words to draw among, where a transformers folder does not say
NEUTRAL = {field.name: field.default for field in fields(Generation)}  # there too, but for top_k and the lengths
UNKNOWN = {  # settings that change answers and that we do not have, with the values at which they do not
    "num_beam_groups": (1,), "diversity_penalty": (0.0,), "encoder_no_repeat_ngram_size": (0,),
    "encoder_repetition_penalty": (1.0,), "typical_p": (1.0,), "epsilon_cutoff": (0.0,), "eta_cutoff": (0.0,),
    "min_p": (0.0,), "top_h": (), "penalty_alpha": (0.0,), "sequence_bias": (), "suppress_tokens": ([],),
    "begin_suppress_tokens": ([],), "exponential_decay_length_penalty": (), "guidance_scale": (1.0, 1),
    "renormalize_logits": (False,), "force_words_ids": (), "constraints": (), "watermarking_config": (),
    "stop_strings": ([], ""), "dola_layers": (), "token_healing": (False,), "max_time": (),
    "num_return_sequences": (1,),
}  # fmt: skip


class ReadSettings(NamedTuple):
    """What a foreign folder says of how sentences are written.

    Attributes:
        generation: what of it we have.
        lost: what of it we have not, in words.
    """

    generation: Generation
    lost: list[str]


def as_ids(value: Any) -> tuple[int, ...]:
    """One number or several, as several."""
    return tuple(value) if isinstance(value, list) else (value,)


def as_runs(value: Any) -> tuple[tuple[int, ...], ...]:
    """Words that are forbidden, each as the numbers of its pieces.

    Raises:
        ConfigError: it is no list of lists.
    """
    if not isinstance(value, list) or not all(isinstance(run, list) for run in value):
        raise ConfigError(f"bad_words_ids={value!r:.60} is not a list of lists of numbers, such as [[5], [7, 2]].")
    return tuple(map(tuple, value))


def from_transformers(config: Mapping[str, Any], settings: Mapping[str, Any] | None = None) -> ReadSettings:
    """The settings of a transformers folder.

    Args:
        config: its `config.json`, which holds them in older folders.
        settings: its `generation_config.json`; where there is one, nothing is taken from the config, as there.

    Raises:
        ConfigError: a value that makes no sense.
    """
    said = {name: value for name, value in (config if settings is None else settings).items() if value is not None}
    values: dict[str, Any] = {ours: said[theirs] for theirs, ours in SAME.items() if theirs in said}
    values |= {ours: as_ids(said[theirs]) for theirs, ours in IDS.items() if theirs in said}
    if config.get("is_encoder_decoder"):
        values["start"] = said.get("decoder_start_token_id", said.get("bos_token_id"))
    if "bad_words_ids" in said:
        values["forbidden"] = as_runs(said["bad_words_ids"])
    values.setdefault("max_tokens", None if "max_length" in values else DEFAULT_LENGTH)
    if values["max_tokens"] is not None:
        values["max_length"] = None  # there too, the number of new tokens wins
    if "min_tokens" in values:
        values.pop("min_length", None)  # and here, be it 0
    lost = []
    if not values.get("sample"):
        values |= CHANCELESS
    elif values.get("beams", 1) > 1:
        lost.append(f"num_beams={values.pop('beams')} together with do_sample=True")
    else:
        values.setdefault("top_k", DEFAULT_TOP_K)
    lost += [
        f"{name}={said[name]!r:.60}"
        for name, neutral in UNKNOWN.items()
        if name in said and said[name] not in neutral and said[name] is not False
    ]
    return ReadSettings(Generation(**values), lost)


def longest(generation: Generation, most: int | None) -> tuple[dict[str, int | None], list[str]]:
    """How long a sentence may get, in transformers' words, and what of it they cannot say.

    There, `max_new_tokens` makes `max_length` void, and nothing stops a model at its last position. So one of the two
    is written: the one that says the same, or else the one that keeps within the model.

    Args:
        generation: the settings.
        most: how many words the model has positions for, where that is known.
    """
    limit = min((one for one in (generation.max_length, most) if one is not None), default=None)
    lost = []
    if generation.max_tokens is not None and (limit is None or generation.max_tokens < limit):
        if generation.start is not None or generation.max_length is None:  # a translation begins with one word
            return {"max_new_tokens": generation.max_tokens}, []
        both = f"at most {generation.max_tokens} tokens are written and a text has at most {limit} in all"
        lost = [f"{both} (max_tokens, max_length); it takes one limit, and the second was written"]
    return {"max_length": limit}, lost


def to_transformers(generation: Generation, most: int | None = None) -> tuple[dict[str, Any], list[str]]:
    """The `generation_config.json` for our settings, and what it cannot say, in words.

    Args:
        generation: the settings. Those that change nothing are not written: a `min_new_tokens` of 0 would make
            `min_length` void there.
        most: how many words the model has positions for, where that is known.
    """
    needless = {"max_tokens", "max_length"} | (set() if generation.sample else CHANCELESS.keys())
    needless |= {"min_length"} if generation.min_tokens else set()
    values = {theirs: getattr(generation, ours) for theirs, ours in SAME.items() if ours not in needless}
    values = {name: value for name, value in values.items() if name == "top_k" or value != NEUTRAL[SAME[name]]}
    values |= {theirs: list(getattr(generation, ours)) or None for theirs, ours in IDS.items()}
    values |= {
        "decoder_start_token_id": generation.start,
        "bad_words_ids": [list(run) for run in generation.forbidden] or None,
    }
    for name, ids in values.items():
        if name in IDS and ids is not None and len(ids) == 1:
            values[name] = ids[0]
    lengths, lost = longest(generation, most)
    lost += [f"penalty={generation.penalty!r}"] * (generation.penalty != "power")
    return {name: value for name, value in (values | lengths).items() if value is not None}, lost


def numbers(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a `config.json` of transformers says again of its `generation_config.json`: the special tokens."""
    names = ("decoder_start_token_id", "eos_token_id", "pad_token_id", "forced_eos_token_id")
    return {name: settings[name] for name in names if name in settings}
