"""What does the other strand say? Rows read as their reverse complement, and the predictions of both, averaged.

Everything here works on the window of a sequence that the model reads, that is on all of it unless it is too long.
Dimensions: N rows, T tokens, C classes, labels or targets.
"""

import itertools

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset
from scipy.special import log_expit, log_softmax
from transformers import PreTrainedTokenizerBase

from gengram.errors import InputError
from gengram.genome.alphabet import IUPAC_BASES, reverse_complement
from gengram.genome.columns import read_columns
from gengram.tokenization.coordinates import find_bases
from gengram.training.data.tokens import TOKENS_COLUMN, LongTokenError, RowEncoder
from gengram.training.problems import ROW_COLUMN, Problem

_LETTERS = "".join(IUPAC_BASES) + "".join(IUPAC_BASES).lower()


def read_other_strand(rows: Dataset, tokenizer: PreTrainedTokenizerBase, limit: int, too_long: str) -> Dataset:
    """Return the same rows read from the other strand: the reverse complement of the window that the model reads.

    Args:
        rows: tokenized rows with their `sequence`; `labels`, one a token, are reversed with their bases.
        tokenizer, limit, too_long: as they were tokenized, see `tokenize_rows`.
    """
    by_base = "labels" in rows.column_names
    encoder = RowEncoder(tokenizer, limit, "truncate", by_base)

    def encode(batch: dict[str, list]) -> dict[str, list]:
        texts, labels = [], []
        for place, (sequence, ids) in enumerate(zip(batch["sequence"], batch["input_ids"])):
            start, end = find_window(sequence, ids, tokenizer, limit, too_long)
            texts.append(reverse_complement(sequence[start:end]))
            if by_base:
                labels.append(np.asarray(batch["labels"][place])[find_bases(ids, tokenizer)][::-1])
        return encode_windows(texts, encoder, labels if by_base else None).to_pydict()

    return rows.map(encode, batched=True, desc="Reading the other strand")


def average_outputs(outputs: np.ndarray, others: np.ndarray, problem: Problem) -> np.ndarray:
    """Average the predictions of both strands.

    Args:
        outputs, others: floats (..., C), logits, of a regression values.
        problem: what they are of.

    Returns:
        Floats (..., C) in the form of the outputs: the mean value of a regression; else logits of the mean probability
        (log-probabilities of classes, log-odds of labels). Probabilities and not logits are averaged because the mean
        of two probabilities is one: what the model says when it is not known from which strand a sequence was read.
    """
    one, two = outputs.astype(np.float64), others.astype(np.float64)
    if problem == "regression":
        mean = (one + two) / 2
    elif problem == "multi_label":
        mean = np.logaddexp(log_expit(one), log_expit(two)) - np.logaddexp(log_expit(-one), log_expit(-two))
    else:
        mean = np.logaddexp(log_softmax(one, axis=-1), log_softmax(two, axis=-1)) - np.log(2)
    return mean.astype(outputs.dtype)


def check_letters(rows: Dataset, file: str) -> None:
    """Refuse sequences that have no other strand.

    Raises:
        `InputError`: a letter that is no nucleotide code; names the file and the row.
    """
    blocks = read_columns(rows, ["sequence"])
    faulty = np.concatenate([find_other_letters(block["sequence"]) for block in blocks])
    if not faulty.any():
        return
    place = int(faulty.argmax())
    row = rows[place]
    try:
        reverse_complement(row["sequence"])
    except ValueError as error:
        raise InputError(
            f"{file}, data row {row.get(ROW_COLUMN, place + 1)}: there is no reverse complement: {error} (rows like "
            f"this: {faulty.sum()} of {len(rows)})"
        ) from error


def find_other_letters(sequences: pa.ChunkedArray) -> np.ndarray:
    """Return which sequences have no other strand, for a letter that is no nucleotide code: bool (N,)."""
    return pc.match_substring_regex(sequences, f"[^{_LETTERS}]").to_numpy()


def find_window(
    sequence: str, ids: list[int] | np.ndarray, tokenizer: PreTrainedTokenizerBase, limit: int, too_long: str
) -> tuple[int, int]:
    """Return the first base and the one behind the last that are in a row's tokens, counted from 0."""
    if too_long == "error" or len(ids) < limit:
        return 0, len(sequence)
    encoding = tokenizer(
        sequence, split_special_tokens=True, verbose=False, return_offsets_mapping=True, return_special_tokens_mask=True
    )
    special = encoding["special_tokens_mask"]
    if len(special) <= limit:
        return 0, len(sequence)
    body = list(itertools.compress(encoding["offset_mapping"], np.asarray(special) == 0))
    room = limit - sum(special)
    first = (len(body) - room) // 2 if too_long == "center" else 0
    return body[first][0], body[first + room - 1][1]


def encode_windows(texts: list[str], encoder: RowEncoder, labels: list[np.ndarray] | None) -> pa.Table:
    """Tokenize windows: the columns of a model's inputs; with one label a base also `labels`, one a token.

    Args:
        texts: N windows.
        encoder: it cuts the end off what has more tokens than before.
        labels: int64 [bp] of each.

    Raises:
        `InputError`: there are labels of bases, and a token is not one base.
    """
    columns = {"sequence": pa.array(texts, pa.string())}
    if labels is not None:
        columns["label"] = pa.array(labels, pa.list_(pa.int64()))
    try:
        return encoder(pa.table(columns)).drop_columns(TOKENS_COLUMN)
    except LongTokenError as error:
        raise InputError(f"labels of bases need one token a base, and there is {error}") from error


__all__ = [
    "average_outputs",
    "check_letters",
    "encode_windows",
    "find_other_letters",
    "find_window",
    "read_other_strand",
]
