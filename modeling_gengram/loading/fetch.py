"""Bring models and data sets from the Hub to where they are read without a network, and say what is still missing."""

import fnmatch
import glob
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,
    RepositoryNotFoundError,
)
from huggingface_hub.hf_api import RepoFile

from gengram.catalogue.uses import tell_obstacle
from gengram.errors import InputError
from gengram.files import check_output_folder
from gengram.loading.checkpoints import ADAPTER_CONFIG, CONFIG, check_repo_id
from gengram.loading.configurations import require_config
from gengram.loading.folders import check_folder, read_object
from gengram.loading.hub import Kind, can_reach_hub, name_folder
from gengram.loading.tokenizers import require_tokenizer
from gengram.loading.weights import find_weights
from gengram.phases import phase
from gengram.progress import tell

# What this package reads of a model's repository: no code, no optimizer's state, no other framework's weights.
_MODEL_FILES = (
    "*.json", "*.txt", "*.model", "*.jinja", "*.md", "LICENSE*", "adapter_model.safetensors",
)  # fmt: skip
_SAFE, _PICKLED = "model*.safetensors", "pytorch_model*.bin"
_NEVER = ("*.py", "*.ipynb", ".gitattributes")


def fetch(
    models: Sequence[str], datasets: Sequence[str] = (), to: str | Path | None = None, dry_run: bool = False
) -> list[dict[str, Any]]:
    """Fetch repositories and check that each is complete. What is there already is not fetched again.

    Args:
        models: Hub ids. The base of an adapter is fetched with it.
        datasets: Hub ids.
        to: folder that gets one folder for each, `organization--name`; by default the cache of the Hub.
        dry_run: fetch nothing, say how large it is.

    Returns:
        For each repository a `dict` with `id`, `kind`, `folder` (None in a dry run), `files` (their sizes in bytes by
        name), `bytes`, and `missing`: in words what a verb would not find, empty if nothing is missing.

    Raises:
        `InputError`: a name that is none, a model that this package cannot load (with what can be used instead), a
            repository that is not there or that needs a login, no network. What was fetched before stays.
    """
    wanted: list[tuple[Kind, str]] = [*(("model", name) for name in models), *(("dataset", name) for name in datasets)]
    if to is not None:
        check_output_folder(to)
    for kind, name in wanted:
        check_repo_id(name)
        if kind == "model" and (obstacle := tell_obstacle(name)):
            raise InputError(f"{name}: {obstacle}")
    if constants.HF_HUB_OFFLINE:
        raise InputError("HF_HUB_OFFLINE is set, so nothing can be fetched; unset it")
    if not can_reach_hub():
        raise InputError("the Hub cannot be reached from here: run this where there is a network (a login node)")
    fetched = []
    while wanted:
        kind, name = wanted.pop(0)
        done = _fetch_one(kind, name, to, dry_run)
        fetched.append(done)
        base = _find_base(done)
        if base is not None and ("model", base) not in wanted and base not in [one["id"] for one in fetched]:
            tell(f"{name} is an adapter of {base}, which is fetched, too")
            wanted.insert(0, ("model", base))
    return fetched


def choose_files(kind: Kind, names: Sequence[str]) -> list[str]:
    """Return the files of a repository that are fetched.

    Of a model those in its own folder: configuration, tokenizer, card, and the weights in safetensors, where there are
    none those of PyTorch; of a data set all but code.
    """
    if kind == "dataset":
        return [name for name in names if not _fits(Path(name).name, _NEVER)]
    top = [name for name in names if "/" not in name]
    weights = _SAFE if any(fnmatch.fnmatchcase(name, _SAFE) for name in top) else _PICKLED
    other = "pytorch_model*" if weights == _SAFE else "model.safetensors*"
    return [name for name in top if _fits(name, (*_MODEL_FILES, weights)) and not _fits(name, (other, *_NEVER))]


def _fetch_one(kind: Kind, name: str, to: str | Path | None, dry_run: bool) -> dict[str, Any]:
    with _tell_hub_faults(name, kind):
        tree = HfApi().list_repo_tree(name, recursive=True, repo_type=kind)
        sizes = {entry.path: entry.size for entry in tree if isinstance(entry, RepoFile)}
    chosen = choose_files(kind, list(sizes))
    files = {path: sizes[path] for path in chosen}
    done: dict[str, Any] = {"id": name, "kind": kind, "folder": None, "files": files, "bytes": sum(files.values())}
    if dry_run:
        return done | {"missing": _list_missing_names(kind, chosen)}
    tell(f"{name}: {len(files)} files, {done['bytes'] / 1e6:,.1f} MB")
    local = None if to is None else Path(to, name_folder(name))
    with _tell_hub_faults(name, kind), phase("Fetching", unit="bytes") as fetching:
        folder = snapshot_download(
            name, repo_type=kind, local_dir=local, allow_patterns=[glob.escape(path) for path in chosen] or ["-"]
        )
        fetching.add(done["bytes"])
    done["folder"] = str(local or folder)
    missing = [f"{path} did not arrive whole" for path in chosen if _measure(Path(folder, path)) != sizes[path]]
    return done | {"missing": missing or _list_missing(kind, Path(folder), chosen)}


def _list_missing_names(kind: Kind, names: Sequence[str]) -> list[str]:
    """What is missing as far as names of files tell."""
    if kind == "dataset":
        return [] if names else ["there are no files"]
    is_adapter = ADAPTER_CONFIG in names and CONFIG not in names
    missing = [] if is_adapter or CONFIG in names else [f"there is no {CONFIG}: no model that transformers reads"]
    weights = "adapter_model.safetensors" if is_adapter else _SAFE
    if not any(_fits(name, (weights, *(() if is_adapter else (_PICKLED,)))) for name in names):
        missing.append(f"there are no weights ({weights}); a conversion may have them under another name")
    return missing


@phase("Checking what has arrived")
def _list_missing(kind: Kind, folder: Path, names: Sequence[str]) -> list[str]:
    """What is missing as the readers of this package find it; weights are not loaded."""
    missing = _list_missing_names(kind, names)
    if kind == "dataset" or missing:
        return missing
    checks: list[tuple[str, Any]] = [("files", check_folder), ("tokenizer", require_tokenizer)]
    if CONFIG in names:
        checks = [("files", check_folder), ("configuration", require_config), *checks[1:]]
        if not find_weights(folder):
            missing.append("weights: the index names files that are not in the repository")
    for what, read in checks:
        try:
            read(folder)
        except InputError as error:
            missing.append(f"{what}: {error}")
    return missing


def _find_base(done: dict[str, Any]) -> str | None:
    """The Hub id of an adapter's base."""
    if done["kind"] == "dataset" or done["folder"] is None or CONFIG in done["files"]:
        return None
    file = Path(done["folder"], ADAPTER_CONFIG)
    base = read_object(file).get("base_model_name_or_path") if file.is_file() else None
    try:
        return None if base is None else check_repo_id(str(base))
    except InputError:
        done["missing"].append(f"the adapter's base {base!r} is no repository: bring that folder yourself")
        return None


@contextmanager
def _tell_hub_faults(name: str, kind: Kind) -> Iterator[None]:
    page = f"https://huggingface.co/{'datasets/' if kind == 'dataset' else ''}{name}"
    try:
        yield
    except GatedRepoError as error:
        raise InputError(
            f"{name}: its owners give it to those who accept their conditions: do so at {page}, then log in with "
            "`hf auth login`, or set HF_TOKEN"
        ) from error
    except RepositoryNotFoundError as error:
        this, other = ("model", "data set") if kind == "model" else ("data set", "model")
        raise InputError(
            f"{name}: there is no such {this} on the Hub, or it is private (log in with `hf auth login`), or it is a "
            f"{other}. `gengram models` lists models that are known"
        ) from error
    except (HfHubHTTPError, HTTPError, OSError) as error:
        said = " ".join(str(error).split())[:300]
        raise InputError(f"{name}: fetching was interrupted ({said}). The same command goes on where it was") from error


def _measure(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _fits(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def tabulate_fetched(fetched: Sequence[dict[str, Any]]) -> str:
    """Return what was fetched as text."""
    lines = []
    for one in fetched:
        place = one["folder"] or "to fetch"
        lines.append(f"{one['id']}: {len(one['files'])} files, {one['bytes'] / 1e6:,.1f} MB, {place}")
        if one["folder"] is None:
            lines += [f"  {size / 1e6:>12,.1f} MB  {name}" for name, size in one["files"].items()]
        lines += [f"  missing: {word}" for word in one["missing"]]
    return "\n".join(lines)


__all__ = ["choose_files", "fetch", "tabulate_fetched"]
