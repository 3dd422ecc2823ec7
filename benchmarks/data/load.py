"""The rows of a benchmark task in one schema: from a folder, from the Hub's cache, or from the Hub.

Columns: `sequence` (string), `alternative` (string, of pairs only), `label` (`ClassLabel`, float32, or a list), and
what is known of `chrom`, `start`, `end` (from 0, the end not included), `strand` and `name`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
from datasets import ClassLabel, Dataset, DatasetDict, Features

from gengram.benchmarks.data.checks import Survey, survey_rows
from gengram.benchmarks.data.coding import Coding, code_rows
from gengram.benchmarks.data.copies import drop_copies
from gengram.benchmarks.data.folders import (
    SPLITS,
    find_folder,
    find_lone_table,
    find_splits,
    name_split,
    resolve_test_file,
)
from gengram.benchmarks.data.hub import Kind, fetch_files, find_config, load_tables, tell_script
from gengram.benchmarks.data.layouts import (
    PLACES,
    Wanted,
    arrange_layout,
    choose_task,
    divide_splits,
    read_layout,
)
from gengram.benchmarks.data.local import describe_task
from gengram.benchmarks.tasks.registry import find_task
from gengram.benchmarks.tasks.task import Task
from gengram.errors import InputError
from gengram.files import hash_file
from gengram.genome.columns import make_rows
from gengram.genome.tables import join_tables, shorten
from gengram.loading.checkpoints import is_hub_id
from gengram.phases import phase
from gengram.progress import tell
from gengram.training.data.labels import infer_problem
from gengram.training.data.sources import hash_texts
from gengram.training.data.task_notes import COLUMNS, NOTED, TaskNotes, name_remedies, read_task_notes
from gengram.training.problems import Problem


@dataclasses.dataclass(frozen=True)
class Source:
    """A file, or a split of a data set, that rows were read from.

    Attributes:
        split: which they are.
        file: its path; of a data set, its id and split.
        rows: how many of the task's rows it has.
        sha256: of the file's bytes; of a split of a data set, of its sequences, one a line.
        kind: `folder`, `cache` (it was on this machine before) or `hub`.
        revision: of a data set, where one is pinned.
    """

    split: str
    file: str
    rows: int
    sha256: str
    kind: Kind
    revision: str | None = None


@dataclasses.dataclass(frozen=True)
class LoadedTask:
    """The rows of a task, and what is known of them.

    Attributes:
        task: of the registry, or made of the folder.
        problem, classes: what is predicted, and the names of classes, labels or targets in the order of their ids.
        splits: the rows, in one schema.
        sources: where they are from.
        survey: what they are like.
        removed: rows that `dedup` took out, by split and reason; empty without it.
    """

    task: Task
    problem: Problem
    classes: tuple[str, ...]
    splits: DatasetDict
    sources: tuple[Source, ...]
    survey: Survey
    removed: dict[str, dict[str, int]]


@dataclasses.dataclass(frozen=True)
class _Part:
    """The raw rows of one split, and where they are from; `note` says which rows of several in a file they are."""

    table: pa.Table
    sources: tuple[Source, ...]
    note: str = ""

    @property
    def origin(self) -> str:
        return f"{self.sources[0].file}{f' and {len(self.sources) - 1} more' if self.sources[1:] else ''}{self.note}"


def load_task(
    name: str,
    *,
    data: str | Path | None = None,
    test_file: str | Path | None = None,
    revision: str | None = None,
    dedup: bool = False,
) -> DatasetDict:
    """Load the rows of a benchmark task, see `read_task`; what is to be known of them is told as a warning.

    Examples:
        >>> rows = load_task("GB/human_enhancers_cohn", data="benchmarks")  # doctest: +SKIP
        >>> rows["train"].features["label"].names  # doctest: +SKIP
        ['negative', 'positive']
    """
    loaded = read_task(name, data=data, test_file=test_file, revision=revision, dedup=dedup)
    for warning in loaded.survey.warnings:
        tell(f"{loaded.task.name}: {warning}")
    return loaded.splits


def read_task(
    name: str,
    *,
    data: str | Path | None = None,
    test_file: str | Path | None = None,
    revision: str | None = None,
    dedup: bool = False,
) -> LoadedTask:
    """Read the rows of a benchmark task into one schema, and survey them.

    Args:
        name: of the registry, such as `GB/human_enhancers_cohn`, or of a folder below `data`; a folder itself.
        data: a folder with a folder for each task, or that of the task; or the id of a data set of the Hub that has
            the task as a configuration, as `gengram dataset push` makes it. Without it the registry says which data set
            has the rows; the Hub's cache is looked at, then the Hub. The folder of a task has the files `train`, `test`
            (or `test_shared`, `test_heldout`) and perhaps `validation` (`valid`, `val`, `dev`, `eval`), as .csv, .tsv,
            .jsonl, .parquet or FASTA (`>name|label`), plain or .gz; or one table with a column `split`. A column `task`
            or `dataset` tells several tasks in a file apart. A file `task.yaml` says more, see `read_task_notes`.
            Labels are names of classes, or ids in the order of the classes.
        test_file: is the test instead, wherever it is.
        revision: of the data set of the Hub, instead of the one that the registry pins.
        dedup: take rows out of train (and validation) that the test has, see `drop_copies`.

    Raises:
        `InputError`: no such task, folder or file; no train or no test split; columns, sequences or labels that cannot
            be read, labels outside the classes: with file, row and remedy.
    """
    task = find_task(name) if data is None and not Path(name).is_dir() else _find_registered(name)
    names = list(dict.fromkeys([name, *([task.name, *task.aliases] if task else [])]))
    inner = list(dict.fromkeys(each.rpartition("/")[2] for each in names))
    folder: Path | None = None
    codes = None
    if data is None and Path(name).is_dir():
        folder = Path(name)
    elif data is not None and (Path(data).exists() or not is_hub_id(str(data))):
        folder, inner = find_folder(Path(data), names)
    test = None if test_file is None else resolve_test_file(test_file, folder)
    if folder is not None:
        return _load(name, task, folder, _read_folder(folder, inner, test), None, dedup)
    if data is not None:
        parts = _read_config(str(data), find_config(str(data), names, revision), inner, revision)
    else:
        assert task is not None
        parts, codes = _read_hub(task, inner, revision), task.codes
    if test is not None:
        parts["test"] = _read_files("test", [test], "folder", inner)
    return _load(name, task, None, parts, codes, dedup)


def read_files(
    name: str,
    *,
    train_file: str | Path,
    test_file: str | Path,
    validation_file: str | Path | None = None,
    dedup: bool = False,
) -> LoadedTask:
    """Read a task from one file a split, see `read_task`.

    Args:
        name: what it is called in reports.
        train_file, test_file, validation_file: tables, plain or .gz.
    """
    files = {"train": train_file, "validation": validation_file, "test": test_file}
    parts = {
        split: _read_files(split, [Path(file)], "folder", (name.rpartition("/")[2],))
        for split, file in files.items()
        if file is not None
    }
    return _load(name, None, None, parts, None, dedup)


def _find_registered(name: str) -> Task | None:
    try:
        return find_task(name)
    except InputError:  # A folder may have any name.
        return None


def _read_folder(folder: Path, inner: Sequence[str], test: Path | None) -> dict[str, _Part]:
    files = find_splits(folder, test)
    if set(files) - {"test"} or (files and test is None):
        half = {"train", "test"} - set(files)
        if len(half) == 1 and (missing := half.pop()):
            remedy = "test_file (--test_file) can name one elsewhere" if missing == "test" else "add train.csv"
            found = shorten([path.name for paths in files.values() for path in paths])
            raise InputError(
                f"{folder}: no file for the split {missing!r}; there is {found}. A task has the files train and test: "
                f"{remedy}"
            )
        return {split: _read_files(split, paths, "folder", inner) for split, paths in files.items()}
    lone = find_lone_table(folder)
    if lone is None:
        raise InputError(f"{folder}: no tables here; a task has the files train and test, as .csv, .tsv, .jsonl ...")
    part = _read_files("train", [lone], "folder", inner)
    parts = {}
    for split, table, note in divide_splits(part.table, part.origin, name_split):
        sources = tuple(dataclasses.replace(each, split=split, rows=table.num_rows) for each in part.sources)
        parts[split] = _Part(table, sources, part.note + note)
    if test is not None:
        parts["test"] = _read_files("test", [test], "folder", inner)
    return parts


def _read_files(
    split: str, paths: Sequence[Path], kind: Kind, inner: Sequence[str], revision: str | None = None
) -> _Part:
    tables, sources, note = [], [], ""
    for path in paths:
        table, note = choose_task(read_layout(path), str(path), inner)
        tables.append(table)
        sources.append(Source(split, str(path), table.num_rows, hash_file(path), kind, revision))
    try:
        joined = tables[0] if len(tables) == 1 else join_tables(tables)
    except pa.ArrowException as error:
        raise InputError(f"{paths[0]}: its columns and those of {paths[1].name} do not go together: {error}") from error
    return _Part(joined, tuple(sources), note)


def _read_hub(task: Task, inner: Sequence[str], revision: str | None) -> dict[str, _Part]:
    hub = task.hub
    if hub is None:
        how = f"make its rows with `gengram dataset build {task.builder}` and" if task.builder else "if you have them,"
        raise InputError(
            f"{task.name}: no data set of the Hub is known to have its rows; {how} give the folder (--data)"
        )
    if hub.script:
        raise InputError(tell_script(task))
    revision = revision or hub.revision
    if hub.data_files is not None:
        files, kind = fetch_files(hub, revision)
        return {split: _read_files(split, paths, kind, inner, revision) for split, paths in files.items()}
    try:
        return _read_config(hub.id, hub.config, inner, revision)
    except InputError as error:
        if "scripts are no longer supported" in str(error):
            raise InputError(tell_script(task)) from error
        raise


def _read_config(repo_id: str, config: str | None, inner: Sequence[str], revision: str | None) -> dict[str, _Part]:
    tables, kind = load_tables(repo_id, config, revision)
    parts = {}
    for split, table in tables.items():
        origin = f"{repo_id}{f', {config}' if config else ''} ({split})"
        chosen, note = choose_task(table, origin, inner)
        parts[split] = _Part(chosen, (Source(split, origin, chosen.num_rows, "", kind, revision),), note)
    return parts


def _load(
    name: str,
    task: Task | None,
    folder: Path | None,
    parts: dict[str, _Part],
    codes: Mapping[str, int] | None,
    dedup: bool,
) -> LoadedTask:
    """Arrange, code and survey the rows of all splits; `codes` are the numbers of the classes in files of the Hub."""
    notes = TaskNotes() if folder is None else read_task_notes(folder)
    told = {column: getattr(task.columns, column) for column in COLUMNS} if task else {}
    wanted = Wanted(**{**told, **notes.columns})
    arranged: dict[str, tuple[Dataset, list[str]]] = {}
    with phase("Reading a task", unit="rows") as reading, name_remedies():
        for split in (split for split in SPLITS if split in parts):
            arranged[split] = arrange_layout(parts[split].table, parts[split].origin, wanted)
            reading.add(len(arranged[split][0]))
    if task is not None and task.columns.alternative is not None:
        _refuse_single(task, arranged, parts)
    with name_remedies():
        coding = _find_coding(task, notes, arranged, parts, codes)
    coded, warnings = dict[str, Dataset](), list[str]()
    for split, (rows, columns) in arranged.items():
        with name_remedies():
            coded[split], classes, by_number = code_rows(rows, columns, coding, parts[split].origin)
        coding = dataclasses.replace(coding, classes=classes)
        if by_number and parts[split].sources[0].kind != "folder" and not warnings:
            warnings.append(
                f"labels of {parts[split].origin} are numbers, and nobody has established which class each is: they "
                f"are taken for {', '.join(f'{number} {one!r}' for number, one in enumerate(classes[:8]))}"
            )
    coded = _unify(coded, parts)
    if task is not None and task.outputs is not None and len(coding.classes or ()) != task.outputs:
        what = "classes" if coding.problem == "single_label" else "labels a row"
        warnings.append(f"{len(coding.classes or ())} {what}, {task.outputs} were published")
    removed: dict[str, dict[str, int]] = {}
    if dedup:
        coded, removed = drop_copies(coded)
        for split, counts in removed.items():
            if sum(counts.values()):
                counted = ", ".join(
                    f"{count:,} {reason.replace('_', ' ')}" for reason, count in counts.items() if count
                )
                tell(f"{name}: --dedup takes {sum(counts.values()):,} rows out of {split} ({counted})")
            if not len(coded[split]):
                raise InputError(f"{name}: --dedup leaves no row of {split}; all are in the test, too")
    assert coding.classes is not None
    classes = tuple(coding.classes)
    origins = {split: part.origin for split, part in parts.items()}
    published: dict[str, int | None] = {
        split: count for each in (task.rows if task else {}, notes.rows) for split, count in each.items()
    }
    lengths = (task.length.min, task.length.max) if task else (None, None)
    survey = survey_rows(coded, origins, coding.problem, classes, published, lengths)
    survey.warnings[:0] = warnings
    sources = tuple(
        each if each.sha256 else dataclasses.replace(each, sha256=hash_texts(arranged[split][0]))
        for split in coded
        for each in parts[split].sources
    )
    task = describe_task(name, task, notes, coding.problem, classes, survey)
    return LoadedTask(task, coding.problem, classes, DatasetDict(coded), sources, survey, removed)


def _refuse_single(task: Task, arranged: dict[str, tuple[Dataset, list[str]]], parts: dict[str, _Part]) -> None:
    """References alone do not tell a variant: their scores would be taken for those of the pairs."""
    if any("alternative" in rows.column_names for rows, _ in arranged.values()):
        return
    part = next(parts[split] for split in arranged)
    raise InputError(
        f"{part.origin}: no column of alternative sequences, and {task.name} is of pairs; the file's columns are "
        f"{shorten(part.table.column_names)}. Name the right one with `columns: {{alternative: NAME}}` in {NOTED}"
    )


def _find_coding(
    task: Task | None,
    notes: TaskNotes,
    arranged: dict[str, tuple[Dataset, list[str]]],
    parts: dict[str, _Part],
    codes: Mapping[str, int] | None,
) -> Coding:
    """Return what labels mean: as the folder says, else the registry, else the rows of the first split."""
    split = next(iter(arranged))
    problem = notes.problem or (task.problem if task else None)
    problem = problem or infer_problem(*arranged[split], parts[split].origin)
    classes = notes.classes or (task.classes if task else None)
    if classes is None and problem == "single_label":
        # The order of a pushed task's classes is theirs.
        feature = arranged[split][0].features[arranged[split][1][0]]
        classes = tuple(feature.names) if isinstance(feature, ClassLabel) and feature.names else None
    return Coding(problem, classes, codes or notes.codes)


def _unify(coded: dict[str, Dataset], parts: dict[str, _Part]) -> dict[str, Dataset]:
    """Give all splits the same columns: what is known of places and names only in some of them is left out."""
    if len({"alternative" in rows.column_names for rows in coded.values()}) > 1:
        without = next(split for split, rows in coded.items() if "alternative" not in rows.column_names)
        raise InputError(
            f"{parts[without].origin}: no column with the alternative sequences, which other splits have; rows of a "
            "pair task have both in every split"
        )
    common = [name for name in PLACES if all(name in rows.column_names for rows in coded.values())]
    first = next(iter(coded.values()))
    names = ["sequence", *(["alternative"] if "alternative" in first.column_names else []), "label", *common]
    return {
        split: make_rows(
            rows.data.table.select(names).replace_schema_metadata(None),
            Features({name: rows.features[name] for name in names}),
        )
        for split, rows in coded.items()
    }


__all__ = ["LoadedTask", "Source", "load_task", "read_files", "read_task"]
