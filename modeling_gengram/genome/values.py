"""What does a cell of a table mean? One answer for every format: text, a number, a name, or missing.

A csv or tsv has no types, so its cells are text, and a column of them is numbers only where nothing is lost by it.
Other formats have types, and keep them.
"""

import re
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gengram.errors import InputError

MISSING = ("NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "NAN", "nan", "NULL", "null", "None")
"""What programs write for a missing number. Among names these are names; an empty cell is missing everywhere."""

_TRUTHS = ("true", "false")
# Digits that int64 and float64 keep: no leading zeros, which codes have, and not more than they hold.
_INTEGER = r"(0|-?[1-9][0-9]{0,17})"
# An exponent has a sign: programs write 1e-05 and 1E+10, while 2310009E13 is the name of a clone.
_DECIMAL = r"-?((0|[1-9][0-9]{0,17})(\.[0-9]*)?|\.[0-9]+)([eE][+-][0-9]+)?|-?(inf|Inf|INF|Infinity)"
_WHOLE = r"(-?[1-9][0-9]*|0)\.0*"
_EXACT = 2**53  # from here on float64 has no neighbours
_IDENTIFIERS = re.compile(
    r"(.*[_. ])?(names?|ids?|chrom|chr|chromosome|contig|scaffold|seqid|seqnames?|accession|barcode)", re.IGNORECASE
)
_CAMEL_IDENTIFIERS = re.compile(r".*[a-z](ID|Id|Name)")


class NoNameError(ValueError):
    """A number that is no name of a class: the row that it is in, from 0, its digits, and why."""

    def __init__(self, row: int, digits: str, why: str):
        super().__init__(f"row {row}: {digits} is {why}")
        self.row, self.digits, self.why = row, digits, why


def is_text(kind: pa.DataType) -> bool:
    """Whether an Arrow type holds text."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def is_list(kind: pa.DataType) -> bool:
    """Whether an Arrow type holds lists."""
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def is_identifier(column: str) -> bool:
    """Whether a column is named like one of identifiers, as `name`, `chrom`, `gene_id`: digits are letters there."""
    return bool(_IDENTIFIERS.fullmatch(column) or _CAMEL_IDENTIFIERS.fullmatch(column))


def strip_blanks(values: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray:
    """Remove blanks around texts; what is empty then is missing (null)."""
    if isinstance(values, pa.ChunkedArray):
        return pa.chunked_array([strip_blanks(chunk) for chunk in values.chunks], pa.string())
    values = values.cast(pa.string())
    stripped = pc.utf8_trim_whitespace(values)
    lengths = pc.binary_length(stripped)
    if pc.sum(lengths) == pc.sum(pc.binary_length(values)) and not pc.any(pc.equal(lengths, 0)).as_py():
        return values  # and no copy of them
    return pc.if_else(pc.equal(stripped, ""), pa.scalar(None, pa.string()), stripped)


def drop_missing(values: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray:
    """Replace the spellings of `MISSING` in a column of text by null."""
    return pc.if_else(pc.is_in(values, pa.array(MISSING)), pa.scalar(None, pa.string()), values)


def guess_type(values: pa.ChunkedArray | pa.Array) -> pa.DataType:
    """Return the type of a column of a csv or tsv: int64 or float64 where no cell says more than a number, else text.

    Codes with leading zeros, numbers of more than 18 digits and exponents without a sign stay text. Null: no cell
    says what it is.
    """
    numbers = drop_missing(strip_blanks(values)).drop_null()
    if not len(numbers):
        return pa.null()
    for pattern, kind in ((_INTEGER, pa.int64()), (_DECIMAL, pa.float64())):
        # A look at the first cells spares one at all of them.
        if all(pc.all(pc.match_substring_regex(some, f"^({pattern})$")).as_py() for some in (numbers[:64], numbers)):
            return kind
    return pa.string()


def read_flags(cells: pa.Array) -> np.ndarray | None:
    """Return int8, the cells of text that are all `0` or `1`; None if another one is there."""
    if cells.null_count or not len(cells):
        return None
    _, offsets, data = cells.buffers()
    bounds = np.frombuffer(offsets, dtype=np.int32)[cells.offset : cells.offset + len(cells) + 1]
    if bounds[-1] - bounds[0] != len(cells):
        return None
    flags = np.frombuffer(data, dtype=np.uint8)[bounds[0] : bounds[-1]] - np.uint8(ord("0"))
    return flags.view(np.int8) if flags.max() < 2 and (np.diff(bounds) == 1).all() else None


def are_flags(values: pa.Array | pa.ChunkedArray) -> bool:
    """Whether a column holds signed integers, and nothing but 0 and 1."""
    if not pa.types.is_signed_integer(values.type) or values.null_count or not len(values):
        return False
    ends = pc.min_max(values)
    return bool(ends["min"].as_py() >= 0 and ends["max"].as_py() <= 1)


def narrow_flags(table: pa.Table) -> pa.Table:
    """Keep integers that are all 0 or 1, and lists of such, as int8; a column without nulls."""
    columns, fields = table.columns, list(table.schema)
    for place, values in enumerate(columns):
        kind = None
        if are_flags(values):
            kind = pa.int8()
        elif pa.types.is_list(values.type) and not values.null_count and are_flags(pc.list_flatten(values)):
            kind = pa.list_(pa.int8())
        if kind is not None:
            columns[place], fields[place] = values.cast(kind), fields[place].with_type(kind)
    return pa.table(columns, schema=pa.schema(fields, table.schema.metadata))


def cast_values(values: pa.ChunkedArray | pa.Array, kind: pa.DataType) -> pa.ChunkedArray | pa.Array:
    """Give a column the type of `guess_type`, or of other blocks of the same file."""
    if is_text(values.type) and (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        values = drop_missing(strip_blanks(values))
    return values.cast(kind)


def read_numbers(values: pa.ChunkedArray | pa.Array) -> np.ndarray | None:
    """Return float64, NaN for missing values; None where not all values are numbers or truth values (1 and 0)."""
    if is_text(values.type):
        values = drop_missing(strip_blanks(values))
        lower = pc.utf8_lower(values)
        values = pc.if_else(pc.equal(lower, "true"), "1", pc.if_else(pc.equal(lower, "false"), "0", values))
    elif pa.types.is_boolean(values.type):
        values = values.cast(pa.int8())
    elif pa.types.is_temporal(values.type):
        return None
    try:
        # A number of 17 digits may be rounded, as it is in the text of a csv.
        return pc.cast(values, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None


def read_names(values: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array:
    """Return the name that each value is, whatever format it comes from; missing values are null.

    Text: without blanks around it, accents composed (Unicode NFC), `1.0` is `1`, `True` and `TRUE` are `true`, the rest
    as it is written. Numbers: their digits. Truth values: `true`, `false`. Missing is what is empty, null or NaN and,
    where all other values are numbers or truth values, one of `MISSING`; among names these are names.

    Raises:
        `NoNameError`: fractions, numbers that are not finite or so large that float64 rounds them.
        `TypeError`: neither text nor numbers nor truth values.
    """
    kind = values.type
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind):
        return values.cast(pa.string())
    if pa.types.is_decimal(kind):
        values, kind = values.cast(pa.string()), pa.string()
    if pa.types.is_floating(kind):
        numbers = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
        _require_whole(numbers)
        return pa.array(np.nan_to_num(numbers).astype(np.int64), mask=np.isnan(numbers)).cast(pa.string())
    if not is_text(kind):
        raise TypeError(f"{kind} is neither a name nor a number")
    values = pc.utf8_normalize(strip_blanks(values), form="NFC")
    numbers = read_numbers(values)
    if numbers is not None:
        known = drop_missing(values)
        if known.null_count < len(known):
            values = known
        # Digits are a name, though float64 may hold no number of so many.
        digits = np.asarray(pc.match_substring_regex(values, "^-?[0-9]+$").fill_null(False))
        _require_whole(np.where(digits, 0, numbers), exact=False)
    lower = pc.utf8_lower(values)
    values = pc.if_else(pc.is_in(lower, pa.array(_TRUTHS)), lower, values)
    return pc.replace_substring_regex(values, f"^{_WHOLE}$", r"\1")


def _require_whole(numbers: np.ndarray, exact: bool = True) -> None:
    for faulty, why in (
        (np.isinf(numbers), "not finite"),
        (np.isfinite(numbers) & (numbers != np.round(numbers)), "a fraction"),
        (exact & (np.abs(numbers) > _EXACT), "beyond 2^53, where numbers with a point are rounded"),
    ):
        if faulty.any():
            row = int(faulty.argmax())
            raise NoNameError(row, str(numbers[row]), why)


def check_values(table: pa.Table, path: str | Path, before: int = 0) -> None:
    """Refuse text that is none: letters that are no Unicode, and the letter NUL, which ends a text for other programs,
    in values and in names.

    Objects without any key are refused, too: no Parquet can hold them.

    Args:
        table: of any format.
        path: the file, for messages.
        before: rows of the file before these.

    Raises:
        `InputError`: with row and column.
    """
    if damaged := [name for field in table.schema for name in _list_names(field) if "\0" in name]:
        raise InputError(f"{path}: a NUL byte in the column name {damaged[0]!r}; rename the column")
    for name, values in zip(table.column_names, table.columns):
        if _has_empty_struct(values.type):
            raise InputError(
                f"{path}: the objects in {name!r} have no keys, so there is nothing to pass on; remove the column"
            )
        if _is_no_unicode(values):
            row = before + _find_row(values, _is_no_unicode)
            raise InputError(f"{path}, data row {row}: the text in {name!r} is not UTF-8; write it as UTF-8")
        if _has_nul(values):
            row = before + _find_row(values, _has_nul)
            raise InputError(f"{path}, data row {row}: a NUL byte in {name!r}; the file is damaged")


def _list_names(field: pa.Field) -> list[str]:
    """The name of a column and those within it."""
    kind = field.type
    return [field.name, *(name for place in range(kind.num_fields) for name in _list_names(kind.field(place)))]


def _has_empty_struct(kind: pa.DataType) -> bool:
    """Whether a type is, or holds, objects without any key."""
    inner = [kind.field(place).type for place in range(kind.num_fields)]
    return (pa.types.is_struct(kind) and not inner) or any(map(_has_empty_struct, inner))


def _list_texts(values: pa.ChunkedArray) -> list[pa.ChunkedArray]:
    """The text of a column, and of what its lists and records hold."""
    kind = values.type
    if is_text(kind):
        return [values]
    if is_list(kind):
        return _list_texts(pc.list_flatten(values))
    if pa.types.is_struct(kind):
        return [texts for part in values.flatten() for texts in _list_texts(part)]
    return []


def _is_no_unicode(values: pa.ChunkedArray) -> bool:
    try:
        for texts in _list_texts(values):
            texts.validate(full=True)
    except pa.ArrowInvalid:
        return True
    return False


def _has_nul(values: pa.ChunkedArray) -> bool:
    return any(pc.any(pc.match_substring(texts, "\0")).as_py() for texts in _list_texts(values))


def _find_row(values: pa.ChunkedArray, is_faulty: Callable[[pa.ChunkedArray], bool]) -> int:
    """Return the number of the first row with a fault that some row has, from 1."""
    first, end = 0, len(values)
    while end - first > 1:
        middle = (first + end) // 2
        if is_faulty(values.slice(first, middle - first)):
            end = middle
        else:
            first = middle
    return end


def fold_name(name: str) -> str:
    """Return what a reader sees of a name: without case, invisible letters, kinds of blanks and widths."""
    seen = unicodedata.normalize("NFKC", name).casefold()
    return " ".join("".join(letter for letter in seen if unicodedata.category(letter) != "Cf").split())


__all__ = [
    "MISSING",
    "NoNameError",
    "are_flags",
    "cast_values",
    "check_values",
    "drop_missing",
    "fold_name",
    "guess_type",
    "is_identifier",
    "is_list",
    "is_text",
    "narrow_flags",
    "read_flags",
    "read_names",
    "read_numbers",
    "strip_blanks",
]
