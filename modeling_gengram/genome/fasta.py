"""Records of FASTA files, with or without labels in their headers.

Sequences keep the case and the IUPAC codes that the file has; what they mean is the tokenizer's business.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from gengram.errors import InputError
from gengram.genome.text import FileDigest, read_lines

# As samtools faidx and bedtools getfasta write it: chr1:0-96, name::chr1:0-96(+); contigs may have colons.
_REGION = re.compile(r"(?:[^\s|]*::)?([^\s|]*[^\s:|]):(\d{1,18})-(\d{1,18})(?:\(([+.-])\)|:?([+-]))?(?=[\s|]|$)")
_LONGEST_REGION = 1000
_LINES = 10_000  # of a record that are joined at once: as objects of their own they take half as much again
# Digits, the mark of a record, control characters other than tabs.
_NO_SEQUENCE = re.compile(r"[\d>\x00-\x08\x0b-\x1f\x7f]")
_OTHER_FORMATS = {"@": "FASTQ", "LOCUS": "GenBank", "ID ": "EMBL", "##gff": "GFF", "##fileformat": "VCF", "@SQ": "SAM"}


def read_fasta(path: str | Path, digest: FileDigest | None = None) -> Iterator[tuple[int, str, str]]:
    """Read the records of a FASTA file, plain or gzip (seen from its first bytes), one at a time.

    Args:
        path: the file.
        digest: takes a checksum of the file's bytes in passing.

    Yields:
        The line of the header, counted from 1; the header without `>`; the sequence, its lines joined, blanks removed.
        Lines that begin with `;` are comments. Gaps and other letters stay; `gengram.genome.letters` judges them.

    Raises:
        `InputError`: a file that is missing, empty, cut off or no FASTA, a record without a name or without a sequence,
            a line with digits, control characters or a `>` that does not begin it.
    """
    for (line, header), pieces in itertools.groupby(stream_fasta(path, digest), key=lambda piece: piece[:2]):
        yield line, header, "".join(text for *_, text in pieces)


def stream_fasta(path: str | Path, digest: FileDigest | None = None) -> Iterator[tuple[int, str, int, str]]:
    """Read a FASTA file in pieces of records: a chromosome is never in memory as a whole, unless it is a single line.

    Args:
        path, digest: see `read_fasta`.

    Yields:
        The line of the header, and the header; the position of the piece's first letter in the record, from 0; the
        letters, those of some thousand lines, at least one.

    Raises:
        `InputError`: see `read_fasta`.
    """
    header: str | None = None
    header_line, position, lines = 0, 0, list[str]()
    for number, line in read_lines(path, universal=True, digest=digest):
        if line.startswith(">"):
            if header is not None:
                yield header_line, header, position, _join(lines, position, path, header_line, header)
                lines = []
            header, header_line, position = line[1:].strip(), number, 0
            if not header:
                raise InputError(f"{path}, line {number}: a record without a name")
        elif (text := line.strip()) and not line.startswith(";"):
            if header is None:
                other = next((f"; is it {name}?" for mark, name in _OTHER_FORMATS.items() if text.startswith(mark)), "")
                raise InputError(f"{path}, line {number}: a FASTA file begins with '>', not with {text[:30]!r}{other}")
            if len(lines) == _LINES:
                piece = "".join(lines)
                yield header_line, header, position, piece
                position, lines = position + len(piece), []
            lines.append(text if text.isalpha() else _clean(line, path, number))
    if header is None:
        raise InputError(f"{path}: the file is empty")
    yield header_line, header, position, _join(lines, position, path, header_line, header)


def read_labelled_fasta(path: str | Path, needs_labels: bool = True) -> pa.Table:
    """Read records whose headers are `name|label`, as those of the Nucleotide Transformer's tasks.

    Args:
        path: the file.
        needs_labels: whether a header without label is an error; if not, and one has none, there is no `label`, and
            names are whole headers.

    Returns:
        Columns `sequence`, `label` (text after the header's last `|`), `name` (what is before it), and where all names
        begin with a region like `chr3:100-200`, `chrom`, `start` and `end` as they are written.

    Raises:
        `InputError`: see `read_fasta`; a header without label.
    """
    headers, sequences, survey = list[str](), list[str](), HeaderSurvey()
    for line, header, sequence in read_fasta(path):
        survey.look([header])
        if needs_labels and not survey.has_labels:
            raise InputError(f"{path}, line {line}: the header {header[:60]!r} has no label; write it as '>name|label'")
        headers.append(header)
        sequences.append(sequence)
    return pa.table({"sequence": sequences, **survey.read(headers)})


class HeaderSurvey:
    """Finds what all headers of a file tell: `name|label`, or names that begin with a region.

    Attributes:
        has_labels: whether all that were looked at have a label.
    """

    def __init__(self) -> None:
        self.has_labels = True
        # Of whole headers, and of what is before their labels.
        self._has_regions = {False: True, True: True}

    def look(self, headers: Sequence[str]) -> None:
        """Look at some headers."""
        self.has_labels = self.has_labels and all(label for _, label in map(_split_label, headers))
        for cut, has_regions in self._has_regions.items():
            names = [_split_label(header)[0] for header in headers] if cut else headers
            self._has_regions[cut] = has_regions and find_regions(names) is not None

    def read(self, headers: Sequence[str]) -> dict[str, list]:
        """Return the columns of some headers after all were looked at, see `read_labelled_fasta`."""
        columns: dict[str, list] = {"name": list(headers)}
        if self.has_labels:
            names, labels = map(list, zip(*map(_split_label, headers)))
            columns = {"label": labels, "name": names}
        if self._has_regions[self.has_labels] and (found := find_regions(columns["name"])):
            columns |= dict(zip(("chrom", "start", "end"), found[:3]))
        return columns


def _split_label(header: str) -> tuple[str, str]:
    """Return name and label of a header; the label is empty where there is none."""
    name, bar, label = header.rpartition("|")
    return (name.strip(), label.strip()) if bar else (header, "")


def find_regions(headers: Sequence[str]) -> tuple[list[str], list[int], list[int], list[str]] | None:
    """Return contig, start and end as they are written, and strand (`.` where there is none), of headers that all begin
    with a region; None if one does not."""
    regions = [_REGION.match(header[:_LONGEST_REGION]) for header in headers]
    found = [region for region in regions if region]
    if len(found) < len(regions):
        return None
    return (
        [one[1] for one in found],
        [int(one[2]) for one in found],
        [int(one[3]) for one in found],
        [one[4] or one[5] or "." for one in found],
    )


def _clean(line: str, path: str | Path, number: int) -> str:
    """Return a line of a sequence without blanks; refuse what only a damaged or foreign file has there."""
    text = line.rstrip("\n")
    if fault := _NO_SEQUENCE.search(text):
        letter = fault.group()
        if letter == ">":
            remedy = "a record begins on a line of its own; was a file put behind one without a line end?"
        elif letter.isdigit():
            remedy = "remove the numbers beside the sequence, as GenBank writes them"
        else:
            remedy = "a control character; the file is damaged or no text"
        raise InputError(f"{path}, line {number}, column {fault.start() + 1}: {letter!r} in a sequence: {remedy}")
    return "".join(text.split())


def _join(lines: list[str], position: int, path: str | Path, line: int, header: str) -> str:
    """The last letters of a record, which may have some before them."""
    sequence = "".join(lines)
    if not sequence and not position:
        raise InputError(f"{path}, line {line}: the record {header[:60]!r} has no sequence")
    return sequence


__all__ = ["HeaderSurvey", "find_regions", "read_fasta", "read_labelled_fasta", "stream_fasta"]
