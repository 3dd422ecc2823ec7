"""A small genome with an annotation in every format that builders read, and a builder's rows."""

import csv
import gzip
import random
from pathlib import Path

import pytest

COMPLEMENT = str.maketrans("ACGTN", "TGCAN")

# Transcripts by hand: contig, strand, exons, coding bases from 0, half-open. The second one lies inside of the first,
# on the other strand; the third has no coding sequence.
TRANSCRIPTS = {
    "t1": ("chr1", "+", [(1000, 1300), (1600, 1900), (2200, 2800)], (1100, 2500)),
    "t2": ("chr1", "-", [(1340, 1420), (1460, 1560)], (1360, 1540)),
    "t3": ("chr1", "-", [(5000, 5200), (5400, 5600)], None),
    "t4": ("chr2", "-", [(500, 900), (1200, 1500)], (600, 1400)),
}


def reverse(sequence: str) -> str:
    return sequence.translate(COMPLEMENT)[::-1]


def cut(exons, start, end):
    """The pieces of exons inside of [start, end)."""
    return [(max(a, start), min(b, end)) for a, b in exons if max(a, start) < min(b, end)]


def make_line(place, kind, first, last, values):
    chrom, strand = place
    return f"{chrom}\thand\t{kind}\t{first + 1}\t{last}\t.\t{strand}\t.\t{values}"


def write_gff3(utrs: bool = True) -> str:
    lines = ["##gff-version 3"]
    for name, (chrom, strand, exons, coding) in TRANSCRIPTS.items():
        at, start, end = (chrom, strand), exons[0][0], exons[-1][1]
        lines.append(make_line(at, "gene", start, end, f"ID=g{name};Name=gene {name}"))
        lines.append(make_line(at, "mRNA" if coding else "ncRNA", start, end, f"ID={name};Parent=g{name}"))
        lines += [make_line(at, "exon", *span, f"Parent={name}") for span in exons]
        if not coding:
            continue
        lines += [make_line(at, "CDS", *span, f"ID=c{name};Parent={name},p{name}") for span in cut(exons, *coding)]
        sides = ("five_prime_UTR", "three_prime_UTR")
        bounds = ((0, coding[0]), (coding[1], 10**6))
        for kind, side in zip(sides if strand == "+" else sides[::-1], bounds if utrs else ()):
            lines += [make_line(at, kind, *span, f"Parent={name}") for span in cut(exons, *side)]
    return "\n".join(lines) + "\n"


def write_gtf(end: str = "\n") -> str:
    """As Ensembl writes it: the stop codon is no part of the coding sequence."""
    lines = []
    for name, (chrom, strand, exons, coding) in TRANSCRIPTS.items():
        at, whole = (chrom, strand), (exons[0][0], exons[-1][1])
        values = (
            f'gene_id "g{name}"; transcript_id "{name}"; gene_biotype "{"protein_coding" if coding else "lncRNA"}";'
        )
        lines += [make_line(at, kind, *whole, values) for kind in ("gene", "transcript")]
        lines += [make_line(at, "exon", *span, values) for span in exons]
        if coding:
            stop = (coding[1] - 3, coding[1]) if strand == "+" else (coding[0], coding[0] + 3)
            rest = (coding[0], coding[1] - 3) if strand == "+" else (coding[0] + 3, coding[1])
            lines += [make_line(at, "CDS", *span, values) for span in cut(exons, *rest)]
            lines.append(make_line(at, "stop_codon", *stop, values))
    return end.join(lines) + end


def write_bed() -> str:
    lines = []
    for name, (chrom, strand, exons, coding) in TRANSCRIPTS.items():
        start, end = exons[0][0], exons[-1][1]
        thick = coding or (start, start)
        sizes, starts = (
            "".join(f"{n}," for n in ns) for ns in ([b - a for a, b in exons], [a - start for a, _ in exons])
        )
        cells = [chrom, start, end, name, 0, strand, *thick, 0, len(exons), sizes, starts]
        lines.append("\t".join(map(str, cells)))
    return "\n".join(lines) + "\n"


def write_table() -> str:
    lines = ["#NAME\tCHROM\tSTRAND\tTX_START\tTX_END\tEXON_START\tEXON_END"]
    for name, (chrom, strand, exons, _) in TRANSCRIPTS.items():
        starts, ends = ("".join(f"{n}," for n in ns) for ns in zip(*exons))
        lines.append(f"{name}\t{chrom}\t{strand}\t{exons[0][0]}\t{exons[-1][1]}\t{starts}\t{ends}")
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="session")
def genome(tmp_path_factory) -> Path:
    """A folder with genome.fa and the annotations."""
    root = tmp_path_factory.mktemp("genome")
    draw = random.Random(0)
    contigs = {name: "".join(draw.choices("ACGT", k=length)) for name, length in (("chr1", 12_000), ("chr2", 9_000))}
    lines = [
        f">{name} of two\n" + "\n".join(text[i : i + 60] for i in range(0, len(text), 60))
        for name, text in contigs.items()
    ]
    (root / "genome.fa").write_text("\n".join(lines) + "\n")
    texts = {
        "a.gff3": write_gff3(),
        "derived.gff3": write_gff3(utrs=False),
        "a.gtf": write_gtf(),
        "crlf.gtf": write_gtf("\r\n"),
    }
    texts |= {"a.bed": write_bed(), "a.tsv": write_table()}
    for name, text in texts.items():
        (root / name).write_bytes(text.encode())
    return root


def read_rows(folder: Path) -> dict[str, list[dict[str, str]]]:
    """The rows of a task by split, with plain means."""
    rows = {}
    for split in ("train", "validation", "test"):
        if (file := folder / f"{split}.csv.gz").exists():
            with gzip.open(file, "rt") as stream:
                rows[split] = list(csv.DictReader(stream))
    return rows


def read_plain_fasta(path: Path) -> dict[str, str]:
    """Sequences by name, with plain means."""
    content = path.read_bytes()
    text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
    return {one.split()[0]: "".join(one.split("\n")[1:]).upper() for one in text.split(">")[1:]}
