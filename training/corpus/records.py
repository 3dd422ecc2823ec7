"""Which records of a genome does another file mean? Names of BED, GFF and VCF files, and regions such as chr7:1-1000.

Names match as they do everywhere (`gengram.genome.contigs`): `chr7` is `7`, and a record called
`chr20:1000001-2000000` of that length is these bases of `chr20`. One thing is looser here than where the intervals of a
file become rows: what lies outside of a slice is no fault, for whoever has a slice of a chromosome has the annotation
of all of it.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from gengram.errors import InputError, suggest
from gengram.genome.contigs import Part, match_names, read_slice, tell_renamed
from gengram.progress import tell

_NUMBER = r"(?:\d{1,3}(?:,\d{3})+|\d{1,18})"
_REGION = re.compile(rf"(.+):({_NUMBER})-({_NUMBER}|end)?", re.DOTALL | re.ASCII)


class Region(NamedTuple):
    """A stretch of a contig that was named.

    Attributes:
        record: the record that it lies in.
        start, end: its bases there, from 0, the end not included.
        offset: the position in the record of the named region's first base: below 0 where the record begins later.
    """

    record: str
    start: int
    end: int
    offset: int


class OtherContigs(InputError):
    """A file of which the genome has no contig at all.

    Args:
        message: what is told where it is not skipped.
        file: the file.
        missing: its records by contig.
    """

    def __init__(self, message: str, file: str, missing: Mapping[str, int]):
        super().__init__(message)
        self.file, self.missing = file, dict(missing)


class Records:
    """The records of a genome, looked up by the names that other files have for them.

    Args:
        lengths: of all records in bp, those left out of a corpus included.
        genome: what messages call the genome: its FASTA file, or the species.
    """

    def __init__(self, lengths: Mapping[str, int], genome: str):
        self.lengths, self.genome = dict(lengths), genome
        self._parts: dict[str, list[Part]] = defaultdict(list)
        for record, length in self.lengths.items():
            part = read_slice(record, length)
            # A whole contig is the contig; slices of it beside it have names of their own.
            part = part if part and part.contig not in self.lengths else Part(record, record, 0, length)
            self._parts[part.contig].append(part)
        self._told: set[str] = set()

    def match(
        self, names: Mapping[str, int | None], declared: Mapping[str, int | None] | None = None
    ) -> tuple[dict[str, list[Part]], dict[str, str]]:
        """Find the records that the names of a file mean.

        Args:
            names: each with the end of its furthest interval in bp, or None.
            declared: lengths of contigs, where the file says them, as the header of a VCF file does.

        Returns:
            The records by name, several where a contig is there in slices; and of names without a record what is known
            about them, a sentence or nothing.
        """
        slices = {contig: None for contig in self._parts if contig not in self.lengths}
        match = match_names(names, {**self.lengths, **slices}, declared)
        # The name of a slice is a name of its own, with positions from its first base on.
        found = {
            name: self._parts.get(contig) or [Part(contig, contig, 0, self.lengths[contig])]
            for name, contig in match.found.items()
        }
        return found, {name: match.doubts.get(name, "") for name in names if name not in found}

    def tell_renamed(self, file: str, names: Iterable[str]) -> None:
        """Say once which of the names that a file has mean contigs of another name."""
        found, _ = self.match(dict.fromkeys(names))
        renamed = {name: parts[0].contig for name, parts in found.items() if parts[0].contig != name}
        if told := tell_renamed(renamed, f"{file}: contigs have other names in {self.genome}"):
            self._tell(told)

    def tell_missing(self, file: str, missing: Mapping[str, int], doubts: Mapping[str, str]) -> None:
        """Say once how many records of a file lie on contigs that the genome lacks.

        Args:
            missing: their number by contig; nothing is said where there are none.
            doubts: what is known about a name, see `match`.
        """
        if missing:
            doubt = next((f". {doubts[name]}" for name in missing if doubts.get(name)), "")
            contigs = "a contig" if len(missing) == 1 else f"{len(missing):,} contigs"
            listed = _list([f"{name}: {count:,}" for name, count in missing.items()])
            self._tell(
                f"{file}: {sum(missing.values()):,} records are skipped: they lie on {contigs} that {self.genome} does "
                f"not have ({listed}){doubt}"
            )

    @contextmanager
    def skip_others(self, others: list[OtherContigs]) -> Iterator[None]:
        """Go on behind a file that has no contig of the genome, and remember it for `judge_others`."""
        try:
            yield
        except OtherContigs as error:
            others.append(error)

    def judge_others(self, others: Sequence[OtherContigs], files: int) -> None:
        """Say which of several files, as one a chromosome, were skipped.

        Args:
            others: of `skip_others`.
            files: how many there are in all.

        Raises:
            `OtherContigs`: none of them has a contig of the genome.
        """
        if others and len(others) == files:
            raise others[0]
        for error in others:
            self.tell_missing(error.file, error.missing, {})

    def _tell(self, note: str) -> None:
        """Say something once, however often a file is read."""
        if note not in self._told:
            self._told.add(note)
            tell(note)

    def check_end(self, parts: Sequence[Part], end: int, where: str) -> None:
        """Refuse an interval that ends past a contig of which the whole is there.

        Raises:
            `InputError`: it does.
        """
        if len(parts) == 1 and parts[0].contig == parts[0].record and end > parts[0].end:
            raise InputError(
                f"{where} ends at {end:,}, past the end of contig {parts[0].contig!r}, which has {parts[0].end:,} bp "
                f"in {self.genome}; is it of another assembly?"
            )

    def find_region(self, text: str, where: str) -> list[Region]:
        """Return the bases of a region that a user has written, in each record that has some.

        Args:
            text: a contig, or a region as samtools has them: `chr7:500001-600000`, from 1, the end included;
                `chr7:500001-` and `chr7:500001-end` go on to the end. What is the name of a record is that record.
            where: file and key that it stands in, for messages.

        Raises:
            `InputError`: no such contig, no bases, bases that the genome does not have.
        """
        name, first, last = text, 1, None
        found, doubts = self.match({text: None})
        if text not in found and (parsed := _REGION.fullmatch(text)):
            name, first = parsed[1], int(parsed[2].replace(",", ""))
            last = None if parsed[3] in (None, "end") else int(parsed[3].replace(",", ""))
            found, doubts = self.match({name: last})
        if name not in found:
            told = doubts[name] or f"it has {_list(list(self._parts))}{suggest(name, self._parts)}"
            raise InputError(f"{where}: {text!r}: the genome {self.genome} has no contig {name!r}; {told}")
        if first < 1 or (last is not None and last < first):
            raise InputError(
                f"{where}: {text!r} holds no bases; regions count from 1 and include their end, as in chr7:1-1000"
            )
        parts = found[name]
        if last is not None:
            self.check_end(parts, last, f"{where}: {text!r}")
        reach = max(part.end for part in parts) if last is None else last
        regions = []
        for part in parts:
            low, high = max(first - 1, part.start), min(reach, part.end)
            if low < high:
                regions.append(Region(part.record, low - part.start, high - part.start, first - 1 - part.start))
        if not regions:
            there = _list([f"{name}:{part.start + 1}-{part.end}" for part in parts])
            raise InputError(f"{where}: {text!r}: the genome {self.genome} has no base of it, only {there}")
        return regions


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


__all__ = ["OtherContigs", "Records", "Region"]
