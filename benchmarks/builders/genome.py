"""Where are the bases that windows are cut from? A genome's letters in a file of their own, read at any place.

A FASTA file is read once, plain or gzip; its letters lie in a temporary file that the system maps into memory as it
likes. So windows come in any order, and a genome of any size takes the memory of one window.

Letters are upper case; what is not A, C, G or T is N, as in the windows of the Long-Range Benchmark.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gengram.errors import InputError
from gengram.files import check_space, make_scratch
from gengram.genome.alphabet import reverse_complement
from gengram.genome.contigs import read_slice
from gengram.genome.fasta import stream_fasta
from gengram.genome.text import FileDigest
from gengram.phases import phase
from gengram.progress import tell
from gengram.training.corpus.records import Records

_TABLE = bytes(code if chr(code) in "ACGT" else ord("N") for code in range(256))
_GROWTH = 5  # letters of a byte of gzip, about


class Spot(NamedTuple):
    """Where something lies: the number of the record, and its first base there, from 0."""

    record: int
    start: int


class StoredGenome:
    """The letters of a FASTA file.

    Attributes:
        path: the file.
        names: of its records, in its order: what is before the first blank of a header.
        lengths: of them, in bp.
        chroms: the contig that each is, or is a slice of (`chr20` of `chr20:1000001-2000000`).
        offsets: position of a record's first base in its contig, from 0.
        records: finds them by the names of other files.
        sha256: of the file.
    """

    def __init__(self, path: Path, letters: np.ndarray, names: Sequence[str], lengths: Sequence[int], sha256: str):
        self.path, self.names, self.lengths, self.sha256 = path, list(names), list(lengths), sha256
        self._letters = letters
        self._bounds = np.cumsum([0, *lengths]).tolist()
        self.records = Records(dict(zip(names, lengths)), str(path))
        self.numbers = {name: number for number, name in enumerate(names)}
        self.chroms: list[str] = []
        self.offsets: list[int] = []
        for name, length in zip(names, lengths):
            part = read_slice(name, length)
            sliced = part is not None and part.contig not in self.numbers
            self.chroms.append(part.contig if part and sliced else name)
            self.offsets.append(part.start if part and sliced else 0)

    def read(self, record: int, start: int, end: int) -> str:
        """Return the letters of a stretch that lies in a record."""
        first = self._bounds[record]
        return self._letters[first + start : first + end].tobytes().decode("ascii")

    def view(self, record: int) -> np.ndarray:
        """Return all letters of a record, uint8, mapped from the file."""
        return self._letters[self._bounds[record] : self._bounds[record + 1]]

    def cut(self, record: int, start: int, end: int, pad: bool = False) -> str | None:
        """Return a window's letters.

        Args:
            record: its number.
            start, end: in the record, from 0; they may lie outside of it.
            pad: whether bases that the record does not have are N; if not, such a window is None.
        """
        length = self.lengths[record]
        if start >= 0 and end <= length:
            return self.read(record, start, end)
        if not pad:
            return None
        inside = self.read(record, min(max(start, 0), length), min(max(end, 0), length))
        left = min(max(-start, 0), end - start)
        return ("N" * left + inside).ljust(end - start, "N")


@contextmanager
def store_genome(path: str | Path) -> Iterator[StoredGenome]:
    """Read a FASTA file's letters into a temporary file, which is gone at the end.

    Raises:
        `InputError`: see `gengram.genome.fasta.read_fasta`; two records of one name; no space on the disk.
    """
    with make_scratch() as scratch:
        path = Path(path)
        if path.is_file():
            check_space(scratch, path.stat().st_size * _grow(path), "let TMPDIR name a folder on another disk")
        digest = FileDigest()
        lengths = _store_letters(path, scratch / "letters", digest)
        letters = np.memmap(scratch / "letters", dtype=np.uint8, mode="r")
        yield StoredGenome(path, letters, list(lengths), list(lengths.values()), digest.finish(path))


def _store_letters(path: Path, target: Path, digest: FileDigest) -> dict[str, int]:
    """Write the letters of all records, one behind the other; returns their number by record."""
    lengths: dict[str, int] = {}
    last, name = 0, ""
    with open(target, "wb") as file, phase("Reading the genome", unit="bp") as reading:
        for line, header, _, text in stream_fasta(path, digest):
            if line != last:
                last, name = line, header.split()[0]
                if name in lengths:
                    raise InputError(f"{path}, line {line}: a second record is called {name!r}; rename one of them")
                lengths[name] = 0
            # A letter that is no ASCII is one letter all the same.
            file.write(text.upper().replace("U", "T").encode("ascii", "replace").translate(_TABLE))
            lengths[name] += len(text)
            reading.add(len(text))
    return lengths


def _grow(path: Path) -> int:
    with open(path, "rb") as file:
        return _GROWTH if file.read(2) == b"\x1f\x8b" else 1


def flip(sequence: str, strand: str) -> str:
    """Return a window as its strand has it."""
    return reverse_complement(sequence, keep_others=True) if strand == "-" else sequence


def read_contig_names(texts: Sequence[str]) -> dict[str, str]:
    """Return what contigs of other files are here, as `--contigs z=chr20:1000001-2000000` says.

    Raises:
        `InputError`: no `NAME=REGION`.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, sign, region = text.partition("=")
        if not (name and sign and region):
            raise InputError(f"--contigs {text!r}: write NAME=CONTIG or NAME=REGION, as in z=chr20:1000001-2000000")
        if found.setdefault(name, region) != region:
            raise InputError(f"--contigs: {name!r} cannot be {found[name]!r} and {region!r}; give it once")
    return found


class _Place(NamedTuple):
    record: int
    shift: int  # position of the file plus this is the position in the record
    low: int
    high: int
    whole: bool


class Finder:
    """Finds the places of one file in a genome.

    What lies outside of a slice, or on a contig that the genome does not have, is passed over and counted: whoever has
    a part of a genome has tables of all of it. What lies behind the end of a whole contig is of another assembly.

    Args:
        genome: where.
        file: the file, for messages.
        contigs: of `read_contig_names`.
        declared: lengths of the file's contigs, where it says them.

    Attributes:
        outside: places in no slice.
        missing: places by contig that the genome does not have.
    """

    def __init__(
        self,
        genome: StoredGenome,
        file: str | Path,
        contigs: Mapping[str, str] | None = None,
        declared: Mapping[str, int | None] | None = None,
    ):
        self.genome, self.file, self.declared = genome, str(file), declared or {}
        self.outside, self.found = 0, 0
        self.missing: Counter[str] = Counter()
        self._doubts: dict[str, str] = {}
        self._seen: set[str] = set()
        self._places: dict[str, list[_Place]] = {}
        for name, text in (contigs or {}).items():
            regions = genome.records.find_region(text, f"--contigs {name}")
            self._places[name] = [
                _Place(genome.numbers[one.record], one.offset, one.start, one.end, False) for one in regions
            ]
        if declared:
            self.expect(dict.fromkeys(declared))

    def expect(self, names: Mapping[str, int | None]) -> None:
        """Look up contigs, each with the end of its furthest place in bp, or None."""
        names = {name: end for name, end in names.items() if name not in self._places}
        found, doubts = self.genome.records.match(names, self.declared)
        self._doubts |= doubts
        for name, parts in found.items():
            self._places[name] = [
                _Place(
                    self.genome.numbers[part.record], -part.start, 0, part.end - part.start, part.contig == part.record
                )
                for part in parts
            ]
        for name in names:
            self._places.setdefault(name, [])

    def find(self, where: str, chrom: str, start: int, end: int) -> Spot | None:
        """Return where a place is; None where the genome does not have it.

        Args:
            where: file and line, for messages.
            chrom, start, end: as the file has them, from 0, the end not included.

        Raises:
            `InputError`: it holds no bases, or ends behind a contig of which the genome has the whole.
        """
        if start >= end or start < 0:
            raise InputError(
                f"{where}: {chrom}:{start}-{end} holds no bases; starts count from 0, ends are not included"
            )
        self._seen.add(chrom)
        if chrom not in self._places:
            self.expect({chrom: None})
        places = self._places[chrom]
        for place in places:
            if place.low <= start + place.shift and end + place.shift <= place.high:
                self.found += 1
                return Spot(place.record, start + place.shift)
            if place.whole and end + place.shift > place.high:
                name = self.genome.names[place.record]
                raise InputError(
                    f"{where}: {chrom}:{start}-{end} goes past the end of contig {name!r}, which has {place.high:,} bp "
                    f"in {self.genome.path}; is it of another assembly?"
                )
        if places:
            self.outside += 1
        else:
            self.missing[chrom] += 1
        return None

    def finish(self, counts: Counter[str]) -> None:
        """Say what was passed over, and count it.

        Raises:
            `InputError`: the genome has no place of the file.
        """
        records = self.genome.records
        if not self.found and (self.missing or self.outside):
            name = max(self.missing, key=lambda one: bool(self._doubts.get(one)), default=None)
            doubt = self._doubts.get(name, "") if name is not None else ""
            there = ", ".join(self.genome.names[:5]) + (", ..." if len(self.genome.names) > 5 else "")
            what = f"contig {name!r}" if name is not None else "none of its places lies in them"
            raise InputError(
                f"{self.file}: the genome {self.genome.path} has no place of it: it has {there}, the file {what}. "
                f"{doubt or 'Say what a contig is with --contigs NAME=REGION, if it is of this assembly'}"
            )
        records.tell_renamed(self.file, [name for name in self._seen if self._places.get(name)])
        records.tell_missing(self.file, self.missing, self._doubts)
        if self.outside:
            tell(f"{self.file}: {self.outside:,} places are passed over: they lie in no slice of {self.genome.path}")
        if passed := self.outside + self.missing.total():
            counts["rows that the genome does not have"] += passed


__all__ = ["Finder", "Spot", "StoredGenome", "flip", "read_contig_names", "store_genome"]
