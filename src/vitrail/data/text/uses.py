"""What each use makes of texts: translation, language models, hidden words, labels, tags.

Each is a `Prepared` for the loader: its `batch(indices, seed, epoch)` gives `Words` and what they are compared with.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Int

from vitrail.data.chance import Draw, chance
from vitrail.data.dataset import Dataset, classes_of
from vitrail.data.text.dataset import Labelled, Pair, Passage, Tagged
from vitrail.data.text.prepared import IGNORED, Ragged, filled, index_of, of_kind, words_of
from vitrail.errors import ConfigError, DataError, many
from vitrail.samples import Batch
from vitrail.tokenizing import TextPreprocessing

MASKED_SHARE = 0.15  # of the tokens, to be guessed
AS_MASK, AS_RANDOM = 0.8, 0.1  # of those; the rest stay as they are


class Translation:
    """Pairs of sentences: the source is read, the target is written.

    `inputs` are the sources; `target` are `Words` that begin with the start token and end with the end token, so that
    a decoder reads all but the last and writes all but the first.

    Args:
        texts: sentence pairs.
        preprocessing: of both languages.
        uncased: the share of sources that lose their capitals, others in each epoch; it is by chance which do.

    Raises:
        ConfigError: there is nothing to begin a translation with, or to end it.
        DataError: they are no pairs, or all are too long.
    """

    def __init__(self, texts: Dataset, preprocessing: TextPreprocessing, uncased: float = 0.0) -> None:
        pairs: list[Pair] = of_kind(texts, Pair, "translation")
        if preprocessing.start_token is None or preprocessing.end_token is None:
            raise ConfigError(
                "Translations need a start_token and an end_token, and this tokenizer has not both. `train_joint` "
                "makes one that has; Marian's translations begin with the padding: start_token='<pad>'."
            )
        first = [preprocessing.id_of(preprocessing.start_token)]
        end = preprocessing.id_of(preprocessing.end_token)
        sources = preprocessing.encode_all([pair.source for pair in pairs])
        small = preprocessing.encode_all([pair.source.lower() for pair in pairs]) if uncased else sources
        targets = preprocessing.encode_all([pair.target for pair in pairs], target=True)
        targets = [[*first, *ids, *([] if ids and ids[-1] == end else [end])] for ids in targets]
        longest = preprocessing.max_tokens
        kept = [
            place
            for place, lengths in enumerate(zip(*(map(len, rows) for rows in (sources, small, targets)), strict=True))
            if max(lengths[0], lengths[1], lengths[2] - 1) <= longest
        ]
        if not kept:
            raise DataError(f"All {len(pairs):,} sentence pairs are longer than the {longest:,} tokens of this model.")
        self.preprocessing = preprocessing
        self.writing = replace(preprocessing, padding="right")  # what is written grows to the right
        self.pairs = [pairs[place] for place in kept]
        self.left_out = len(pairs) - len(kept)  # too long for the model
        self.uncased = uncased
        self.sources, self.small, self.targets = (
            Ragged(rows[place] for place in kept) for rows in (sources, small, targets)
        )

    @property
    def lengths(self) -> Int[np.ndarray, " samples"]:
        return np.maximum(np.maximum(self.sources.lengths, self.small.lengths), self.targets.lengths - 1)

    @property
    def lost(self) -> str:
        if not self.left_out:
            return ""
        pairs = many(self.left_out + len(self.pairs), "sentence pair")
        most = self.preprocessing.max_tokens
        return f"{self.left_out:,} of {pairs} are left out: longer than the {most:,} tokens of this model."

    def source(self, index: int, seed: int, epoch: int) -> np.ndarray:
        """A sentence as it is read in one epoch, with its capitals or without."""
        if not self.uncased or chance(Draw.CASE, seed, epoch, index).random() >= self.uncased:
            return self.sources[index]
        return self.small[index]

    def batch(self, indices: Int[np.ndarray, " batch"], seed: int = 0, epoch: int = 0) -> Batch:
        sources = words_of([self.source(index, seed, epoch) for index in indices.tolist()], self.preprocessing)
        targets = words_of(self.targets.at(indices), self.writing)
        return Batch(sources, targets, index_of(indices), self.references(indices.tolist()))

    def describe(self, index: int) -> str:
        return self.pairs[index].name

    def references(self, indices: Iterable[int]) -> list[str]:
        """The translations themselves, as people wrote them: what BLEU compares with."""
        return [self.pairs[index].target for index in indices]


def beginnings(cut: int, whole: int, most: int) -> str:
    """What is said of texts whose beginning alone is read."""
    if not cut:
        return ""
    texts = many(whole, "text")
    return f"Of {cut:,} of {texts} only the beginning is read: longer than the {most:,} tokens of this model."


class Causal:
    """Running text in blocks, each token to be foretold from those before it.

    `inputs` are blocks of at most `max_tokens` ids; `target` is what comes next at each place, and `references` how
    many characters that is, but for training. Between texts that do not follow on each other stands the end token, if
    there is one.

    Args:
        texts: passages of running text.
        preprocessing: of the model.
        length: tokens in a block; all that the model reads, unless given.
        shift: whether each epoch cuts the blocks at other places, for training.

    Raises:
        DataError: it is no running text, or less than one block of two tokens.
    """

    def __init__(
        self, texts: Dataset, preprocessing: TextPreprocessing, length: int | None = None, *, shift: bool = False
    ) -> None:
        self.passages: list[Passage] = of_kind(texts, Passage, "a language model")
        self.preprocessing, self.length = (
            preprocessing,
            min(length or preprocessing.max_tokens, preprocessing.max_tokens),
        )
        end = preprocessing.end_token
        ending = [] if end is None else [preprocessing.id_of(end)]
        encoded = preprocessing.encode_all([passage.text for passage in self.passages], around=False)
        rows = []
        for place, (passage, ids) in enumerate(zip(self.passages, encoded, strict=True)):
            after = self.passages[place + 1] if place + 1 < len(self.passages) else None
            goes_on = after is not None and (after.document, after.place) == (passage.document, passage.place + 1)
            rows.append(ids if goes_on else [*ids, *ending])
        self.stream, self.shift = Ragged(rows), shift
        tokens = len(self.stream.values)
        if tokens < 2:
            raise DataError(f"There is too little text: {many(tokens, 'token')}, and a block needs two.")
        self.slack = self.length if shift and tokens > 2 * self.length else 1  # places where a block can begin
        self.lost = ""
        self.firsts = np.arange(0, tokens - self.slack, self.length)
        self.lengths: Int[np.ndarray, " samples"] = np.minimum(self.length, tokens - self.slack - self.firsts)

    def batch(self, indices: Int[np.ndarray, " batch"], seed: int = 0, epoch: int = 0) -> Batch:
        offset = int(chance(Draw.SHIFT, seed, epoch).integers(self.slack))
        starts = offset + self.firsts[indices]
        blocks = [
            self.stream.values[start : start + self.lengths[index] + 1]
            for start, index in zip(starts, indices, strict=True)
        ]
        words = words_of([block[:-1] for block in blocks], self.preprocessing)
        left = self.preprocessing.padding == "left"
        target = filled([block[1:] for block in blocks], words.ids.shape[1], IGNORED, left)
        return Batch(words, target, index_of(indices), None if self.shift else self.characters(blocks))

    def characters(self, blocks: Sequence[np.ndarray]) -> list[int]:
        """How many there are in what each block asks for: all but its first token. A tokenizer that loses some, as one
        of word pieces does, counts fewer.
        """
        return [len(self.preprocessing.decode(block[1:].tolist())) for block in blocks]

    def describe(self, index: int) -> str:
        place = int(np.searchsorted(self.stream.starts, index * self.length, side="right")) - 1
        return self.passages[min(place, len(self.passages) - 1)].name


class Masked:
    """Running text with some of its tokens hidden, to be guessed from what is left.

    Of each row 15 % of the tokens are to be guessed: `target` has their ids there and -100 elsewhere. Of those, 80 %
    are the mask token in `inputs`, 10 % a random piece and 10 % themselves. Rows are whole lines, as many as the model
    reads at once; a longer line is cut. Which tokens are hidden depends on the seed, the epoch and the row.
    Source: Devlin et al., "BERT", NAACL 2019, section 3.1.

    Raises:
        ConfigError: the tokenizer has no mask token.
        DataError: it is no running text.
    """

    def __init__(self, texts: Dataset, preprocessing: TextPreprocessing, length: int | None = None) -> None:
        passages: list[Passage] = of_kind(texts, Passage, "guessing hidden words")
        if preprocessing.mask_token is None:
            raise ConfigError("This tokenizer has no mask token to hide words behind. `train_word_pieces` makes one.")
        self.preprocessing = preprocessing
        self.mask = preprocessing.id_of(preprocessing.mask_token)
        special = set(preprocessing.special_ids)
        self.special = np.array(sorted(special), dtype=np.int64)
        self.ordinary = np.array(sorted(set(preprocessing.vocabulary.values()) - special), dtype=np.int64)
        room = min(length or preprocessing.max_tokens, preprocessing.max_tokens) - len(preprocessing.wrap([])[0])
        if room < 1:
            raise ConfigError("max_tokens leaves no room for a word between the special tokens.")
        rows, self.names = [], []
        for passage, ids in packed(passages, preprocessing, room):
            rows.append(preprocessing.wrap(ids)[0])
            self.names.append(passage.name)
        if not rows:
            raise DataError("There is no text in which to hide words.")
        self.rows, self.lost = Ragged(rows), ""

    @property
    def lengths(self) -> Int[np.ndarray, " samples"]:
        return self.rows.lengths

    def hide(self, ids: np.ndarray, key: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
        """A row with some tokens hidden, and what they were."""
        draw = chance(Draw.MASK, *key)
        places = np.flatnonzero(~np.isin(ids, self.special))
        shown, target = ids.astype(np.int64), np.full(len(ids), IGNORED, dtype=np.int64)
        if not len(places):
            return shown, target
        chosen = draw.choice(places, size=max(1, round(MASKED_SHARE * len(places))), replace=False)
        target[chosen] = shown[chosen]
        fate = draw.random(len(chosen))
        random = (fate >= AS_MASK) & (fate < AS_MASK + AS_RANDOM)
        shown[chosen[fate < AS_MASK]] = self.mask
        shown[chosen[random]] = draw.choice(self.ordinary, size=int(random.sum()))
        return shown, target

    def batch(self, indices: Int[np.ndarray, " batch"], seed: int = 0, epoch: int = 0) -> Batch:
        hidden = [self.hide(self.rows[index], (seed, epoch, index)) for index in indices.tolist()]
        words = words_of([shown for shown, _ in hidden], self.preprocessing)
        left = self.preprocessing.padding == "left"
        target = filled([target for _, target in hidden], words.ids.shape[1], IGNORED, left)
        return Batch(words, target, index_of(indices))

    def describe(self, index: int) -> str:
        return self.names[index]


def packed(
    passages: Sequence[Passage], preprocessing: TextPreprocessing, room: int
) -> Iterator[tuple[Passage, list[int]]]:
    """Whole lines in the order of the text, as many as there is room for; no row goes on in another passage."""
    for passage in passages:
        lines = [line for line in passage.text.split("\n") if line.strip()]
        row: list[int] = []
        for ids in preprocessing.encode_all(lines, around=False):
            if row and len(row) + len(ids) > room:
                yield passage, row
                row = []
            while len(ids) > room:
                yield passage, ids[:room]
                ids = ids[room:]
            row = [*row, *ids]
        if row:
            yield passage, row


class Classification:
    """Texts with labels: `target` has class numbers, or a one for each label that a text has.

    Longer texts than the model reads are cut; `cut` says how many.

    Raises:
        DataError: they have no labels.
    """

    def __init__(self, texts: Dataset, preprocessing: TextPreprocessing) -> None:
        self.samples: list[Labelled] = of_kind(texts, Labelled, "telling classes apart")
        self.preprocessing, self.classes, self.multi_label = preprocessing, texts.classes, texts.multi_label
        cutting = replace(preprocessing, overflow="cut")
        rows, sides, self.cut = [], [], 0
        whole = preprocessing.encode_all([sample.text for sample in self.samples])
        for sample, ids in zip(self.samples, whole, strict=True):
            if sample.second is None and len(ids) <= preprocessing.max_tokens:
                rows.append(ids)
                sides.append([0] * len(ids))
                continue
            encoded = cutting.encode(sample.text, sample.second, name=sample.name)
            self.cut += len(encoded.ids) == preprocessing.max_tokens
            rows.append(encoded.ids)
            sides.append(encoded.segments)
        self.rows, self.sides = Ragged(rows), Ragged(sides)
        self.lost = beginnings(self.cut, len(self.samples), preprocessing.max_tokens)

    @property
    def lengths(self) -> Int[np.ndarray, " samples"]:
        return self.rows.lengths

    def batch(self, indices: Int[np.ndarray, " batch"], seed: int = 0, epoch: int = 0) -> Batch:
        rows, sides = self.rows.at(indices), self.sides.at(indices)
        labels = [self.samples[index].label for index in indices]
        if self.multi_label:
            target = torch.zeros(len(labels), len(self.classes))
            for row, label in zip(target, labels, strict=True):
                row[list(classes_of(label))] = 1.0
        else:
            target = torch.tensor(labels, dtype=torch.int64)
        return Batch(words_of(rows, self.preprocessing, sides), target, index_of(indices))

    def describe(self, index: int) -> str:
        return self.samples[index].name


class Tagging:
    """Words with tags: `target` has a word's tag at its first piece, and -100 at its other pieces.

    Words beyond what the model reads are left out; `cut` says of how many sentences.

    Raises:
        DataError: they have no tags.
    """

    def __init__(self, texts: Dataset, preprocessing: TextPreprocessing) -> None:
        self.samples: list[Tagged] = of_kind(texts, Tagged, "tagging words")
        self.preprocessing, self.classes, self.cut = preprocessing, texts.classes, 0
        before, after = (list(frame.ids) for frame in preprocessing.frame)
        room = preprocessing.max_tokens - len(before) - len(after)
        unknown = preprocessing.unknown_token
        rows, tags = [], []
        for sample in self.samples:
            row, places = [], []
            spelled = preprocessing.spell(sample.words)
            for ids, tag in zip(spelled, sample.tags, strict=True):
                ids = ids or ([] if unknown is None else [preprocessing.id_of(unknown)])
                if len(row) + len(ids) > room:
                    self.cut += 1
                    break
                row += ids
                places += [tag, *[IGNORED] * (len(ids) - 1)] if ids else []
            rows.append([*before, *row, *after])
            tags.append([*[IGNORED] * len(before), *places, *[IGNORED] * len(after)])
        self.rows, self.tags = Ragged(rows), Ragged(tags)
        self.lost = beginnings(self.cut, len(self.samples), preprocessing.max_tokens)

    @property
    def lengths(self) -> Int[np.ndarray, " samples"]:
        return self.rows.lengths

    def batch(self, indices: Int[np.ndarray, " batch"], seed: int = 0, epoch: int = 0) -> Batch:
        words = words_of(self.rows.at(indices), self.preprocessing)
        left = self.preprocessing.padding == "left"
        target = filled(self.tags.at(indices), words.ids.shape[1], IGNORED, left)
        return Batch(words, target, index_of(indices))

    def describe(self, index: int) -> str:
        return self.samples[index].name
