"""What does one model with a head say of some sequences? Logits of each, of one strand or of both."""

import dataclasses
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from gengram.errors import InputError
from gengram.genome.alphabet import reverse_complement
from gengram.phases import phase
from gengram.pipelines.logits import LargeRowError, stream_logits
from gengram.pipelines.predictions import find_start
from gengram.tokenization.choose_encoder import find_encoder
from gengram.tokenization.coordinates import find_bases
from gengram.tokenization.encode import BulkEncoder
from gengram.tokenization.windows import cut_tokens
from gengram.training.data.strands import average_outputs, find_window
from gengram.training.problems import Problem

if TYPE_CHECKING:
    from peft import PeftModel


_Key = TypeVar("_Key")


class Answers(NamedTuple):
    """What a model says of N sequences: `logits`, of each float32 (1, C), or (bases, C) of those that it has read;
    `starts`, of a classifier of bases the base that it has read first, else none."""

    logits: list[np.ndarray]
    starts: list[int]


class Asker:
    """A model that is asked about lists of sequences, each of which it can read (see `PredictionSurvey`).

    Args:
        model, tokenizer, problem: of `load_predictor`.
        batch_size: sequences a step; those of similar length share one.
        max_length: longest input in tokens; by default the model's.
        too_long: what happens to longer ones: `truncate` (cut their end off) or `center` (keep the middle).
        average_strands: average with what the model says of the reverse complement, see `average_outputs`.

    Attributes:
        encode: what makes ids of sequences.
        limit: longest input in tokens, special tokens included.

    Raises:
        `InputError`: a limit that is longer than the model.
    """

    def __init__(
        self,
        model: "PreTrainedModel | PeftModel",
        tokenizer: PreTrainedTokenizerBase,
        problem: Problem,
        batch_size: int,
        max_length: int | None,
        too_long: str,
        average_strands: bool,
    ):
        self.model, self.tokenizer, self.problem = model, tokenizer, problem
        self.encode = find_encoder(tokenizer)
        self.batch_size, self.too_long, self.average_strands = batch_size, too_long, average_strands
        self.limit = max_length or tokenizer.model_max_length
        if self.limit > tokenizer.model_max_length:
            raise InputError(
                f"max_length={self.limit} tokens is longer than the model, which takes "
                f"{tokenizer.model_max_length} tokens"
            )

    def stream(self, blocks: Iterable[tuple[_Key, list[str]]]) -> Generator[tuple[_Key, Answers], None, None]:
        """Yield what the model says of block after block; while one is with the model, the next is read and tokenised.

        Args:
            blocks: of sequences, and what the caller knows each by. A block without sequences passes through.

        Yields:
            Of each block its key, and the answers in the order of its sequences. Close it (`contextlib.closing`) if it
            is left early.

        Raises:
            `LargeRowError`: a sequence that is too large for the device's memory; `key` is that of the block.
        """
        try:
            with closing(stream_logits(self.model, self.tokenizer, self._encode(blocks), self.batch_size)) as results:
                for asked, outputs in results:
                    if asked.outputs:
                        self._average(asked, outputs)
                    else:
                        asked.outputs = outputs
                        if asked.others:  # they follow
                            continue
                    with phase("Model", "rows") as one:
                        one.add(len(asked.sequences))
                        answers = self._answer(asked)
                    yield asked.key, answers
        except LargeRowError as error:
            error.key = error.key.key
            raise

    def _encode(self, blocks: Iterable[tuple[_Key, list[str]]]) -> Iterator[tuple["_Asked[_Key]", list[np.ndarray]]]:
        """Tokenise blocks, and behind each, if it is asked for, its other strand."""
        for key, sequences in blocks:
            with phase("Tokenising", "rows") as one:
                ids = encode_sequences(self.encode, sequences, self.limit, self.too_long)
                one.add(len(ids))
                asked = _Asked(key, sequences, ids)
                if self.average_strands:
                    asked.others = self._encode_others(sequences, ids)
            yield asked, ids
            if asked.others:
                yield asked, asked.others

    def _encode_others(self, sequences: list[str], ids: list[np.ndarray]) -> list[np.ndarray]:
        windows = [
            find_window(sequence, one, self.tokenizer, self.limit, self.too_long)
            for sequence, one in zip(sequences, ids)
        ]
        turned = [reverse_complement(sequence[start:end]) for sequence, (start, end) in zip(sequences, windows)]
        return encode_sequences(self.encode, turned, self.limit, "truncate")

    def _answer(self, asked: "_Asked") -> Answers:
        if self.problem != "token":
            return Answers(asked.outputs, [])
        bases = [logits[find_bases(one, self.tokenizer)] for one, logits in zip(asked.ids, asked.outputs)]
        starts = [find_start(len(text), len(read), self.too_long) for text, read in zip(asked.sequences, bases)]
        return Answers(bases, starts)

    def _average(self, asked: "_Asked", others: list[np.ndarray]) -> None:
        """Average outputs with those of the other strand, in place; base by base for a classifier of bases."""
        for row, (output, other) in enumerate(zip(asked.outputs, others)):
            if self.problem != "token":
                asked.outputs[row] = average_outputs(output, other, self.problem)
                continue
            here, there = find_bases(asked.ids[row], self.tokenizer), find_bases(asked.others[row], self.tokenizer)
            output[here] = average_outputs(output[here], other[there][::-1], self.problem)


@dataclasses.dataclass
class _Asked(Generic[_Key]):
    """A block on its way: `ids` and, of both strands, `others` of its sequences, and the `outputs` for `ids`."""

    key: _Key
    sequences: list[str]
    ids: list[np.ndarray]
    others: list[np.ndarray] = dataclasses.field(default_factory=list)
    outputs: list[np.ndarray] = dataclasses.field(default_factory=list)


def encode_sequences(
    encode: BulkEncoder, sequences: list[str], limit: int | None = None, too_long: str = "error"
) -> list[np.ndarray]:
    """Return the ids of each sequence, (T,) integers. Names of special tokens in a text are plain letters.

    Args:
        encode: of the model's tokenizer (`find_encoder`).
        sequences: N texts.
        limit: longest input in tokens, special tokens included; None: nothing is cut.
        too_long: how longer ones are cut: `truncate` or `center`.

    Raises:
        `InputError`: special tokens alone fill the limit.
    """
    rows = encode(sequences, split_special_tokens=True).split()
    if limit is None or too_long == "error":
        return rows
    for row in [row for row, ids in enumerate(rows) if len(ids) > limit]:
        special = np.zeros(len(rows[row]), dtype=bool)
        special[: len(encode.before)] = special[len(special) - len(encode.after) :] = True
        try:
            kept = cut_tokens(special, limit, too_long)[0]  # type: ignore[arg-type]
        except ValueError as error:
            raise InputError(f"max_length: {error}") from error
        rows[row] = rows[row][kept]
    return rows


__all__ = ["Answers", "Asker", "encode_sequences"]
