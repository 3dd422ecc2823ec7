"""Which file of a folder has which split? And where below a folder of tasks is the one that is asked for?"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from gengram.benchmarks.tasks.registry import BENCHMARKS
from gengram.errors import InputError, suggest
from gengram.genome.formats import COMPRESSED, SUFFIXES
from gengram.genome.tables import shorten
from gengram.loading.hub import name_folder
from gengram.training.data.sources import SPLIT_NAMES

SPLITS = ("train", "validation", "test")
TEST_NAMES = (*SPLIT_NAMES["test"], "test_shared", "test_heldout")
"""What a test split is called; a folder has one of them, or says which one counts."""

_WORDS = {
    **{word: "train" for word in SPLIT_NAMES["train"]},
    **{word: "validation" for word in SPLIT_NAMES["validation"]},
    **{word: "test" for word in TEST_NAMES},
}
_READ = tuple(suffix for suffix in SUFFIXES if suffix != ".bed")
_ENDING = re.compile(rf"(?P<stem>.+?)(?:{'|'.join(map(re.escape, _READ))})(?:{'|'.join(map(re.escape, COMPRESSED))})?")
_SHARD = re.compile(r"(?P<word>.+?)-(?P<number>\d{5})-of-(?P<count>\d{5})")


def name_split(word: str) -> str | None:
    """Return which of `SPLITS` a word means, None if it means none; upper and lower case are the same."""
    return _WORDS.get(word.strip().lower())


def list_tables(folder: Path) -> dict[Path, str]:
    """Return the tables and FASTA files of a folder by what their names say before the ending, in order."""
    found = {}
    for path in sorted(folder.iterdir()):
        match = _ENDING.fullmatch(path.name.lower())
        if not match or not path.is_file() or path.name.startswith("."):
            continue
        # Reports and settings are .json, too.
        if ".json" not in Path(path.name).suffixes or name_split(match["stem"]):
            found[path] = match["stem"]
    return found


def find_splits(folder: Path, test_file: Path | None = None) -> dict[str, list[Path]]:
    """Return the files of each split: one, or the shards `train-00000-of-00002.parquet` of one.

    Args:
        folder: of one task.
        test_file: what is the test instead of the folder's own.

    Raises:
        `InputError`: several files for one split, a shard that is missing.
    """
    found: dict[str, dict[str, list[Path]]] = {}
    for path, stem in list_tables(folder).items():
        shard = _SHARD.fullmatch(stem)
        if split := name_split(shard["word"] if shard else stem):
            found.setdefault(split, {}).setdefault(f"{shard['word']} of {shard['count']}" if shard else path.name, [])
            found[split][f"{shard['word']} of {shard['count']}" if shard else path.name].append(path)
    if test_file is not None:
        found["test"] = {"": [test_file]}
    for split, files in found.items():
        if len(files) > 1:
            names = shorten([paths[0].name for paths in files.values()])
            remedy = "say which one counts with test_file (--test_file)" if split == "test" else "keep one"
            raise InputError(f"{folder}: several files for the split {split!r}, {names}; {remedy}")
        (paths,) = files.values()
        if (shard := _SHARD.match(paths[0].name.lower())) and len(paths) != int(shard["count"]):
            raise InputError(f"{folder}: {len(paths)} of the {int(shard['count'])} shards of {split!r} are here")
    return {split: next(iter(found[split].values())) for split in SPLITS if split in found}


def find_lone_table(folder: Path) -> Path | None:
    """Return the only table of a folder that has no file of a split; None if there is none.

    Raises:
        `InputError`: there are several.
    """
    tables = list(list_tables(folder))
    if len(tables) > 1:
        raise InputError(
            f"{folder}: none of the tables {shorten([path.name for path in tables])} is called as a split; call them "
            "train, validation and test, with their endings"
        )
    return tables[0] if tables else None


def find_folder(data: Path, names: Sequence[str]) -> tuple[Path, list[str]]:
    """Find the folder of a task: below a folder of tasks, or this folder itself.

    Args:
        data: a folder.
        names: what the task may be called, `BENCHMARK/TASK` or shorter, in the order of preference.

    Returns:
        The folder, and what the task may be called in a table of several tasks there.

    Raises:
        `InputError`: there is no such folder; says which tasks are there.
    """
    if not data.is_dir():
        what = "a file; give the folder that it is in" if data.exists() else "no such folder"
        raise InputError(f"{data}: {what} (data is the folder of a task, or one with a folder for each task)")
    parts = [name.split("/") for name in names]
    inner = list(dict.fromkeys(part[-1] for part in parts))
    # GB/x below DATA, or GB--x, as `gengram dataset push` calls it; x below DATA, unless that is another benchmark,
    # which may have a task of that name; of a file of several tasks GB; what a push of one task makes; else DATA.
    tried = [*names, *map(name_folder, names)]
    if not _is_other_benchmark(data, parts[0][0]):
        tried += inner
    tried += ["/".join(part[:-1]) for part in parts if len(part) > 1]
    for place in dict.fromkeys([*tried, "default"]):
        folder = _join_inside(data, place)
        if folder is not None and folder.is_dir() and list_tables(folder):
            return folder, inner
    if list_tables(data):
        return data, inner
    known = list_folders(data)
    if not known:
        raise InputError(f"{data}: no tables here, in no folder of it; a task has the files train and test")
    raise InputError(
        f"{data}: no task {names[0]!r} here{suggest(names[0], known)} The tasks here are {shorten(known, 60)}."
    )


def _is_other_benchmark(data: Path, benchmark: str) -> bool:
    """Whether a folder is called as a benchmark, and not as this one."""
    known = {name.casefold() for name in BENCHMARKS}
    here = data.resolve().name.casefold()
    return here in known and benchmark.casefold() in known and here != benchmark.casefold()


def _join_inside(data: Path, name: str) -> Path | None:
    """Return a folder below another one; None for a name that leads out of it."""
    folder = data / name
    return folder if ".." not in Path(name).parts and not Path(name).is_absolute() else None


def list_folders(data: Path) -> list[str]:
    """Return the folders with tables below a folder, as names `BENCHMARK/TASK`, sorted; two floors down at most."""
    found = []
    for pattern in ("*", "*/*"):
        for folder in data.glob(pattern):
            if folder.is_dir() and not folder.name.startswith(".") and list_tables(folder):
                found.append(folder.relative_to(data).as_posix())
    return sorted(found)


def resolve_test_file(test_file: str | Path, folder: Path | None) -> Path:
    """Return the test file that is meant: as the path says, or inside the task's folder.

    Raises:
        `InputError`: neither is there.
    """
    given = Path(test_file)
    places: Iterable[Path] = (given, *([] if folder is None else [folder / given]))
    for place in places:
        if place.is_file() or (place.exists() and not place.is_dir()):
            return place
    raise InputError(f"test_file={str(given)!r}: there is no such file" + (f", nor in {folder}" if folder else ""))


__all__ = [
    "SPLITS",
    "TEST_NAMES",
    "find_folder",
    "find_lone_table",
    "find_splits",
    "list_folders",
    "list_tables",
    "name_split",
    "resolve_test_file",
]
