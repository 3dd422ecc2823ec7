"""Which rows are the same, on either strand, within a split and across splits; and which of them are taken out."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
from datasets import ClassLabel, Dataset, Value

from gengram.genome.columns import list_texts, make_rows, read_column
from gengram.training.data.duplicates import Names, hash_sequences

_MIX = np.int64(0x9E3779B97F4A7C15 - (1 << 64))  # the golden ratio in 64 bits: keeps (a, b) from being (b, a)


def name_rows(rows: Dataset) -> Names:
    """Return what stands for each row: its sequence, or of a pair both, on its strand and on either."""
    names = hash_sequences(list_texts(rows))
    if "alternative" not in rows.column_names:
        return names
    others = hash_sequences(list_texts(rows, "alternative"))
    with np.errstate(over="ignore"):
        return Names(names.forward * _MIX ^ others.forward, names.folded * _MIX ^ others.folded)


def number_labels(rows: Dataset) -> np.ndarray:
    """Return a number for the label of each row, int64 (N,); the same for the same label."""
    feature = rows.features["label"]
    column = read_column(rows, "label")
    if isinstance(feature, ClassLabel | Value):
        values = np.asarray(column)
        return np.unique(values, return_inverse=True)[1]
    texts = pa.array([repr(label) for label in column.to_pylist()])
    return np.asarray(texts.dictionary_encode().indices).astype(np.int64)


def count_copies(names: Names, labels: np.ndarray) -> tuple[int, int]:
    """Count rows that repeat an earlier one of their split, on either strand, and rows whose copies have other labels.

    Args:
        names: of N rows.
        labels: int64 (N,), of `number_labels`.
    """
    _, group = np.unique(names.folded, return_inverse=True)
    repeated = len(group) - (int(group.max()) + 1 if len(group) else 0)
    return repeated, int(_find_disagreeing(group, labels).sum())


def _find_disagreeing(group: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return which rows have a copy with another label: bool (N,)."""
    if not len(group):
        return np.zeros(0, dtype=bool)
    lowest = np.full(group.max() + 1, np.iinfo(np.int64).max)
    highest = np.full(group.max() + 1, -1, dtype=np.int64)
    np.minimum.at(lowest, group, labels)
    np.maximum.at(highest, group, labels)
    return (lowest != highest)[group]


def drop_copies(splits: Mapping[str, Dataset]) -> tuple[dict[str, Dataset], dict[str, dict[str, int]]]:
    """Take out of `train` and `validation` what another split judges by, and the copies within `train`.

    Rows of `validation` that are in `test` go, rows of `train` that are in `test` or `validation`, on either strand. Of
    copies within `train` the first stays if all have its label; if not, all go. The test is never changed.

    Args:
        splits: coded rows.

    Returns:
        The splits, in their order; how many rows went, by split and reason.
    """
    names = {split: name_rows(rows) for split, rows in splits.items()}
    kept, counts = dict(splits), dict[str, dict[str, int]]()
    held: list[np.ndarray] = [names["test"].folded] if "test" in names else []
    for split in ("validation", "train"):
        if split not in splits:
            continue
        folded = names[split].folded
        leaves = np.isin(folded, np.concatenate(held)) if held else np.zeros(len(folded), dtype=bool)
        counts[split] = {"in_judged_rows": int(leaves.sum())}
        if split == "train":
            labels = number_labels(splits[split])
            _, first, group = np.unique(folded, return_index=True, return_inverse=True)
            disagreeing = _find_disagreeing(group, labels) & ~leaves
            repeats = (first[group] != np.arange(len(group))) & ~leaves & ~disagreeing
            counts[split] |= {"copies": int(repeats.sum()), "copies_that_disagree": int(disagreeing.sum())}
            leaves |= disagreeing | repeats
        else:
            held.append(folded)
        if leaves.any():
            rows = splits[split]
            kept[split] = make_rows(rows.data.table.filter(pa.array(~leaves)), rows.features)
    return kept, counts


__all__ = ["count_copies", "drop_copies", "name_rows", "number_labels"]
