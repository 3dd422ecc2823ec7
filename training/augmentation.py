"""What else could a piece of DNA look like? Its other strand, or moved by a few bases: in training, and in scoring.

Both work on the window of a sequence that the model reads, that is on all of it unless it is too long. Dimensions:
N rows, T tokens, C classes, labels or targets.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from datasets import Dataset
from scipy.special import log_expit, log_softmax
from transformers import EvalPrediction, PreTrainedTokenizerBase, Trainer

from gengram.tokenization.alphabet import ANY_BASE, IUPAC_BASES, reverse_complement
from gengram.training.arguments import FinetuneArguments
from gengram.training.errors import InputError
from gengram.training.inputs import LabelledSplits
from gengram.training.labels import IGNORED, Problem
from gengram.training.predictions import ROW_COLUMN, find_bases

_LETTERS = "".join(IUPAC_BASES) + "".join(IUPAC_BASES).lower()


class AugmentedRows(torch.utils.data.Dataset):
    """Tokenized rows that are changed each time they are read: the other strand, or moved by a few bp.

    What happens to a row depends on the seed, the epoch and the row's position alone, and on no state of a generator:
    a resumed run, several processes and workers of a data loader see what one process sees in one go.

    - Shift: the window that the model reads begins up to `max_shift` bp earlier or later, each as likely as any other.
      Where the sequence ends it is filled with N, so that the length stays.
    - Other strand: the reverse complement of that window (IUPAC codes and case as in `reverse_complement`).

    Labels of a sequence and measured targets stay as they are. Labels of bases go along with their bases, masked ones
    too; the labels of bases that come into the window are not known (`IGNORED`). Tokens of several bases are made anew;
    in the rare case that there are then more than `limit`, the end is cut off.

    Args:
        rows: N tokenized rows of `prepare_splits` with their `sequence`.
        tokenizer: that they were tokenized with.
        limit: longest input in tokens, special tokens included.
        too_long: what happened to sequences that are too long, see `tokenize_rows`.
        seed: of the training.
        strand: chance of the other strand, 0 to 1.
        max_shift: in bp.
    """

    def __init__(
        self,
        rows: Dataset,
        tokenizer: PreTrainedTokenizerBase,
        limit: int,
        too_long: str,
        *,
        seed: int,
        strand: float,
        max_shift: int,
    ):
        self.rows, self.tokenizer, self.limit, self.too_long = rows, tokenizer, limit, too_long
        self.seed, self.strand, self.max_shift = seed, strand, max_shift
        self.columns = [name for name in rows.column_names if name in ("label", "labels", *tokenizer.model_input_names)]
        # Workers of a data loader that live on are told of a new epoch through shared memory.
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Choose the draws of an epoch; Trainer and accelerate's data loaders call this."""
        self._epoch.fill_(epoch)

    def draw(self, row: int) -> tuple[int, bool]:
        """Return by how many bp a row's window is moved in this epoch, and whether it is the other strand."""
        random = np.random.default_rng([self.seed, int(self._epoch), row])
        return int(random.integers(-self.max_shift, self.max_shift, endpoint=True)), random.random() < self.strand

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return self.__getitems__([row])[0]

    def __getitems__(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        batch = self.rows[list(rows)]
        examples = [{name: batch[name][place] for name in self.columns} for place in range(len(rows))]
        draws = [self.draw(row) for row in rows]
        changed = [place for place, (shift, other) in enumerate(draws) if shift or other]
        texts, labels = [], []
        for place in changed:
            sequence, ids, (shift, other) = batch["sequence"][place], batch["input_ids"][place], draws[place]
            start, end = find_window(sequence, ids, self.tokenizer, self.limit, self.too_long)
            text = move_window(sequence, start, end, shift)
            texts.append(reverse_complement(text) if other else text)
            if "labels" in self.columns:
                bases = move_labels(np.asarray(batch["labels"][place])[find_bases(ids, self.tokenizer)], shift)
                labels.append(bases[::-1] if other else bases)
        encoded = encode_windows(texts, self.tokenizer, self.limit, labels or None)
        for place, example in zip(changed, encoded):
            examples[place] |= example
        return examples


def read_other_strand(rows: Dataset, tokenizer: PreTrainedTokenizerBase, limit: int, too_long: str) -> Dataset:
    """Return the same rows read from the other strand: the reverse complement of the window that the model reads.

    Args:
        rows: tokenized rows with their `sequence`; `labels`, one a token, are reversed with their bases.
        tokenizer, limit, too_long: as they were tokenized, see `tokenize_rows`.
    """
    by_base = "labels" in rows.column_names

    def encode(batch: dict[str, list]) -> dict[str, list]:
        texts, labels = [], []
        for place, (sequence, ids) in enumerate(zip(batch["sequence"], batch["input_ids"])):
            start, end = find_window(sequence, ids, tokenizer, limit, too_long)
            texts.append(reverse_complement(sequence[start:end]))
            if by_base:
                labels.append(np.asarray(batch["labels"][place])[find_bases(ids, tokenizer)][::-1])
        encoded = encode_windows(texts, tokenizer, limit, labels if by_base else None)
        return {name: [example[name] for example in encoded] for name in encoded[0]}

    return rows.map(encode, batched=True, desc="Reading the other strand")


def predict_split(
    trainer: Trainer, data: LabelledSplits, split: str, tokenizer: PreTrainedTokenizerBase, both_strands: bool
) -> EvalPrediction:
    """Predict the rows of a split, or these and their other strand, averaged with `average_outputs`.

    Labelled bases are put back where they belong; outputs of other tokens are those of the strand as it was given.
    """
    rows, problem = data.splits[split], data.problem
    forward = trainer.predict(rows, metric_key_prefix=split)
    assert forward.label_ids is not None  # Every split has labels.
    if not both_strands:
        return EvalPrediction(forward.predictions, forward.label_ids)
    other = read_other_strand(rows, tokenizer, data.report["max_length"], data.too_long)
    backward = trainer.predict(other, metric_key_prefix=split)
    assert backward.label_ids is not None
    outputs, turned = np.asarray(forward.predictions), np.asarray(backward.predictions)
    if problem != "token":
        return EvalPrediction(average_outputs(outputs, turned, problem), forward.label_ids)
    outputs = outputs.copy()
    for output, labels, other_output, other_labels in zip(outputs, forward.label_ids, turned, backward.label_ids):
        known = labels != IGNORED
        output[known] = average_outputs(output[known], other_output[other_labels != IGNORED][::-1], problem)
    return EvalPrediction(outputs, forward.label_ids)


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


def check_augmentation(data: LabelledSplits, arguments: FinetuneArguments) -> None:
    """Refuse rows that cannot be read as the arguments ask for, before anything is trained.

    Raises:
        `InputError`: a letter without complement where the other strand is read, or a sequence that is not longer than
            `max_shift`; names the file and the row.
    """
    for split, rows in data.splits.items():
        if arguments.reverse_complement if split == "train" else arguments.average_strands:
            check_letters(rows, data.report[split]["file"])
    if arguments.max_shift:
        _check_lengths(data.splits["train"], arguments.max_shift, data.report["train"]["file"])


def augment_rows(
    data: LabelledSplits, tokenizer: PreTrainedTokenizerBase, arguments: FinetuneArguments
) -> Dataset | AugmentedRows:
    """Return the training rows, changed in each epoch if the arguments ask for it."""
    rows = data.splits["train"]
    if not (arguments.reverse_complement or arguments.max_shift):
        return rows
    return AugmentedRows(
        rows,
        tokenizer,
        data.report["max_length"],
        data.too_long,
        seed=arguments.seed,
        strand=arguments.reverse_complement,
        max_shift=arguments.max_shift,
    )


def check_letters(rows: Dataset, file: str) -> None:
    """Refuse sequences that have no other strand.

    Raises:
        `InputError`: a letter that is no nucleotide code; names the file and the row.
    """
    faulty = pc.match_substring_regex(rows.with_format("arrow")[:]["sequence"], f"[^{_LETTERS}]").to_numpy()
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


def _check_lengths(rows: Dataset, max_shift: int, file: str) -> None:
    lengths = pc.utf8_length(rows.with_format("arrow")[:]["sequence"]).to_numpy()
    if lengths.min() <= max_shift:
        row = rows[int(lengths.argmin())][ROW_COLUMN]
        raise InputError(
            f"{file}, data row {row}: the sequence of {lengths.min()} bp could be moved out of sight; give a max_shift "
            f"below that, not {max_shift}"
        )


def find_window(
    sequence: str, ids: list[int], tokenizer: PreTrainedTokenizerBase, limit: int, too_long: str
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


def move_window(sequence: str, start: int, end: int, shift: int) -> str:
    """Return the bases of a window that begins `shift` bp later, if negative earlier; N beyond the ends."""
    start, end = start + shift, end + shift
    inside = sequence[max(start, 0) : max(end, 0)]
    before, behind = max(-start, 0), max(end - len(sequence), 0)
    return ANY_BASE * min(before, end - start) + inside + ANY_BASE * min(behind, end - start)


def move_labels(labels: np.ndarray, shift: int) -> np.ndarray:
    """Return the labels of a window that begins `shift` bp later; `IGNORED` for bases that were not in it."""
    moved = np.full_like(labels, IGNORED)
    size = len(labels)
    moved[max(-shift, 0) : size - max(shift, 0)] = labels[max(shift, 0) : size - max(-shift, 0)]
    return moved


def encode_windows(
    texts: list[str], tokenizer: PreTrainedTokenizerBase, limit: int, labels: list[np.ndarray] | None
) -> list[dict[str, Any]]:
    """Tokenize windows; with one label a base also `labels`, one a token.

    Raises:
        `InputError`: there are labels of bases, and a token is not one base.
    """
    if not texts:
        return []
    encoding = tokenizer(texts, truncation=True, max_length=limit, split_special_tokens=True, verbose=False)
    examples: list[dict[str, Any]] = [dict(zip(encoding, values)) for values in zip(*encoding.values())]
    for example, bases in zip(examples, labels or ()):
        is_base = find_bases(example["input_ids"], tokenizer)
        if is_base.sum() != len(bases):
            raise InputError(f"{len(bases)} bp are {is_base.sum()} tokens here; labels of bases need one token a base")
        aligned = np.full(len(is_base), IGNORED)
        aligned[is_base] = bases
        example["labels"] = aligned.tolist()
    return examples


__all__ = [
    "AugmentedRows",
    "augment_rows",
    "average_outputs",
    "check_augmentation",
    "check_letters",
    "predict_split",
    "read_other_strand",
]
