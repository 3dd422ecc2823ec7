"""Which class is a label? By its name; or by a number, if it is said which number each class has.

Numbers are a trap: Genomic Benchmarks numbers its classes in the order in which a file system lists folders, so one
number is another class in another copy.
"""

import re
from collections.abc import Mapping, Sequence

from gengram.errors import InputError, suggest
from gengram.genome.tables import shorten
from gengram.training.data.labels import Labels, find_row

_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")
_TRUTHS = {"false": "0", "true": "1"}


def name_classes(
    labels: Labels, columns: list[str], classes: Sequence[str], codes: Mapping[str, int] | None, origin: str
) -> tuple[list[str], bool]:
    """Return the class that each distinct label of a file is.

    Args:
        labels: of `read_labels`.
        columns: where they are from, for messages.
        classes: names in the order of the ids.
        codes: the number of each class in this file; None: numbers are ids. Where classes are called as numbers, labels
            are names. False and true are 0 and 1 where there are two classes, none of which is called so.
        origin: the file, for messages.

    Returns:
        A class for each of `labels.names`; whether numbers were taken for ids.

    Raises:
        `InputError`: a label that is none of the classes, with its row and what the classes are.
    """
    known = {name: name for name in classes}
    by_number = False
    truths = _TRUTHS if len(classes) == 2 and not _TRUTHS.keys() & {name.lower() for name in classes} else {}
    given = [truths.get(name.lower(), name) for name in labels.names]
    if all(map(_INTEGER.fullmatch, given)) and not all(map(_INTEGER.fullmatch, classes)):
        numbers = dict(zip(classes, range(len(classes)))) if codes is None else codes
        known, by_number = {str(number): name for name, number in numbers.items()}, codes is None
    for place, name in enumerate(given):
        if name in known:
            continue
        row = find_row(labels, place)
        if by_number or known.keys() != set(classes):
            declared = ", ".join(f"{number} {one!r}" for number, one in list(known.items())[:12])
            remedy = f"the classes are {declared}. Renumber the labels, or write names of classes"
        else:
            remedy = f"the classes are {shorten(list(classes))}{suggest(name, classes)}"
        raise InputError(
            f"{origin}, data row {row}: label {name!r} in column {columns[0]!r} is none of the task's classes; {remedy}"
        )
    return [known[name] for name in given], by_number


__all__ = ["name_classes"]
