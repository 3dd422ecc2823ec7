"""What of that which would go up is private? Every file and every row of a table, searched before a request is made.

Searched are the names of files and all that is in them. Of safetensors files it is the header, with metadata and names
of tensors; the numbers are no text. Of PNG files it is also what their compressed texts say, and of Parquet files every
text of every row, lists and structs included, the names of columns, and metadata.
"""

import fnmatch
import json
import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.parquet
from safetensors import safe_open

from gengram.errors import InputError, suggest
from gengram.loading.faults import tell_faults
from gengram.phases import phase
from gengram.training.publishing.secrets import (
    CELL_PATH,
    JSON_PATH,
    KINDS,
    Found,
    Kind,
    Search,
    hide_secrets,
    name_places,
)

# A vocabulary may hold anything that looks like a path.
_VOCABULARIES = ("tokenizer.json", "vocab.json", "added_tokens.json")
_COMPRESSED = (b"\x1f\x8b", b"PK\x03\x04", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf\x27\x1c")
_PNG = b"\x89PNG\r\n\x1a\n"
_WIDE = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")  # UTF-16 and UTF-32 say so at the beginning.
_BLOCK, _BEFORE, _BEHIND = 1 << 22, 64, 1 << 12
_LONGEST_TEXT = 1 << 20
_ROWS = 1 << 14
# More findings than these are not listed, and not looked for.
_MOST_LISTED, _MOST = 20, 1000


class Finding(NamedTuple):
    """Something private: the file, the place in it, what kind it is, and for what is no secret the text itself."""

    file: str
    place: str
    kind: Kind
    text: str = ""

    def __str__(self) -> str:
        shown = f" {self.text}" if self.text else ""
        return f"{hide_secrets(self.file)}, {self.place}: {self.kind.said}{shown} ({self.kind.name})"


class Allowance(NamedTuple):
    """A kind that may go up, in files whose path or name fits a pattern."""

    kind: str
    file: str

    def fits(self, finding: Finding) -> bool:
        names = (finding.file, finding.file.split("/")[-1])
        return finding.kind.name == self.kind and any(fnmatch.fnmatchcase(name, self.file) for name in names)


def read_allowances(allow: Sequence[str]) -> list[Allowance]:
    """Read what may go up: `KIND` or `KIND:FILE`, where FILE may be a pattern as in a shell.

    Raises:
        `InputError`: there is no such kind, or it is never let through.
    """
    kinds = {kind.name: kind for kind in KINDS}
    read = []
    for entry in allow:
        name, colon, file = entry.partition(":")
        if name not in kinds or (colon and not file):
            raise InputError(
                f"allow={entry!r}: write KIND or KIND:FILE; kinds are {', '.join(kinds)}{suggest(name, kinds)}"
            )
        if not kinds[name].may_go:
            raise InputError(
                f"allow={entry!r}: {kinds[name].said} never goes up. Whoever reads it can write in its owner's name, "
                "and the Hub revokes it when it sees it. Take it out of the file."
            )
        read.append(Allowance(name, file or "*"))
    return read


@phase("Searching for what is private")
def refuse_private(
    files: Mapping[str, Path | bytes],
    allow: Sequence[str] = (),
    *,
    source: Path,
    tables: Mapping[str, str] | None = None,
) -> tuple[str, ...]:
    """Search all that would go up; nothing is sent or changed.

    Args:
        files: path in the repository -> file here, or the content itself.
        allow: what may go up all the same, see `read_allowances`.
        source: the folder that the files come from; paths below it are private wherever it lies.
        tables: of Parquet files, path in the repository -> how messages call the table that it was made from.

    Returns:
        What was found and is allowed, a line for each kind and file.

    Raises:
        `InputError`: all that was found and is not allowed, with file, place and kind, or at least the first
            thousand; secrets themselves are not shown. A file that cannot be searched.
    """
    allowances = read_allowances(allow)
    kinds = (*KINDS, *name_places(source))
    allowed: Counter[tuple[str, str]] = Counter()
    refused: list[Finding] = []
    found = (
        finding
        for name, content in files.items()
        for finding in scan_file(name, content, kinds, (tables or {}).get(name))
    )
    for finding in found:
        if any(allowance.fits(finding) for allowance in allowances):
            allowed[finding.kind.said, finding.file] += 1
        else:
            refused.append(finding)
            if len(refused) == _MOST:
                break
    if refused:
        raise InputError(_tell(refused))
    return tuple(
        f"{hide_secrets(file)}: {said} ({count} place{'s' if count > 1 else ''})"
        for (said, file), count in allowed.items()
    )


def scan_file(
    name: str, content: Path | bytes, kinds: Iterable[Kind] = KINDS, table: str | None = None
) -> Iterator[Finding]:
    """Yield everything private in a file.

    Args:
        name: path in the repository; it tells how the file is read.
        content: the file here, or what it holds.
        kinds: what to search for.
        table: for a Parquet file, how messages call the table that it was made from.

    Raises:
        `InputError`: the file is compressed, or cannot be read as what it should be.
    """
    kinds = tuple(kinds)
    for found in Search(kinds).find(name.encode("utf-8", "surrogateescape")):
        yield _report(name, "its name", found)
    if name.endswith(".parquet"):
        yield from _scan_rows(content, table or name, kinds)
        return
    if name.endswith(".safetensors") and isinstance(content, Path):
        yield from _scan_header(content, name, kinds)
        return
    with _open(content, name) as stream:
        begin = stream.read(len(_PNG))
        stream.seek(0)
        if begin.startswith(_COMPRESSED):
            raise InputError(
                f"{hide_secrets(name)}: the file is compressed, so what is in it cannot be searched. Unpack it, or "
                "take it out of the folder."
            )
        if name.endswith(".json") and name not in _VOCABULARIES:
            kinds = (*kinds, JSON_PATH)
        for place, found in _scan_stream(stream, Search(kinds)):
            yield _report(name, place, found)
        if begin == _PNG:
            stream.seek(0)
            for text in _read_png_texts(stream):
                for found in Search(kinds).find(text):
                    yield _report(name, "a text of the image", found)


def _report(file: str, place: str, found: Found) -> Finding:
    if found.kind.is_secret:
        return Finding(file, place, found.kind)
    shown = hide_secrets(found.text[:200].decode("utf-8", "backslashreplace"))
    return Finding(file, place, found.kind, f"'{shown}'")


def _tell(refused: list[Finding]) -> str:
    told = [str(finding) for finding in refused[:_MOST_LISTED]]
    at_least = "at least " if len(refused) == _MOST else ""
    if len(refused) > _MOST_LISTED:
        told.append(f"and {at_least}{len(refused) - _MOST_LISTED} more")
    may_go = sorted((one for one in refused if one.kind.may_go), key=lambda one: one.kind.is_secret)
    named = ""
    if may_go:
        file = hide_secrets(may_go[0].file.split("/")[-1])
        named = f"; what everybody may read is named: --allow {may_go[0].kind.name}:{file}"
    if len(refused) == 1:
        return f"{told[0]} would be published. Take it out of the file, then push again{named}."
    return (
        f"{at_least}{len(refused)} private things would be published: {'; '.join(told)}. Take them out, then push "
        f"again{named}."
    )


def _scan_stream(stream: BinaryIO, search: Search) -> Iterator[tuple[str, Found]]:
    """Search a file block by block; yields line and column (in bytes, both from 1), or of a binary file the byte."""
    before, block = b"", stream.read(_BLOCK)
    wide, binary = block.startswith(_WIDE), False
    offset, line, line_start = 0, 1, 0
    while block:
        following = stream.read(_BLOCK)
        binary |= not wide and b"\x00" in block
        for found in search.find(before + block + following[:_BEHIND]):
            at = found.start - len(before)
            if not 0 <= at < len(block):
                continue  # The block before has it, or the next one will.
            if binary:
                yield f"byte {offset + at}", found
            else:
                breaks = block.count(b"\n", 0, at)
                begin = offset + block.rfind(b"\n", 0, at) + 1 if breaks else line_start
                column = "" if wide else f", column {offset + at - begin + 1}"
                yield f"line {line + breaks}{column}", found
        if breaks := block.count(b"\n"):
            line, line_start = line + breaks, offset + block.rfind(b"\n") + 1
        offset += len(block)
        before, block = block[-_BEFORE:], following


def _open(content: Path | bytes, name: str) -> BinaryIO:
    if isinstance(content, bytes):
        return BytesIO(content)
    with tell_faults(f"{hide_secrets(name)}: the file cannot be read", (OSError,)):
        return content.open("rb")


def _scan_header(path: Path, name: str, kinds: tuple[Kind, ...]) -> Iterator[Finding]:
    """Search the header of a safetensors file, which is JSON: a length of 8 bytes, metadata, names of tensors."""
    with tell_faults(f"{hide_secrets(name)}: the weights cannot be read"):
        with safe_open(path, framework="numpy"):
            pass  # There are no bytes but those of the header and of the tensors: else it cannot be opened.
        with path.open("rb") as stream:
            text = stream.read(struct.unpack("<Q", stream.read(8))[0])
        header = json.loads(text)
        metadata = dict(header.pop("__metadata__", None) or {})
    cells = Search((*kinds, CELL_PATH))
    clean = True
    for number, (key, value) in enumerate(metadata.items(), start=1):
        named = cells.find(key.encode("utf-8", "surrogatepass"))
        place = f"metadata {number}" if named else f"metadata {hide_secrets(key)!r}"
        for found in (*named, *cells.find(value.encode("utf-8", "surrogatepass"))):
            clean = False
            yield _report(name, place, found)
    for number, key in enumerate(header, start=1):
        for found in cells.find(key.encode("utf-8", "surrogatepass")):
            clean = False
            yield _report(name, f"the name of tensor {number}", found)
    if clean:  # Nor is there anything in what a reader of JSON drops.
        for found in Search(kinds).find(text):
            yield _report(name, f"byte {found.start + 8}", found)


def _read_png_texts(stream: BinaryIO) -> Iterator[bytes]:
    """Yield what the compressed text chunks of a PNG file say, a megabyte of each at most."""
    stream.seek(len(_PNG))
    while len(head := stream.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        data = stream.read(length)
        stream.seek(4, 1)  # the checksum
        if kind in (b"zTXt", b"iTXt"):
            # keyword, NUL, and flags or further words before what is compressed
            for begin in (at for at in range(len(data[:512])) if data[at : at + 1] == b"\x78"):
                try:
                    yield zlib.decompressobj().decompress(data[begin:], _LONGEST_TEXT)
                except zlib.error:
                    continue  # The letter x of a word, where nothing compressed begins.


def _scan_rows(content: Path | bytes, name: str, kinds: tuple[Kind, ...]) -> Iterator[Finding]:
    """Search a Parquet file; rows are counted from 1, as in all messages about tables."""
    search = Search((*kinds, CELL_PATH))
    file = pyarrow.parquet.ParquetFile(_open(content, name))
    schema = file.schema_arrow
    described = schema.to_string(truncate_metadata=False).encode("utf-8", "surrogatepass")
    for found in islice(search.find(described), _MOST):
        yield _report(name, "names of columns and metadata", found)
    texts = [number for number, column in enumerate(schema) if _holds_text(column.type)]
    row = 1
    for batch in file.iter_batches(_ROWS):
        for number in texts:
            column = batch.column(number)
            if _can_look_whole(column.type) and all(
                search.is_clean(buffer.to_pybytes()) for buffer in column.buffers() if buffer is not None
            ):
                continue
            place = f"column {hide_secrets(schema.names[number])!r}"
            for at, cell in enumerate(column.to_pylist()):
                for text in _list_texts(cell):
                    for found in search.find(text):
                        yield _report(name, f"row {row + at}, {place}", found)
        row += batch.num_rows


def _list_children(kind: pa.DataType) -> list[pa.DataType]:
    if pa.types.is_dictionary(kind):
        return [kind.value_type]
    return [kind.field(number).type for number in range(kind.num_fields)]


def _holds_text(kind: pa.DataType) -> bool:
    """Whether a column of this type has texts or bytes in it, however deep; of an unknown kind it is assumed."""
    if isinstance(kind, pa.BaseExtensionType):
        return _holds_text(kind.storage_type)
    children = _list_children(kind)
    return (
        any(map(_holds_text, children))
        if children
        else not (pa.types.is_primitive(kind) or pa.types.is_null(kind) or pa.types.is_decimal(kind))
    )


def _can_look_whole(kind: pa.DataType) -> bool:
    """Whether the bytes of all texts lie in the buffers of a column itself, one behind the other."""
    children = [] if pa.types.is_dictionary(kind) else _list_children(kind)
    if children:
        return all(map(_can_look_whole, children))
    return pa.types.is_primitive(kind) or kind in (pa.string(), pa.large_string(), pa.binary(), pa.large_binary())


def _list_texts(cell: Any) -> Iterator[bytes]:
    if isinstance(cell, str):
        yield cell.encode("utf-8", "surrogatepass")
    elif isinstance(cell, bytes):
        yield cell
    elif isinstance(cell, Mapping):
        for value in cell.values():
            yield from _list_texts(value)
    elif isinstance(cell, list | tuple):
        for value in cell:
            yield from _list_texts(value)


__all__ = ["Allowance", "Finding", "read_allowances", "refuse_private", "scan_file"]
