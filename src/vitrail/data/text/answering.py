"""Questions with the texts that answer them, in windows that a model can read.

Source: Devlin et al., "BERT", NAACL 2019, and its published settings: 384 tokens, stride 128, questions of 64.
"""

import numpy as np
import torch
from jaxtyping import Int

from vitrail.data.dataset import Dataset
from vitrail.data.text.dataset import Question
from vitrail.data.text.prepared import Ragged, index_of, of_kind, words_of
from vitrail.samples import Batch
from vitrail.tokenizing import TextPreprocessing
from vitrail.tokenizing.windows import LENGTH, STRIDE, Context, Windows, context_of


class Questions:
    """Questions with the texts that answer them, in windows: `target` has the first and last token of the answer, and
    `references` the windows themselves, by which scores of tokens become words again.

    An item is a window; `windows` says of which question it is and where its tokens stand.

    Args:
        texts: questions.
        preprocessing, length, stride, question_length: see `Windows`.

    Raises:
        ConfigError: no room is left for the text.
        DataError: they are no questions.
    """

    def __init__(
        self,
        texts: Dataset,
        preprocessing: TextPreprocessing,
        *,
        length: int = LENGTH,
        stride: int = STRIDE,
        question_length: int | None = None,
    ) -> None:
        self.samples: list[Question] = of_kind(texts, Question, "answering questions")
        self.preprocessing = preprocessing
        windows = Windows(preprocessing, length, stride, question_length)
        asked = preprocessing.encode_all([sample.question for sample in self.samples], around=False)
        contexts: dict[str, Context] = {}
        rows = []
        for number, (sample, question) in enumerate(zip(self.samples, asked, strict=True)):
            if sample.context not in contexts:
                contexts[sample.context] = context_of(preprocessing, sample.context, sample.name)
            rows += windows.rows(number, question, contexts[sample.context], sample.answers, sample.starts[0])
        self.windows = [row.window for row in rows]
        self.rows, self.sides = Ragged(row.ids for row in rows), Ragged(row.segments for row in rows)
        self.lost = ""  # a long text is read in several windows

    @property
    def lengths(self) -> Int[np.ndarray, " samples"]:
        return self.rows.lengths

    def batch(self, indices: Int[np.ndarray, " batch"], seed: int = 0, epoch: int = 0) -> Batch:
        rows, sides = self.rows.at(indices), self.sides.at(indices)
        words = words_of(rows, self.preprocessing, sides)
        windows = [self.windows[index] for index in indices.tolist()]
        places = torch.tensor([(window.start, window.end) for window in windows]).reshape(-1, 2)
        if self.preprocessing.padding == "left":
            places = places + (words.ids.shape[1] - torch.tensor([len(row) for row in rows]))[:, None]
        return Batch(words, places, index_of(indices), windows)

    def describe(self, index: int) -> str:
        return self.samples[self.windows[index].question].name
