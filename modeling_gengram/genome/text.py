"""How text files of genomics are opened: plain, gzip or bgzip, with their line ends as they are.

What a file is, its first bytes say, never its name. Every damage becomes an `InputError`.
"""

import codecs
import gzip
import hashlib
import io
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NoReturn, cast

from gengram.errors import InputError
from gengram.files import replace_whole, tell_write_faults

MARK = "\ufeff"
"""The mark of UTF-8 (BOM) that Windows puts in front of a text."""

_BUFFER = 1 << 17
_GZIP = b"\x1f\x8b"
# SAM specification, 4.1: a bgzip block is a gzip member whose first extra field is called BC; an empty one ends a file.
_BGZIP_START, _BGZIP_NAME = b"\x1f\x8b\x08\x04", b"BC"
_BGZIP_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
_NO_TEXT = {
    b"\xff\xfe": "UTF-16; write it as UTF-8, as with iconv -f UTF-16 -t UTF-8",
    b"\xfe\xff": "UTF-16; write it as UTF-8, as with iconv -f UTF-16 -t UTF-8",
    b"BCF\x02": "BCF; write it as VCF, as with bcftools view",
    b"BAM\x01": "BAM, which holds reads",
    b"CRAM\x03": "CRAM, which holds reads",
    b"BZh91AY&SY": "compressed by bzip2; unpack it, as with bunzip2",
    b"\xfd7zXZ\x00": "compressed by xz; unpack it, as with unxz",
    b"\x28\xb5\x2f\xfd": "compressed by zstd; unpack it, as with unzstd",
    b"PK\x03\x04": "a zip archive or a spreadsheet; unpack it or save it as text",
    b"%PDF": "a PDF",
    b"PAR1": "Parquet; call it .parquet",
    b"ARROW1": "Arrow; write it as Parquet",
    b"\x89HDF": "HDF5; write its table as text",
    b"\xd0\xcf\x11\xe0": "an old spreadsheet; save it as text",
    b"\x04\x22\x4d\x18": "compressed by lz4; unpack it, as with unlz4",
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive; unpack it",
}


class FileDigest:
    """A checksum (SHA-256) of a file's bytes, taken while somebody reads them."""

    def __init__(self) -> None:
        self._hash, self._size = hashlib.sha256(), 0

    def update(self, start: int, data: memoryview) -> None:
        """Take bytes that were read from a place of the file; those that were taken before, and jumps, are left out."""
        if start <= self._size < start + len(data):
            self._hash.update(data[self._size - start :])
            self._size = start + len(data)

    def finish(self, path: str | Path) -> str:
        """Return the checksum in hexadecimal; what is missing of the file is read for it."""
        with open(path, "rb") as file:
            file.seek(self._size)
            while block := file.read(1 << 20):
                self.update(self._size, memoryview(block))
        return self._hash.hexdigest()


class _DigestedFile(io.FileIO):
    """A file that gives a digest what is read of it."""

    def __init__(self, path: str | Path, digest: FileDigest):
        super().__init__(path)
        self._digest = digest

    def readinto(self, buffer: Any) -> int | None:
        start = self.tell() if self.seekable() else None
        count = super().readinto(buffer)
        if count and start is not None:
            self._digest.update(start, memoryview(buffer).cast("B")[:count])
        return count


def read_lines(
    path: str | Path, universal: bool = False, digest: FileDigest | None = None
) -> Iterator[tuple[int, str]]:
    r"""Yield the lines of a text file with their numbers from 1.

    Args:
        path: a file or pipe in UTF-8, plain, gzip or bgzip.
        universal: whether lines end at `\n`, `\r\n` and `\r` alike and are given with `\n`, and the mark `MARK` of the
            first line is dropped. If not, lines end at `\n` only and are given as they are: joined, they are the file.
        digest: takes a checksum of the file's bytes in passing.

    Yields:
        The number; the line with its end, which the last one may lack.

    Raises:
        `InputError`: a file that is missing, a folder, forbidden, cut off, damaged or no text in UTF-8. A bgzip file
            without the empty block at its end counts as cut off.
    """
    number = 0
    try:
        with _open(path, digest) as file:
            try:
                _check_start(path, file.peek(16))
                for line in file:
                    text = _decode(path, number + 1, line)
                    if universal and number == 0:
                        text = text.removeprefix(MARK)
                    if universal and "\r" in text:
                        # What an old Mac wrote is a single line up to here.
                        parts = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
                        for place, part in enumerate(parts, start=1):
                            if part or place < len(parts):
                                number += 1
                                yield number, part + "\n" * (place < len(parts))
                    elif text:
                        number += 1
                        yield number, text
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                raise InputError(
                    f"{path}: the gzip file is cut off or damaged after line {number} ({error}); fetch it again"
                ) from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error


@contextmanager
def open_text(path: str | Path) -> Iterator["io.BufferedReader[Any]"]:
    """Give the bytes of a text file, unpacked, to a reader of another library.

    Raises:
        `InputError`: as soon as what `read_lines` refuses is read.
    """
    try:
        with _open(path) as file:
            _check_start(path, file.peek(16))
            yield io.BufferedReader(_CheckedText(path, file), _BUFFER)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path}: the gzip file is cut off or damaged ({error}); fetch it again") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error


def cut_end(path: str | Path, number: int, line: str) -> tuple[str, str]:
    r"""Cut a line into its text and its end: `\n`, `\r\n` or nothing.

    Raises:
        `InputError`: a carriage return that ends no line.
    """
    if line.endswith("\r\n"):
        text, end = line[:-2], "\r\n"
    elif line.endswith("\n"):
        text, end = line[:-1], "\n"
    else:
        text, end = line, ""
    if "\r" in text:
        raise InputError(
            f"{path}, line {number}: a carriage return (\\r) inside the line; if the lines end so, as on an old Mac, "
            "write them with \\n, as with tr '\\r' '\\n'"
        )
    return text, end


@contextmanager
def open_output(path: str | Path) -> Iterator[Callable[[str], None]]:
    r"""Give a function that writes text, in UTF-8 and with the line ends that it has, to a file.

    The text goes to a temporary name beside the file and gets the file's name when all is written; after an error the
    file is as it was. What is no ordinary file, as `/dev/stdout`, is written to at once.

    Args:
        path: a file; bgzip where its name ends with `.gz` or `.bgz`.

    Raises:
        `InputError`: the file cannot be written; bgzip without pysam.
    """
    target = Path(path)
    # /dev/stdout may lead to a file, which the shell has open under its own name.
    ordinary = not target.exists() or (target.is_file() and not os.path.abspath(path).startswith("/dev/"))
    if ordinary:
        target = Path(os.path.realpath(path))  # A link stays one.
    compressed = target.name.lower().endswith((".gz", ".bgz"))
    if target.is_dir():
        raise InputError(f"{path}: is a folder; name a file")
    if not target.parent.is_dir():
        raise InputError(f"{path}: there is no folder {target.parent}; make it first")
    with ExitStack() as whole:
        partial = whole.enter_context(replace_whole(target)) if ordinary else target
        with ExitStack() as stack:
            with tell_write_faults(Path(path), partial):
                file = _open_bgzip(path, partial) if compressed else partial.open("wb")
            stack.callback(_close, path, partial, file)

            def write(text: str) -> None:
                data = text.encode()
                with tell_write_faults(Path(path), partial):
                    file.write(data)

            yield write
        if ordinary and target.exists():
            with tell_write_faults(Path(path), partial):
                os.chmod(partial, stat.S_IMODE(target.stat().st_mode))


@contextmanager
def _open(path: str | Path, digest: FileDigest | None = None) -> Iterator["io.BufferedReader[Any]"]:
    """Open a file for reading bytes, unpacked."""
    file = io.FileIO(path) if digest is None else _DigestedFile(path, digest)
    with io.BufferedReader(file, _BUFFER) as raw:
        start = raw.peek(18)
        if not start.startswith(_GZIP):
            yield raw
            return
        if start.startswith(_BGZIP_START) and start[12:14] == _BGZIP_NAME and raw.seekable():
            raw.seek(max(0, raw.seek(0, os.SEEK_END) - len(_BGZIP_END)))
            end = raw.read()
            raw.seek(0)
            if end != _BGZIP_END:
                raise InputError(
                    f"{path}: the gzip file is cut off or damaged: it is bgzip without the block that ends it; fetch "
                    "it again or, if nothing is missing, write it anew with bgzip"
                )
        # Lines come an order of magnitude faster from a buffer than from GzipFile itself.
        with gzip.GzipFile(fileobj=raw, mode="rb") as unpacked:
            yield io.BufferedReader(cast(io.RawIOBase, unpacked), _BUFFER)


class _CheckedText(io.RawIOBase):
    """The bytes of a file of which all so far are text."""

    def __init__(self, path: str | Path, file: "io.BufferedReader[Any]"):
        self.path, self.file = path, file
        self.decoder = codecs.getincrementaldecoder("utf-8")()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self.file.read1(len(buffer))
        try:
            text = self.decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            self._tell_fault(error)
        if "\0" in text:
            self._tell_fault(None)
        buffer[: len(data)] = data
        return len(data)

    def _tell_fault(self, error: Exception | None) -> NoReturn:
        for _ in read_lines(self.path):  # it knows the line
            pass
        raise InputError(f"{self.path}: not text in UTF-8") from error


def _check_start(path: str | Path, start: bytes) -> None:
    for magic, name in _NO_TEXT.items():
        if start.startswith(magic):
            raise InputError(f"{path}: not text: it is {name}")


def _decode(path: str | Path, number: int, line: bytes) -> str:
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: not text in UTF-8: line {number}, byte {error.start + 1} is 0x{line[error.start]:02x}; "
            "if it is Latin-1, convert it with iconv -f LATIN1 -t UTF-8"
        ) from error
    if "\0" in text:
        raise InputError(
            f"{path}: not text: line {number}, byte {line.index(0) + 1} is 0; a damaged or binary file, or UTF-16, "
            "which iconv -f UTF-16LE -t UTF-8 converts"
        )
    return text


def _open_bgzip(path: str | Path, partial: Path) -> Any:
    try:
        from pysam import BGZFile
    except ImportError as error:
        raise InputError(
            f"{path}: bgzip files are written by pysam, which is not installed; pip install 'gengram[genomics]', or "
            "leave .gz out of the name"
        ) from error
    partial.open("wb").close()  # pysam 0.24 crashes the process where it cannot open a file.
    return BGZFile(str(partial), "wb", None)  # without an index


def _close(path: str | Path, partial: Path, file: Any) -> None:
    with tell_write_faults(Path(path), partial):
        file.close()


__all__ = ["MARK", "FileDigest", "cut_end", "open_output", "open_text", "read_lines"]
