"""The rows of a task from the Hub, or from its cache on this machine: files that it names, or a configuration."""

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import pyarrow as pa
from datasets import get_dataset_config_names
from datasets.config import HF_DATASETS_CACHE
from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError

from gengram.benchmarks.data.folders import SPLITS, name_split
from gengram.benchmarks.data.layouts import TEXTS
from gengram.benchmarks.tasks.task import Hub, Task
from gengram.errors import InputError, suggest
from gengram.genome.tables import shorten
from gengram.loading.faults import tell_faults
from gengram.loading.hub import is_cached, name_folder, require_repository
from gengram.training.data.sources import load_splits

Kind = Literal["folder", "cache", "hub"]

_WILD = "*?["


def tell_script(task: Task) -> str:
    """Return why a task cannot be loaded that the Hub has as a program, and what can be done."""
    assert task.hub is not None
    if task.builder is None:
        remedy = "give a folder with its rows (--data)"
    else:
        remedy = f"make its rows with `gengram dataset build {task.builder}` and give that folder (--data)"
    return (
        f"{task.name}: {task.hub.id} is a loading script, a program that would run here; neither `datasets` nor we run "
        f"one. Instead, {remedy}"
    )


def find_config(repo_id: str, names: Sequence[str], revision: str | None) -> str | None:
    """Return the configuration of a data set that has a task.

    Args:
        repo_id: the data set.
        names: of the task, `BENCHMARK/TASK` or shorter, in the order of preference.
        revision: of the data set.

    Raises:
        `InputError`: the data set cannot be had, or has several configurations and none is called so.
    """
    require_repository(repo_id, "dataset")
    with tell_faults(f"{repo_id}: cannot be read as a data set of the Hub"):
        known = get_dataset_config_names(repo_id, revision=revision)
    if known == ["default"]:  # which is what it says without a network, too
        known = _list_cached_configs(repo_id) or known
    # A push calls them BENCHMARK--TASK; TASK alone will do where one benchmark has it.
    short = [config.rpartition("--")[2].casefold() for config in known]
    folded = {name: config for name, config in zip(short, known) if short.count(name) == 1}
    folded |= {config.casefold(): config for config in known}
    wanted = [spelled for name in names for spelled in (name_folder(name), name, name.rpartition("/")[2])]
    for name in wanted:
        if name.casefold() in folded:
            return folded[name.casefold()]
    if len(known) > 1:
        raise InputError(
            f"{repo_id}: no configuration is called {names[0]!r}{suggest(names[0], known)} There are "
            f"{shorten(known, 60)}."
        )
    return known[0] if known else None


def _list_cached_configs(repo_id: str) -> list[str]:
    """Return the configurations that `datasets` has made tables of on this machine."""
    folder = Path(HF_DATASETS_CACHE, repo_id.replace("/", "___"))
    return sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def load_tables(repo_id: str, config: str | None, revision: str | None) -> tuple[dict[str, pa.Table], Kind]:
    """Load the splits of a data set by its configuration.

    Returns:
        A table for each of `SPLITS` that it has; whether they were in the cache before.

    Raises:
        `InputError`: see `load_splits`; a loading script, no such split.
    """
    kind = _find_kind(repo_id, revision)
    loaded = load_splits(repo_id, config, revision, TEXTS)
    found: dict[str, pa.Table] = {}
    for name, table in loaded.items():
        if split := name_split(name):
            found.setdefault(split, table)
    if not found:
        raise InputError(f"{repo_id}: none of its splits {shorten(list(loaded))} is a train, validation or test split")
    return {split: found[split] for split in SPLITS if split in found}, kind


def fetch_files(hub: Hub, revision: str | None) -> tuple[dict[str, list[Path]], Kind]:
    """Fetch the files that a task names, from the cache where a pinned revision is there.

    Returns:
        The files of each split; whether they were in the cache before.

    Raises:
        `InputError`: the Hub cannot be reached, or the repository has no such file.
    """
    assert hub.data_files is not None
    patterns: dict[str, list[str]] = {
        split: [each] if isinstance(each, str) else list(each) for split, each in hub.data_files.items()
    }
    wanted = [pattern for each in patterns.values() for pattern in each]
    if revision is not None and not any(sign in pattern for pattern in wanted for sign in _WILD):
        try:
            folder = snapshot_download(
                hub.id, repo_type="dataset", revision=revision, allow_patterns=wanted, local_files_only=True
            )
        except LocalEntryNotFoundError:
            pass
        else:
            found = _match(Path(folder), patterns)
            if all(found.values()):
                return found, "cache"
    require_repository(hub.id, "dataset")
    kind = _find_kind(hub.id, revision)
    with tell_faults(f"{hub.id}: cannot be fetched from the Hub"):
        folder = snapshot_download(hub.id, repo_type="dataset", revision=revision, allow_patterns=wanted)
    found = _match(Path(folder), patterns)
    if missing := [pattern for split, each in patterns.items() if not found[split] for pattern in each]:
        raise InputError(f"{hub.id}{f' at {revision}' if revision else ''}: no file is called {shorten(missing)}")
    return found, kind


def _match(folder: Path, patterns: Mapping[str, list[str]]) -> dict[str, list[Path]]:
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {split: [folder / name for name in names if _is_any(name, each)] for split, each in patterns.items()}


def _is_any(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _find_kind(repo_id: str, revision: str | None) -> Kind:
    if revision is None:
        return "cache" if is_cached(repo_id, "dataset") else "hub"
    snapshot = Path(constants.HF_HUB_CACHE, f"datasets--{name_folder(repo_id)}", "snapshots", revision)
    return "cache" if snapshot.is_dir() else "hub"


__all__ = ["Kind", "fetch_files", "find_config", "load_tables", "tell_script"]
