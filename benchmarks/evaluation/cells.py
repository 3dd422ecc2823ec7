"""What has been computed already? A cell is one entrant on one task: a file by everything that its content depends on.

A cell's name is a checksum of protocol, settings, weights, rows and seeds, and of no path or name: another folder, or
another model in the same folder, is another cell, and the same work is never done twice. A cell is whole or not there.
"""

import hashlib
import json
import os
import uuid
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gengram._version import __version__
from gengram.errors import InputError
from gengram.files import hash_file, tell_write_faults
from gengram.loading.faults import tell_faults
from gengram.progress import tell

FORMAT = 1
"""Of a cell's files, and of what is measured in them: another one makes all cells anew."""

_FOLDER = "cells"
_PACKAGES = ("torch", "transformers", "peft", "datasets", "numpy", "scikit-learn", "xgboost")


class Predictions(NamedTuple):
    """What an entrant says of the test rows.

    Attributes:
        outputs: float32 (S, N, C): of each seed logits or log-probabilities, of a regression the predictions.
        labels: int64 (N,) class ids, float64 (N, R) or bool (N, L), as the problem has them.
    """

    outputs: np.ndarray
    labels: np.ndarray


def make_key(inputs: Mapping[str, Any]) -> str:
    """Return the name of the cell with these inputs, which are JSON: 64 hexadecimal digits."""
    text = json.dumps({"format": FORMAT, **inputs}, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


class Cells:
    """The cells of a cache.

    Args:
        cache: the folder; its folder `cells` is made when the first cell is written.
    """

    def __init__(self, cache: str | Path):
        self.folder = Path(cache) / _FOLDER

    def read(self, key: str) -> dict[str, Any] | None:
        """Return what `write` was given for a cell, without the predictions; None if it is not there or not whole."""
        path = self._name(key, ".json")
        try:
            cell = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            _tell_damage(path, str(error))
            return None
        if not isinstance(cell, dict) or cell.get("key") != key:
            _tell_damage(path, "it is no cell of this name")
            return None
        predictions = self._name(key, ".npz")
        if not predictions.is_file() or hash_file(predictions) != cell.get("predictions"):
            _tell_damage(path, f"its predictions {predictions.name} are not those that were written")
            return None
        return cell

    def read_predictions(self, key: str) -> Predictions:
        """Return the predictions of a cell that is there."""
        return read_predictions(self._name(key, ".npz"))

    def write(self, key: str, cell: Mapping[str, Any], predictions: Predictions) -> dict[str, Any]:
        """Write a cell, the predictions first; returns it as `read` does."""
        self._make()
        content = pack_predictions(predictions)
        self._put(self._name(key, ".npz"), content)
        cell = {"key": key, **cell, "predictions": hashlib.sha256(content).hexdigest()}
        self._put(self._name(key, ".json"), (json.dumps(cell, indent=1, allow_nan=False) + "\n").encode())
        self._name(key, ".fault").unlink(missing_ok=True)
        return cell

    def read_packed(self, key: str) -> bytes:
        """Return the predictions of a cell that is there as `pack_predictions` has packed them."""
        return self._name(key, ".npz").read_bytes()

    def write_fault(self, key: str, status: str, reason: str) -> None:
        """Leave for other processes of the run why a cell has no result; `status` is `failed` or `refused`."""
        self._make()
        self._put(self._name(key, ".fault"), json.dumps({"status": status, "reason": reason}).encode())

    def read_fault(self, key: str) -> dict[str, str] | None:
        """Return `status` and `reason` of a cell without a result; None if nobody has said why."""
        path = self._name(key, ".fault")
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def forget_fault(self, key: str) -> None:
        """Take back what `write_fault` has said: the cell is tried again."""
        self._name(key, ".fault").unlink(missing_ok=True)

    def _name(self, key: str, ending: str) -> Path:
        return self.folder / f"{key}{ending}"

    def _make(self) -> None:
        with tell_write_faults(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)

    def _put(self, path: Path, content: bytes) -> None:
        """Write a file whole; runs that know nothing of each other may write the same one, so each has its own name."""
        partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
        try:
            with tell_write_faults(path, partial):
                with open(partial, "wb") as stream:
                    stream.write(content)
                    stream.flush()
                    os.fsync(stream.fileno())
                os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def _tell_damage(path: Path, reason: str) -> None:
    tell(f"warning: {path}: computed again: {reason}")


def pack_predictions(predictions: Predictions) -> bytes:
    """Return predictions as the bytes of a .npz file; the same predictions are the same bytes."""
    stream = BytesIO()
    # numpy writes members with the time of 1980, so nothing but the content counts.
    np.savez_compressed(stream, outputs=predictions.outputs.astype(np.float32), labels=predictions.labels)
    return stream.getvalue()


def read_predictions(path: Path) -> Predictions:
    """
    Return what `pack_predictions` has packed.

    Raises:
        `InputError`: the file is not there, or holds something else.
    """
    remedy = f"{path}: no predictions of gengram evaluate; evaluate again"
    with tell_faults(remedy), np.load(path, allow_pickle=False) as arrays:
        found = Predictions(arrays["outputs"], arrays["labels"])
    outputs, labels = found
    if outputs.ndim != 3 or outputs.dtype != np.float32 or labels.ndim not in (1, 2) or len(labels) != outputs.shape[1]:
        raise InputError(f"{path}: outputs {outputs.shape} and labels {labels.shape} are not those of one test set")
    return found


def list_versions(packages: Sequence[str] = _PACKAGES) -> dict[str, str]:
    """Return the versions of this package and of of those that a score depends on, if they are there."""
    found = {"gengram": __version__}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


__all__ = ["FORMAT", "Cells", "Predictions", "list_versions", "make_key", "pack_predictions", "read_predictions"]
