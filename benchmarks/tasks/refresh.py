"""What does the Hub say of the tasks now? Revision, licence, sizes and classes are asked for; no rows are fetched."""

import dataclasses
import datetime
import fnmatch
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HTTPError, RepositoryNotFoundError

from gengram.benchmarks.tasks.overlay import Facts, update_task, write_overlay
from gengram.benchmarks.tasks.task import SPLITS, Split, Task
from gengram.command_line import Answer
from gengram.errors import InputError
from gengram.loading.faults import tell_error, tell_faults
from gengram.loading.hub import can_reach_hub
from gengram.phases import phase
from gengram.printable import shorten
from gengram.progress import tell

_SPLITS: dict[str, Split] = {"valid": "validation", "val": "validation", "dev": "validation", "eval": "validation"}
_SPLITS |= {split: split for split in SPLITS}


def refresh_tasks(tasks: Sequence[Task], out: Path | None = None) -> Answer:
    """Ask the Hub about the data sets of tasks, answer with what it says, and write that into a file for the registry.

    Args:
        tasks: those that are on no data set are left out.
        out: a YAML file (`gengram.benchmarks.tasks.overlay`); None: nothing is written.

    Returns:
        `data` has `tasks` (name -> facts), `notes` (name -> what differs or could not be asked), `failed` (data set ->
        why it did not answer), `configs` (data set -> its configs) and `out`.

    Raises:
        `InputError`: the Hub cannot be reached, or must not be; nothing is written.
    """
    if constants.HF_HUB_OFFLINE:
        raise InputError("HF_HUB_OFFLINE is set, so the Hub cannot be asked; unset it. Nothing was written")
    if not can_reach_hub():
        raise InputError(
            f"{constants.ENDPOINT} cannot be reached from here, and --refresh asks it. Nothing was written"
        )
    groups: dict[str, list[Task]] = {}
    for task in tasks:
        if task.hub is not None:
            groups.setdefault(task.hub.id, []).append(task)
    facts: dict[str, Facts] = {}
    notes: dict[str, list[str]] = {}
    failed: dict[str, str] = {}
    configs: dict[str, list[str]] = {}
    with phase("Asking the Hub", "data sets", len(groups)) as asking:
        for id, members in groups.items():
            try:
                answered = _ask(id)
            except InputError as error:
                failed[id] = str(error)
            else:
                configs[id] = answered.configs
                for task in members:
                    facts[task.name], notes[task.name] = _find_facts(task, answered)
            asking.add(1)
    if out is not None and facts:
        today = datetime.datetime.now(datetime.timezone.utc).date()
        write_overlay(facts, out, f"Facts of {len(facts)} tasks, asked of {constants.ENDPOINT} on {today}.")
        tell(f"{out}: facts of {len(facts)} tasks")
    written = None if out is None or not facts else str(out)
    data = {
        "tasks": {name: dataclasses.asdict(one) for name, one in facts.items()},
        "notes": {name: said for name, said in notes.items() if said},
        "failed": failed,
        "configs": configs,
        "out": written,
    }
    return Answer("\n".join(_tabulate(tasks, facts, notes, failed, written)), data)


@dataclasses.dataclass(frozen=True)
class _Repository:
    id: str
    revision: str
    licence: str | None
    configs: list[str]
    sizes: dict[str, dict[str, int]]  # config -> split -> rows, as the card says
    files: list[str]


def _ask(id: str) -> _Repository:
    with _tell_hub_faults(id):
        info = HfApi().dataset_info(id)
    card = info.card_data.to_dict() if info.card_data is not None else {}
    licence = card.get("license")
    sizes: dict[str, dict[str, int]] = {}
    described = card.get("dataset_info") or []
    for entry in described if isinstance(described, list) else [described]:
        if isinstance(entry, dict):
            splits = [split for split in entry.get("splits") or [] if isinstance(split, dict)]
            sizes[str(entry.get("config_name", "default"))] = {
                str(split.get("name")): split["num_examples"]
                for split in splits
                if isinstance(split.get("num_examples"), int)
            }
    listed = card.get("configs") or []
    names = [str(one["config_name"]) for one in listed if isinstance(one, dict) and "config_name" in one]
    return _Repository(
        id=id,
        revision=str(info.sha),
        licence=licence if isinstance(licence, str) else None,
        configs=names or list(sizes),
        sizes=sizes,
        files=[sibling.rfilename for sibling in info.siblings or []],
    )


def _find_facts(task: Task, answered: _Repository) -> tuple[Facts, list[str]]:
    """What the repository says of one of its tasks, and what is odd about it."""
    assert task.hub is not None
    notes: list[str] = []
    licence = answered.licence
    if licence is not None and task.licence is not None:
        if licence.casefold() != task.licence.casefold():
            notes.append(f"licence {licence}, here {task.licence}")
        else:
            licence = task.licence
    rows: dict[Split, int] = {}
    names: list[str] | None = None
    if task.hub.script and not any(name.endswith(".parquet") for name in answered.files):
        notes.append("a loading script only: sizes and classes cannot be asked")
    else:
        try:
            rows, names = _describe(task, answered)
        except InputError as error:
            notes.append(str(error))
    for split, count in rows.items():
        if (known := task.rows.get(split)) is not None and known != count:
            notes.append(f"{split} {count:,} rows, here {known:,}")
        elif task.rows and split not in task.rows:
            notes.append(f"{split} {count:,} rows, a split that is not known here")
    classes = codes = None
    if names:
        if task.classes is None and task.outputs in (None, len(names)) and len(set(names)) == len(names):
            classes = tuple(sorted(names))
        if set(names) == set(task.classes or classes or ()):
            codes = {name: number for number, name in enumerate(names)}
        if codes is None or (task.codes is not None and task.codes != codes):
            notes.append(f"classes {', '.join(names)}, here {_show_classes(task)}")
    facts = Facts(revision=answered.revision, rows=rows or None, licence=licence, classes=classes, codes=codes)
    try:
        update_task(task, facts, "the Hub")
    except InputError as error:
        notes.append(shorten(f"left out, {error}", 200))
        facts = Facts(revision=answered.revision)
    return facts, notes


def _show_classes(task: Task) -> str:
    if task.codes is not None:
        return ", ".join(sorted(task.codes, key=lambda name: (task.codes or {})[name]))
    return ", ".join(task.classes) if task.classes else f"{task.outputs or '?'} without names"


def _describe(task: Task, answered: _Repository) -> tuple[dict[Split, int], list[str] | None]:
    """Rows of the splits, and the names of classes in the order of their numbers, where the repository has them."""
    from datasets import ClassLabel, load_dataset_builder

    hub = task.hub
    assert hub is not None
    data_files: Any = None
    config = hub.config
    if hub.data_files is not None:
        lacking = [
            pattern for pattern in hub.data_files.values() if not fnmatch.filter(answered.files, pattern)
        ]  # fmt: skip
        if lacking:
            raise InputError(f"there is no file {lacking[0]}")
        data_files, config = dict(hub.data_files), None
    with tell_faults("datasets cannot read the repository"):
        builder = load_dataset_builder(answered.id, config, data_files=data_files, revision=answered.revision)
    rows = {name: split.num_examples for name, split in (builder.info.splits or {}).items()}
    if hub.data_files is None:
        rows = rows or answered.sizes.get(config or "default", {})
    found: Any = builder.config.data_files or {}
    for split, files in found.items():
        if split not in rows and all(str(file).endswith(".parquet") for file in files):
            rows[str(split)] = sum(_count_rows(str(file)) for file in files)
    column = task.columns.label
    feature = (builder.info.features or {}).get(column) if isinstance(column, str) else None
    names = list(feature.names) if isinstance(feature, ClassLabel) else None
    return {_SPLITS[name]: count for name, count in rows.items() if name in _SPLITS and count is not None}, names


def _count_rows(address: str) -> int:
    """Rows of a Parquet file on the Hub: its last bytes say."""
    import pyarrow.parquet
    from huggingface_hub import HfFileSystem

    with tell_faults(f"{address}: its size cannot be read"), HfFileSystem().open(address, "rb") as file:
        return pyarrow.parquet.read_metadata(file).num_rows


@contextmanager
def _tell_hub_faults(id: str) -> Iterator[None]:
    try:
        yield
    except GatedRepoError as error:
        raise InputError(
            "its owners give it to those who accept their conditions; log in with `hf auth login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise InputError("there is no such data set on the Hub, or it is private") from error
    except (HfHubHTTPError, HTTPError, OSError) as error:
        raise InputError(f"it did not answer ({shorten(tell_error(error), 200)})") from error


def _tabulate(
    tasks: Sequence[Task],
    facts: dict[str, Facts],
    notes: dict[str, list[str]],
    failed: dict[str, str],
    out: str | None,
) -> list[str]:
    lines = []
    for name, one in facts.items():
        rows = " / ".join(f"{count:,}" for count in (one.rows or {}).values()) or "?"
        lines.append(f"{name}: revision {(one.revision or '?')[:12]}, rows {rows}, licence {one.licence or '?'}")
        lines += [f"  {note}" for note in notes[name]]
    lines += [f"{id}: {why}" for id, why in failed.items()]
    nowhere = sum(task.hub is None for task in tasks)
    lines.append(
        f"{len(facts)} tasks asked for, {len(failed)} data sets did not answer, {nowhere} tasks are on no data set."
    )
    if out is not None:
        lines.append(f"{out} is written: GENGRAM_TASKS={out} lets every verb read it.")
    return lines


__all__ = ["refresh_tasks"]
