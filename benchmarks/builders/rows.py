"""From intervals with labels to a task: placed in their genomes, divided, cut out, compared, drawn, written.

A genome is read three times, one contig in memory at a time: for its lengths, to judge and compare the rows, and to
write those that are left. Of a row that is not written yet, its place and two hashes of 64 bits are kept, no letters:
two of a million different rows are taken for one another with a probability of 3e-8.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from gengram.errors import InputError, suggest
from gengram.genome.alphabet import reverse_complement
from gengram.genome.contigs import Part
from gengram.genome.fasta import read_fasta, stream_fasta
from gengram.training.corpus.records import Records

from .folder import SPLITS, Built, Recipe, check_task_folder, make_task_folder
from .splits import Division, divide_rows
from .transcripts import LONGEST_NAME, Gene, GeneModels, Transcript

COLUMNS = ("chrom", "start", "end", "strand", "label", "name", "line")
"""Of a table of intervals: contig as its file calls it, int64 places from 0, half-open, `+` or `-`, int64 id of the
class, what the row is called, and the line of the file that it is from (0: none)."""

_PART = 1 << 22  # letters of rows that are written at once
_OTHER = np.ones(256, dtype=bool)
_OTHER[np.frombuffer(b"ACGTacgt", dtype=np.uint8)] = False


@dataclass(frozen=True)
class Genome:
    """A FASTA file, its records, and the file of intervals that goes with it (for messages; none: the FASTA file)."""

    fasta: Path
    records: Records
    file: Path


@dataclass(frozen=True)
class Choice:
    """Which rows are kept; the arguments of `add_rows`.

    Attributes:
        per_class: rows of each class in all splits together; `least`: as many as the rarest class of each split has;
            None: all.
        max_n: largest share of letters other than A, C, G, T.
    """

    per_class: int | str | None
    max_n: float


def open_genome(fasta: str | Path, file: str | Path | None = None) -> Genome:
    """Read the names and lengths of a genome's records.

    Raises:
        `InputError`: see `stream_fasta`; two records of one name.
    """
    lengths: dict[str, int] = {}
    lines: dict[str, int] = {}
    for line, header, position, letters in stream_fasta(fasta):
        name = header.split()[0]
        if len(name) > LONGEST_NAME:
            raise InputError(
                f"{fasta}, line {line}: the name of a contig has more than {LONGEST_NAME:,} letters; is it damaged?"
            )
        if lines.setdefault(name, line) != line:
            raise InputError(f"{fasta}, line {line}: a second contig is called {name!r}; rename or remove it")
        lengths[name] = position + len(letters)
    return Genome(Path(fasta), Records(lengths, str(fasta)), Path(fasta if file is None else file))


def list_parts(genome: Genome) -> list[Part]:
    """Return what each record of a genome is: a contig, or a slice of one; in the order of the file."""
    found, _ = genome.records.match(dict.fromkeys(genome.records.lengths))
    parts = {part.record: part for parts in found.values() for part in parts}
    return [parts[record] for record in genome.records.lengths]


def check_models(genome: Genome, models: GeneModels) -> None:
    """Refuse an annotation with a gene or transcript that ends past its contig, whatever rows are made of it.

    Raises:
        `InputError`: names its line.
    """
    furthest: dict[str, Gene | Transcript] = {}
    bodies: list[Gene | Transcript] = [*models.genes, *models.transcripts]
    for one in bodies:
        if one.chrom not in furthest or one.end > furthest[one.chrom].end:
            furthest[one.chrom] = one
    found, _ = genome.records.match({chrom: None for chrom in furthest})
    for chrom, parts in found.items():
        one = furthest[chrom]
        where = f"{models.file}, line {one.line}: {chrom}:{one.start}-{one.end} (from 0)"
        genome.records.check_end(parts, one.end, where)


def place_rows(genome: Genome, rows: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Find the records that intervals lie in.

    Args:
        genome: theirs.
        rows: with `COLUMNS`.

    Returns:
        The rows that lie in a record as a whole, with `record`, the genome's name of the contig as `chrom`, and
        `offset`, the record's first base on the contig; and how many lie outside of the slices of their contig. Contigs
        that the genome lacks are told with their numbers, and skipped.

    Raises:
        `InputError`: an interval past the end of its contig, with its line; none of the contigs is there.
    """
    ends = rows.groupby("chrom", sort=False)["end"].max()
    found, doubts = genome.records.match({name: int(end) for name, end in ends.items()})
    counts = rows["chrom"].value_counts(sort=False)
    if len(rows) and not found:
        name = next(iter(doubts))
        raise InputError(
            f"{genome.file}: the genome {genome.fasta} has none of its contigs, as {name!r}. "
            f"{doubts[name] or 'Is it of another assembly?'}"
        )
    genome.records.tell_renamed(str(genome.file), found)
    genome.records.tell_missing(str(genome.file), {name: int(counts[name]) for name in doubts}, doubts)
    placed, outside = [], 0
    for name, parts in found.items():
        here = rows[rows["chrom"] == name]
        far = here.loc[here["end"].idxmax()]
        where = f"{genome.file}, line {far['line']}: {name}:{far['start']}-{far['end']} (from 0)"
        genome.records.check_end(parts, int(far["end"]), where)
        inside = np.zeros(len(here), dtype=bool)
        for part in parts:
            fits = ~inside & (here["start"] >= part.start).to_numpy() & (here["end"] <= part.end).to_numpy()
            placed.append(here[fits].assign(record=part.record, chrom=part.contig, offset=part.start))
            inside |= fits
        outside += int((~inside).sum())
    empty = rows[:0].assign(record="", offset=0)
    return pd.concat([empty, *placed], ignore_index=True), outside


def build_task(
    sources: Sequence[tuple[Genome, pd.DataFrame]],
    recipe: Recipe,
    choice: Choice,
    division: Division,
    *,
    out: str | Path,
    name: str,
    format: str,
    overwrite: bool,
    left_out: Mapping[str, int] | None = None,
    remarks: Sequence[str] = (),
) -> Built:
    """Write a task of intervals.

    Args:
        sources: genomes, each with its intervals, see `COLUMNS`; a class is the place of its name in `recipe.classes`.
        recipe: what the task is; its contigs of splits are names of any of the genomes.
        choice, division: see there. Each genome is divided for itself.
        out, name, format, overwrite: see `make_task_folder`.
        left_out: what was left out before, with numbers, for the card.
        remarks: for the card.

    Raises:
        `InputError`: see `place_rows`, `divide_rows`, `check_task_folder`; no row is left.
    """
    check_task_folder(out, name, overwrite)
    counts = dict(left_out or {})
    _count(counts, "outside of the slices of their contig", 0)
    named = {"--test_contigs": recipe.test_contigs or (), "--validation_contigs": recipe.validation_contigs or ()}
    fixed = _match_contigs([genome for genome, _ in sources], named)
    tables = []
    for number, (genome, rows) in enumerate(sources):
        placed, outside = place_rows(genome, rows)
        _count(counts, "outside of the slices of their contig", outside)
        placed["split"] = divide_rows(
            placed["chrom"].to_numpy(),
            placed["start"].to_numpy(np.int64),
            placed["end"].to_numpy(np.int64),
            placed["label"].to_numpy(np.int64),
            division if not number else replace(division, seed=division.seed + number),
            fixed[number]["--test_contigs"],
            fixed[number]["--validation_contigs"],
            str(genome.fasta),
        )
        placed["source"] = number
        tables.append(placed)
    rows = pd.concat(tables, ignore_index=True)
    across = rows["split"] == -1
    _count(counts, "across two splits", int(across.sum()))
    rows = _sort(rows[~across], sources)
    rows = _judge(rows, sources, choice.max_n, counts)
    rows = _drop_copies(rows, counts)
    classes = recipe.classes or ()
    rows = _draw(rows, choice.per_class, len(classes), division.seed, counts)
    remarks = [*remarks, *_tell_few(rows, choice.per_class, classes)]
    with make_task_folder(out, name, recipe, format, overwrite) as folder:
        for split, table in _cut(rows, sources, classes):
            folder.write(split, table)
        facts = folder.finish(counts, remarks)
    path = Path(out) / name
    return Built(path, {"folder": str(path), "name": name, **facts})


def _count(counts: dict[str, int], why: str, number: int) -> None:
    counts[why] = counts.get(why, 0) + number


def _match_contigs(genomes: Sequence[Genome], named: Mapping[str, Sequence[str]]) -> list[dict[str, list[str]]]:
    """Return, of each genome, which of its contigs the names of an argument mean; each name means one somewhere."""
    found: list[dict[str, list[str]]] = [{flag: [] for flag in named} for _ in genomes]
    for flag, names in named.items():
        for name in names:
            known = False
            for number, genome in enumerate(genomes):
                matched, _ = genome.records.match({name: None})
                if name in matched:
                    known = True
                    found[number][flag].append(matched[name][0].contig)
            if not known:
                every = list(dict.fromkeys(part.contig for genome in genomes for part in list_parts(genome)))
                shown = ", ".join(every[:8]) + (", ..." if len(every) > 8 else "")
                raise InputError(
                    f"{flag}: no genome has a contig {name!r}{suggest(name, every) or f'; it has {shown}'}"
                )
    return found


def _sort(rows: pd.DataFrame, sources: Sequence[tuple[Genome, pd.DataFrame]]) -> pd.DataFrame:
    """Put rows in the order of genomes, records and places, which is that of everything that follows."""
    order = {
        (number, record): place
        for number, (genome, _) in enumerate(sources)
        for place, record in enumerate(genome.records.lengths)
    }
    place = np.array([order[key] for key in zip(rows["source"], rows["record"])], dtype=np.int64)
    rows = rows.assign(place=place)
    keys = ["source", "place", "start", "end", "strand", "label", "name"]
    return rows.sort_values(keys, kind="stable", ignore_index=True)


def _read_records(
    rows: pd.DataFrame, sources: Sequence[tuple[Genome, pd.DataFrame]]
) -> Iterator[tuple[pd.DataFrame, str]]:
    """Yield the rows of each record that has some, and its letters in upper case."""
    for number, (genome, _) in enumerate(sources):
        of_genome = rows[rows["source"] == number]
        groups = dict(iter(of_genome.groupby("record", sort=False)))
        if groups:
            for _, header, letters in read_fasta(genome.fasta):
                if (here := groups.get(header.split()[0])) is not None:
                    yield here, letters.upper().replace("U", "T")


def _cut_letters(here: pd.DataFrame, letters: str) -> Iterator[str]:
    """Yield the sequences of rows of a record, on their strands."""
    places = zip(here["start"] - here["offset"], here["end"] - here["offset"], here["strand"])
    for start, end, strand in places:
        piece = letters[start:end]
        yield reverse_complement(piece, keep_others=True) if strand == "-" else piece


def _judge(
    rows: pd.DataFrame, sources: Sequence[tuple[Genome, pd.DataFrame]], max_n: float, counts: dict[str, int]
) -> pd.DataFrame:
    """Drop rows with too many letters other than A, C, G, T; add the hashes of the others."""
    share = np.zeros(len(rows))
    forward, folded = np.zeros(len(rows), dtype=np.int64), np.zeros(len(rows), dtype=np.int64)
    for here, letters in _read_records(rows, sources):
        at = here.index.to_numpy()
        others = np.flatnonzero(_OTHER[np.frombuffer(letters.encode("ascii", "replace"), dtype=np.uint8)])
        starts, ends = ((here[name] - here["offset"]).to_numpy(np.int64) for name in ("start", "end"))
        share[at] = (np.searchsorted(others, ends) - np.searchsorted(others, starts)) / (ends - starts)
        for place, sequence in zip(at, _cut_letters(here, letters)):
            forward[place] = hash(sequence)
            folded[place] = hash(min(sequence, reverse_complement(sequence, keep_others=True)))
    dropped = share > max_n
    _count(counts, "with too many letters other than A, C, G, T", int(dropped.sum()))
    return rows.assign(forward=forward, folded=folded)[~dropped]


def _drop_copies(rows: pd.DataFrame, counts: dict[str, int]) -> pd.DataFrame:
    """Keep one row of those with the same letters on either strand, that of the test first; none if labels differ."""
    labels = rows.groupby("folded")["label"].transform("nunique")
    _count(counts, "with the letters of a row of another class", int((labels > 1).sum()))
    rows = rows[labels == 1]
    rows = rows.assign(order=np.arange(len(rows)))
    kept = rows.sort_values(["split", "order"], ascending=[False, True], kind="stable")
    first = kept.groupby("folded", sort=False)[["split", "forward"]].transform("first")
    copy = kept.duplicated("folded")
    other_split = copy & (kept["split"] != first["split"])
    same = kept["forward"] == first["forward"]
    _count(counts, "copies within a split, either strand", int((copy & ~other_split).sum()))
    _count(counts, "copies of a row of another split", int((other_split & same).sum()))
    _count(counts, "reverse complements of a row of another split", int((other_split & ~same).sum()))
    return kept[~copy].sort_values("order", ignore_index=True)


def _draw(
    rows: pd.DataFrame, per_class: int | str | None, classes: int, seed: int, counts: dict[str, int]
) -> pd.DataFrame:
    """Draw as many rows of each class, in each split by the split's share of the rows."""
    if per_class is None or not len(rows):
        return rows
    table = np.zeros((len(SPLITS), classes), dtype=np.int64)
    np.add.at(table, (rows["split"].to_numpy(), rows["label"].to_numpy(np.int64)), 1)
    if per_class == "least":
        quota = table.min(1)
    else:
        quota = _share_out(int(per_class), table.sum(1))
    rng = np.random.default_rng(seed)
    kept = []
    for split in range(len(SPLITS)):
        for label in range(classes):
            at = np.flatnonzero((rows["split"] == split) & (rows["label"] == label))
            kept.append(rng.permutation(at)[: quota[split]])
    chosen = np.sort(np.concatenate(kept))
    _count(counts, "not drawn (--per_class)", len(rows) - len(chosen))
    return rows.iloc[chosen].reset_index(drop=True)


def _tell_few(rows: pd.DataFrame, per_class: int | str | None, classes: Sequence[str]) -> list[str]:
    """Return a remark on each class with fewer rows than were asked for."""
    if not isinstance(per_class, int):
        return []
    counts = rows["label"].value_counts()
    found = [(name, int(counts.get(label, 0))) for label, name in enumerate(classes)]
    return [f"class {name} has {count:,} rows, fewer than --per_class" for name, count in found if count < per_class]


def _share_out(number: int, sizes: np.ndarray) -> np.ndarray:
    """Divide a number by sizes, in whole parts that add up to it."""
    exact = number * sizes / sizes.sum()
    parts = np.floor(exact).astype(np.int64)
    rest = np.argsort(parts - exact, kind="stable")[: number - int(parts.sum())]
    parts[rest] += 1
    return parts


def _cut(
    rows: pd.DataFrame, sources: Sequence[tuple[Genome, pd.DataFrame]], classes: Sequence[str]
) -> Iterator[tuple[str, pa.Table]]:
    """Yield the rows of each split, a part at a time."""
    for here, letters in _read_records(rows, sources):
        for split, title in ((2, "test"), (1, "validation"), (0, "train")):
            chosen = here[here["split"] == split]
            if not len(chosen):
                continue
            length = max(1, int((chosen["end"] - chosen["start"]).max()))
            step = max(1, _PART // length)
            for start in range(0, len(chosen), step):
                part = chosen.iloc[start : start + step]
                columns: dict[str, Any] = {
                    "sequence": list(_cut_letters(part, letters)),
                    "label": [classes[label] for label in part["label"]],
                    "chrom": part["chrom"].astype(str).tolist(),
                    "start": part["start"].to_numpy(np.int64),
                    "end": part["end"].to_numpy(np.int64),
                    "strand": part["strand"].tolist(),
                    "name": part["name"].astype(str).tolist(),
                }
                yield title, pa.table(columns)


__all__ = ["COLUMNS", "Choice", "Genome", "build_task", "check_models", "list_parts", "open_genome", "place_rows"]
