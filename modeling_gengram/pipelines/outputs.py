"""Which files does a verb write? One table, of which its help, its checks and its writer are made.

Nothing here imports a library before a file is looked at, so that an unknown suffix is refused at once.
"""

import os
import re
from importlib.util import find_spec
from pathlib import Path

from gengram.errors import InputError
from gengram.files import check_output_file, find_suffix

_ROWS = "a row for each row of the input"
_VECTORS = "a row for each vector, a column for each dimension"
_FEATURES = "a row for each stretch of a feature"

SUFFIXES: dict[str, dict[str, str]] = {
    "predict": {
        ".parquet": _ROWS,
        ".tsv": _ROWS,
        ".csv": _ROWS,
        ".bed": "a line for each interval of the input, its score the probability",
        ".bedgraph": "one class or target along the genome",
        ".bw": "one class or target along the genome, with `--too_long window`",
    },
    "embed": {
        ".parquet": "a row for each row of the input, the vector as a list",
        ".npz": "the vectors as arrays",
        ".safetensors": "the vectors as arrays",
        ".tsv": _VECTORS,
        ".csv": _VECTORS,
        ".bed": "a line for each interval of the input, a column for each dimension",
    },
    "segment": {
        ".bed": "a line for each stretch of a feature, its score the probability",
        ".tsv": _FEATURES,
        ".csv": _FEATURES,
        ".parquet": _FEATURES,
        ".bedgraph": "one feature, base by base",
        ".bw": "one feature, base by base",
    },
}
"""Verb -> suffix of --out -> what the file holds. The table of docs/outputs.md is this one."""

PLACES = (".bed", ".bedgraph", ".bw")
"""Files in which everything has a place in a genome."""

TRACKS = (".bedgraph", ".bw")
"""Files that hold one value for a base: one class, target or feature, see `--track`."""

COMPRESSED = (".tsv", ".csv", ".bed", ".bedgraph")
"""Files that can have `.gz` behind their names, too (bgzip)."""


def list_suffixes(verb: str) -> list[str]:
    """Return how the names of files that a verb writes can end."""
    return [*SUFFIXES[verb], *(f"{suffix}.gz" for suffix in SUFFIXES[verb] if suffix in COMPRESSED)]


def describe_suffixes(verb: str) -> str:
    """Return how the names of files that a verb writes can end, for a sentence."""
    *others, last = SUFFIXES[verb]
    return f"{', '.join(others)} or {last}; text also with .gz"


def check_output(out: str | Path, verb: str, overwrite: bool = True) -> Path:
    """Return the path of a file that a verb is going to write; upper and lower case of the suffix are the same.

    Args:
        out: its name.
        verb: of `SUFFIXES`.
        overwrite: whether a file that is there may be replaced.

    Raises:
        `InputError`: a suffix that the verb does not write, or only with a library that is not installed; see
            `gengram.files.check_output_file`.
    """
    suffix, compressed = find_suffix(out), str(out).lower().endswith(".gz")
    is_known = suffix in SUFFIXES[verb] and (not compressed or suffix in COMPRESSED)
    path = check_output_file(out, () if is_known else list_suffixes(verb), overwrite)
    if compressed and find_spec("pysam") is None:
        raise InputError(
            f"{path}: bgzip files are written by pysam, which is not installed; pip install 'gengram[genomics]', or "
            "leave .gz out of the name"
        )
    return path


def names_file(out: str | Path, verb: str) -> bool:
    """Whether the output of a verb that writes files and folders is a file: its name ends like one of a file.

    A folder that is there is a folder, and so is a name with a separator at its end, or with a number behind its last
    point.

    Raises:
        `InputError`: it ends like a file that the verb does not write.
    """
    ends = os.path.splitext(str(out))[1].lower()
    if Path(out).is_dir() or not re.fullmatch(r"\.[a-z]\w*", ends):
        return False
    suffix = find_suffix(out)
    if suffix not in SUFFIXES[verb] or (ends == ".gz" and suffix not in COMPRESSED):
        raise InputError(
            f"{out}: the name must end with {', '.join(list_suffixes(verb))}, or be that of a folder: write "
            f"{out}{os.sep} if it is meant so"
        )
    return True


def check_track(out: Path, track: str | None, names: list[str], what: str) -> list[str]:
    """Return the classes, targets or features of which a file holds the numbers: one for `TRACKS`, for others any.

    Args:
        out: the file.
        track: the one that was asked for (`--track`), or None.
        names: of all that the model has.
        what: they are, in plural: `classes`, `targets`, `features`.

    Raises:
        `InputError`: one that there is not; none where the file holds one of several.
    """
    suffix = find_suffix(out)
    shown = ", ".join(map(repr, names[:20])) + (f", ... ({len(names)} in all)" if len(names) > 20 else "")
    if track is None:
        if suffix in TRACKS and len(names) > 1:
            raise InputError(f"{out}: a {suffix} file holds one of the {what}; choose with --track: {shown}")
        return names
    if track not in names:
        raise InputError(f"--track {track!r}: there is none called so among the {what}: {shown}")
    return [track]


__all__ = [
    "COMPRESSED",
    "PLACES",
    "SUFFIXES",
    "TRACKS",
    "check_output",
    "check_track",
    "describe_suffixes",
    "list_suffixes",
    "names_file",
]
