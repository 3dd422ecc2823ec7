"""How do windows become a task? Rows are planned by their places, cut, compared, dealt, and written in pieces.

Every window is cut twice. First for its checksum: windows that are there twice, also as reverse complement, are found
in 16 bytes each. Then for the tables. So two million windows of any length need memory for their places alone.
"""

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa

from gengram.errors import InputError
from gengram.files import check_input_files
from gengram.genome.alphabet import reverse_complement
from gengram.genome.values import is_list
from gengram.phases import phase
from gengram.training.problems import METRICS, Problem

from .folder import Built, Recipe, TaskFolder, check_task_folder, make_task_folder
from .genome import StoredGenome, flip
from .window_splits import SPLITS, SplitRule, deal_rows

RESERVED = ("sequence", "alternative", "label", "chrom", "start", "end", "strand", "name", "split", "task", "dataset")
"""Names of columns that a task's tables have, or that readers of such tables understand in another way."""

MAX_N = 0.1
_ROWS = 1024
_BYTES = 32 << 20  # of a block's sequences
_END, _N = "windows at the end of a contig", "windows with too many N"
_PLACE = ("record", "start", "end", "strand", "split")


class Window(NamedTuple):
    """What is written of a row: the sequence, that with the alternative allele of a pair, and the label."""

    sequence: str
    alternative: str | None
    label: Any


@dataclasses.dataclass(frozen=True)
class Cutting:
    """Which windows are cut.

    Attributes:
        length: bp.
        pad: whether bases behind the end of a contig are N; if not, such windows are left out and counted.
        max_n: the largest share of N that a window may have, those of `pad` apart.
    """

    length: int
    pad: bool = False
    max_n: float = MAX_N

    def __post_init__(self) -> None:
        if self.length < 1:
            raise InputError(f"--length {self.length}: a window has at least one base")
        if not 0 <= self.max_n <= 1:
            raise InputError(f"--max_n {self.max_n}: this is a share, from 0 to 1")

    def check(self, genome: StoredGenome) -> None:
        """Refuse windows that no contig can have.

        Raises:
            `InputError`: they are longer than the longest record.
        """
        longest = max(genome.lengths)
        if self.length > longest and not self.pad:
            raise InputError(
                f"--length {self.length:,}: no contig of {genome.path} is as long, the longest has {longest:,} bp; "
                "give a smaller one, or --pad"
            )


def centre(position: int, length: int) -> int:
    """Return where the window begins whose base `length // 2` is at a position, both from 0."""
    return position - length // 2


def centre_interval(start: int, end: int, length: int) -> int:
    """Return where a window begins that has as much before an interval as behind it, or a base less before it."""
    return start - (length - (end - start)) // 2


@dataclasses.dataclass(frozen=True)
class TaskPlan:
    """What a task is made of.

    Attributes:
        kind: of `gengram dataset build`.
        rows: a row a window, in the order of the tables: `record` (of the genome), `start` and `end` there, maybe
            outside of it, `strand`, `label` unless `cut` makes it, `name`, `split` if the rows say it, and what else is
            kept.
        title, description, problem, classes: see `Recipe`.
        settings: what it was made with, for the card.
        sources: the files, by what they are.
        counts: of what was left out so far, by reason.
        cut: makes a row's window, or says why there is none; None: `cut_window`.
        metric: by which it is judged; None: the first of its problem.
        pairs: whether rows have an alternative.
    """

    kind: str
    rows: pa.Table
    title: str
    description: str
    problem: Problem
    settings: Mapping[str, Any]
    sources: Mapping[str, str | Path | Sequence[str]]
    counts: Counter[str]
    classes: Sequence[str] | None = None
    cut: Callable[[Mapping[str, Any]], Window | str] | None = None
    metric: str | None = None
    pairs: bool = False


@dataclasses.dataclass(frozen=True)
class Output:
    """Where a task goes.

    Attributes:
        out: the folder of tasks.
        name: of the task, and of its folder there.
        format: of the tables.
        overwrite: whether a task that is there is replaced.
        assembly, license: of the genome, for card and `task.yaml`.
    """

    out: str
    name: str
    format: Literal["parquet", "csv.gz"] = "parquet"
    overwrite: bool = False
    assembly: str | None = None
    license: str | None = None

    def check(self, *inputs: str | Path) -> None:
        """Refuse what cannot be written or read, before anything is read for it.

        Raises:
            `InputError`: see `check_task_folder`; an input is missing.
        """
        check_input_files(*inputs)
        check_task_folder(self.out, self.name, self.overwrite)


def cut_window(genome: StoredGenome, row: Mapping[str, Any], cutting: Cutting) -> Window | str:
    """Return the window of a row of a plan, as its strand has it, or why there is none."""
    sequence = genome.cut(row["record"], row["start"], row["end"], cutting.pad)
    if sequence is None:
        return _END
    if has_many_n(genome, row, sequence, cutting):
        return _N
    return Window(flip(sequence, row["strand"]), None, row.get("label"))


def has_many_n(genome: StoredGenome, row: Mapping[str, Any], sequence: str, cutting: Cutting) -> bool:
    """Whether a window has more N than it may; those behind the end of a contig do not count."""
    outside = max(-row["start"], 0) + max(row["end"] - genome.lengths[row["record"]], 0)
    inside = len(sequence) - outside
    return inside <= 0 or sequence.count("N") - outside > cutting.max_n * inside


def write_task(
    genome: StoredGenome,
    plan: TaskPlan,
    cutting: Cutting,
    rule: SplitRule,
    output: Output,
    *,
    keep_twins: bool = False,
) -> Built:
    """Cut the windows of a plan and write them as a task.

    A sequence that is in two splits stays in the test, then in the validation. Within a split one of equal rows stays,
    and none where their labels differ.

    Args:
        genome: that the windows are of.
        plan: of the rows.
        cutting: of the windows.
        rule: of the splits.
        output: the format of the tables, and what the card says.
        keep_twins: whether equal sequences within a split stay, as where many haplotypes of one window are wanted.

    Raises:
        `InputError`: no row is left for the training or the test; it cannot be written.
    """
    has_lists = "label" not in plan.rows.schema.names or is_list(plan.rows["label"].type)
    if has_lists and output.format != "parquet":
        raise InputError(f"--format {output.format}: labels are lists, which parquet holds; leave it out")
    counts = Counter(plan.counts)
    cut = plan.cut or (lambda row: cut_window(genome, row, cutting))
    files: list[str | Path] = []
    for given in plan.sources.values():
        files += [given] if isinstance(given, str | Path) else given
    named = ", ".join(map(str, files[:5])) + (", ..." if len(files) > 5 else "")
    if not len(plan.rows):
        raise InputError(f"{named}: no row is left of it: {_tell_counts(counts)}")
    splits, told = deal_rows(plan.rows, genome, rule, named)
    counts["windows that overlap one of another split"] += int((splits < 0).sum())
    digests, labels = _digest(plan.rows, cut, splits, counts)
    _drop_twins(splits, digests, labels, counts, keep_twins)
    by_contigs = told.startswith("contigs")
    for number, split in ((0, "train"), (2, "test")):
        if not (splits == number).any():
            raise InputError(
                f"{named}: of {len(splits):,} rows none is left for {split} (splits: {told}); left out were: "
                f"{_tell_counts(counts)}"
            )
    recipe = Recipe(
        plan.kind,
        plan.title,
        plan.description,
        plan.classes,
        plan.problem,
        plan.metric or METRICS[plan.problem][0],
        alternative="alternative" if plan.pairs else None,
        files=[genome.path, *files],
        settings={**dataclasses.asdict(cutting), **plan.settings, "splits": told},
        assembly=output.assembly,
        license=output.license,
        test_contigs=rule.test if by_contigs else None,
        validation_contigs=rule.validation if by_contigs else None,
    )
    with make_task_folder(output.out, output.name, recipe, output.format, output.overwrite) as folder:
        _write_tables(folder, plan, genome, cut, splits)
        facts = folder.finish(counts, [f"splits: {told}"])
    return Built(Path(output.out) / output.name, facts)


def _tell_counts(counts: Mapping[str, int]) -> str:
    return "; ".join(f"{count:,} {reason}" for reason, count in counts.items() if count) or "none"


def _stream(rows: pa.Table, chosen: np.ndarray) -> Iterator[list[dict[str, Any]]]:
    """Yield the chosen rows, some at a time."""
    for start in range(0, len(chosen), _ROWS):
        yield rows.take(pa.array(chosen[start : start + _ROWS])).to_pylist()


def _digest(
    rows: pa.Table, cut: Callable[[Mapping[str, Any]], Window | str], splits: np.ndarray, counts: Counter[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Return checksums of the windows, the same on both strands, and of their labels; rows without a window lose their
    split."""
    digests = np.zeros(len(rows), dtype="S16")
    labels = np.zeros(len(rows), dtype="S8")
    chosen = np.flatnonzero(splits >= 0)
    with phase("Cutting windows", unit="windows", total=len(chosen)) as cutting:
        place = 0
        for block in _stream(rows, chosen):
            for row in block:
                number, place = chosen[place], place + 1
                window = cut(row)
                if isinstance(window, str):
                    counts[window] += 1
                    splits[number] = -1
                    continue
                digests[number] = _hash_window(window)
                labels[number] = hashlib.blake2b(repr(window.label).encode(), digest_size=8).digest()
            cutting.add(len(block))
    return digests, labels


def _hash_window(window: Window) -> bytes:
    one = (window.sequence, window.alternative or "")
    other = (reverse_complement(one[0], keep_others=True), reverse_complement(one[1], keep_others=True))
    return hashlib.blake2b("|".join(min(one, other)).encode(), digest_size=15).digest() + b"."  # numpy cuts zeros off


def _drop_twins(
    splits: np.ndarray, digests: np.ndarray, labels: np.ndarray, counts: Counter[str], keep_twins: bool
) -> None:
    chosen = np.flatnonzero(splits >= 0)
    order = chosen[np.argsort(digests[chosen], kind="stable")]
    same = digests[order][1:] == digests[order][:-1]
    bounds = np.flatnonzero(np.concatenate([[True], ~same, [True]])) if len(order) else np.zeros(1, dtype=np.int64)
    for first in np.flatnonzero(np.diff(bounds) > 1).tolist():
        group = order[bounds[first] : bounds[first + 1]]
        highest = splits[group].max()
        lower = group[splits[group] < highest]
        counts["windows that another split has, too (either strand)"] += len(lower)
        splits[lower] = -1
        rest = group[splits[group] >= 0]
        if len(rest) > 1 and not keep_twins:
            differ = len(set(labels[rest].tolist())) > 1
            gone = rest if differ else rest[1:]
            counts["windows that are there twice" + (" with different labels" if differ else "")] += len(gone)
            splits[gone] = -1


def _write_tables(
    folder: TaskFolder,
    plan: TaskPlan,
    genome: StoredGenome,
    cut: Callable[[Mapping[str, Any]], Window | str],
    splits: np.ndarray,
) -> None:
    others = [name for name in plan.rows.column_names if name not in (*_PLACE, "label", "name")]
    with phase("Writing tables", unit="rows", total=int((splits >= 0).sum())) as writing:
        for number, split in enumerate(SPLITS):
            for block in _gather(plan.rows, np.flatnonzero(splits == number), cut):
                folder.write(split, _tabulate(block, plan.rows.schema, genome, others))
                writing.add(len(block))


def _gather(
    rows: pa.Table, chosen: np.ndarray, cut: Callable[[Mapping[str, Any]], Window | str]
) -> Iterator[list[tuple[dict[str, Any], Window]]]:
    """Yield rows with their windows, up to some megabytes of them."""
    gathered, size = [], 0
    for block in _stream(rows, chosen):
        for row in block:
            window = cut(row)
            assert isinstance(window, Window)  # it was one before
            gathered.append((row, window))
            size += len(window.sequence) + len(window.alternative or "")
            if size > _BYTES or len(gathered) >= _ROWS * 8:
                yield gathered
                gathered, size = [], 0
    if gathered:
        yield gathered


def _tabulate(
    block: list[tuple[dict[str, Any], Window]], schema: pa.Schema, genome: StoredGenome, others: Sequence[str]
) -> pa.Table:
    rows, windows = zip(*block)
    columns: dict[str, pa.Array] = {"sequence": pa.array([one.sequence for one in windows])}
    if windows[0].alternative is not None:
        columns["alternative"] = pa.array([one.alternative for one in windows])
    kind = schema.field("label").type if "label" in schema.names else pa.list_(pa.float32())
    columns["label"] = pa.array([one.label for one in windows], kind)
    columns["chrom"] = pa.array([genome.chroms[row["record"]] for row in rows])
    for name in ("start", "end"):
        columns[name] = pa.array([row[name] + genome.offsets[row["record"]] for row in rows], pa.int64())
    columns["strand"] = pa.array([row["strand"] for row in rows])
    if "name" in schema.names:
        columns["name"] = pa.array([row["name"] for row in rows], pa.string())
    for name in others:
        columns[name] = pa.array([row[name] for row in rows], schema.field(name).type)
    return pa.table(columns)


__all__ = [
    "MAX_N",
    "RESERVED",
    "Cutting",
    "Output",
    "TaskPlan",
    "Window",
    "centre",
    "centre_interval",
    "cut_window",
    "has_many_n",
    "write_task",
]
