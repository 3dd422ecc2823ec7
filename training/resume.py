"""Is this the run that was interrupted, and what of it is done? `unfinished.json` and the results of finished seeds."""

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedConfig

from gengram.errors import InputError
from gengram.files import hash_file, write_text
from gengram.loading.faults import tell_faults
from gengram.loading.folders import read_object
from gengram.training.checkpoints import find_checkpoint, forget_trained, is_trained
from gengram.training.metrics.scores import Scores

# What the run is, from its start to its report; the scores of a seed, in its folder, just as long.
UNFINISHED, _SCORES = "unfinished.json", "scores.json"
SEARCH = "search.json"
"""The trials of a search that are finished, beside the run's `unfinished.json`."""

_WEIGHT_FILES = ("*.safetensors", "*.bin", "*.json")
# Arguments that do not change what comes out.
_MAY_DIFFER = {
    "output_dir",
    "overwrite",
    "resume_from_checkpoint",
    "seed",
    "disable_tqdm",
    "report_to",
    "run_name",
    "save_total_limit",
    # A model that did not fit into the memory with so many rows can be measured with fewer.
    "per_device_eval_batch_size",
    "baselines",
    "eval_accumulation_steps",
    "push_to_hub",
    "hub_model_id",
    "hub_license",
    "hub_private_repo",
    "hub_revision",
}


def identify_checkpoint(path: str | None, config: PreTrainedConfig) -> Any:
    """Return what changes when a checkpoint does: the SHA-256 of a folder's files, or the commit on the Hub."""
    if path is None:
        return None
    if Path(path).is_dir():
        files = sorted(file for pattern in _WEIGHT_FILES for file in Path(path).glob(pattern))
        return {file.name: hash_file(str(file)) for file in files}
    return getattr(config, "_commit_hash", None)


def begin_run(output: Path, run: dict[str, Any]) -> None:
    """Write down what the run is, before anything is trained."""
    output.mkdir(parents=True, exist_ok=True)
    _write_json(run, output / UNFINISHED)


def end_run(output: Path, seeds: list[int]) -> None:
    """Remove what only an unfinished run needs."""
    for seed in seeds:
        (output / f"seed-{seed}" / _SCORES).unlink(missing_ok=True)
        forget_trained(output / f"seed-{seed}")
    (output / SEARCH).unlink(missing_ok=True)
    (output / UNFINISHED).unlink(missing_ok=True)


def clear_unfinished(output: Path) -> None:
    """Remove an unfinished run: its models and checkpoints."""
    if not (output / UNFINISHED).is_file():
        return
    for seed in read_object(output / UNFINISHED)["seeds"]:
        shutil.rmtree(output / f"seed-{seed}", ignore_errors=True)
        shutil.rmtree(output / f"seed-{seed}.partial", ignore_errors=True)
    (output / SEARCH).unlink(missing_ok=True)
    (output / UNFINISHED).unlink()


def forget_if_empty(output: Path) -> None:
    """Remove `unfinished.json` where there is nothing to go on from."""
    if (output / UNFINISHED).is_file() and not _list_progress(output):
        (output / UNFINISHED).unlink()


def describe_unfinished(output: Path) -> str | None:
    """Return how far an unfinished run has come; None if there is none in this folder."""
    if not (output / UNFINISHED).is_file():
        return None
    return ", ".join(_list_progress(output)) or "nothing is finished yet, it may be running now"


def check_same_run(output: Path, run: dict[str, Any], report: str = "report.json") -> None:
    """Compare a run with the one in its folder, if there is one.

    Args:
        output: folder of the run.
        run: what the run is, a mapping that JSON can hold; only the keys that the earlier one has too are compared.
        report: the file that tells a finished one.

    Raises:
        `InputError`: they differ; the message names the first difference with both values.
    """
    file = next((output / name for name in (report, UNFINISHED) if (output / name).exists()), None)
    if file is None:
        return
    before, now = read_object(file), json.loads(json.dumps(run))
    differences = list(_list_differences({name: before[name] for name in now if name in before}, now))
    if differences:
        name, was, is_now = differences[0]
        more = f" ({len(differences) - 1} more differences)" if len(differences) > 1 else ""
        raise InputError(
            f"{file}: the run that is to be resumed is another one: {name} was {was!r} and is {is_now!r}{more}. "
            "Give it what it had, or start anew with --overwrite."
        )


def write_scores(scores: dict[str, Scores], folder: Path) -> None:
    """Keep the scores of a seed in its folder."""
    _write_json({split: dataclasses.asdict(scored) for split, scored in scores.items()}, folder / _SCORES)


def read_scores(folder: Path) -> dict[str, Scores] | None:
    """Return the scores of a seed of an unfinished run, as they were; None if the seed is not finished."""
    if not (folder / _SCORES).is_file():
        return None
    kept = read_object(folder / _SCORES)
    with tell_faults(f"{folder / _SCORES}: not the scores of a seed; begin anew with --overwrite"):
        scores = {split: Scores(**fields) for split, fields in kept.items()}
        for split, scored in scores.items():
            if scored.resamples is not None:
                resamples = {metric: np.asarray(values) for metric, values in scored.resamples.items()}
                scores[split] = dataclasses.replace(scored, resamples=resamples)
    return scores


def _list_progress(output: Path) -> list[str]:
    progress = []
    if (output / SEARCH).is_file():
        progress.append(f"{len(read_object(output / SEARCH)['trials'])} trials of the search are finished")
    for seed in read_object(output / UNFINISHED)["seeds"]:
        folder = output / f"seed-{seed}"
        if (folder / _SCORES).is_file():
            progress.append(f"seed {seed} is finished")
        elif is_trained(partial := folder.with_name(f"{folder.name}.partial")):
            progress.append(f"seed {seed} is trained and not measured")
        elif checkpoint := find_checkpoint(partial):
            progress.append(f"seed {seed} has come to step {checkpoint.name.split('-')[-1]}")
    return progress


def _list_differences(before: Any, now: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted({*before, *now} - _MAY_DIFFER if name in ("", "arguments.training") else {*before, *now}):
            if name or key in before:
                yield from _list_differences(before.get(key), now.get(key), f"{name}.{key}" if name else key)
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for place, (was, is_now) in enumerate(zip(before, now)):
            yield from _list_differences(was, is_now, f"{name}[{place}]")
    elif before != now:
        yield name, before, now


def _write_json(content: dict[str, Any], path: Path) -> None:
    write_text(json.dumps(content, default=_to_plain), path)  # A score may be NaN.


def _to_plain(value: Any) -> Any:
    return value.tolist()  # of a NumPy array or number


__all__ = [
    "SEARCH",
    "UNFINISHED",
    "begin_run",
    "check_same_run",
    "clear_unfinished",
    "describe_unfinished",
    "end_run",
    "forget_if_empty",
    "identify_checkpoint",
    "read_scores",
    "write_scores",
]
