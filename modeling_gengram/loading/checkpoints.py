"""Which model is meant? A folder, one seed of a run, or a Hub id: decided before anything is loaded."""

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from gengram.catalogue.licences import describe_licence
from gengram.catalogue.uses import suggest_id
from gengram.errors import InputError
from gengram.files import check_input_files
from gengram.loading.faults import tell_faults
from gengram.loading.folders import check_folder, read_object
from gengram.loading.hub import require_repository
from gengram.loading.reports import check_report
from gengram.progress import tell

CONFIG = "config.json"
ADAPTER_CONFIG = "adapter_config.json"
REPORT = "report.json"


@dataclass(frozen=True)
class Checkpoint:
    """A model's folder and, where a run made it, the run's report.

    Attributes:
        folder: with the weights, the configuration and the tokenizer.
        report: content of the run's `report.json`, or None.
        seed: which of the report's seeds this is, or None.
        choice: why this seed, for the end of a sentence; empty where there was no choice.
    """

    folder: Path
    report: dict[str, Any] | None = None
    seed: int | None = None
    choice: str = ""


def find_model(name: str | Path) -> str:
    """Return the folder or the Hub id of the model that is meant; of a run its best seed on the validation rows.

    Nothing is loaded. Of a Hub id it is asked only whether it can be had, see `require_repository`.

    Args:
        name: a folder with a model or an adapter, a run of `gengram finetune`, or `organization/name` on the Hub.

    Raises:
        `InputError`: a folder without a model, an unfinished run, a name that is neither a folder nor a Hub id; a
            Hub id that is not in the cache, without a network.
    """
    path = Path(name).expanduser()
    if str(name) and path.is_dir():  # An empty name is no name of this folder.
        checkpoint = find_checkpoint(path)
        if checkpoint.choice and checkpoint.folder != path:
            tell(f"{path}: seed {checkpoint.seed} is taken: {checkpoint.choice}")
        return str(checkpoint.folder)
    if path.is_file():
        raise InputError(f"{path}: this is a file; a model is a folder, a run, or a Hub id (organization/name)")
    if reason := _refuse_hub_id(str(name)):
        raise InputError(
            f"there is no folder {str(name)!r}, and no repository of that name was asked for, because {reason}"
            f"{'' if '/' in str(name) else suggest_id(str(name))}"
        )
    require_repository(str(name))
    _tell_licence(str(name))
    return str(name)


@cache  # A verb looks for its model more than once.
def _tell_licence(name: str) -> None:
    if said := describe_licence(name):
        tell(f"{said}; `gengram models {name}` has the sources")


def find_models(name: str | Path, seed: int | str | None = None) -> list[str]:
    """Return the folders or the Hub id of the models that are meant, see `find_model`.

    Args:
        name: see `find_model`.
        seed: of a run: one of its seeds, or `all`; by default the one that is best on the validation rows.

    Raises:
        `InputError`: see `find_model`; a run that has no such seed; a seed of what is no run.
    """
    if seed is None:
        return [find_model(name)]
    path = Path(name).expanduser()
    if not path.is_dir():
        if not is_hub_id(str(name)):
            find_model(name)  # which says what it is
        raise InputError(f"{name}: only the folder of a run has seeds; leave --seed out")
    if seed != "all":
        return [str(find_checkpoint(path, int(seed)).folder)]
    if _is_model(path) or not (path / REPORT).is_file():
        find_checkpoint(path)  # what is no model is refused for what it is
        raise InputError(f"{path} is a single model; --seed all takes the folder of a run")
    return [str(find_checkpoint(path, one).folder) for one in read_report(path / REPORT)["seeds"]]


def find_in_run(name: str | Path) -> str | Path:
    """Return the best model of a run's folder, see `find_model`; every other name as it is.

    Raises:
        `InputError`: see `gengram.loading.folders.check_folder`.
    """
    path = Path(name)
    is_run = bool(str(name)) and (path / REPORT).is_file() and not (_is_model(path) or _is_tokenizer(path))
    if str(name) and not is_run and path.is_dir():
        check_folder(path)
    return find_model(path) if is_run else name


def find_checkpoint(path: str | Path, seed: int | None = None) -> Checkpoint:
    """Find the model that is meant by the folder of a run or of a model.

    Args:
        path: what `gengram finetune` wrote (with `report.json`), a seed folder in it, or any saved model or adapter.
        seed: of a run, this seed; by default the one that is best on the validation rows.

    Raises:
        `InputError`: the folder is none of these, the run is not finished, or has no such seed.
    """
    if not str(path):
        raise InputError("the name of the model is empty (is a variable of the shell not set?)")
    folder = Path(path)
    if not folder.is_dir():
        raise InputError(f"{path}: there is no such folder")
    if (folder / REPORT).is_file() and not _is_model(folder):
        check_input_files(folder / REPORT)
        report = read_report(folder / REPORT)
        with tell_faults(f"{folder / REPORT}: the scores of the seeds cannot be read"):
            seed, choice = _choose_seed(report, seed, folder)
        name = Path(report["model_folders"][report["seeds"].index(seed)]).name
        if name not in {path.name for path in folder.iterdir() if path.is_dir()}:
            raise InputError(f"{folder / REPORT}: it names the model folder {name[:80]!r}, which is not there")
        check_folder(folder / name)
        return Checkpoint(folder / name, report, seed, choice)
    if _is_model(folder):
        check_folder(folder)
        report_file = folder.absolute().parent / REPORT
        # Beside a model that is none of a run, a report.json may be anybody's.
        report = read_object(report_file) if report_file.is_file() else {}
        report = read_report(report_file) if "model_folders" in report else {}
        names = [Path(name).name for name in report.get("model_folders", [])]
        if folder.absolute().name in names:
            own = report["seeds"][names.index(folder.absolute().name)]
            if seed not in (None, own):
                raise InputError(f"{folder} is the model of seed {own}, not of seed {seed}")
            return Checkpoint(folder, report, own, "it was asked for")
        if seed is not None:
            raise InputError(f"{folder} is a single model, not a run: leave --seed out")
        return Checkpoint(folder)
    if any(folder.glob("seed-*")):
        raise InputError(
            f"{folder}: there are models but no {REPORT}, so this run did not come to its end. Finish it, or name one "
            "of the seed folders."
        )
    inside = sorted(
        {file.parent.name for name in (REPORT, CONFIG, ADAPTER_CONFIG) for file in folder.glob(f"*/{name}")}
    )
    remedy = f"; name a folder in it, e.g. {inside[0]!r}" if inside else ""
    raise InputError(f"{folder}: neither a run ({REPORT}) nor a model ({CONFIG}) nor an adapter is here{remedy}")


def is_hub_id(name: str) -> bool:
    """Whether a model's name is `organization/name` on the Hub, and not a folder here."""
    return not Path(name).exists() and not _refuse_hub_id(name)


def check_repo_id(repo_id: str) -> str:
    """Return the name of a repository as it is.

    Raises:
        `InputError`: it is not of the form `organization/name`, or the Hub does not allow it.
    """
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise InputError(f"{repo_id!r} is no name for a repository: {error}") from error
    if "/" not in repo_id:
        raise InputError(f"{repo_id!r} is no name for a repository: write organization/name, or user/name")
    return repo_id


def read_report(path: Path) -> dict[str, Any]:
    """Read the report of a run.

    Raises:
        `InputError`: it cannot be read, see `check_report`, or lacks the seeds or their models' folders.
    """
    report = check_report(read_object(path), path)
    if not report.get("seeds") or "model_folders" not in report:
        raise InputError(f"{path}: not the report of a run of gengram finetune")
    return report


def _is_tokenizer(folder: Path) -> bool:
    """Whether a folder has a tokenizer of its own, as that of `gengram train-tokenizer`, which has a report as well."""
    return any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json"))


def _is_model(folder: Path) -> bool:
    return (folder / CONFIG).is_file() or (folder / ADAPTER_CONFIG).is_file()


def _refuse_hub_id(name: str) -> str:
    """Why a name is not asked for on the Hub; empty if it can be."""
    if name.startswith((".", "/", "~")) or name.endswith("/") or (os.sep != "/" and os.sep in name):
        return "it is written like a folder"
    if name.count("/") != 1:
        return "a Hub id has the form organization/name"
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        return f"the Hub allows no such name: {error}"
    return ""


def _choose_seed(report: dict[str, Any], seed: int | None, folder: Path) -> tuple[int, str]:
    seeds = report["seeds"]
    if seed is not None:
        if seed not in seeds:
            raise InputError(f"{folder}: there is no seed {seed}; the run has {', '.join(map(str, seeds))}")
        return seed, "it was asked for"
    if len(seeds) == 1:
        return seeds[0], ""
    validation = report.get("validation")
    if not validation:
        return seeds[0], "the first, since there were no validation rows to choose by"
    metric = next(iter(validation))  # the one by which the problem is judged

    def rank(position: int) -> tuple[float, float]:
        value, loss = validation[metric]["per_seed"][position], validation["loss"]["per_seed"][position]
        return (-float("inf") if value is None else value, -float("inf") if loss is None else -loss)

    best = max(range(len(seeds)), key=rank)
    return seeds[best], (
        f"of {len(seeds)}, it has the highest {metric} on the validation rows (where equal, the lower loss)"
    )


__all__ = [
    "ADAPTER_CONFIG",
    "CONFIG",
    "REPORT",
    "Checkpoint",
    "check_repo_id",
    "find_checkpoint",
    "find_in_run",
    "find_model",
    "find_models",
    "is_hub_id",
    "read_report",
]
