"""Files that are written whole or not at all, and the checks before anything is computed for them.

What is written has a name that ends with `.partial` until it is whole and on the disk. After an error or an interrupt
it is gone; only a kill or a power failure leaves it, and the next run writes over it.
"""

import errno
import hashlib
import json
import math
import os
import re
import shutil
import struct
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from gengram.errors import InputError
from gengram.progress import tell

PARTIAL = ".partial"
"""How the names of files and folders end that are not whole yet."""

_FULL = "free some space, or choose a place with more"
# What a user can do where the operating system refuses to write. The first ones tell of the disk, whatever was written.
_DISK = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: "raise the limit of the process (`ulimit -f`), or choose a file system that takes larger files",
    errno.EIO: "the device fails; choose another place",
    errno.EROFS: "choose a place that can be written to",
}
_REMEDIES = _DISK | {
    errno.EACCES: "choose a place that you may write to",
    errno.EPERM: "choose a place that you may write to",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EISDIR: "remove or rename this folder, or choose another name",
    errno.ENOTDIR: "choose a folder to write to",
    errno.ENOENT: "the folder is gone; give it back, or choose another",
    errno.EMFILE: "raise the number of open files (`ulimit -n`)",
}
# How libraries of Rust (safetensors, tokenizers) tell of an error of the operating system.
_OS_ERROR = re.compile(r"\(os error (\d+)\)")
# torch, numpy and pysam write through streams of C++ and C, and do not say why they failed.
_SILENT = re.compile(r"BGZF|inline_container|PytorchStreamWriter|iostream error|\d+ requested and \d+ written")
_PROBE = 1 << 16


@contextmanager
def tell_write_faults(path: Path, written: Path | None = None) -> Iterator[None]:
    """Turn it into an `InputError` with name, reason and remedy if a file or folder cannot be written inside.

    Each library has its own error for a full disk, and most leave the file's name out. This is the one place that knows
    them; what is no fault of writing stays as it is.

    Args:
        path: as the user knows it.
        written: what is written to, if that has another name.
    """
    with _tell_write_faults({written or path: path}):
        yield


@contextmanager
def _tell_write_faults(places: Mapping[Path, Path]) -> Iterator[None]:
    """`tell_write_faults` for several: what is written to -> as the user knows it."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        place = _find_place(error, list(places))
        number = _find_number(error, place)
        if place is None or number is None:
            raise
        reason = f"{os.strerror(number)}; {_REMEDIES[number]}" if number else f"{str(error).splitlines()[0]}; {_FULL}"
        inside = _find_newest(place) if place.is_dir() else None
        name = f"{places[place]}: {inside.relative_to(place)}" if inside else f"{places[place]}:"
        raise InputError(f"{name} cannot be written ({reason})") from error


def describe_os_error(error: OSError) -> str:
    """Return what an error of the operating system says, as `file: reason; remedy`."""
    if error.errno is None or not error.strerror:
        return str(error)
    words = f"{error.strerror}; {_REMEDIES[error.errno]}" if error.errno in _REMEDIES else error.strerror
    name = error.filename2 if error.filename2 is not None and error.errno in _DISK else error.filename
    return words if name is None else f"{os.fsdecode(name)}: {words}"


def _find_place(error: Exception, places: Sequence[Path]) -> Path | None:
    """Which of the places an error is about: the one that it names, or the one that was written to last."""
    if isinstance(error, OSError) and error.filename is not None:
        for name in (error.filename2, error.filename):  # of a copy, the second is the one that is written
            given = Path(os.path.abspath(os.fsdecode(name or error.filename)))
            if found := next((place for place in places if _lies_in(given, place.absolute())), None):
                return found
        if error.errno not in _DISK:
            return None
    there = [place for place in places if place.exists()]
    return max(there, key=lambda place: place.stat().st_mtime_ns, default=places[0])


def _lies_in(given: Path, place: Path) -> bool:
    return given in (place, place.parent) or place in given.parents


def _find_number(error: Exception, place: Path | None) -> int | None:
    """The operating system's number of an error of writing; 0 if it cannot be known, None if it is another error."""
    if isinstance(error, OSError) and (error.errno in _REMEDIES or isinstance(error, BrokenPipeError)):
        return error.errno if error.errno in _REMEDIES else None
    cause: BaseException | None = error
    while cause is not None:  # Closing a file after a failed write may fail in other words.
        told = _OS_ERROR.search(str(cause))
        number = cause.errno if isinstance(cause, OSError) else int(told[1]) if told else None
        if number in _DISK:
            return number
        if isinstance(cause, RuntimeError | OSError) and _SILENT.search(str(cause)):
            return 0 if place is None else probe(place)
        cause = cause.__cause__ or cause.__context__
    return None


def probe(place: Path) -> int:
    """Ask the operating system why nothing more can be written to a file, or to the last one of a folder.

    Where a library does not tell. The file is spoilt by it.

    Returns:
        The number of the error; 0 if something can be written.
    """
    file = _find_newest(place) if place.is_dir() else place
    try:
        with open(file or place, "r+b") as stream:
            stream.seek(0, os.SEEK_END)
            stream.write(bytes(_PROBE))
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        return error.errno if error.errno in _DISK else 0
    return 0


def _find_newest(folder: Path) -> Path | None:
    """The file of a folder that was written to last."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return max(files, key=lambda path: path.stat().st_mtime_ns, default=None)


def sync(path: Path) -> None:
    """Wait until a file, or every file of a folder, is on the disk.

    A full disk or quota may show only now (NFS, delayed allocation), and a file that is renamed before may be empty
    after a power failure, in place of what was there.
    """
    for file in [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file()):
        with open(file, "rb+") as stream:
            os.fsync(stream.fileno())


def name_partial(path: Path) -> Path:
    """Return the temporary name beside a file or folder; no longer than names may be."""
    name = os.fsencode(path.name)[: 255 - len(PARTIAL)]
    return path.with_name(os.fsdecode(name) + PARTIAL)


@contextmanager
def replace_together(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """Give a temporary name beside each file; when all is written they get their own, after an error they are gone.

    Raises:
        `InputError`: one cannot be written, see `tell_write_faults`.
    """
    partial = [name_partial(path) for path in paths]
    for temporary in partial:
        if temporary.is_dir():
            raise InputError(f"{temporary}: this folder is in the way of a temporary file; remove or rename it")
    try:
        with _tell_write_faults(dict(zip(partial, paths))):
            yield partial
            for temporary in partial:
                sync(temporary)
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
    """Give an empty folder beside the one that is to be made; filled it takes its place, after an error it is gone.

    Raises:
        `InputError`: something cannot be written, see `tell_write_faults`.
    """
    partial = name_partial(folder)
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with tell_write_faults(folder, partial):
            partial.mkdir(parents=True)
            yield partial
            replace_folder(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def make_scratch() -> Iterator[Path]:
    """Give an empty folder among the temporary files; at the end it is gone, even if an interrupt comes just then."""
    folder = Path(tempfile.mkdtemp())
    try:
        yield folder
    finally:
        try:
            shutil.rmtree(folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


@contextmanager
def keep_finished(folder: Path, parts: str) -> Iterator[None]:
    """After an error or an interrupt, leave a folder of finished parts and say so; without any it is removed.

    Args:
        folder: where parts are collected, so that the same command goes on after them.
        parts: the pattern of their names.
    """
    try:
        yield
    except BaseException:
        if any(folder.glob(parts)):
            tell(f"what is finished stays in {folder}: the same command goes on from there")
        else:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def replace_folder(partial: Path, folder: Path) -> None:
    """Give a folder that is whole its name; one that has the name is removed when that is done."""
    sync(partial)
    old = name_partial(folder.with_name(f"{folder.name}.replaced"))
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    try:
        os.replace(partial, folder)
    except BaseException:
        if old.exists():
            os.replace(old, folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


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
    with replace_whole(path) as partial, warnings.catch_warnings():
        # A letter that the font lacks, in a name, is drawn as a box.
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        figure.savefig(partial, format=path.suffix[1:], **metadata, **options)


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
            raise InputError(f"{path}: this is a folder, and a file is needed; name one of the files in it")
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
    _refuse_name(path)
    out = Path(path)
    if suffixes and not out.name.endswith(tuple(suffixes)):
        raise InputError(f"{out}: the name must end with {', '.join(suffixes)}")
    parent = out.absolute().parent
    if not parent.is_dir():
        raise InputError(f"{out}: the folder {parent} does not exist")
    if out.is_dir():
        raise InputError(f"{out}: this is a folder, and a file is to be written")
    if out.exists() and not out.is_file():
        raise InputError(f"{out}: a pipe or device cannot be replaced by a file; choose another name")
    if not os.access(parent, os.W_OK):
        raise InputError(f"{out}: the folder {parent} cannot be written to")
    if out.exists() and not overwrite:
        raise InputError(f"{out}: the file is there already. Choose another --out, or replace it with --overwrite.")
    return out


def find_suffix(path: str | Path) -> str:
    """Return how a file's name ends, in lower case and before a `.gz`: which format it is to have."""
    name = f"x{Path(path).name}".lower().removesuffix(".gz")  # `.tsv` alone is a name, too
    return Path(name).suffix


def check_apart(out: str | Path, *inputs: str | Path | None) -> None:
    """Refuse an output that is one of the inputs: it would be replaced by what is made of it.

    Raises:
        `InputError`: both are the same file.
    """
    for path in inputs:
        if path is not None and Path(out).exists() and Path(path).exists() and Path(out).samefile(path):
            raise InputError(f"{out}: this is the input {path}; choose another --out")


def check_space(path: Path, needed: int, remedy: str) -> int:
    """Refuse what does not fit on the disk, before it is computed.

    Args:
        path: of a file or folder that is going to be written, whose parent is there.
        needed: bytes of it, estimated.
        remedy: what else to do.

    Returns:
        The bytes that are free.

    Raises:
        `InputError`: these are fewer.
    """
    free = shutil.disk_usage(next(one for one in (path, *path.absolute().parents) if one.exists())).free
    if needed > free:
        raise InputError(
            f"{path}: about {describe_size(needed)} are needed, and {describe_size(free)} are free on this disk. Free "
            f"some space, or {remedy}"
        )
    return free


def describe_size(count: float) -> str:
    """Return bytes in the unit that suits them, e.g. `1.4 GB`."""
    units = ["bytes", "kB", "MB", "GB"]
    while count >= 1000 and len(units) > 1:
        count, units = count / 1000, units[1:]
    return f"{count:,.0f} {units[0]}" if count >= 10 or units[0] == "bytes" else f"{count:.1f} {units[0]}"


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
    _refuse_name(path)
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
    """Return the path of a folder that is going to be made as a whole, see `make_whole`.

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


def _refuse_name(path: str | Path) -> None:
    """Refuse a name that no file can have, or that cannot even be looked at."""
    if not str(path).strip():
        raise InputError("--out is empty (is a variable of the shell not set?)")
    try:
        str(path).encode()
    except UnicodeEncodeError as error:  # Libraries in Rust and C++ take such names for no names.
        raise InputError(f"{path}: the name is not in UTF-8; choose another one") from error
    try:
        with suppress(FileNotFoundError, NotADirectoryError):
            os.lstat(path)
    except OSError as error:
        raise InputError(describe_os_error(error)) from error


__all__ = [
    "PARTIAL",
    "Numbers",
    "check_apart",
    "check_free",
    "check_input_files",
    "check_new_folder",
    "check_output_file",
    "check_output_folder",
    "check_space",
    "describe_os_error",
    "describe_size",
    "find_suffix",
    "hash_file",
    "keep_finished",
    "make_scratch",
    "make_whole",
    "name_partial",
    "open_safetensors",
    "open_whole",
    "probe",
    "replace_folder",
    "replace_together",
    "replace_whole",
    "save_figure",
    "sync",
    "tell_write_faults",
    "write_json",
    "write_text",
]
