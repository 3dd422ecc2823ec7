"""What is a benchmark task? Where its rows are, what they look like, how it is judged, and what nobody has looked up.

A task is a YAML file, `rows/<benchmark>/<task>.yaml`, whose keys are the attributes of `Task` but `name` and
`benchmark`, which the file's place says. No fact is made up: what no source gives is null and listed in `unverified`,
what somebody has written down from memory is listed in `recalled`.
"""

import dataclasses
import re
from pathlib import Path
from typing import Any, Literal

from gengram.benchmarks.tasks.schema import make
from gengram.errors import InputError
from gengram.loading.faults import tell_faults
from gengram.training.problems import METRICS, Problem
from gengram.training.yaml_files import read_yaml

Benchmark = Literal["GB", "NTB", "NTB-revised", "LRB", "GeB", "GUE", "GENA", "other"]
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
_COMMIT = re.compile(r"[0-9a-f]{40}")
# Facts that are null only where the file lists them in `unverified`.
FACTS = (
    "hub.revision",
    "classes",
    "outputs",
    "codes",
    "length.min",
    "length.median",
    "length.max",
    "licence",
    "assembly",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hub:
    """Where the rows are on the Hub.

    Attributes:
        id: of the data set.
        revision: the commit, 40 hexadecimal digits; None: not established, the newest is read.
        config: None: the only one.
        data_files: split -> pattern inside the repository; None: the repository says which files a split has.
        script: whether it has nothing but a loading script, which `datasets` does not run any more.
    """

    id: str
    revision: str | None = None
    config: str | None = None
    data_files: dict[Split, str] | None = None
    script: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Columns:
    """How the columns are called in the published files; None: there is none.

    Attributes:
        sequence: of a pair, the reference.
        alternative: the other sequence of a pair.
        label: one column, or several.
        name, chrom, start, end, strand: where a row comes from.
    """

    sequence: str = "sequence"
    alternative: str | None = None
    label: str | tuple[str, ...] = "label"
    name: str | None = None
    chrom: str | None = None
    start: str | None = None
    end: str | None = None
    strand: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Length:
    """Of a sequence, in bases; None: not known."""

    min: int | None = None
    median: int | None = None
    max: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """A benchmark task.

    Attributes:
        name: benchmark/task: `GB/human_enhancers_cohn`.
        benchmark: that it belongs to; `other`: what is near a benchmark and not a part of it.
        title: a line.
        problem: what is to be predicted.
        hub: where its rows are; None: on no data set of the Hub that is known.
        columns: of the published files.
        classes: names of classes or labels; our ids are their order. None: nobody has established what they mean.
        outputs: how many classes, labels or numbers a row (a base, of a token task) has.
        codes: class -> number in the files of the Hub; None: nobody has looked.
        rows: split -> how many rows, None where not known. A split that is not here does not exist.
        length: of a sequence.
        metric: by which a score is told first, a name of `gengram.training.problems.METRICS`.
        metrics_elsewhere: publication -> its metric.
        protocol: how the publication judged a model.
        head: of the protocol `genos-probe`.
        licence: an SPDX id, or the name of another licence.
        licence_note: what else is known of it.
        assembly: of the genome.
        source: where the facts were read.
        description: what the classes are, how the rows were made.
        test_chromosomes, validation_chromosomes: that were held out.
        problems: known ones: traps, leaks, duplicates, imbalance.
        aliases: other names, as in papers and in folders; each names one task only.
        unverified: facts that no source gives: `codes`, `rows.test`, `length.median`.
        recalled: facts from memory of a publication, not read again.
        builder: `gengram dataset build KIND` that makes such rows.
    """

    name: str
    benchmark: str
    title: str
    problem: Problem
    metric: str
    hub: Hub | None = None
    columns: Columns = Columns()
    classes: tuple[str, ...] | None = None
    outputs: int | None = None
    codes: dict[str, int] | None = None
    rows: dict[Split, int | None] = dataclasses.field(default_factory=dict)
    length: Length = Length()
    metrics_elsewhere: dict[str, str] = dataclasses.field(default_factory=dict)
    protocol: str | None = None
    head: Literal["mlp", "xgboost"] = "mlp"
    licence: str | None = None
    licence_note: str | None = None
    assembly: str | None = None
    source: str | None = None
    description: str | None = None
    test_chromosomes: tuple[str, ...] | None = None
    validation_chromosomes: tuple[str, ...] | None = None
    problems: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    unverified: tuple[str, ...] = ()
    recalled: tuple[str, ...] = ()
    builder: str | None = None

    @property
    def short(self) -> str:
        """The name without the benchmark."""
        return self.name.partition("/")[2]


def make_task(data: Any, name: str, place: str) -> Task:
    """Return the task that a file describes.

    Args:
        data: the file's keys and values.
        name: benchmark/task; for a folder that is no published task, any.
        place: the file, for messages.

    Raises:
        `InputError`: a key that there is not, a value of the wrong kind, or two that contradict each other.
    """
    if not isinstance(data, dict):
        raise InputError(f"{place}: this should be a mapping of the attributes of a task to their values")
    for key in ("name", "benchmark"):
        if key in data:
            raise InputError(f"{place}: the key {key!r} is not for the file, its place says it ({name})")
    task = make(Task, {**data, "name": name, "benchmark": name.partition("/")[0]}, place)
    if task.outputs is None and task.classes is not None:
        task = dataclasses.replace(task, outputs=len(task.classes))
    check_task(task, place)
    return task


def read_task_file(path: Path, name: str) -> Task:
    """Return the task of a YAML file that a user has written, such as the `task.yaml` of a folder of tables.

    Raises:
        `InputError`: it cannot be read, or says what a task cannot be.
    """
    node, loader = read_yaml(path)
    with tell_faults(f"{path}: cannot be read as YAML"):
        data = {} if node is None else loader.construct_document(node)
    return make_task(data, name, str(path))


def get_fact(task: Task, key: str) -> Any:
    """Return the value of a fact by its key with dots: `rows.test`, `hub.revision`; None where there is none."""
    value: Any = task
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else getattr(value, part, None)
    return value


def list_unknown_facts(task: Task) -> list[str]:
    """Return the facts that a published task has and that are not known, in the order of the class."""
    facts = [*FACTS, *(f"rows.{split}" for split in task.rows)]
    if task.hub is None:
        facts = [fact for fact in facts if fact not in ("hub.revision", "codes")]
    if task.problem == "regression":
        facts = [fact for fact in facts if fact not in ("classes", "codes")]
    return [fact for fact in facts if get_fact(task, fact) is None]


def check_task(task: Task, place: str) -> None:
    """Refuse a task that contradicts itself.

    Raises:
        `InputError`: with the key.
    """

    def refuse(key: str, why: str) -> None:
        raise InputError(f"{place}, {key}: {why}")

    if task.metric not in METRICS[task.problem] or task.metric == "loss":
        known = ", ".join(name for name in METRICS[task.problem] if name != "loss")
        refuse("metric", f"{task.metric!r} is no score of a {task.problem} task, which are {known}")
    if task.classes is not None:
        if task.problem == "regression":
            refuse("classes", "a regression has none")
        if len(set(task.classes)) < len(task.classes):
            refuse("classes", "a name is there twice")
        if task.outputs != len(task.classes):
            refuse("outputs", f"{task.outputs} for {len(task.classes)} classes")
    if task.outputs is not None and task.outputs < 1:
        refuse("outputs", f"{task.outputs} should be at least 1")
    if task.codes is not None:
        if task.classes is None or set(task.codes) != set(task.classes):
            refuse("codes", "these are not the classes of the task")
        if len(set(task.codes.values())) < len(task.codes):
            refuse("codes", "two classes have one number")
    if task.hub is not None and task.hub.revision is not None and not _COMMIT.fullmatch(task.hub.revision):
        refuse("hub.revision", f"{task.hub.revision!r} should be a commit of 40 hexadecimal digits")
    for split, count in task.rows.items():
        if count is not None and count < 0:
            refuse(f"rows.{split}", f"{count} is no number of rows")
    lengths = [value for value in dataclasses.astuple(task.length) if value is not None]
    if lengths != sorted(lengths) or any(value < 1 for value in lengths):
        refuse("length", "min, median and max should be at least 1 and in this order")
    for key in ("unverified", "recalled"):
        for fact in getattr(task, key):
            first, _, second = fact.partition(".")
            there = second in SPLITS if first == "rows" else hasattr(task, first)
            if not there or (first == "length" and second and not hasattr(task.length, second)):
                refuse(key, f"a task has no {fact!r}")
    for fact in task.unverified:
        if get_fact(task, fact) is not None:
            refuse("unverified", f"{fact!r} has a value; where it is from memory, list it in `recalled`")
    for fact in task.recalled:
        if get_fact(task, fact) is None:
            refuse("recalled", f"{fact!r} has no value")


__all__ = [
    "FACTS",
    "SPLITS",
    "Benchmark",
    "Columns",
    "Hub",
    "Length",
    "Split",
    "Task",
    "check_task",
    "get_fact",
    "list_unknown_facts",
    "make_task",
    "read_task_file",
]
