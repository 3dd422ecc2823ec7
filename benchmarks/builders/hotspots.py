"""Where do variants crowd? Windows with more of them than their contig has elsewhere, as Genos Benchmarks' hotspots.

A contig is divided into windows from its first base on, and the variants of each are counted. If they fell anywhere
with the same chance, a count would be a Poisson number with the mean of the contig's windows. A window is a hotspot
where so many or more would be rare: by the right tail of that distribution, at a false discovery rate (Benjamini and
Hochberg 1995) over all windows. As many of the others are drawn.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from gengram.errors import InputError
from gengram.genome.variants import read_variants
from gengram.phases import phase
from gengram.progress import tell

from .chunks import draw_negatives
from .folder import Built
from .genome import Finder, StoredGenome, read_contig_names, store_genome
from .places import plan_schema, sort_plan
from .variants import ReferenceCheck
from .window_rows import MAX_N, Cutting, Output, TaskPlan, write_task
from .window_splits import SplitRule

CLASSES = ("background", "hotspot")
_EMPTY = 0.5  # share of windows without a variant from which on a file may not be of the whole contig


def build_hotspots(
    genome: str,
    vcf: Sequence[str],
    length: int,
    out: Output,
    rule: SplitRule,
    *,
    fdr: float = 0.05,
    ratio: float = 1.0,
    region: str | None = None,
    contigs: Sequence[str] = (),
    skip_mismatches: bool = False,
    max_n: float = MAX_N,
) -> Built:
    """Make a task of windows that are variant hotspots or not.

    Args:
        genome: a FASTA file.
        vcf: VCF files, with or without genotypes; every record counts once, where its POS is.
        length: of windows, in bp.
        out, rule: where to, and how rows are dealt.
        fdr: the false discovery rate below which a window is a hotspot.
        ratio: of other windows to hotspots.
        region: `chr7` or `chr7:1-5000000`: windows inside of it alone; the rest is no background either.
        contigs: of `read_contig_names`.
        skip_mismatches: whether records whose REF the genome does not have are left out; if not, they are an error.
        max_n: the largest share of N of a window; others are no background.

    Raises:
        `InputError`: see `read_variants`, `ReferenceCheck`, `write_task`; no window is a hotspot, or none is not.
    """
    if not 0 < fdr < 1:
        raise InputError(f"--fdr {fdr}: this is a share between 0 and 1")
    cutting, named = Cutting(length, False, max_n), read_contig_names(contigs)
    out.check(genome, *vcf)
    counts: Counter[str] = Counter()
    with store_genome(genome) as stored:
        cutting.check(stored)
        places = list_windows(stored, length, max_n, region)
        numbers = count_variants(stored, vcf, places, length, named, skip_mismatches, counts)
        for record in np.unique(places[:, 0]).tolist():
            here = numbers[places[:, 0] == record]
            if (here == 0).mean() > _EMPTY and here.any():
                tell(
                    f"{stored.names[record]}: {(here == 0).mean():.0%} of its windows have no variant; if the file is "
                    "of a part of it, name that with --region"
                )
        p = find_tails(places[:, 0], numbers)
        q = adjust(p)
        hot = q < fdr
        if not hot.any() or hot.all():
            raise InputError(
                f"{', '.join(vcf)}: {int(hot.sum()):,} of {len(hot):,} windows of {length:,} bp are hotspots at a "
                f"false discovery rate of {fdr}; two classes are needed. Give another --length or --fdr"
            )
        chosen = draw_negatives(places[hot], places[~hot], ratio, rule.seed)
        keep = hot.copy()
        order = {tuple(place): number for number, place in enumerate(places.tolist())}
        keep[[order[tuple(place)] for place in chosen.tolist()]] = True
        counts["windows that are no hotspots and were not drawn"] += int((~keep).sum())
        plan = _lay_out(places[keep], hot[keep], numbers[keep], p[keep], q[keep], length)
        notes: dict[str, Any] = {
            "title": f"Variant hotspots, {length:,} bp",
            "description": "Does the window have more variants than its contig has elsewhere? Right tail of a Poisson "
            f"distribution with the mean of the contig's windows, false discovery rate below {fdr}.",
            "problem": "single_label",
            "classes": list(CLASSES),
            "metric": "auroc",
        }
        settings = {"fdr": fdr, "ratio": ratio, "region": region, "contigs": list(contigs)}
        settings |= {
            "skip_mismatches": skip_mismatches,
            "seed": rule.seed,
            "windows": len(hot),
            "hotspots": int(hot.sum()),
        }
        task = TaskPlan("hotspots", plan, **notes, settings=settings, sources={"vcf": vcf}, counts=counts)
        return write_task(stored, task, cutting, rule, out)


def list_windows(genome: StoredGenome, length: int, max_n: float, region: str | None) -> np.ndarray:
    """Return record and start of the windows that are counted, int64 [n, 2]."""
    spans = [(record, 0, bases) for record, bases in enumerate(genome.lengths)]
    if region is not None:
        found = genome.records.find_region(region, "--region")
        spans = [(genome.numbers[one.record], one.start, one.end) for one in found]
    places = [np.zeros((0, 2), dtype=np.int64)]
    for record, low, high in spans:
        starts = np.arange(low, high - length + 1, length, dtype=np.int64)
        letters = genome.view(record)
        kept = [
            start
            for start in starts.tolist()
            if np.count_nonzero(letters[start : start + length] == ord("N")) <= max_n * length
        ]
        places.append(np.array([(record, start) for start in kept], dtype=np.int64).reshape(-1, 2))
    joined = np.concatenate(places)
    if not len(joined):
        raise InputError(f"{genome.path}: no window of {length:,} bp is there (--length, --region, --max_n)")
    return joined


def count_variants(
    genome: StoredGenome,
    vcf: Sequence[str],
    places: np.ndarray,
    length: int,
    contigs: dict[str, str],
    skip_mismatches: bool,
    counts: Counter[str],
) -> np.ndarray:
    """Return how many records of VCF files begin in each window, int64 [n].

    Args:
        places: int64 [n, 2]: record and start of windows, sorted within a record.

    Raises:
        `InputError`: see `build_hotspots`.
    """
    numbers = np.zeros(len(places), dtype=np.int64)
    bounds = {record: np.flatnonzero(places[:, 0] == record) for record in np.unique(places[:, 0]).tolist()}
    check = ReferenceCheck(genome, skip_mismatches, counts)
    with phase("Counting variants", unit="records") as counting:
        for file in vcf:
            header, records = read_variants(file)
            finder = Finder(genome, file, contigs, header.contigs)
            waiting: list[tuple[int, int]] = []
            for record in records:
                counting.add(1)
                if record.pos < 1:
                    continue
                where = f"{file}, line {record.line}"
                spot = finder.find(where, record.chrom, record.pos - 1, record.pos - 1 + len(record.ref))
                if spot is None:
                    continue
                ref = record.ref.upper().replace("U", "T")
                if not check.agrees(where, spot.record, spot.start, ref):
                    continue
                waiting.append(spot)
                if len(waiting) == 1 << 16:
                    _count(numbers, places, bounds, waiting, length)
                    waiting = []
            _count(numbers, places, bounds, waiting, length)
            finder.finish(counts)
    return numbers


def _count(
    numbers: np.ndarray,
    places: np.ndarray,
    bounds: dict[int, np.ndarray],
    spots: Sequence[tuple[int, int]],
    length: int,
) -> None:
    found = np.array(spots, dtype=np.int64).reshape(-1, 2)
    for record in np.unique(found[:, 0]).tolist():
        rows = bounds.get(record)
        if rows is None:
            continue
        starts, positions = places[rows, 1], found[found[:, 0] == record, 1]
        at = np.searchsorted(starts, positions, side="right") - 1
        inside = (at >= 0) & (positions < starts[np.maximum(at, 0)] + length)
        np.add.at(numbers, rows[at[inside]], 1)


def find_tails(records: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Return the chance of each count or a higher one, where the mean is that of its contig's windows, float64 [n].

    Args:
        records: int64 [n], the contig of each window.
        numbers: int64 [n], its variants.
    """
    from scipy.special import pdtrc  # scipy.stats needs seconds

    p = np.ones(len(numbers))
    for record in np.unique(records):
        here = records == record
        mean = numbers[here].mean()
        if mean > 0:
            some = here & (numbers > 0)  # none or more is certain
            p[some] = pdtrc(numbers[some] - 1, mean)
    return p


def adjust(p: np.ndarray) -> np.ndarray:
    """Return p-values adjusted for the false discovery rate (Benjamini and Hochberg 1995), float64 [n]."""
    order = np.argsort(p, kind="stable")
    scaled = p[order] * len(p) / np.arange(1, len(p) + 1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return adjusted


def _lay_out(
    places: np.ndarray, hot: np.ndarray, numbers: np.ndarray, p: np.ndarray, q: np.ndarray, length: int
) -> pa.Table:
    schema = plan_schema(
        ("label", pa.string()), ("variants", pa.int64()), ("p_value", pa.float64()), ("q_value", pa.float64())
    )
    labels = [CLASSES[int(one)] for one in hot]
    columns = [places[:, 0], places[:, 1], places[:, 1] + length, ["."] * len(places), labels, numbers, p, q]
    return sort_plan(pa.table(columns, schema=schema))


__all__ = ["CLASSES", "adjust", "build_hotspots", "count_variants", "find_tails", "list_windows"]
