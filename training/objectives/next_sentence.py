"""Two neighbouring pieces of a genome, or not? Pairs for GENA-LM's first models, which learned their order.

Rows for `GenaBertForPreTraining`: `[CLS] A [SEP] B [SEP]`, from `PairBlocks`; the masks come from a `MaskedObjective`.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from gengram.errors import InputError
from gengram.training.corpus.draws import make_generator
from gengram.training.corpus.store import Corpus
from gengram.training.corpus.tokens import LetterEncoder
from gengram.training.corpus.windows import REDRAWS, Drawing, WindowSource, read_window
from gengram.training.objectives.options import check_choice, check_share

Negatives = Literal["swapped", "elsewhere"]

SENTENCE = (500, 1000)
"""bp of the shortest and of the longest sentence of GENA-LM's corpora."""
_SPARE = 1.25  # letters that are read, of those that the tokens of a pair have on average
_MEASURED = 32  # windows that tell this average


class PairBlocks(Dataset):
    """Pairs of pieces from a corpus, map-style like `Blocks`: a pair is a function of its number.

    A window is cut into sentences of 500 to 1,000 bp, each tokenised alone, as GENA-LM's documents were. So many as
    fill a row are the pair, in one row of ten of a random smaller number of tokens. A and B are what is before and
    behind the end of a random sentence, or behind a random token where a row holds no whole sentence. In half of the
    rows (label 1) the pair is none: as in GENA-LM's code A and B change places, or as in BERT's B is from elsewhere,
    which a model can tell by composition alone.

    Args:
        corpus: of `open_corpus`.
        tokenizer: with `[CLS]` and `[SEP]`.
        block_size: tokens of a row, special ones and padding included.
        count: how many rows there are.
        drawing: of the windows; their length is what a row takes.
        seed: of the run.
        stage: of the run: other stages have other pairs.
        split: `train`, `validation` or `test`.
        sentence: bp of the shortest and of the longest sentence.
        short_share: of the rows that are shorter than they could be.
        negatives: what a row of label 1 is: `"swapped"` or `"elsewhere"`.

    Raises:
        `InputError`: a tokenizer without these tokens, rows that are too short, a value that cannot be.
    """

    def __init__(
        self,
        corpus: Corpus,
        tokenizer: PreTrainedTokenizerBase,
        block_size: int,
        count: int,
        drawing: Drawing | None = None,
        seed: int = 0,
        stage: int = 0,
        split: str = "train",
        *,
        sentence: tuple[int, int] = SENTENCE,
        short_share: float = 0.1,
        negatives: Negatives = "swapped",
    ):
        drawing = drawing or Drawing()
        if tokenizer.cls_token_id is None or tokenizer.sep_token_id is None:
            raise InputError("pairs need a tokenizer with [CLS] and [SEP], such as GENA-LM's")
        if block_size < 5:
            raise InputError(f"rows of {block_size} tokens have no room for [CLS] A [SEP] B [SEP]: give 5 or more")
        lengths = list(sentence) if isinstance(sentence, list | tuple) else []
        if len(lengths) != 2 or not all(type(one) is int for one in lengths) or not 1 <= lengths[0] <= lengths[1]:
            raise InputError(
                f"sentence={sentence!r}: give the shortest and the longest in bp, such as {list(SENTENCE)}"
            )
        check_share("short_share", short_share)
        check_choice("negatives", negatives, get_args(Negatives))
        if drawing.length is not None:
            raise InputError("windows are as long as pairs need: leave their length out")
        if drawing.order == "covering":
            raise InputError("pairs are of random windows: choose order random")
        self.corpus, self.block_size, self.count = corpus, block_size, count
        self.sentence, self.short_share, self.negatives = (lengths[0], lengths[1]), short_share, negatives
        self._cls, self._sep, self._seed = tokenizer.cls_token_id, tokenizer.sep_token_id, seed
        self._pad = tokenizer.pad_token_id or 0
        self._encoder = LetterEncoder(tokenizer)
        self._stream = ("pairs", stage)
        self._room = block_size - 3
        length = max(2 * self.sentence[1], int(np.ceil(_SPARE * self._room * self._measure_tokens(drawing, split))))
        self.source = self._draw_from(drawing, length, split)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> dict[str, Any]:
        return self.__getitems__([number])[0]

    def __getitems__(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        """Return rows: `input_ids`, `token_type_ids`, `attention_mask` int64 [T], `next_sentence_label`, `block`."""
        places = [int(number) for number in numbers]
        if places and (min(places) < 0 or max(places) >= self.count):
            raise IndexError(f"blocks are numbered from 0 to {self.count - 1}")
        return [self._make_row(number) for number in places]

    def _make_row(self, number: int) -> dict[str, Any]:
        random = make_generator(self._seed, self._stream, number)
        room = self._room
        if random.random() < self.short_share:
            room = int(random.integers(2, self._room + 1))
        first, second = self._cut_pair(2 * number, room, random)
        label = int(random.random() < 0.5)
        if label and self.negatives == "swapped":
            first, second = second, first
        elif label:
            # As long as the true one, where there is as much.
            second = np.concatenate(self._cut_pair(2 * number + 1, room, random))[: len(second)]
        ids = np.full(self.block_size, self._pad, dtype=np.int64)
        kinds, attended = np.zeros((2, self.block_size), dtype=np.int64)
        whole = np.concatenate([[self._cls], first, [self._sep], second, [self._sep]])
        ids[: len(whole)], attended[: len(whole)] = whole, 1
        kinds[len(first) + 2 : len(whole)] = 1
        columns = {"input_ids": ids, "token_type_ids": kinds, "attention_mask": attended}
        tensors = {name: torch.from_numpy(column) for name, column in columns.items()}
        return {**tensors, "next_sentence_label": label, "block": number}

    def _cut_pair(self, number: int, room: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return the tokens of two neighbouring pieces, at least one each and at most `room` together."""
        for attempt in range(REDRAWS):
            window = self.source.draw(np.array([number * REDRAWS + attempt])).get(0)
            sentences = self._encoder.encode(self._cut_sentences(read_window(self.corpus, window), random))
            tokens = np.concatenate(sentences)[:room]
            if len(tokens) > 1:
                ends = np.cumsum([len(one) for one in sentences])
                ends = ends[(ends > 0) & (ends < len(tokens))]
                end = int(random.choice(ends)) if len(ends) else int(random.integers(1, len(tokens)))
                return tokens[:end].astype(np.int64), tokens[end:].astype(np.int64)
        raise InputError(f"{self.corpus.folder}: {REDRAWS} windows in a row have fewer than two tokens")

    def _cut_sentences(self, letters: np.ndarray, random: np.random.Generator) -> list[np.ndarray]:
        shortest, longest = self.sentence
        lengths = random.integers(shortest, longest + 1, size=-(-len(letters) // shortest))
        return [one for one in np.split(letters, np.cumsum(lengths)) if len(one)]

    def _draw_from(self, drawing: Drawing, length: int, split: str) -> WindowSource:
        fitted = dataclasses.replace(drawing, length=length, whole_short=True)
        return WindowSource(self.corpus, fitted, self._seed, split, self._stream)

    def _measure_tokens(self, drawing: Drawing, split: str) -> float:
        """The letters of a token on average, of some windows."""
        source = self._draw_from(drawing, 2 * self.sentence[1], split)
        windows = source.draw(np.arange(_MEASURED))
        pieces = [read_window(self.corpus, windows.get(place)) for place in range(_MEASURED)]
        return sum(map(len, pieces)) / max(1, sum(map(len, self._encoder.encode(pieces))))


__all__ = ["SENTENCE", "Negatives", "PairBlocks"]
