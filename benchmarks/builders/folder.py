"""The folder of a task that was built: a table a split, `task.yaml` for the registry, and a card with the numbers.

The folder appears when all of it is written. The same command gives the same bytes.
"""

import csv
import gzip
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from gengram.errors import InputError
from gengram.files import check_output_folder, hash_file, make_whole
from gengram.markdown import escape_text, format_code, format_table
from gengram.progress import tell

SPLITS = ("train", "validation", "test")
TASK_FILE, CARD_FILE = "task.yaml", "README.md"
_PLACES = ("name", "chrom", "start", "end", "strand")


@dataclass(frozen=True)
class Recipe:
    """What a task is, for its `task.yaml` and its card.

    Attributes:
        kind: the word behind `gengram dataset build`.
        title: a line.
        description: what a row is, what the classes are, how rows were found; sentences.
        classes: names; their order is that of the ids. None for a regression.
        problem, metric: see `gengram.benchmarks.tasks.task.Task`.
        label: the column, or columns, of the labels.
        alternative: the column of the other sequence of a pair.
        files: what was read, for the card.
        settings: that the rows depend on, for the card.
        problems: traps that somebody who uses the task should know.
        assembly, license: as the user says.
        test_contigs, validation_contigs: that the user has named.
    """

    kind: str
    title: str
    description: str
    classes: Sequence[str] | None
    problem: str = "single_label"
    metric: str = "auroc"
    label: str | Sequence[str] = "label"
    alternative: str | None = None
    files: Sequence[str | Path] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    problems: Sequence[str] = ()
    assembly: str | None = None
    license: str | None = None
    test_contigs: Sequence[str] | None = None
    validation_contigs: Sequence[str] | None = None


@dataclass(frozen=True)
class Built:
    """A task that was built: its folder, and what there is to tell, as text and as JSON."""

    folder: Path
    facts: dict[str, Any]

    def describe(self) -> str:
        """Return the number of rows by split and class, and what was left out, as text."""
        counts = self.facts["rows"]
        names = self.facts["classes"] or ["rows"]
        rows = [["", *counts]]
        rows += [[name, *(f"{one['classes'].get(name, one['rows']):,}" for one in counts.values())] for name in names]
        if self.facts["classes"]:
            rows.append(["all", *(f"{one['rows']:,}" for one in counts.values())])
        widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))])
            for row in rows
        ]
        left_out = [f"left out: {count:,} {why}" for why, count in self.facts["left_out"].items() if count]
        return "\n".join([str(self.folder), "", *lines, "", *left_out]).rstrip()


class TaskFolder:
    """The tables of a task while they are written.

    Attributes:
        path: the folder, not whole yet.
    """

    def __init__(self, path: Path, format: str, recipe: Recipe, closing: ExitStack):
        self.path, self.recipe = path, recipe
        self._format, self._closing = format, closing
        self._writers: dict[str, Any] = {}
        self._files: dict[str, Path] = {}
        self._counts: dict[str, Counter] = {}
        self._lengths: dict[str, list[np.ndarray]] = {}
        self._columns: list[str] = []

    def write(self, split: str, rows: pa.Table) -> None:
        """Write some rows of a split.

        Args:
            split: one of `SPLITS`.
            rows: `sequence`, the labels (text: names of classes, or numbers), and what else is known of a row, such as
                `chrom`, `start` and `end` (int64, from 0, half-open), `strand` and `name`; always the same columns.
        """
        if not len(rows):
            return
        if split not in self._writers:
            self._open(split, rows)
        self._writers[split](rows)
        counts = self._counts[split]
        counts["rows"] += len(rows)
        if self.recipe.problem == "single_label":
            counts.update({("class", name): count for name, count in Counter(rows["label"].to_pylist()).items()})
        self._lengths[split].append(np.array([len(one) for one in rows["sequence"].to_pylist()], dtype=np.int64))

    def _open(self, split: str, rows: pa.Table) -> None:
        path = self._files[split] = self.path / f"{split}.{self._format}"
        self._counts[split], self._lengths[split] = Counter(), []
        self._columns = rows.column_names
        if self._format == "parquet":
            writer = self._closing.enter_context(pq.ParquetWriter(path, rows.schema, compression="zstd"))
            self._writers[split] = writer.write_table
            return
        # Without a name and a time, the same rows are the same bytes.
        packed = self._closing.enter_context(_open_packed(path))
        text = self._closing.enter_context(io.TextIOWrapper(packed, encoding="utf-8", newline=""))
        table = csv.writer(text, lineterminator="\n")
        table.writerow(rows.column_names)

        def write(part: pa.Table) -> None:
            table.writerows(zip(*(column.to_pylist() for column in part.columns)))

        self._writers[split] = write

    def finish(self, left_out: Mapping[str, int], remarks: Sequence[str]) -> dict[str, Any]:
        """Write `task.yaml` and the card after the last rows; returns the facts."""
        self._closing.close()
        splits = [split for split in SPLITS if split in self._counts]
        for split in SPLITS:
            if split not in splits and split != "validation":
                raise InputError(
                    f"no row is left for the {split} split: {_tell_left_out(left_out)}; change what is left out, or "
                    "how rows are divided (--block, --test_share, --test_contigs)"
                )
        classes = list(self.recipe.classes or ())
        rows: dict[str, dict[str, Any]] = {
            split: {
                "rows": self._counts[split]["rows"],
                "classes": {name: self._counts[split]["class", name] for name in classes}
                if self.recipe.problem == "single_label"
                else {},
            }
            for split in splits
        }
        notes = list(remarks)
        for split, one in rows.items():
            lacking = [name for name, count in one["classes"].items() if not count]
            notes += [f"the {split} split has no row of class {name}" for name in lacking]
        for note in notes:
            tell(note)
        lengths = np.sort(np.concatenate([part for parts in self._lengths.values() for part in parts]))
        facts = {
            "title": self.recipe.title,
            "classes": classes or None,
            "rows": rows,
            "length": {"min": int(lengths[0]), "median": int(lengths[len(lengths) // 2]), "max": int(lengths[-1])},
            "left_out": {why: int(count) for why, count in left_out.items()},
            "remarks": notes,
            "sources": _hash_files(self.recipe.files),
            "settings": dict(self.recipe.settings),
            "files": {path.name: hash_file(path) for path in self._files.values()},
        }
        (self.path / TASK_FILE).write_text(self._draw_task(facts), encoding="utf-8")
        (self.path / CARD_FILE).write_text(self._draw_card(facts), encoding="utf-8")
        return facts

    def _draw_task(self, facts: Mapping[str, Any]) -> str:
        recipe = self.recipe
        label = recipe.label if isinstance(recipe.label, str) else list(recipe.label)
        columns = {"sequence": "sequence", "label": label}
        if recipe.alternative:
            columns["alternative"] = recipe.alternative
        columns |= {name: name for name in _PLACES if name in self._columns}
        content = {
            "title": recipe.title,
            "problem": recipe.problem,
            "metric": recipe.metric,
            "columns": columns,
            "classes": facts["classes"],
            "rows": {split: one["rows"] for split, one in facts["rows"].items()},
            "length": facts["length"],
            "licence": recipe.license,
            "assembly": recipe.assembly,
            "source": "built from " + ", ".join(facts["sources"]) if facts["sources"] else None,
            "description": recipe.description,
            "test_chromosomes": list(recipe.test_contigs) if recipe.test_contigs else None,
            "validation_chromosomes": list(recipe.validation_contigs) if recipe.validation_contigs else None,
            "problems": list(recipe.problems) or None,
            "builder": recipe.kind,
        }
        content = {key: value for key, value in content.items() if value is not None}
        return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=110)

    def _draw_card(self, facts: Mapping[str, Any]) -> str:
        recipe = self.recipe
        splits = list(facts["rows"])
        by_class = {split: one["classes"] for split, one in facts["rows"].items()}
        table = [
            [escape_text(name), *(f"{by_class[split][name]:,}" for split in splits)]
            for name in (facts["classes"] or ())
            if all(by_class.values())
        ]
        table.append(["all", *(f"{facts['rows'][one]['rows']:,}" for one in splits)])
        length = facts["length"]
        parts = [
            f"# {escape_text(recipe.title)}",
            escape_text(recipe.description),
            format_table(["class", *splits], table, range(1, len(splits) + 1)),
            f"Length in bp: {length['min']:,} to {length['max']:,}, median {length['median']:,}.",
        ]
        if left := {why: count for why, count in facts["left_out"].items() if count}:
            cells = [[escape_text(why), f"{count:,}"] for why, count in left.items()]
            parts.append(format_table(["left out", "rows"], cells, [1]))
        if lines := [*recipe.problems, *facts["remarks"]]:
            parts.append("## Know this\n\n" + "\n".join(f"- {escape_text(line)}" for line in lines))
        made = [[format_code(name), format_code(digest)] for name, digest in facts["sources"].items()]
        settings = [[format_code(name), format_code(value)] for name, value in facts["settings"].items()]
        parts.append(
            f"## How it was made\n\n`gengram dataset build {recipe.kind}`, from\n\n"
            + format_table(["file", "SHA-256"], made)
            + "\n\n"
            + format_table(["setting", "value"], settings)
        )
        columns = ", ".join(map(format_code, self._columns))
        parts.append(
            f"Columns: {columns}. `start` and `end` count from 0, the end is not included; a row of strand `-` is the "
            "reverse complement."
        )
        parts.append(f"Licence: {escape_text(recipe.license or 'not stated')}.")
        return "\n\n".join(parts) + "\n"


def _hash_files(files: Sequence[str | Path]) -> dict[str, str]:
    """Return the checksum of each file by its name, with that of its folder where two have one name."""
    names = Counter(Path(file).name for file in files)
    paths = map(Path, files)
    return {
        path.name if names[path.name] == 1 else f"{path.parent.name}/{path.name}": hash_file(path) for path in paths
    }


@contextmanager
def _open_packed(path: Path) -> Iterator[gzip.GzipFile]:
    with open(path, "wb") as stream, gzip.GzipFile(filename="", mode="wb", fileobj=stream, mtime=0) as packed:
        yield packed


@contextmanager
def make_task_folder(
    out: str | Path, name: str, recipe: Recipe, format: str = "csv.gz", overwrite: bool = False
) -> Iterator[TaskFolder]:
    """Give the folder of a task to write to; it is there when the block ends, after an error it is not.

    Args:
        out: the folder of tasks.
        name: of the task and its folder.
        recipe: what the task is.
        format: `csv.gz` or `parquet`.
        overwrite: whether a task that an earlier run has built may be replaced.

    Raises:
        `InputError`: see `check_task_folder`.
    """
    folder = check_task_folder(out, name, overwrite)
    with make_whole(folder) as partial, ExitStack() as closing:
        yield TaskFolder(partial, format, recipe, closing)


def check_task_folder(out: str | Path, name: str, overwrite: bool = False) -> Path:
    """Return the folder of a task that is going to be built, before anything is read for it.

    Raises:
        `InputError`: it cannot be written, holds a task and may not be replaced, or holds something else.
    """
    check_output_folder(out)
    folder = check_output_folder(Path(out) / name, TASK_FILE, overwrite)
    if folder.is_dir() and any(folder.iterdir()) and not (folder / TASK_FILE).is_file():
        raise InputError(
            f"{folder}: something else is there, and no task that was built. Choose another --out or --name."
        )
    return folder


def _tell_left_out(left_out: Mapping[str, int]) -> str:
    told = [f"{count:,} {why}" for why, count in left_out.items() if count]
    return ("left out were " + ", ".join(told)) if told else "too few were found"


__all__ = ["CARD_FILE", "SPLITS", "TASK_FILE", "Built", "Recipe", "TaskFolder", "check_task_folder", "make_task_folder"]
