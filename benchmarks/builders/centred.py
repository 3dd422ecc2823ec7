"""Windows around start sites or elements, against windows far from all of them: promoters, enhancers."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from gengram.errors import InputError
from gengram.progress import tell
from gengram.training.corpus.draws import draw_uniform

from .chunks import draw_negatives
from .folder import Built
from .genome import Finder, StoredGenome, read_contig_names, store_genome
from .places import Place, PlaceTable, RowCollector, finish, plan_schema, sort_plan
from .window_rows import MAX_N, Cutting, Output, TaskPlan, centre, centre_interval, write_task
from .window_splits import SplitRule

NONE = "negative"
_SCHEMA = plan_schema(("label", pa.string()), ("name", pa.string()))


def build_promoters(
    genome: str, sites: Sequence[str], length: int, out: Output, rule: SplitRule, **options: Any
) -> Built:
    """Make a task of windows around start sites of transcription and windows far from all of them.

    Args:
        genome: a FASTA file.
        sites: tables or BED files: the start site of a table is its position, that of a BED interval its first base, on
            the reverse strand its last one. A window has it at `length // 2`, from 0; that of the reverse strand is the
            reverse complement of the same bases.
        length: of windows, in bp.
        out, rule: where to, and how rows are dealt.
        options: see `_build`.
    """
    return _build("promoters", "promoter", genome, sites, length, out, rule, **options)


def build_enhancers(
    genome: str, intervals: Sequence[str], length: int, out: Output, rule: SplitRule, **options: Any
) -> Built:
    """Make a task of windows whose middle is that of an enhancer, and windows far from all of them.

    Args:
        genome: a FASTA file.
        intervals: BED files or tables with `chrom`, `start` and `end`.
        length, out, rule, options: see `build_promoters`.
    """
    return _build("enhancers", "enhancer", genome, intervals, length, out, rule, **options)


def _build(
    kind: str,
    positive: str,
    genome: str,
    files: Sequence[str],
    length: int,
    out: Output,
    rule: SplitRule,
    *,
    position_column: str | None = None,
    ratio: float = 1.0,
    distance: int = 0,
    contigs: Sequence[str] = (),
    pad: bool = False,
    max_n: float = MAX_N,
) -> Built:
    """Make the task.

    Args:
        kind, positive: its name, and that of the class.
        genome, files, length, out, rule: see `build_promoters`.
        position_column: of tables, from 1; see `PlaceTable`.
        ratio: of negatives to positives.
        distance: bp between a negative window and the nearest place, at least, beside half a window: no negative window
            shares a base with a positive one.
        contigs: of `read_contig_names`.
        pad, max_n: see `Cutting`.

    Raises:
        `InputError`: see `PlaceTable`, `write_task`; no negative window is there.
    """
    cutting, named = Cutting(length, pad, max_n), read_contig_names(contigs)
    out.check(genome, *files)
    counts: Counter[str] = Counter()
    with store_genome(genome) as stored:
        cutting.check(stored)
        rows, spans = RowCollector(_SCHEMA), []
        for file in files:
            finder = Finder(stored, file, named)
            for place in PlaceTable(file, position_column=position_column).stream(finder):
                start = _find_start(kind, place, length)
                rows.add(place.record, start, start + length, place.strand, positive, place.name)
                spans.append((place.record, min(start, place.start), max(start + length, place.end)))
            finish([finder], counts)
        found = np.array(spans, dtype=np.int64).reshape(-1, 3)
        free = _find_free(stored, found, length, distance, max_n)
        if not len(free) and ratio > 0:
            raise InputError(
                f"{stored.path}: no window of {length:,} bp is {distance:,} bp away from every {positive}; give a "
                "smaller --length or --distance, or more of the genome"
            )
        # A row whose window is not there, or there twice, has no part in how many negatives are drawn.
        drawn = draw_negatives(_list_positives(stored, rows.finish(), cutting), free, ratio, rule.seed)
        wanted = round(ratio * len(found))
        if len(drawn) < wanted:
            tell(f"{kind}: {len(drawn):,} negative windows are there for {len(found):,} places")
        strands = _draw_strands(rows.finish(), len(drawn), rule.seed)
        negatives = pa.table(
            [
                drawn[:, 0],
                drawn[:, 1],
                drawn[:, 1] + length,
                strands,
                [NONE] * len(drawn),
                pa.nulls(len(drawn), pa.string()),
            ],
            schema=_SCHEMA,
        )
        plan = sort_plan(pa.concat_tables([rows.finish(), negatives]))
        notes: dict[str, Any] = {
            "title": f"{positive.capitalize()}s, {length:,} bp",
            "description": f"Does the window have {_ARTICLES[positive]} in its middle? Negative windows share no base "
            "with a positive one.",
            "problem": "single_label",
            "classes": [NONE, positive],
            "metric": "auroc",
        }
        settings: dict[str, Any] = {"position_column": position_column, "ratio": ratio, "distance": distance}
        settings |= {"contigs": list(contigs), "seed": rule.seed}
        task = TaskPlan(kind, plan, **notes, settings=settings, sources={"places": files}, counts=counts)
        return write_task(stored, task, cutting, rule, out)


_ARTICLES = {"promoter": "a start site of transcription", "enhancer": "an enhancer"}


def _find_start(kind: str, place: Place, length: int) -> int:
    if kind == "promoters":
        return centre(place.end - 1 if place.strand == "-" else place.start, length)
    return centre_interval(place.start, place.end, length)


def _find_free(genome: StoredGenome, spans: np.ndarray, length: int, distance: int, max_n: float) -> np.ndarray:
    """Return the windows, one beside the other from the first base of every record on, that touch no span.

    Args:
        spans: int64 [n, 3]: record, start, end of the positive windows.

    Returns:
        int64 [m, 2]: record and start.
    """
    free = [np.zeros((0, 2), dtype=np.int64)]
    for record, bases in enumerate(genome.lengths):
        starts = np.arange(0, bases - length + 1, length, dtype=np.int64)
        here = spans[spans[:, 0] == record]
        taken = np.zeros(len(starts), dtype=bool)
        first = np.maximum((here[:, 1] - distance) // length, 0)
        last = np.minimum((here[:, 2] + distance - 1) // length, len(starts) - 1)
        for low, high in zip(first.tolist(), last.tolist()):
            taken[low : high + 1] = True
        letters = genome.view(record)
        for place in np.flatnonzero(~taken).tolist():
            window = letters[starts[place] : starts[place] + length]
            taken[place] = np.count_nonzero(window == ord("N")) > max_n * length
        kept = starts[~taken]
        free.append(np.stack([np.full(len(kept), record, dtype=np.int64), kept], axis=1))
    return np.concatenate(free)


def _list_positives(genome: StoredGenome, rows: pa.Table, cutting: Cutting) -> np.ndarray:
    """Return record and start of the positive windows that can be cut, each once, int64 [n, 2]."""
    record, start, end = (rows[name].to_numpy() for name in ("record", "start", "end"))
    lengths = np.array(genome.lengths, dtype=np.int64)[record] if len(record) else np.zeros(0, dtype=np.int64)
    inside = np.full(len(rows), cutting.pad) | ((start >= 0) & (end <= lengths))
    return np.unique(np.stack([record[inside], start[inside]], axis=1).astype(np.int64), axis=0)


def _draw_strands(rows: pa.Table, count: int, seed: int) -> list[str]:
    """Return strands of negatives: by a coin where positives have strands, none where they have none."""
    if not any(strand in ("+", "-") for strand in rows["strand"].unique().to_pylist()):
        return ["."] * count
    drawn = draw_uniform(seed, "strands", np.arange(count, dtype=np.uint64), 1)[:, 0]
    return ["+" if value < 0.5 else "-" for value in drawn.tolist()]


__all__ = ["NONE", "build_enhancers", "build_promoters"]
