"""What else could a piece of DNA look like? Its other strand, or moved by a few bases: in training, and in scoring.

Both work on the window of a sequence that the model reads, that is on all of it unless it is too long. Dimensions:
N rows, T tokens, C classes, labels or targets.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from gengram.errors import InputError
from gengram.genome.alphabet import ANY_BASE, reverse_complement
from gengram.genome.columns import read_columns
from gengram.tokenization.coordinates import find_bases
from gengram.training.arguments import FinetuneArguments
from gengram.training.data.inputs import LabelledSplits
from gengram.training.data.strands import check_letters, encode_windows, find_window
from gengram.training.data.tokens import RowEncoder
from gengram.training.problems import IGNORED, ROW_COLUMN


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
        self.encoder = RowEncoder(tokenizer, limit, "truncate", "labels" in rows.column_names)
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
        encoded = encode_windows(texts, self.encoder, labels if "labels" in self.columns else None)
        for place, example in zip(changed, encoded.to_pylist()):
            examples[place] |= example
        return examples


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


def _check_lengths(rows: Dataset, max_shift: int, file: str) -> None:
    blocks = read_columns(rows, ["sequence"])
    lengths = np.concatenate([pc.utf8_length(block["sequence"]).to_numpy() for block in blocks])
    if lengths.min() <= max_shift:
        row = rows[int(lengths.argmin())][ROW_COLUMN]
        raise InputError(
            f"{file}, data row {row}: the sequence of {lengths.min()} bp could be moved out of sight; give a max_shift "
            f"below that, not {max_shift}"
        )


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


__all__ = ["AugmentedRows", "augment_rows", "check_augmentation"]
