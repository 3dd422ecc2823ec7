"""Where does an interrupted run go on? Behind its finished pieces: arrays in a folder, and what they depend on."""

import io
import json
import shutil
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from gengram.errors import InputError
from gengram.files import keep_finished, open_whole, write_json
from gengram.progress import tell

_SETTINGS_FILE = "settings.json"


class Pieces:
    """The pieces of one run.

    Args:
        folder: that they lie in; made, or gone on with if it is of an interrupted run of the same settings.
        settings: everything that the numbers depend on; JSON.

    Raises:
        `InputError`: the folder is of a run with other settings, or is none of ours.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]):
        self.folder = folder
        file = folder / _SETTINGS_FILE
        if file.is_file():
            self._compare(file, settings)
            tell(f"going on with the interrupted run in {folder}")
            return
        killed = file.with_name(file.name + ".partial")
        if folder.exists() and (not folder.is_dir() or any(one != killed for one in folder.iterdir())):
            raise InputError(f"{folder}: it is in the way of unfinished pieces; remove it, or choose another --out")
        with self.keep():
            folder.mkdir(parents=True, exist_ok=True)
            write_json(settings, file)

    def keep(self) -> AbstractContextManager[None]:
        """Leave finished pieces after an error or an interrupt, and nothing else."""
        return keep_finished(self.folder, "*.npy")

    def has(self, name: str) -> bool:
        """Whether a piece is finished."""
        return self._place(name).is_file()

    def write(self, name: str, found: np.ndarray) -> None:
        """Write a piece; it has its name when it is whole."""
        content = io.BytesIO()  # to a file itself, numpy leaves out what does not fit and says nothing
        np.save(content, found)
        with open_whole(self._place(name)) as stream:
            stream.write(content.getbuffer())

    def read(self, name: str, mapped: bool = False) -> np.ndarray:
        """Return a finished piece, or a view of its file."""
        return np.load(self._place(name), mmap_mode="r" if mapped else None, allow_pickle=False)

    def remove(self) -> None:
        """Remove the folder: the result is written."""
        shutil.rmtree(self.folder)

    def _place(self, name: str) -> Path:
        return self.folder / f"{name}.npy"

    def _compare(self, file: Path, settings: dict[str, Any]) -> None:
        try:
            begun = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{file}: cannot be read as JSON: {error}") from error
        for name, value in settings.items():
            if not isinstance(begun, dict) or begun.get(name) != value:
                was = begun.get(name) if isinstance(begun, dict) else None
                raise InputError(
                    f"{self.folder}: the run that was begun here is another one: {name} was {was!r} and is {value!r}. "
                    "Remove the folder to begin anew, or choose another --out."
                )


def has_pieces(folder: Path) -> bool:
    """Whether a run was interrupted that kept its pieces there."""
    return (folder / _SETTINGS_FILE).is_file()


__all__ = ["Pieces", "has_pieces"]
