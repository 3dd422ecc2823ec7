"""Which population is a chromosome from? Windows of the haplotypes of phased genotypes, as Genos Benchmarks has them.

A sample has two haplotypes, which the reference's letters and its alleles give (`gengram.training.corpus.haplotypes`).
Both are of the split of their sample: nobody is in the training and in the test.
"""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from gengram.errors import InputError, suggest
from gengram.genome.tables import read_table, shorten
from gengram.genome.values import strip_blanks
from gengram.phases import phase
from gengram.progress import tell
from gengram.training.corpus.draws import make_generator
from gengram.training.corpus.haplotypes import SCHEMA, Choice, Tally, apply_edits, choose_haplotypes, stream_edits

from .folder import Built
from .genome import StoredGenome, read_contig_names, store_genome
from .hotspots import count_variants, list_windows
from .places import RowCollector, order_labels, plan_schema
from .window_rows import MAX_N, Cutting, Output, TaskPlan, Window, has_many_n, write_task
from .window_splits import SPLITS, SplitRule

SAMPLES = ("sample", "sample_id", "sample name", "iid", "name", "id")
POPULATIONS = ("population", "pop", "superpopulation", "super_pop", "superpopulation code", "label")
_END, _N = "windows at the end of a contig", "windows with too many N"


@dataclass
class _Edits:
    """Edits of one haplotype in one record, sorted; see `gengram.training.corpus.haplotypes.HasEdits`."""

    position: np.ndarray
    reference_length: np.ndarray
    alternatives: list[np.ndarray]

    def between(self, start: int, end: int) -> "_Edits":
        """Return those that touch a stretch, or its edges."""
        # They never overlap, so that the ends are sorted as the positions are.
        low = int(np.searchsorted(self.position + self.reference_length, start, side="left"))
        high = int(np.searchsorted(self.position, end, side="right"))
        return _Edits(self.position[low:high], self.reference_length[low:high], self.alternatives[low:high])

    def count(self, start: int, end: int) -> int:
        """Return how many change a base of a stretch, or insert before one of them."""
        reach = self.position + np.maximum(self.reference_length, 1)
        return int(((self.position < end) & (reach > start)).sum())


def build_populations(
    genome: str,
    vcf: Sequence[str],
    samples: str,
    length: int,
    out: Output,
    rule: SplitRule,
    *,
    region: str | None = None,
    min_variants: int = 1,
    sample_column: str | None = None,
    population_column: str | None = None,
    contigs: Sequence[str] = (),
    skip_mismatches: bool = False,
    unphased: Literal["refuse", "coin"] = "refuse",
    max_n: float = MAX_N,
) -> Built:
    """Make a task of windows of haplotypes whose class is the population of their sample.

    Args:
        genome: a FASTA file.
        vcf: VCF files with phased genotypes, sorted.
        samples: a table with a sample and its population in each row; samples that it does not have are passed over.
        length: of windows, in bp: letters of the haplotype, from the same base of the reference on for all.
        out: where to.
        rule: the shares of the samples of each population that are dealt to validation and test, and the seed.
        region: `chr9:1-5000000`, such as one with many variants: windows begin and end in it.
        min_variants: records in a window, at least; with none all haplotypes would be the same.
        sample_column, population_column: of the table; None: the first of `SAMPLES` and of `POPULATIONS`.
        contigs: of `read_contig_names`.
        skip_mismatches: whether records whose REF the genome does not have are left out; if not, they are an error.
        unphased: heterozygous genotypes without a phase are an error, or dealt to the haplotypes by a coin.
        max_n: the largest share of N of a window.

    Raises:
        `InputError`: see `stream_edits`, `write_task`; a file without genotypes, genotypes that are not phased, a
            sample of the table that no file has, fewer than two populations.
    """
    if rule.given:
        raise InputError("--test_contigs: samples are dealt to splits here, not contigs; leave it out")
    cutting, named = Cutting(length, False, max_n), read_contig_names(contigs)
    out.check(genome, *vcf, samples)
    population = _read_populations(samples, sample_column, population_column)
    _check_samples(vcf, samples, population)
    choice = choose_haplotypes(vcf, list(population), seed=rule.seed, unphased=unphased)
    counts: Counter[str] = Counter()
    with store_genome(genome) as stored:
        cutting.check(stored)
        places = list_windows(stored, length, max_n, region)
        # It compares every REF with the genome, and names the first that is another.
        numbers = count_variants(stored, vcf, places, length, named, skip_mismatches, counts)
        if not (numbers >= min_variants).any():
            raise InputError(
                f"{', '.join(vcf)}: no window of {length:,} bp has {min_variants:,} variants or more (--min_variants, "
                "--region)"
            )
        counts["windows of the reference with too few variants"] += int((numbers < min_variants).sum())
        places = places[numbers >= min_variants]
        edits = _read_edits(stored, vcf, choice, named, places, length)
        dealt = _deal_samples(population, rule, samples)
        schema = plan_schema(
            ("label", pa.string()),
            ("name", pa.string()),
            ("sample", pa.string()),
            ("haplotype", pa.int32()),
            ("edits", pa.int32()),
            ("split", pa.string()),
        )
        rows = RowCollector(schema)
        for record, start in places.tolist():
            for number, name in enumerate(choice.names):
                sample = name.rpartition(".")[0]
                found = edits.get((number, record))
                changed = 0 if found is None else found.count(start, start + length)
                rows.add(
                    record,
                    start,
                    start + length,
                    ".",
                    population[sample],
                    f"{name}:{stored.chroms[record]}:{start + stored.offsets[record]}",
                    sample,
                    number % 2 + 1,
                    changed,
                    dealt[sample],
                )
        numbers_of = {name: number for number, name in enumerate(choice.names)}

        def cut(row: Mapping[str, Any]) -> Window | str:
            number = numbers_of[f"{row['sample']}.{row['haplotype']}"]
            sequence = cut_haplotype(stored, row["record"], row["start"], length, edits.get((number, row["record"])))
            if sequence is None:
                return _END
            return _N if has_many_n(stored, row, sequence, cutting) else Window(sequence, None, row["label"])

        classes = order_labels(population.values(), samples)
        notes: dict[str, Any] = {
            "title": f"Populations, {length:,} bp",
            "description": "Of which population is the sample that the haplotype is of? All windows of a sample are in "
            "one split.",
            "problem": "single_label",
            "classes": classes,
            "metric": "auroc",
        }
        settings = {"region": region, "min_variants": min_variants, "contigs": list(contigs), "seed": rule.seed}
        settings |= {"skip_mismatches": skip_mismatches, "unphased": unphased, "samples": len(population)}
        task = TaskPlan(
            "populations",
            rows.finish(),
            **notes,
            settings=settings,
            sources={"vcf": vcf, "samples": samples},
            counts=counts,
            cut=cut,
        )
        return write_task(stored, task, cutting, rule, out, keep_twins=True)


def cut_haplotype(genome: StoredGenome, record: int, start: int, length: int, edits: _Edits | None) -> str | None:
    """Return the letters of a haplotype from a base of the reference on; None where the contig has too few."""
    if edits is None:
        return genome.cut(record, start, start + length)
    end = start + length
    while True:
        inside = edits.between(start, end)
        lost = int(np.maximum(inside.reference_length - np.array([len(one) for one in inside.alternatives]), 0).sum())
        if start + length + lost <= end:
            break
        end = start + length + lost
    if end > genome.lengths[record]:
        end = genome.lengths[record]
    letters = genome.view(record)[start:end]
    sequence, _ = apply_edits(np.asarray(letters), start, inside, length)
    text = sequence.tobytes().decode("ascii").upper()
    return text if len(text) == length else None


def _read_populations(file: str, sample_column: str | None, population_column: str | None) -> dict[str, str]:
    table = read_table(file, (*SAMPLES, *POPULATIONS))
    there = {name.strip().casefold(): name for name in table.column_names}

    def find(given: str | None, known: Sequence[str], flag: str, what: str) -> str:
        wanted = (given,) if given is not None else known
        found = next((there[name.casefold()] for name in wanted if name.casefold() in there), None)
        if found is None:
            raise InputError(
                f"{file}: no column has {what}: one called {' or '.join(map(repr, wanted[:3]))} is needed; the columns "
                f"are {shorten(table.column_names)}. Name it with {flag}"
            )
        return found

    columns = (
        find(sample_column, SAMPLES, "--sample_column", "the samples"),
        find(population_column, POPULATIONS, "--population_column", "the populations"),
    )
    population: dict[str, str] = {}
    for row, (sample, name) in enumerate(
        zip(*(strip_blanks(table[column].cast(pa.string())).to_pylist() for column in columns)), 1
    ):
        if sample is None or name is None:
            raise InputError(f"{file}, data row {row}: the sample or its population is empty")
        if population.setdefault(sample, name) != name:
            raise InputError(
                f"{file}, data row {row}: sample {sample[:60]!r} is {population[sample][:60]!r} in an earlier row"
            )
    if len(set(population.values())) < 2:
        raise InputError(f"{file}: it has {len(set(population.values()))} population(s); two are needed")
    return population


def _check_samples(vcf: Sequence[str], table: str, population: dict[str, str]) -> None:
    """Refuse samples of the table that a VCF file lacks; say how many of the file the table does not have."""
    from gengram.genome.variants import read_variants

    for file in vcf:
        there = read_variants(file).header.samples
        if not there:
            raise InputError(
                f"{file}: it has no genotypes, only sites; populations need a file with phased genotypes of samples"
            )
        known = set(there)
        if lacking := [sample for sample in population if sample not in known]:
            raise InputError(
                f"{table}: {len(lacking):,} of {len(population):,} samples are not in {Path(file).name}, such as "
                f"{lacking[0][:60]!r}{suggest(lacking[0][:60], there)}; remove these rows, or give the right file"
            )
        if more := len(known - set(population)):
            tell(f"{file}: {more:,} samples are passed over: {table} has no population of them")


def _read_edits(
    genome: StoredGenome,
    vcf: Sequence[str],
    choice: Choice,
    contigs: Mapping[str, str],
    places: np.ndarray,
    length: int,
) -> dict[tuple[int, int], _Edits]:
    """Return the edits near the windows, by number of the haplotype and of the record."""
    low = {record: int(places[places[:, 0] == record, 1].min()) for record in np.unique(places[:, 0]).tolist()}
    high = {record: int(places[places[:, 0] == record, 1].max()) + length for record in low}
    tally, tables = Tally(), []
    with phase("Reading genotypes", unit="edits") as reading:
        for file in vcf:
            for table in stream_edits(
                file,
                choice,
                genome.records,
                genome.numbers,
                lambda name: np.asarray(genome.view(genome.numbers[name])),
                {name: (text, 0) for name, text in contigs.items()},
                tally,
            ):
                reading.add(len(table))
                record, position = table["contig"].to_numpy(), table["position"].to_numpy()
                near = np.zeros(len(table), dtype=bool)
                for number in low:
                    # Deletions shift what a window has from behind its end; twice its length is far enough for all.
                    near |= (record == number) & (position >= low[number] - length) & (position < high[number] + length)
                tables.append(table.filter(pa.array(near)))
    table = pa.concat_tables(tables) if tables else SCHEMA.empty_table()
    haplotype, record, position, size = (
        table[name].to_numpy() for name in ("haplotype", "contig", "position", "reference_length")
    )
    order = np.lexsort((position, record, haplotype))  # stable: an insertion stays before the change behind it
    letters = table["alternative"].to_pylist()
    keys = np.stack([haplotype, record], axis=1)[order]
    edges: list[int] = []
    if len(keys):
        edges = np.flatnonzero(np.concatenate([[True], (keys[1:] != keys[:-1]).any(axis=1), [True]])).tolist()
    edits: dict[tuple[int, int], _Edits] = {}
    for first, end in itertools.pairwise(edges):
        rows = order[first:end]
        edits[int(keys[first, 0]), int(keys[first, 1])] = _Edits(
            position[rows],
            size[rows].astype(np.int64),
            [np.frombuffer(letters[row], dtype=np.uint8) for row in rows.tolist()],
        )
    return edits


def _deal_samples(population: Mapping[str, str], rule: SplitRule, file: str) -> dict[str, str]:
    """Return the split of each sample: of every population the same shares."""
    dealt: dict[str, str] = {}
    for place, name in enumerate(sorted(set(population.values()))):
        several = sorted(sample for sample, other in population.items() if other == name)
        order = make_generator(rule.seed, "samples", place).permutation(len(several)).tolist()
        test = max(round(rule.test_share * len(several)), int(rule.test_share > 0))
        validation = max(round(rule.validation_share * len(several)), int(rule.validation_share > 0))
        if test + validation >= len(several):
            raise InputError(
                f"{file}: population {name[:60]!r} has {len(several)} sample(s), too few for train, validation and "
                "test; give more, or --validation_share 0"
            )
        for rank, number in enumerate(order):
            dealt[several[number]] = SPLITS[2 if rank < test else 1 if rank < test + validation else 0]
    return dealt


__all__ = ["POPULATIONS", "SAMPLES", "build_populations", "cut_haplotype"]
