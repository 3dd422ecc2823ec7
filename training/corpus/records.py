"""Which records of a genome does another file mean? Names of BED, GFF and VCF files, and regions such as chr7:1-1000.

Names match as they do everywhere (`gengram.genome.contigs`): `chr7` is `7`, and a record called
`chr20:1000001-2000000` of that length is these bases of `chr20`. One thing is looser here than where the intervals of a
file become rows: what lies outside of a slice is no fault, for whoever has a slice of a chromosome has the annotation
of all of it.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
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
            tell(told)

    def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


__all__ = ["Records", "Region"]
