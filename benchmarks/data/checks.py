"""Are the rows of a task what they should be? Letters, lengths, balance, copies, and the sizes that were published."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow.compute as pc
from datasets import Dataset

from gengram.benchmarks.data.copies import count_copies, name_rows, number_labels
from gengram.genome.alphabet import BASES
from gengram.genome.columns import count_letters, read_column
from gengram.genome.letters import judge_rows
from gengram.genome.tables import shorten
from gengram.training.data.duplicates import Names, count_shared
from gengram.training.problems import Problem

_IMBALANCED = 0.9  # share of the largest class from which on accuracy says little
_PLAIN = [ord(letter) for letter in BASES + BASES.lower()]


@dataclasses.dataclass(frozen=True)
class SplitSurvey:
    """What the rows of one split are like.

    Attributes:
        rows: how many.
        classes: rows of each class, by name; of multi-label rows, rows with each label; empty for a regression.
        shortest, median, longest: lengths in bp.
        letters, other_letters: of all sequences, and those that are not A, C, G or T in either case.
        copies: rows that repeat an earlier one of this split, on either strand.
        disagreeing: rows whose copies have another label.
    """

    rows: int
    classes: dict[str, int]
    shortest: int
    median: float
    longest: int
    letters: int
    other_letters: int
    copies: int
    disagreeing: int


@dataclasses.dataclass(frozen=True)
class Survey:
    """What the rows of a task are like.

    Attributes:
        splits: by name.
        shared: rows of the second split of a pair that the first one has too, `exact` and `reverse_complement`, by
            `train and test` and the like.
        warnings: what to know before a score is believed, a sentence each.
    """

    splits: dict[str, SplitSurvey]
    shared: dict[str, dict[str, int]]
    warnings: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as JSON has it."""
        return dataclasses.asdict(self)


def survey_rows(
    splits: Mapping[str, Dataset],
    origins: Mapping[str, str],
    problem: Problem,
    classes: Sequence[str],
    published: Mapping[str, int | None] | None = None,
    lengths: tuple[int | None, int | None] = (None, None),
) -> Survey:
    """Look at the coded rows of a task.

    Args:
        splits: coded rows.
        origins: where each split is from, for messages.
        problem, classes: what is predicted, and the names in the order of the ids.
        published: rows of each split that the registry or the folder says, None where unknown.
        lengths: shortest and longest sequence there, in bp.

    Raises:
        `InputError`: sequences that are not DNA, see `LetterSurvey`.
    """
    found, names, warnings = dict[str, SplitSurvey](), dict[str, Names](), list[str]()
    for split, rows in splits.items():
        judge_rows(rows, origins[split])
        names[split] = name_rows(rows)
        found[split] = _survey_split(rows, problem, classes, names[split])
        warnings += _warn_of_split(split, found[split], problem, published or {}, lengths)
    shared = {}
    order = [split for split in ("train", "validation", "test") if split in splits]
    for place, first in enumerate(order):
        for second in order[place + 1 :]:
            shared[f"{first} and {second}"] = counts = count_shared(names[first], names[second])
            if sum(counts.values()):
                warnings.append(
                    f"{sum(counts.values()):,} of {len(splits[second]):,} rows of {second} are in {first}, too "
                    f"({counts['exact']:,} as they are, {counts['reverse_complement']:,} as reverse complements); "
                    "--dedup takes them out"
                )
    return Survey(found, shared, warnings)


def _survey_split(rows: Dataset, problem: Problem, classes: Sequence[str], names: Names) -> SplitSurvey:
    texts = [read_column(rows, name) for name in ("sequence", "alternative") if name in rows.column_names]
    lengths = np.asarray(pc.utf8_length(texts[0]))
    letters = np.sum([count_letters(text) for text in texts], axis=0)
    copies, disagreeing = count_copies(names, number_labels(rows))
    return SplitSurvey(
        rows=len(rows),
        classes=_count_classes(rows, problem, classes),
        shortest=int(lengths.min()),
        median=float(np.median(lengths)),
        longest=int(lengths.max()),
        letters=int(letters.sum()),
        other_letters=int(letters.sum() - letters[_PLAIN].sum()),
        copies=copies,
        disagreeing=disagreeing,
    )


def _count_classes(rows: Dataset, problem: Problem, classes: Sequence[str]) -> dict[str, int]:
    column = read_column(rows, "label")
    if problem == "single_label":
        counts = np.bincount(np.asarray(column), minlength=len(classes))
    elif problem == "multi_label":
        counts = np.asarray(pc.list_flatten(column)).reshape(len(rows), -1).sum(axis=0, dtype=np.int64)
    elif problem == "token":
        ids = np.asarray(pc.list_flatten(column))
        counts = np.bincount(ids[ids >= 0], minlength=len(classes))
    else:
        return {}
    return dict(zip(classes, counts.tolist(), strict=True))


def _warn_of_split(
    split: str,
    found: SplitSurvey,
    problem: Problem,
    published: Mapping[str, int | None],
    lengths: tuple[int | None, int | None],
) -> list[str]:
    warnings = []
    if (size := published.get(split)) is not None and size != found.rows:
        warnings.append(f"{split}: {found.rows:,} rows where {size:,} are listed; a score is of these rows only")
    shortest, longest = lengths
    if (shortest is not None and found.shortest < shortest) or (longest is not None and found.longest > longest):
        warnings.append(
            f"{split}: sequences of {found.shortest:,} to {found.longest:,} bp, the published ones have "
            f"{'?' if shortest is None else f'{shortest:,}'} to {'?' if longest is None else f'{longest:,}'} bp"
        )
    if found.other_letters:
        warnings.append(
            f"{split}: {found.other_letters:,} of {found.letters:,} letters are not A, C, G or T (N, other IUPAC codes)"
        )
    if found.copies:
        warnings.append(f"{split}: {found.copies:,} of {found.rows:,} rows repeat an earlier row, on either strand")
    if found.disagreeing:
        warnings.append(f"{split}: {found.disagreeing:,} rows have copies with another label")
    if problem == "single_label":
        missing = [name for name, count in found.classes.items() if not count]
        largest = max(found.classes, key=lambda name: found.classes[name])
        if len(missing) == len(found.classes) - 1:
            warnings.append(f"{split}: all rows are of class {largest!r}; AUROC and MCC are not defined")
        elif missing:
            warnings.append(f"{split}: no row is of class {shorten(missing)}")
        elif found.classes[largest] > _IMBALANCED * found.rows:
            warnings.append(
                f"{split}: {found.classes[largest] / found.rows:.0%} of the rows are of class {largest!r}; look at "
                "AUPRC and MCC, not at accuracy"
            )
    elif problem == "multi_label":
        constant = [name for name, count in found.classes.items() if count in (0, found.rows)]
        if constant:
            warnings.append(f"{split}: {len(constant)} labels are the same in all rows: {shorten(constant)}")
    return warnings


__all__ = ["SplitSurvey", "Survey", "survey_rows"]
