"""A folder of labelled tables as a dataset on the Hub, as parquet, with card and checksums: `gengram dataset push`."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
from datasets import ClassLabel, Dataset
from huggingface_hub import DatasetCard, DatasetCardData

from gengram.errors import InputError
from gengram.files import hash_file, replace_whole
from gengram.genome.letters import MAX_NON_DNA, judge_rows
from gengram.genome.tables import read_rows, shorten
from gengram.loading.checkpoints import check_repo_id
from gengram.markdown import escape_text, format_code, format_fence, format_literal, format_table, render_template
from gengram.model_cards.card import check_license
from gengram.phases import phase
from gengram.training.data.class_names import name_classes
from gengram.training.data.labels import encode_labels, find_label_columns, read_labels
from gengram.training.data.task_notes import TASK_FILE, TaskNotes, name_remedies, read_task_notes
from gengram.training.publishing.inside import refuse_outsiders, tell_why_not
from gengram.training.publishing.scan import read_allowances, refuse_private
from gengram.training.publishing.upload import Upload

# First word of a file's name -> split.
_SPLITS = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "eval": "validation",
    "test": "test",
}
_TABLE = re.compile(r"(?P<split>[A-Za-z]+)(?:[_.-][^/]*)?\.(?:csv|tsv|jsonl|parquet|fna|fasta|fa)(?:\.gz)?")
_CONFIG = re.compile(r"[A-Za-z0-9][\w.-]*")
_IDENTIFIER = re.compile(r"[a-z0-9][a-z0-9.+-]*")  # of a licence on the Hub
_DEFAULT = "default"


def prepare_dataset(
    path: str | Path,
    repo_id: str,
    workspace: str | Path,
    *,
    license: str = "unknown",
    allow: Sequence[str] = (),
    max_non_dna: float = MAX_NON_DNA,
) -> Upload:
    """Convert a folder of tables to parquet, and check what a push would publish; needs no network.

    Args:
        path: folder with a table for each split, or with one such folder for each configuration, or with folders of
            those, whose configurations are called `BENCHMARK--TASK`. A `task.yaml` beside the tables, see
            `read_task_notes`, goes up with them; what it says is in the card, and the classes that it names are the
            names of the label's ids.
        repo_id: `organization/name`.
        workspace: an empty folder for the parquet files; it must stay until the upload is pushed.
        license: of the data, an identifier of the Hub. "unknown" is said as such, unless all tasks name the same.
        allow: what is private and may go up all the same, `KIND` or `KIND:FILE`, see `read_allowances`.
        max_non_dna: largest share of letters that are not DNA, see `LetterSurvey`.

    Raises:
        `InputError`: no tables, two for one split, a table that cannot be read, a link that leads out of the folder,
            splits of one configuration with different columns, an absolute path, a token, a key or a password in a
            row or in the card; a licence of several words; a label that is none of the classes.
    """
    check_repo_id(repo_id)
    check_license(license)
    read_allowances(allow)
    folder = Path(path)
    sources, left_out = _find_tables(folder)
    named = {source.relative_to(folder).as_posix(): source for splits in sources.values() for source in splits.values()}
    homes = {config: next(iter(splits.values())).parent for config, splits in sources.items()}
    told = {config: home / TASK_FILE for config, home in homes.items() if (home / TASK_FILE).is_file()}
    refuse_outsiders(named | {path.relative_to(folder).as_posix(): path for path in told.values()}, folder)
    notes = {config: read_task_notes(home) for config, home in homes.items()}
    files: dict[str, Path | bytes] = {}
    tables: dict[str, str] = {}
    described: list[dict[str, Any]] = []
    for config, splits in sources.items():
        first: tuple[Path, Dataset] | None = None
        sequence = notes[config].columns.get("sequence")
        assert not isinstance(sequence, tuple)  # labels alone are of several columns
        for split, source in splits.items():
            with phase("Reading tables", unit="rows") as reading, name_remedies():
                rows = _name_labels(read_rows(source, sequence), notes[config], source)
                judge_rows(rows, str(source), max_non_dna)
                reading.add(len(rows))
            if first is None:
                first = source, rows
            _compare_columns(*first, source, rows)
            name = f"{config}/{split}-00000-of-00001.parquet"
            target = Path(workspace) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with phase("Writing Parquet", unit="rows") as writing, replace_whole(target) as partial:
                rows.to_parquet(partial)
                writing.add(len(rows))
            files[name] = target
            tables[name] = source.relative_to(folder).as_posix()
            described.append(_describe(rows, config, split, source))
        if config in told:
            files[f"{config}/{TASK_FILE}"] = told[config]
    license = _choose_license(license, notes)
    card = _render_card(repo_id, described, notes, license)
    sums = {name: hash_file(content) for name, content in files.items() if isinstance(content, Path)}
    files["SHA256SUMS"] = "".join(f"{sums[name]}  {name}\n" for name in sorted(sums)).encode()
    files["README.md"] = str(card).encode()
    allowed = refuse_private(files, allow, source=folder, tables=tables)
    stale = tuple(
        f"{config}/{name}"
        for config in sources
        for name in (TASK_FILE, *(f"{split}-?????-of-?????.parquet" for split in dict.fromkeys(_SPLITS.values())))
    )
    return Upload(repo_id, folder, card, files, left_out, repo_type="dataset", stale=stale, allowed=allowed)


def _find_tables(folder: Path) -> tuple[dict[str, dict[str, Path]], dict[str, str]]:
    """Configuration -> split -> file, and what is no table of a split with the reason."""
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder (the tables of a dataset are the files of one folder)")
    tables, left_out = _find_splits(folder)
    if tables:
        return {_DEFAULT: tables}, left_out
    found: dict[str, dict[str, Path]] = {}
    for path in _list_folders(folder):
        tables, others = _find_splits(path)
        left_out |= {f"{path.name}/{name}": why for name, why in others.items()}
        if tables:
            found[path.name] = tables
            left_out.pop(path.name, None)
            continue
        for inner in _list_folders(path):
            tables, others = _find_splits(inner)
            left_out |= {f"{path.name}/{inner.name}/{name}": why for name, why in others.items()}
            if tables:
                found[f"{path.name}--{inner.name}"] = tables
                left_out.pop(path.name, None)
                left_out.pop(f"{path.name}/{inner.name}", None)
    if not found:
        raise InputError(
            f"{folder}: no tables here. Name them train, validation and test, with the ending .csv, .tsv, .jsonl or "
            ".parquet, plain or .gz."
        )
    return found, left_out


def _list_folders(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.is_dir() and _CONFIG.fullmatch(path.name)]


def _find_splits(folder: Path) -> tuple[dict[str, Path], dict[str, str]]:
    found: dict[str, Path] = {}
    left_out: dict[str, str] = {}
    for path in sorted(folder.iterdir()):
        match = _TABLE.fullmatch(path.name)
        split = _SPLITS.get(match["split"].lower()) if match else None
        if split is None or not path.is_file():
            if path.name != TASK_FILE or not path.is_file():
                left_out[path.name] = tell_why_not(path) or "no table of a split"
        elif split in found:
            raise InputError(f"{folder}: {found[split].name} and {path.name} are both the {split} split; keep one")
        else:
            found[split] = path
    return {split: found[split] for split in dict.fromkeys(_SPLITS.values()) if split in found}, left_out


def _name_labels(rows: Dataset, notes: TaskNotes, source: Path) -> Dataset:
    """Give the labels of one class a row the names that the task says, so that they are in the Parquet file."""
    if notes.classes is None or notes.problem not in (None, "single_label"):
        return rows
    wanted = notes.columns.get("label")
    columns = find_label_columns(rows, source, [wanted] if isinstance(wanted, str) else None)
    labels = read_labels(rows, columns, "single_label", source)
    named, _ = name_classes(labels, columns, notes.classes, notes.codes, str(source))
    return encode_labels(rows, dataclasses.replace(labels, names=named), list(notes.classes), columns, source)


def _choose_license(license: str, notes: Mapping[str, TaskNotes]) -> str:
    """Return the licence that all tasks name, where none is given and the Hub knows its name."""
    said = {each.licence.lower() for each in notes.values() if each.licence is not None}
    if license != "unknown" or len(said) != 1 or any(each.licence is None for each in notes.values()):
        return license
    (name,) = said
    return check_license(name) if _IDENTIFIER.fullmatch(name) else "other"


def _compare_columns(first: Path, expected: Dataset, path: Path, rows: Dataset) -> None:
    """Splits of one configuration have the same columns of the same types, or nobody can load them together."""
    for name in sorted(set(expected.features) | set(rows.features)):
        left, right = expected.features.get(name), rows.features.get(name)
        if left != right:
            raise InputError(
                f"{path}: column {name!r} is {_tell(right)}, but in {first} it is {_tell(left)}. All splits of a "
                "configuration need the same columns."
            )


def _tell(feature: Any) -> str:
    if isinstance(feature, ClassLabel):
        return f"one of {shorten(feature.names)}"
    return "missing" if feature is None else getattr(feature, "dtype", str(feature))


def _describe(rows: Dataset, config: str, split: str, source: Path) -> dict[str, Any]:
    lengths = pc.min_max(pc.utf8_length(rows.data.column("sequence"))).as_py()
    return {
        "config": config,
        "split": split,
        "rows": len(rows),
        "shortest": lengths["min"],
        "longest": lengths["max"],
        "columns": rows.column_names,
        "source": source.name,
        "sha256": hash_file(source)[:12],
    }


def _render_card(
    repo_id: str, tables: list[dict[str, Any]], notes: Mapping[str, TaskNotes], license: str
) -> DatasetCard:
    configs: dict[str, list[dict[str, str]]] = {}
    for table in tables:
        path = f"{table['config']}/{table['split']}-*"
        configs.setdefault(table["config"], []).append({"split": table["split"], "path": path})
    data = DatasetCardData(
        license=license,
        tags=["biology", "genomics", "dna"],
        pretty_name=repo_id.split("/")[-1],
        configs=[{"config_name": config, "data_files": files} for config, files in configs.items()],
    )
    named = [format_literal(name) for name in (repo_id, tables[0]["config"], tables[0]["split"])]
    usage = f"from datasets import load_dataset\n\nrows = load_dataset({named[0]}, {named[1]}, split={named[2]})"
    text = render_template(
        "gengram.model_cards",
        "dataset_template.md",
        card_data=data.to_yaml(),
        name=repo_id.split("/")[-1],
        usage=format_fence(usage, "python"),
        tables=_draw_tables(tables),
        tasks=_draw_tasks(notes),
        sequences=f"{sum(table['rows'] for table in tables):,}",
        configurations=len(configs),
        license=license,
    )
    return DatasetCard(text)


def _draw_tasks(notes: Mapping[str, TaskNotes]) -> str:
    """Return what the tasks say of themselves: a table, and what is known to be wrong with each."""
    told = {config: each for config, each in notes.items() if each != TaskNotes()}
    if not told:
        return ""
    head = ["configuration", "task", "classes", "licence", "assembly", "source"]
    rows = [
        [
            escape_text(config),
            escape_text(" ".join(text for text in (each.title, each.description) if text)),
            ", ".join(f"{number} {escape_text(name)}" for number, name in enumerate(each.classes or ())),
            escape_text(each.licence or "not stated"),
            escape_text(each.assembly or ""),
            escape_text(each.source or ""),
        ]
        for config, each in told.items()
    ]
    known = [f"- {escape_text(config)}: {escape_text(text)}" for config, each in told.items() for text in each.problems]
    return format_table(head, rows) + ("\n\nKnown problems:\n\n" + "\n".join(known) if known else "")


def _draw_tables(tables: list[dict[str, Any]]) -> str:
    head = ["configuration", "split", "rows", "length in bp", "columns", "made from", "SHA-256 of that"]
    rows = [
        [
            escape_text(table["config"]),
            table["split"],
            str(table["rows"]),
            f"{table['shortest']} to {table['longest']}",
            ", ".join(map(format_code, table["columns"])),
            escape_text(table["source"]),
            format_code(table["sha256"]),
        ]
        for table in tables
    ]
    return format_table(head, rows, numbers=[2])


__all__ = ["prepare_dataset"]
