"""Records of FASTA files, with or without labels in their headers.

Sequences keep the case and the IUPAC codes that the file has; what they mean is the tokenizer's business.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from gengram.errors import InputError
from gengram.genome.text import read_lines

_REGION = re.compile(r"([^\s:|]+):(\d+)-(\d+)(?:\(?([+-])\)?)?")


def read_fasta(path: str | Path) -> Iterator[tuple[int, str, str]]:
    """Read the records of a FASTA file, plain or gzip (seen from its first bytes), one at a time.

    Yields:
        The line of the header, counted from 1; the header without `>`; the sequence, its lines joined, blanks removed.

    Raises:
        `InputError`: a file that is missing, empty, cut off or no FASTA, a record without a name or without a sequence.
    """
    header: str | None = None
    header_line, parts = 0, list[str]()
    for number, line in read_lines(path, universal=True):
        if line.startswith(">"):
            if header is not None:
                yield header_line, header, _join(parts, path, header_line, header)
            header, header_line, parts = line[1:].strip(), number, []
            if not header:
                raise InputError(f"{path}, line {number}: a record without a name")
        elif line.strip():
            if header is None:
                raise InputError(f"{path}, line {number}: a FASTA file begins with '>', not with {line.strip()[:30]!r}")
            parts.append(line)
    if header is None:
        raise InputError(f"{path}: the file is empty")
    yield header_line, header, _join(parts, path, header_line, header)


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
    headers, names, labels, sequences = list[str](), list[str](), list[str](), list[str]()
    for line, header, sequence in read_fasta(path):
        name, bar, label = header.rpartition("|")
        if bar and label.strip():
            names.append(name.strip())
            labels.append(label.strip())
        elif needs_labels:
            raise InputError(f"{path}, line {line}: the header {header[:60]!r} has no label; write it as '>name|label'")
        headers.append(header)
        sequences.append(sequence)
    if len(labels) == len(headers):
        columns: dict[str, list] = {"sequence": sequences, "label": labels, "name": names}
    else:
        names = headers
        columns = {"sequence": sequences, "name": names}
    regions = [_REGION.match(name) for name in names]
    if all(regions):
        columns["chrom"] = [region[1] for region in regions if region]
        columns["start"] = [int(region[2]) for region in regions if region]
        columns["end"] = [int(region[3]) for region in regions if region]
    return pa.table(columns)


def _join(parts: list[str], path: str | Path, line: int, header: str) -> str:
    sequence = "".join("".join(parts).split())
    if not sequence:
        raise InputError(f"{path}, line {line}: the record {header[:60]!r} has no sequence")
    return sequence


__all__ = ["read_fasta", "read_labelled_fasta"]
