"""Where does an interrupted run along a genome go on? Behind its finished pieces: arrays in a folder."""

import io
from pathlib import Path
from typing import Any

import numpy as np

from gengram.pipelines.run_folder import RunFolder
from gengram.pipelines.shares import ALONE, Share
from gengram.progress import tell


class Pieces(RunFolder):
    """The pieces of one run.

    Args:
        out: the file or folder that they are for.
        folder: that they lie in; made, or gone on with if it is of an interrupted run of the same settings.
        settings: everything that the numbers depend on; JSON.
        share: which of the pieces this process computes.

    Raises:
        `InputError`: the folder is of a run with other settings, or is none of ours.
    """

    plan_file = "settings.json"
    finished = "*.npy"

    def __init__(self, out: Path, folder: Path, settings: dict[str, Any], share: Share = ALONE):
        super().__init__(out, folder, settings, share)
        if self.was_begun and share == ALONE:
            tell(f"going on with the interrupted run in {folder}")

    def has(self, name: str) -> bool:
        """Whether a piece is finished."""
        return self._place(name).is_file()

    def write(self, name: str, found: np.ndarray) -> None:
        """Write a piece; it has its name when it is whole."""
        content = io.BytesIO()  # to a file itself, numpy leaves out what does not fit and says nothing
        np.save(content, found)
        with self.open_part(self._place(name)) as stream:
            stream.write(content.getbuffer())

    def read(self, name: str, mapped: bool = False) -> np.ndarray:
        """Return a finished piece, or a view of its file."""
        return np.load(self._place(name), mmap_mode="r" if mapped else None, allow_pickle=False)

    def _place(self, name: str) -> Path:
        return self.folder / f"{name}.npy"


__all__ = ["Pieces"]
