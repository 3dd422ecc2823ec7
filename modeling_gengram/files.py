"""Files that are written whole or not at all, and the checks before anything is computed for them."""

import hashlib
import json
import math
import os
import shutil
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from gengram.errors import InputError


@contextmanager
def replace_together(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """Give a temporary name beside each file; when all is written they get their own, after an error they are gone."""
    partial = [path.with_name(path.name + ".partial") for path in paths]
    try:
        yield partial
        for temporary, path in zip(partial, paths):
            os.replace(temporary, path)
    finally:
        for temporary in partial:
            temporary.unlink(missing_ok=True)


@contextmanager
def replace_whole(path: Path) -> Iterator[Path]:
    """`replace_together` for one file."""
    with replace_together([path]) as (partial,):
        yield partial


@contextmanager
def open_whole(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing bytes that gets its name when it is whole."""
    with replace_whole(path) as partial, open(partial, "wb") as stream:
        yield stream


@contextmanager
def make_whole(folder: Path) -> Iterator[Path]:
    """Give an empty folder beside the one that is to be made; filled it gets its name, after an error it is gone."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


class Numbers(NamedTuple):
    """An array of a safetensors file: `kind` (`F32`, `I64` ...), shape, bytes of a number."""

    kind: str
    shape: Sequence[int]
    itemsize: int


@contextmanager
def open_safetensors(path: Path, arrays: Mapping[str, Numbers], metadata: dict[str, str]) -> Iterator[BinaryIO]:
    """Open a safetensors file that gets its name when it is whole; the arrays' numbers are to be written, in order.

    By hand, since the library takes arrays that are in memory. The file is 8 bytes for the length of the header, the
    header as JSON filled up to a multiple of 8, and the numbers (huggingface.co/docs/safetensors).
    """
    header: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name, (kind, shape, itemsize) in arrays.items():
        begin, end = end, end + math.prod(shape) * itemsize
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open_whole(path) as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        yield stream


def write_text(text: str, path: Path) -> None:
    """Write a text file (UTF-8) in one piece."""
    with replace_whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(content: Any, path: Path) -> None:
    """Write a JSON file in one piece; what is not a number (NaN) is an error and not a word that JSON lacks."""
    write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", path)


def save_figure(figure: Any, path: Path, **options: Any) -> None:
    """Save a figure of matplotlib in one piece; the name tells the format, options are those of `savefig`."""
    # Without the version of matplotlib (Software), the same figure is the same file.
    metadata = {"metadata": {"Software": None}} if path.suffix == ".png" else {}
    with replace_whole(path) as partial:
        figure.savefig(partial, format=path.suffix[1:], **metadata, **options)


@contextmanager
def set_aside(folder: Path) -> Iterator[None]:
    """Keep a folder under another name while a new one is made in its place; it comes back if none was."""
    old = folder.with_name(folder.name + ".old")
    there = folder.exists()
    if there:
        os.replace(folder, old)
    try:
        yield
    finally:
        if there and folder.exists():
            shutil.rmtree(old)
        elif there:
            os.replace(old, folder)


def hash_file(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def check_input_files(*paths: str | Path | None) -> None:
    """Refuse files that are not there, before anything is loaded for them; None is no file.

    Raises:
        `InputError`: no such file, or a folder, pipe or device.
    """
    for path in paths:
        if path is not None and not str(path):
            raise InputError("the name of an input file is empty")
        if path is not None and not Path(path).exists():
            raise InputError(f"{path}: there is no such file")
        if path is not None and Path(path).is_dir():
            raise InputError(f"{path}: this is a folder, and a file is needed")
        if path is not None and not Path(path).is_file():
            raise InputError(f"{path}: a pipe or device cannot be read twice; write its content to a file first")


def check_output_file(path: str | Path, suffixes: Sequence[str] = (), overwrite: bool = True) -> Path:
    """Return the path of a file that is going to be written.

    Args:
        path: of the file.
        suffixes: what its name may end with; empty: anything.
        overwrite: whether one that is there may be replaced.

    Raises:
        `InputError`: another ending, a folder that is not there or cannot be written to, a folder in its place, a file
            that is there.
    """
    _refuse_empty(path)
    out = Path(path)
    if suffixes and not out.name.endswith(tuple(suffixes)):
        raise InputError(f"{out}: the name must end with {', '.join(suffixes)}")
    parent = out.absolute().parent
    if not parent.is_dir():
        raise InputError(f"{out}: the folder {parent} does not exist")
    if out.is_dir():
        raise InputError(f"{out}: this is a folder, and a file is to be written")
    if not os.access(parent, os.W_OK):
        raise InputError(f"{out}: the folder {parent} cannot be written to")
    if out.exists() and not overwrite:
        raise InputError(f"{out}: the file is there already. Choose another --out, or replace it with --overwrite.")
    return out


def check_apart(out: str | Path, *inputs: str | Path | None) -> None:
    """Refuse an output that is one of the inputs: it would be replaced by what is made of it.

    Raises:
        `InputError`: both are the same file.
    """
    for path in inputs:
        if path is not None and Path(out).exists() and Path(path).exists() and Path(out).samefile(path):
            raise InputError(f"{out}: this is the input {path}; choose another --out")


def check_free(folder: Path, names: Sequence[str]) -> None:
    """Refuse a folder with files of somebody else's that would be replaced.

    Args:
        folder: where something is going to be written; it need not be there.
        names: of files and folders that are going to be written, or patterns of them.

    Raises:
        `InputError`: one of them is there.
    """
    for name in names:
        for path in sorted(folder.glob(name)) if folder.is_dir() else ():
            raise InputError(
                f"{path} is there already, and no earlier run has ended here. Choose another --out, or replace it with "
                "--overwrite."
            )


def check_output_folder(path: str | Path, result: str | None = None, overwrite: bool = True) -> Path:
    """Return the path of a folder that is going to be filled; it need not be there yet.

    Args:
        path: of the folder.
        result: a file of the folder that is there when a run has ended, e.g. `segment.json`.
        overwrite: whether the results of such a run may be replaced.

    Raises:
        `InputError`: a file is in its place or above it, the folder that it is in cannot be written to, results of an
            earlier run.
    """
    _refuse_empty(path)
    out = Path(path)
    existing = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not existing.is_dir():
        raise InputError(f"{out}: {existing} is not a folder")
    if not os.access(existing, os.W_OK):
        raise InputError(f"{out}: the folder {existing} cannot be written to")
    if result is not None and (out / result).exists() and not overwrite:
        raise InputError(
            f"{out}: the results of an earlier run are there ({result}). Choose another --out, or replace them with "
            "--overwrite."
        )
    return out


def check_new_folder(path: str | Path, result: str, overwrite: bool) -> Path:
    """Return the path of a folder that is going to be made as a whole, see `set_aside`.

    Args:
        path: of the folder.
        result: a file that such a folder holds; nothing else is replaced.
        overwrite: whether one that is there may be replaced.

    Raises:
        `InputError`: as `check_output_folder`; a folder that is there and is not to be replaced, or is no such folder.
    """
    out = check_output_folder(path)
    if out.exists() and not overwrite:
        raise InputError(f"{out}: the folder is there already. Choose another --out, or replace it with --overwrite.")
    if out.exists() and not (out / result).is_file():
        raise InputError(f"{out}: the folder is none that this command has made (no {result}); choose another --out")
    return out


def _refuse_empty(path: str | Path) -> None:
    if not str(path).strip():
        raise InputError("--out is empty (is a variable of the shell not set?)")


__all__ = [
    "Numbers",
    "check_apart",
    "check_free",
    "check_input_files",
    "check_new_folder",
    "check_output_file",
    "check_output_folder",
    "hash_file",
    "make_whole",
    "open_safetensors",
    "open_whole",
    "replace_together",
    "replace_whole",
    "save_figure",
    "set_aside",
    "write_json",
    "write_text",
]
