"""A small genome and its files, and plain code that says what a window should be; none of the package's."""

import gzip
import random
from pathlib import Path

import pyarrow.parquet as pq
import yaml

from gengram.cli import main

COMPLEMENT = str.maketrans("ACGTN", "TGCAN")


def make_genome(folder: Path, seed: int = 5, **lengths: int) -> tuple[Path, dict[str, str]]:
    """Write a FASTA file of random letters, some in lower case; returns it and its letters by contig."""
    drawn = random.Random(seed)
    letters = {name: "".join(drawn.choices("ACGT", k=length)) for name, length in lengths.items()}
    path = folder / "genome.fa"
    with open(path, "w") as file:
        for name, text in letters.items():
            shown = text[: len(text) // 3].lower() + text[len(text) // 3 :]
            file.write(f">{name} made\n" + "".join(f"{shown[i : i + 70]}\n" for i in range(0, len(shown), 70)))
    return path, letters


def write_vcf(path: Path, rows: list[tuple], samples: list[str] = (), info: str = "") -> Path:
    """Write a VCF file of rows (chrom, pos, ref, alt, info, genotypes ...)."""
    lines = ["##fileformat=VCFv4.2", *([info] if info else [])]
    columns = ["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO"]
    lines.append("\t".join([*columns, *(["FORMAT", *samples] if samples else [])]))
    for chrom, pos, ref, alt, what, *genotypes in rows:
        cells = [chrom, str(pos), ".", ref, alt, ".", "PASS", what or "."]
        lines.append("\t".join([*cells, *(["GT", *genotypes] if samples else [])]))
    text = "\n".join(lines) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def reverse(sequence: str) -> str:
    return sequence[::-1].translate(COMPLEMENT)


def build(kind: str, out: Path, *flags: object) -> int:
    """Run `gengram dataset build`; returns the exit code."""
    return main(["dataset", "build", kind, "--quiet", "--out", str(out), *map(str, flags)])


def read_task(folder: Path) -> tuple[dict[str, list[dict]], dict]:
    """Return the rows of each split, and what task.yaml says."""
    rows = {path.stem: pq.read_table(path).to_pylist() for path in sorted(folder.glob("*.parquet"))}
    return rows, yaml.safe_load((folder / "task.yaml").read_text())


def list_rows(folder: Path) -> list[dict]:
    """Return the rows of all splits."""
    return [row for rows in read_task(folder)[0].values() for row in rows]
