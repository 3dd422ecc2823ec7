"""Regulatory chunks: is a bin of 200 bp, with what is around it, a promoter or an enhancer? And bins of peaks.

A contig is divided into chunks from its first base on. A chunk is positive where intervals cover half of it or more.
Negatives are drawn among the chunks that no interval touches. So the Long-Range Benchmark has its regulatory elements
and, with a label for each file of peaks, DeepSEA's chromatin features.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from gengram.errors import InputError
from gengram.training.corpus.draws import make_generator

from .folder import Built
from .genome import Finder, StoredGenome, read_contig_names, store_genome
from .places import PlaceTable, finish, plan_schema, read_named_files
from .window_rows import MAX_N, Cutting, Output, TaskPlan, centre_interval, write_task
from .window_splits import SplitRule

CHUNK = 200
CLASSES = ("negative", "positive")
_N = ord("N")


class Coverage:
    """Which bases of a genome the intervals of a file cover.

    Args:
        genome: the genome.
        file: BED, or a table with `chrom`, `start` and `end`.
        contigs: of `read_contig_names`.
        counts: of what is passed over.
        flank: bp on both sides of an interval that it covers, too.
    """

    def __init__(self, genome: StoredGenome, file: str, contigs: dict[str, str], counts: Counter[str], flank: int = 0):
        finder = Finder(genome, file, contigs)
        found: list[tuple[int, int, int]] = []
        for place in PlaceTable(file).stream(finder):
            found.append((place.record, place.start - flank, place.end + flank))
        finish([finder], counts)
        self.intervals = len(found)
        array = np.array(found, dtype=np.int64).reshape(-1, 3)
        self._spans = {record: _merge(array[array[:, 0] == record, 1:]) for record in np.unique(array[:, 0]).tolist()}

    def count(self, record: int, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Return how many bases of stretches of a record are covered, int64."""
        spans = self._spans.get(record)
        if spans is None:
            return np.zeros(len(starts), dtype=np.int64)
        return _count_before(spans, ends) - _count_before(spans, starts)


def _merge(spans: np.ndarray) -> np.ndarray:
    """Return spans [n, 2] sorted, those that overlap or touch as one."""
    spans = spans[np.argsort(spans[:, 0], kind="stable")]
    reach = np.maximum.accumulate(spans[:, 1])
    first = np.concatenate([[True], spans[1:, 0] > reach[:-1]])
    last = np.concatenate([first[1:], [True]])
    return np.stack([spans[first, 0], reach[last]], axis=1)


def _count_before(spans: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Return how many bases of merged spans lie before each position."""
    whole = np.concatenate([[0], np.cumsum(spans[:, 1] - spans[:, 0])])
    begun = np.searchsorted(spans[:, 0], positions, side="right")
    last = np.maximum(begun - 1, 0)
    behind = np.maximum(spans[last, 1] - positions, 0)
    return np.where(begun > 0, whole[begun] - behind, 0)


def build_regulatory(
    genome: str,
    positives: Sequence[str],
    length: int,
    out: Output,
    rule: SplitRule,
    *,
    chunk: int = CHUNK,
    overlap: float = 0.5,
    ratio: float = 1.0,
    distance: int = 0,
    contigs: Sequence[str] = (),
    pad: bool = False,
    max_n: float = MAX_N,
) -> Built:
    """Make a task of chunks that are regulatory elements or not, each in the middle of a window.

    Args:
        genome: a FASTA file.
        positives: BED files of the elements; several are one class.
        length: of windows, in bp.
        out, rule: where to, and how rows are dealt.
        chunk: bp of a chunk.
        overlap: the share of a chunk that elements cover, at least, where it is positive.
        ratio: of negatives to positives.
        distance: bp that a negative chunk is away from every element, at least.
        contigs: of `read_contig_names`.
        pad, max_n: see `Cutting`.

    Raises:
        `InputError`: see `PlaceTable`, `write_task`; no chunk is positive.
    """
    _check(chunk, overlap, length)
    cutting, named = Cutting(length, pad, max_n), read_contig_names(contigs)
    out.check(genome, *positives)
    counts: Counter[str] = Counter()
    with store_genome(genome) as stored:
        cutting.check(stored)
        covers = [Coverage(stored, file, named, counts) for file in positives]
        wide = [Coverage(stored, file, named, Counter(), distance) for file in positives] if distance else covers
        chosen: list[np.ndarray] = []
        free: list[np.ndarray] = []
        for record in range(len(stored.lengths)):
            starts = _list_chunks(stored, record, chunk, cutting)
            # Elements of two files that overlap count once, as far as one of them covers enough of the chunk.
            best = np.max([one.count(record, starts, starts + chunk) for one in covers], axis=0)
            touched = np.max([one.count(record, starts, starts + chunk) for one in wide], axis=0)
            chosen.append(_pair(record, starts[best >= overlap * chunk]))
            empty = starts[touched == 0]
            free.append(_pair(record, empty[_count_n(stored, record, empty, chunk) == 0]))
        positive, negative = np.concatenate(chosen), np.concatenate(free)
        if not len(positive):
            raise InputError(
                f"{', '.join(positives)}: no chunk of {chunk:,} bp is covered by {overlap:.0%} in {stored.path}"
            )
        drawn = draw_negatives(positive, negative, ratio, rule.seed)
        if len(drawn) < round(ratio * len(positive)):
            counts["negatives that were wanted and are not there"] += round(ratio * len(positive)) - len(drawn)
        plan = _lay_out(stored, [(CLASSES[1], positive), (CLASSES[0], drawn)], chunk, length)
        notes: dict[str, Any] = {
            "title": f"Regulatory elements, chunks of {chunk:,} bp in windows of {length:,} bp",
            "description": f"Is the chunk of {chunk:,} bp in the middle a regulatory element? Positive where intervals "
            f"cover {overlap:.0%} of it or more; negatives touch none.",
            "problem": "single_label",
            "classes": list(CLASSES),
            "metric": "auroc",
        }
        settings = {"chunk": chunk, "overlap": overlap, "ratio": ratio, "distance": distance, "contigs": list(contigs)}
        task = TaskPlan(
            "regulatory",
            plan,
            **notes,
            settings={**settings, "seed": rule.seed},
            sources={"positives": positives},
            counts=counts,
        )
        return write_task(stored, task, cutting, rule, out)


def build_peaks(
    genome: str,
    peaks: Sequence[str],
    length: int,
    out: Output,
    rule: SplitRule,
    *,
    chunk: int = CHUNK,
    overlap: float = 0.5,
    ratio: float = 0.0,
    contigs: Sequence[str] = (),
    pad: bool = False,
    max_n: float = MAX_N,
) -> Built:
    """Make a task of chunks with a label for each file of peaks, as DeepSEA's chromatin features.

    Args:
        genome: a FASTA file.
        peaks: `LABEL=BED`.
        length, out, rule, chunk, overlap, contigs, pad, max_n: see `build_regulatory`.
        ratio: of chunks without any label to those with one; DeepSEA has none.

    Raises:
        `InputError`: see `build_regulatory`.
    """
    _check(chunk, overlap, length)
    cutting, named, files = Cutting(length, pad, max_n), read_contig_names(contigs), read_named_files(peaks)
    if len(files) < 2:
        raise InputError("--peaks: two files or more, a label each; one is gengram dataset build regulatory")
    out.check(genome, *files.values())
    counts: Counter[str] = Counter()
    with store_genome(genome) as stored:
        cutting.check(stored)
        covers = [Coverage(stored, file, named, counts) for file in files.values()]
        found: list[pa.Table] = []
        free: list[np.ndarray] = []
        for record in range(len(stored.lengths)):
            starts = _list_chunks(stored, record, chunk, cutting)
            covered = np.stack([one.count(record, starts, starts + chunk) for one in covers], axis=1)
            flags = covered >= overlap * chunk
            has = flags.any(axis=1)
            found.append(_tabulate_flags(record, starts[has], flags[has], chunk, length))
            empty = starts[(covered == 0).all(axis=1)]
            free.append(_pair(record, empty[_count_n(stored, record, empty, chunk) == 0]))
        plan = pa.concat_tables(found)
        if not len(plan):
            raise InputError(f"{', '.join(files.values())}: no chunk of {chunk:,} bp is covered by {overlap:.0%}")
        places = np.stack([plan["record"].to_numpy(), plan["start"].to_numpy()], axis=1)
        for record, start in draw_negatives(places, np.concatenate(free), ratio, rule.seed).tolist():
            none = np.zeros((1, len(files)), dtype=bool)
            found.append(_tabulate_flags(record, np.array([start]), none, chunk, length))
        plan = _sort(pa.concat_tables(found))
        notes: dict[str, Any] = {
            "title": f"Peaks in chunks of {chunk:,} bp, windows of {length:,} bp",
            "description": f"Which peaks does the chunk of {chunk:,} bp in the middle have? A label where they cover "
            f"{overlap:.0%} of it or more.",
            "problem": "multi_label",
            "classes": list(files),
            "metric": "auroc",
        }
        settings = {"chunk": chunk, "overlap": overlap, "ratio": ratio, "contigs": list(contigs), "seed": rule.seed}
        task = TaskPlan(
            "peaks", plan, **notes, settings=settings, sources={"peaks": list(files.values())}, counts=counts
        )
        return write_task(stored, task, cutting, rule, out)


def draw_negatives(positive: np.ndarray, free: np.ndarray, ratio: float, seed: int) -> np.ndarray:
    """Draw negatives without replacement: of each record as many as `ratio` says, the rest from where there are more.

    Args:
        positive, free: int64 [n, 2]: record and start.

    Returns:
        int64 [n, 2], sorted; fewer than wanted where there are no more.
    """
    wanted = round(ratio * len(positive))
    generator = make_generator(seed, "negatives", 0)
    taken = np.zeros(len(free), dtype=bool)
    for record in np.unique(positive[:, 0]).tolist():
        there = np.flatnonzero(free[:, 0] == record)
        share = min(round(ratio * int((positive[:, 0] == record).sum())), len(there), wanted - int(taken.sum()))
        if share > 0:
            taken[generator.choice(there, share, replace=False, shuffle=False)] = True
    lacking = wanted - int(taken.sum())
    rest = np.flatnonzero(~taken)
    if lacking > 0 and len(rest):
        taken[generator.choice(rest, min(lacking, len(rest)), replace=False, shuffle=False)] = True
    return free[taken]


def _check(chunk: int, overlap: float, length: int) -> None:
    if chunk > length:
        raise InputError(f"--length {length:,}: shorter than the chunk in it (--chunk {chunk:,})")
    if not 0 < overlap <= 1:
        raise InputError(f"--overlap {overlap}: this is a share above 0, up to 1")


def _list_chunks(genome: StoredGenome, record: int, chunk: int, cutting: Cutting) -> np.ndarray:
    """Return where the chunks of a record begin whose windows lie in it: on the grid of the contig, not of a slice."""
    first = -genome.offsets[record] % chunk
    starts = np.arange(first, genome.lengths[record] - chunk + 1, chunk, dtype=np.int64)
    if cutting.pad:
        return starts
    begin = centre_interval(0, chunk, cutting.length)
    return starts[(starts + begin >= 0) & (starts + begin + cutting.length <= genome.lengths[record])]


def _count_n(genome: StoredGenome, record: int, starts: np.ndarray, chunk: int) -> np.ndarray:
    if not len(starts):
        return np.zeros(0, dtype=np.int64)
    letters = genome.view(record)
    counts = np.empty(len(starts), dtype=np.int64)
    step = max(1, (1 << 22) // chunk)
    for place in range(0, len(starts), step):
        some = starts[place : place + step]
        counts[place : place + step] = (letters[some[:, None] + np.arange(chunk)] == _N).sum(axis=1)
    return counts


def _pair(record: int, starts: np.ndarray) -> np.ndarray:
    return np.stack([np.full(len(starts), record, dtype=np.int64), starts], axis=1)


def _lay_out(genome: StoredGenome, groups: Sequence[tuple[str, np.ndarray]], chunk: int, length: int) -> pa.Table:
    schema = plan_schema(("label", pa.string()), ("chunk_start", pa.int64()), ("chunk_end", pa.int64()))
    tables = []
    offsets = np.array(genome.offsets, dtype=np.int64)
    for label, places in groups:
        record, start = places[:, 0], places[:, 1]
        first = start + centre_interval(0, chunk, length)
        inside = start + offsets[record]
        columns: list[Any] = [record, first, first + length, ["."] * len(places), [label] * len(places)]
        tables.append(pa.table([*columns, inside, inside + chunk], schema=schema))
    return _sort(pa.concat_tables(tables))


def _tabulate_flags(record: int, starts: np.ndarray, flags: np.ndarray, chunk: int, length: int) -> pa.Table:
    first = starts + centre_interval(0, chunk, length)
    bounds = np.arange(0, flags.size + 1, flags.shape[1], dtype=np.int32)
    labels = pa.ListArray.from_arrays(pa.array(bounds), pa.array(flags.ravel().astype(np.int8)))
    columns = [np.full(len(starts), record), first, first + length, ["."] * len(starts), labels]
    return pa.table(columns, schema=plan_schema(("label", labels.type)))


def _sort(plan: pa.Table) -> pa.Table:
    keys = [plan[name].to_numpy() for name in ("start", "record")]
    return plan.take(pa.array(np.lexsort(keys)))


__all__ = ["CHUNK", "CLASSES", "Coverage", "build_peaks", "build_regulatory", "draw_negatives"]
