"""Which rows train and which validate? A split that keeps both strands of a sequence together."""

import numpy as np
from datasets import ClassLabel, Dataset
from sklearn.model_selection import train_test_split

from gengram.tokenization import reverse_complement
from gengram.training.errors import InputError


def fold_strands(sequence: str) -> str:
    """Return one name for a sequence and its reverse complement: the smaller of the two in alphabetic order.

    Case and RNA spelling (`U`) make no difference. A text with characters that have no complement stands for itself.
    """
    forward = sequence.upper().replace("U", "T")
    try:
        return min(forward, reverse_complement(forward))
    except ValueError:
        return forward


def split_validation(dataset: Dataset, fraction: float, seed: int) -> tuple[Dataset, Dataset]:
    """Split rows into training and validation; rows with one class each are stratified by class.

    Copies of a sequence and its reverse complement go to the same side, so that validation never sees what training
    has seen. Such a group is stratified by its first row's class.

    Args:
        dataset: N rows with `sequence` (string); stratified if `label` is a `ClassLabel`.
        fraction: share of the distinct sequences that validate, between 0 and 1.
        seed: of the split; the same seed gives the same split, whatever the seed of the training.

    Returns:
        The training and the validation rows, both in the order of the file.

    Raises:
        `InputError`: a class with fewer than two distinct sequences, or too few rows for each class on each side.
    """
    names, first_rows, groups = np.unique(
        [fold_strands(sequence) for sequence in dataset["sequence"]], return_index=True, return_inverse=True
    )
    feature = dataset.features.get("label")
    strata = np.asarray(dataset["label"])[first_rows] if isinstance(feature, ClassLabel) else None
    class_names = feature.names if isinstance(feature, ClassLabel) else [""]
    counts = np.bincount(strata, minlength=len(class_names)) if strata is not None else np.array([len(names)])
    held_out = int(np.ceil(fraction * len(names)))
    if counts.min() < 2 or min(held_out, len(names) - held_out) < len(class_names):
        rarest = class_names[counts.argmin()]
        raise InputError(
            f"validation_fraction={fraction}: cannot put {'every class' if rarest else 'rows'} on both sides of a "
            f"split of {len(names)} distinct sequences"
            + (f" (the rarest class, {rarest!r}, has {counts.min()})" if rarest else "")
            + ". Give a validation_file, another fraction, or validation_fraction=0 to train without validation."
        )
    _, validation_groups = train_test_split(
        np.arange(len(names)), test_size=held_out, stratify=strata, random_state=seed
    )
    validates = np.isin(groups, validation_groups)
    return dataset.select(np.flatnonzero(~validates)), dataset.select(np.flatnonzero(validates))


__all__ = ["fold_strands", "split_validation"]
