"""What does an adapter's folder say of its classes? What PEFT does not save lies beside it, read without torch."""

from pathlib import Path
from typing import Any

from transformers.utils import cached_file

from gengram.loading.classes import name_outputs
from gengram.loading.folders import read_object
from gengram.loading.reports import check_value

LABELS_FILE = "labels.json"
"""Beside an adapter, what PEFT does not save: names of the classes, the problem type, checksums of the base's weights.
Not called config.json, since transformers takes a folder with one for a complete model."""

# What is read of it.
_LABELS: dict[str, Any] = {"id2label": dict, "problem_type": str | None, "base_sha256": dict[str, str] | None}


def read_labels(path: str | Path) -> dict[str, Any]:
    """Return what `LABELS_FILE` beside an adapter says, with `id2label` by number; empty where there is none.

    Raises:
        `InputError`: it cannot be read, or is not what a fine-tuning writes.
    """
    file = find_file(str(path), LABELS_FILE)
    if file is None:
        return {}
    labels = read_object(file)
    for key, kind in _LABELS.items():
        check_value(key, labels.get(key), kind, file, "train the adapter again")
    names = dict(enumerate(name_outputs(labels["id2label"], file)))
    return {**labels, "id2label": names, "base_sha256": labels.get("base_sha256") or {}}


def find_file(path: str, name: str) -> Path | None:
    """Return where a file of a folder or a Hub id is, after fetching it if need be; None if there is none."""
    file = cached_file(path, name, _raise_exceptions_for_missing_entries=False)
    return None if file is None else Path(file)


__all__ = ["LABELS_FILE", "find_file", "read_labels"]
