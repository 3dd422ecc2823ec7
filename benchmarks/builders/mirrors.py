"""Sequences of published intervals, as Genomic Benchmarks keeps its tasks: files of intervals, one for each class."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from gengram.errors import InputError

from .folder import Built
from .genome import Finder, read_contig_names, store_genome
from .places import PlaceTable, RowCollector, finish, plan_schema, read_named_files
from .window_rows import MAX_N, Cutting, Output, TaskPlan, write_task
from .window_splits import NAMES, SPLITS, SplitRule

_SUFFIXES = (".csv", ".tsv", ".bed")


def build_intervals(
    genome: str,
    intervals: Sequence[str],
    out: Output,
    rule: SplitRule,
    *,
    contigs: Sequence[str] = (),
    max_n: float = MAX_N,
    keep_twins: bool = False,
) -> Built:
    """Make a task of intervals whose class is the file that they are in.

    Args:
        genome: a FASTA file: of chromosomes, or of transcripts where intervals are of these.
        intervals: `CLASS=FILE`, with columns `region` (or `chrom`), `start` and `end` (from 0, the end not included)
            and maybe `id` and `strand`; or one folder as Genomic Benchmarks has them: `train/CLASS.csv.gz` and
            `test/CLASS.csv.gz`, whose splits stay.
        out, rule: where to, and how rows without a split are dealt.
        contigs: of `read_contig_names`.
        max_n: the largest share of N of a sequence.
        keep_twins: whether equal sequences within a split stay, as published.

    Raises:
        `InputError`: see `PlaceTable`, `write_task`; fewer than two classes, a folder without such files.
    """
    files, folder_given = _list_files(intervals)
    cutting, named = Cutting(1, False, max_n), read_contig_names(contigs)
    out.check(genome, *(file for _, _, file in files))
    classes = sorted({label for _, label, _ in files}) if folder_given else list(dict.fromkeys(one[1] for one in files))
    if len(classes) < 2:
        raise InputError(f"--intervals: one class, {classes[0]!r}; two are needed")
    counts: Counter[str] = Counter()
    with store_genome(genome) as stored:
        more = [("label", pa.string()), ("name", pa.string()), *([("split", pa.string())] if folder_given else [])]
        rows = RowCollector(plan_schema(*more))
        for split, label, file in files:
            finder = Finder(stored, file, named)
            for place in PlaceTable(file).stream(finder):
                rows.add(
                    place.record,
                    place.start,
                    place.end,
                    place.strand,
                    label,
                    place.name,
                    *([split] if folder_given else []),
                )
            finish([finder], counts)
        notes: dict[str, Any] = {
            "title": f"Intervals: {', '.join(classes)}",
            "description": "Of which file is the interval?",
            "problem": "single_label",
            "classes": classes,
            "metric": "accuracy",
        }
        settings = {"contigs": list(contigs), "keep_twins": keep_twins, "seed": rule.seed}
        task = TaskPlan(
            "intervals",
            rows.finish(),
            **notes,
            settings=settings,
            sources={"intervals": [file for *_, file in files]},
            counts=counts,
        )
        return write_task(stored, task, cutting, rule, out, keep_twins=keep_twins)


def _list_files(given: Sequence[str]) -> tuple[list[tuple[str | None, str, str]], bool]:
    """Return split, class and file of each, and whether a folder was given."""
    if len(given) > 1 or not Path(given[0]).is_dir():
        return [(None, label, file) for label, file in read_named_files(given).items()], False
    root = Path(given[0])
    files: list[tuple[str | None, str, str]] = []
    for folder in sorted(root.iterdir()):
        split = NAMES.get(folder.name, folder.name)
        if not folder.is_dir() or split not in SPLITS:
            continue
        for file in sorted(folder.iterdir()):
            name = file.name.removesuffix(".gz")
            if name.endswith(_SUFFIXES):
                files.append((split, name.rpartition(".")[0], str(file)))
    if not files:
        raise InputError(f"{root}: no files like train/CLASS.csv.gz are there; give CLASS=FILE for each class")
    return files, True


__all__ = ["build_intervals"]
