"""What does a built corpus hold? Its letters, memory-mapped and read at any place, and tables that tell of them.

A corpus is a folder that `gengram corpus build` makes. Opening it reads the small tables and none of the letters; a
stretch of bases is a view of the file, not a copy.
"""

import dataclasses
import itertools
import json
from collections.abc import Collection, Iterator
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from gengram.errors import InputError
from gengram.files import hash_file
from gengram.loading.faults import tell_faults

FACTS_FILE = "corpus.json"
LETTERS_FOLDER = "letters"
FORMAT = 1
SPLITS = ("train", "validation", "test")
_SMALL = 1 << 26  # bytes: tables up to that are always compared with their checksum
_CONTIG_BITS = 40  # a contig and a position in it as one number
_NOT_AS_EXPECTED = (KeyError, TypeError, ValueError, AttributeError)  # of JSON that has another form
_REMEDY = "Build the corpus again with gengram corpus build, or copy the folder again"
_PLACE = {"contig": pa.int32(), "start": pa.int64(), "end": pa.int64()}
_TABLES: dict[str, dict[str, pa.DataType]] = {
    "contigs": {
        **dict.fromkeys(("species", "group", "file", "record", "description", "name"), pa.string()),
        "offset": pa.int64(),
        "length": pa.int64(),
        "split": pa.string(),
        "sha256": pa.string(),
    },
    "segments": {**_PLACE, "split": pa.int8()},
    "anchors": {"segment": pa.int32(), "start": pa.int64(), "end": pa.int64(), "weight": pa.float32()},
    "haplotypes": {
        "haplotype": pa.int32(),
        "contig": pa.int32(),
        "position": pa.int64(),
        "reference_length": pa.int32(),
        "alternative": pa.large_binary(),  # all haplotypes' letters are one array
    },
    "classes": {**_PLACE, "class": pa.string()},
}
_LETTERS = pa.schema([("contig", pa.int32()), ("start", pa.int64()), ("letters", pa.list_(pa.uint8()))])


class Contig(NamedTuple):
    """A record of a genome; its place in the list is its number everywhere.

    Attributes:
        species, group: of the genome.
        file: the name that the recipe has for its file.
        record: the first word of its header.
        description: the rest of it.
        name: of the contig that the record is, or is a slice of.
        offset: position of the record's first letter on that contig, from 0.
        length: letters of the record.
        split: `train`, `validation`, `test`, or `left_out`: then there are no letters of it.
        sha256: of its letters.
    """

    species: str
    group: str
    file: str
    record: str
    description: str
    name: str
    offset: int
    length: int
    split: str
    sha256: str


class Segments(NamedTuple):
    """Stretches that windows may lie in, sorted, [S] each: int32 `contig`, int64 `start` and `end`, int8 `split`."""

    contig: np.ndarray
    start: np.ndarray
    end: np.ndarray
    split: np.ndarray


class Anchors(NamedTuple):
    """Bases that draw windows, [A] each: int32 `segment`, int64 `start` and `end`, float32 `weight` of a base."""

    segment: np.ndarray
    start: np.ndarray
    end: np.ndarray
    weight: np.ndarray


class Classes(NamedTuple):
    """Intervals of an annotation, [C] each: int32 `contig`, int64 `start` and `end`, and `kind`, indices of `names`."""

    contig: np.ndarray
    start: np.ndarray
    end: np.ndarray
    kind: np.ndarray
    names: list[str]


class Haplotypes(NamedTuple):
    """Variants of haplotypes, sorted by haplotype, contig and position, never overlapping, [V] each.

    Attributes:
        haplotype: int32, index of a name in the corpus' facts.
        contig: int32.
        position: int64, from 0 in the record.
        reference_length: int32, letters of the reference that are replaced.
        bounds: int64 [V + 1]: `letters[bounds[i] : bounds[i + 1]]` replaces them.
        letters: uint8, of all of them.
    """

    haplotype: np.ndarray
    contig: np.ndarray
    position: np.ndarray
    reference_length: np.ndarray
    bounds: np.ndarray
    letters: np.ndarray


@dataclasses.dataclass
class Edits:
    """Variants of a haplotype inside an interval, in order, [n] each, see `Haplotypes`; `alternatives` uint8 arrays."""

    position: np.ndarray
    reference_length: np.ndarray
    alternatives: list[np.ndarray]


class _Stretch(NamedTuple):
    """Letters of a contig that lie one after the other in a file."""

    contig: int
    start: int
    letters: np.ndarray


class Corpus:
    """A corpus on disk, see `open_corpus`. It travels to other processes as its folder's name.

    Attributes:
        folder: where it is.
        facts: what `corpus.json` says.
        contigs: all records, `left_out` ones as well.
        segments, anchors, haplotypes, classes: the tables, memory-mapped; `haplotypes` and `classes` are None where the
            corpus has none.
    """

    def __init__(self, folder: Path, facts: dict[str, Any]):
        self.folder, self.facts = folder, facts
        self.contigs = [Contig(*row.values()) for row in self._load("contigs").to_pylist()]
        self.segments = Segments(*(_take_whole(column).to_numpy() for column in self._load("segments").columns))
        self.anchors = Anchors(*(_take_whole(column).to_numpy() for column in self._load("anchors").columns))
        stretches = sorted(self._list_stretches(), key=lambda one: (one.contig, one.start))
        self._letters = [one.letters for one in stretches]
        self._contigs = np.array([one.contig for one in stretches], dtype=np.int64)
        self._starts = np.array([one.start for one in stretches], dtype=np.int64)
        self._ends = self._starts + np.array([len(one.letters) for one in stretches], dtype=np.int64)
        self._keys = _join_key(self._contigs, self._starts)

    def __reduce__(self) -> tuple:
        return open_corpus, (self.folder,)

    def check_numbers(self, species: Collection[str], haplotypes: int) -> None:
        """Refuse tables that speak of what is not there.

        Args:
            species: names of `corpus.json`.
            haplotypes: how many it has.
        """
        lengths = np.array([one.length for one in self.contigs], dtype=np.int64)
        segments, anchors = self.segments, self.anchors
        self._check("contigs", all(one.species in species for one in self.contigs))
        self._check(
            "segments", _are_numbers(segments.contig, len(lengths)) and _are_numbers(segments.split, len(SPLITS))
        )
        ends = lengths[segments.contig]
        self._check(
            "segments", bool(((segments.start >= 0) & (segments.start < segments.end) & (segments.end <= ends)).all())
        )
        self._check("anchors", _are_numbers(anchors.segment, len(segments.contig)))
        inside = (segments.start[anchors.segment] <= anchors.start) & (anchors.start < anchors.end)
        inside &= (anchors.end <= segments.end[anchors.segment]) & np.isfinite(anchors.weight) & (anchors.weight >= 0)
        self._check("anchors", bool(inside.all()))
        if (table := self.haplotypes) is not None:
            self._check("haplotypes", _are_numbers(table.haplotype[-1:], haplotypes))

    def _check(self, name: str, is_right: bool) -> None:
        if not is_right:
            path = self.folder / f"{name}.arrow"
            raise InputError(f"{path}: it speaks of what the corpus does not have. {_REMEDY}")

    def read(self, contig: int, start: int, end: int) -> np.ndarray:
        """Return letters of the reference: uint8 [end - start], ASCII codes, case kept; a view where they lie together.

        Args:
            contig: number of the record.
            start, end: in bp of the record, from 0, half-open.

        Raises:
            `InputError`: there are no letters of some of these bases.
        """
        if end <= start:
            return np.empty(0, dtype=np.uint8)
        pieces = []
        place = start
        while place < end:
            index = int(np.searchsorted(self._keys, _join_key(contig, place), side="right")) - 1
            if index < 0 or self._contigs[index] != contig or place >= self._ends[index]:
                name = self.contigs[contig].record if 0 <= contig < len(self.contigs) else contig
                raise InputError(
                    f"{self.folder}: contig {name} has no letters at {place} (of {start}-{end}, from 0): they were "
                    "left out when the corpus was built"
                )
            stretch, first = self._letters[index], int(self._starts[index])
            piece = stretch[place - first : end - first]
            pieces.append(piece)
            place += len(piece)
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def fill(self, contigs: np.ndarray, starts: np.ndarray, out: np.ndarray) -> None:
        """Write letters of the reference from many places, equally many of each.

        Args:
            contigs, starts: int64 [N], as in `read`.
            out: uint8 [N, length].
        """
        length = out.shape[1]
        indices = np.searchsorted(self._keys, _join_key(contigs, starts), side="right") - 1
        inside = (indices >= 0) & (self._contigs[indices] == contigs) & (starts + length <= self._ends[indices])
        places = starts - self._starts[indices]
        for row, (index, place, whole) in enumerate(zip(indices.tolist(), places.tolist(), inside.tolist())):
            if whole:
                out[row] = self._letters[index][place : place + length]
            else:
                out[row] = self.read(int(contigs[row]), int(starts[row]), int(starts[row]) + length)

    @cached_property
    def haplotypes(self) -> Haplotypes | None:
        if not (self.folder / "haplotypes.arrow").exists():
            return None
        table = self._load("haplotypes")
        letters = _take_whole(table["alternative"])
        _, bounds, data = letters.buffers()
        bounds = np.frombuffer(bounds, dtype=np.int64)[letters.offset : letters.offset + len(letters) + 1]
        data = np.frombuffer(data, dtype=np.uint8) if data is not None else np.empty(0, dtype=np.uint8)
        arrays = {name: _take_whole(table[name]).to_numpy() for name in Haplotypes._fields[:4]}
        return Haplotypes(**arrays, bounds=bounds, letters=data)

    @cached_property
    def classes(self) -> Classes | None:
        if not (self.folder / "classes.arrow").exists():
            return None
        table = self._load("classes")
        kinds = _take_whole(table["class"]).dictionary_encode()
        arrays = {name: _take_whole(table[name]).to_numpy() for name in ("contig", "start", "end")}
        return Classes(**arrays, kind=kinds.indices.to_numpy(), names=kinds.dictionary.to_pylist())

    def find_edits(self, haplotype: int, contig: int, start: int, end: int) -> Edits:
        """Return the variants of a haplotype that touch an interval of a record.

        Args:
            haplotype: its number; -1: the reference, which has none.
            contig, start, end: as in `read`.
        """
        table = self.haplotypes
        if haplotype < 0 or table is None:
            none = np.empty(0, dtype=np.int64)
            return Edits(none, none, [])
        first, last = _find_equal(table.haplotype, haplotype, 0, len(table.haplotype))
        first, last = _find_equal(table.contig, contig, first, last)
        begin, after = (int(first + np.searchsorted(table.position[first:last], place)) for place in (start, end + 1))
        # They do not overlap: of those that begin earlier, only the last one can reach into the interval.
        if begin > first and table.position[begin - 1] + table.reference_length[begin - 1] > start:
            begin -= 1
        bounds = table.bounds[begin : after + 1].tolist()
        return Edits(
            table.position[begin:after],
            table.reference_length[begin:after],
            [table.letters[low:high] for low, high in itertools.pairwise(bounds)],
        )

    def list_varied(self, haplotype: int) -> list[int]:
        """Return the records on which a haplotype has variants."""
        table = self.haplotypes
        found: list[int] = []
        if table is not None:
            place, last = _find_equal(table.haplotype, haplotype, 0, len(table.haplotype))
            while place < last:
                found.append(int(table.contig[place]))
                place = _find_equal(table.contig, found[-1], place, last)[1]
        return found

    def _load(self, name: str) -> pa.Table:
        """Read a table, memory-mapped, its columns in their order."""
        path = self.folder / f"{name}.arrow"
        batches = list(_open_batches(path))
        with tell_faults(f"{path}: this is no Arrow file that can be read. {_REMEDY}", (pa.ArrowException,)):
            for batch in batches:
                batch.validate(full=batch.nbytes <= _SMALL)
            table = pa.Table.from_batches(batches)
            if missing := [column for column in _TABLES[name] if column not in table.column_names]:
                raise InputError(f"{path}: there is no column {missing[0]}. {_REMEDY}")
            table = table.select(list(_TABLES[name])).cast(pa.schema(_TABLES[name]))
        if any(column.null_count for column in table.columns):
            raise InputError(f"{path}: a value is missing. {_REMEDY}")
        return table

    def _list_stretches(self) -> Iterator[_Stretch]:
        """Yield what lies together in the files, rows that continue each other as one."""
        for path in sorted((self.folder / LETTERS_FOLDER).glob("*.arrow")):
            for batch in _open_batches(path):
                if not batch.schema.equals(_LETTERS):
                    raise InputError(f"{path}: its columns are not contig, start, letters. {_REMEDY}")
                with tell_faults(f"{path}: its rows cannot be read. {_REMEDY}", (pa.ArrowException,)):
                    batch.validate()
                    rows = batch["letters"]
                    letters, bounds = rows.values.to_numpy(), rows.offsets.to_numpy()
                    contigs, starts = batch["contig"].to_numpy(), batch["start"].to_numpy()
                if len(bounds) < 2 or bounds[0] < 0 or bounds[-1] > len(letters) or (np.diff(bounds) < 0).any():
                    raise InputError(f"{path}: its rows do not lie within its letters. {_REMEDY}")
                goes_on = (contigs[1:] == contigs[:-1]) & (starts[1:] == starts[:-1] + np.diff(bounds)[:-1])
                firsts = np.flatnonzero(np.concatenate([[True], ~goes_on])).tolist()
                for first, after in zip(firsts, [*firsts[1:], len(contigs)]):
                    yield _Stretch(int(contigs[first]), int(starts[first]), letters[bounds[first] : bounds[after]])


def open_corpus(folder: str | Path, check: bool = False) -> Corpus:
    """Open a corpus that `gengram corpus build` has made.

    Args:
        folder: of it.
        check: compare the checksums of all files; without, those of large ones are taken to be right if the size is.

    Raises:
        `InputError`: no such folder, no corpus, one that another version has made, a file that is missing, too short or
            (with `check`) changed.

    Example:
        >>> corpus = open_corpus("corpora/human")  # doctest: +SKIP
        >>> corpus.read(0, 10_000, 10_006).tobytes()  # doctest: +SKIP
        b'taaccc'
    """
    folder = Path(folder)
    path = folder / FACTS_FILE
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder; make a corpus with gengram corpus build")
    if not path.is_file():
        raise InputError(f"{folder}: the folder is no corpus (no {FACTS_FILE}); make one with gengram corpus build")
    with tell_faults(f"{path}: this cannot be read. {_REMEDY}", (OSError, ValueError, RecursionError)):
        facts = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(facts, dict) or facts.get("format") != FORMAT or not isinstance(facts.get("shards"), list):
        found = facts.get("format") if isinstance(facts, dict) else None
        raise InputError(f"{path}: this is no corpus of format {FORMAT} (format {found!r}). {_REMEDY}")
    with tell_faults(f"{path}: what it says of species and groups cannot be read. {_REMEDY}", _NOT_AS_EXPECTED):
        names = {str(one["name"]): (str(one["group"]), one["weight"]) for one in facts["species"]}
        if len(names) != len(facts["species"]):
            raise ValueError("a species is there twice")
        ((facts.get("recipe") or {}).get("groups") or {}).items()
        haplotypes = len(facts["haplotypes"])
    _check_files(folder, facts["shards"], check)
    corpus = Corpus(folder, facts)
    corpus.check_numbers(names, haplotypes)
    return corpus


def _check_files(folder: Path, shards: list, check: bool) -> None:
    with tell_faults(f"{folder / FACTS_FILE}: its list of files cannot be read. {_REMEDY}", _NOT_AS_EXPECTED):
        listed = {str(one["file"]): (int(one["bytes"]), str(one["sha256"])) for one in shards}
    _check_list(folder, listed)
    expected = [(folder / name, *known) for name, known in listed.items()]
    for path, size, digest in expected:
        if not path.is_file():
            raise InputError(f"{path}: the file is missing. {_REMEDY}")
        if (found := path.stat().st_size) != size:
            raise InputError(f"{path}: {found:,} bytes, but {size:,} were written. {_REMEDY}")
        is_small = size <= _SMALL and path.parent == folder
        if (check or is_small) and hash_file(path) != digest:
            raise InputError(f"{path}: its checksum is another than when it was written. {_REMEDY}")


def _check_list(folder: Path, names: Collection[str]) -> None:
    """Refuse a list of files that is not of this folder, or not of all of its tables and letters."""
    facts = folder / FACTS_FILE
    for name in names:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise InputError(f"{facts}: {name!r} is no file of this folder. {_REMEDY}")
    for name in ("contigs.arrow", "segments.arrow", "anchors.arrow", f"{LETTERS_FOLDER}/*.arrow"):
        if not any(fnmatchcase(one, name) for one in names):
            raise InputError(f"{facts}: its list of files lacks {name}. {_REMEDY}")
    for path in sorted([*folder.glob("*.arrow"), *(folder / LETTERS_FOLDER).glob("*.arrow")]):
        if path.relative_to(folder).as_posix() not in names:
            raise InputError(f"{path}: the file is not in the list of {FACTS_FILE}. {_REMEDY}")


def _open_batches(path: Path) -> Iterator[pa.RecordBatch]:
    """Yield the record batches of an Arrow file or stream, memory-mapped.

    Raises:
        `InputError`: the file is missing or no such file.
    """
    if not path.is_file():
        raise InputError(f"{path}: the file is missing. {_REMEDY}")
    with tell_faults(f"{path}: this is no Arrow file that can be read. {_REMEDY}", (pa.ArrowException, OSError)):
        source = pa.memory_map(str(path))
        is_file = source.read(6) == b"ARROW1"
        source.seek(0)
        if is_file:
            file = pa.ipc.open_file(source)
            batches = [file.get_batch(number) for number in range(file.num_record_batches)]
            yield from batches or [pa.RecordBatch.from_pylist([], schema=file.schema)]
        else:
            stream = pa.ipc.open_stream(source)
            batches = list(stream)
            yield from batches or [pa.RecordBatch.from_pylist([], schema=stream.schema)]


def _take_whole(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Return a column as one array: a view where it is one already."""
    if isinstance(column, pa.Array):
        return column
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()  # of none an empty one, too


def _are_numbers(column: np.ndarray, count: int) -> bool:
    """Whether all of a column are numbers of `count` things."""
    return not len(column) or bool(column.min() >= 0 and column.max() < count)


def _find_equal(column: np.ndarray, value: int, first: int, last: int) -> tuple[int, int]:
    """Return the rows, of some that are sorted, that have a value: the first and the one after the last."""
    ends = np.searchsorted(column[first:last], np.array([value, value + 1], dtype=column.dtype))
    return int(first + ends[0]), int(first + ends[1])


def _join_key(contigs: Any, places: Any) -> Any:
    return (np.asarray(contigs, dtype=np.int64) << _CONTIG_BITS) + places


__all__ = [
    "FACTS_FILE",
    "FORMAT",
    "LETTERS_FOLDER",
    "SPLITS",
    "Anchors",
    "Classes",
    "Contig",
    "Corpus",
    "Edits",
    "Haplotypes",
    "Segments",
    "open_corpus",
]
