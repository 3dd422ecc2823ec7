"""What is finished of a build? Lines of JSON on the disk, so that a build that was killed goes on."""

import json
import os
from pathlib import Path
from typing import Any


class Journal:
    """Remembers finished parts of a build in a file of its folder.

    A line is written when the part that it tells of is on the disk. What a kill has cut off, at the end, is dropped.

    Args:
        path: of the file.
        key: what the build is of; a journal of another one is not read.

    Attributes:
        goes_on: whether there are finished parts of an earlier run.
    """

    def __init__(self, path: Path, key: str):
        self.path = path
        self._entries: list[dict[str, Any]] = []
        lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
        good = 0
        for line in lines:
            try:
                entry = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                entry = None
            if not isinstance(entry, dict):
                break
            self._entries.append(entry)
            good += len(line)
        if not self._entries or self._entries[0] != {"kind": "build", "key": key}:
            self._entries, good = [], 0
        with open(path, "ab") as file:
            file.truncate(good)
        self.goes_on = len(self._entries) > 1
        if not self._entries:
            self.write("build", {"key": key})

    def write(self, kind: str, entry: dict[str, Any]) -> None:
        """Remember that something is finished."""
        entry = {"kind": kind, **entry}
        with open(self.path, "ab") as file:
            file.write(json.dumps(entry).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._entries.append(entry)

    def find(self, kind: str, **values: Any) -> dict[str, Any] | None:
        """Return the last entry of a kind that has these values."""
        for entry in reversed(self._entries):
            if entry["kind"] == kind and all(entry.get(name) == value for name, value in values.items()):
                return entry
        return None


__all__ = ["Journal"]
