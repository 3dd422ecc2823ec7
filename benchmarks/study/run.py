"""The whole study: every model once, several at a time if asked, then the report. Killed and started again it goes on.

What is finished is a file of scores beside its recipe; a model that was interrupted goes on from its last checkpoint. A
model that fails is told and left out, and the next call tries it again.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gengram._version import __version__
from gengram.benchmarks.study.matching import COMPARISONS
from gengram.benchmarks.study.models import StudiedModel, list_models
from gengram.benchmarks.study.presets import Preset
from gengram.benchmarks.study.references import measure_markov
from gengram.benchmarks.study.report import REPORT, SCORED, make_report, write_report
from gengram.benchmarks.study.train import check_model, choose_held_out
from gengram.errors import InputError
from gengram.files import check_free, check_output_folder, hash_file, tell_write_faults, write_json, write_text
from gengram.loading.faults import tell_faults
from gengram.phases import phase
from gengram.progress import tell, track
from gengram.training.corpus.store import FACTS_FILE, open_corpus

SETTINGS = "settings.json"
PIECES = (SETTINGS, "recipes", "models", "scores", "logs", REPORT, "study.md", "*.png")
"""What a study writes into its folder."""

_STOPPING = 60.0  # seconds that a model has to write a checkpoint after SIGTERM
_LOOK = 0.2  # seconds between two looks at the processes


def run_study(
    preset: Preset,
    corpus: str | Path,
    out: str | Path,
    architectures: Sequence[str],
    seeds: int,
    comparisons: Sequence[str],
    *,
    jobs: int = 1,
    overwrite: bool = False,
) -> dict[str, Any]:
    """
    Train what is not trained yet, and write the report.

    Args:
        preset: size and length of the trainings.
        corpus: folder that `gengram corpus build` has made, with held-out contigs.
        out: folder of the study; of one with the same preset and corpus the finished models stay.
        architectures: of `ARCHITECTURES`.
        seeds: how many; 0, 1 ... are taken.
        comparisons: of `COMPARISONS`.
        jobs: models that are trained at the same time.
        overwrite: whether a study that is there is replaced.

    Returns:
        The report, see `make_report`.

    Raises:
        `InputError`: a corpus without held-out contigs, a folder with another study, or with this one finished, or
            that cannot be written to.
    """
    folder = check_output_folder(out)
    store = open_corpus(corpus)
    split, windows = choose_held_out(store, preset.block_size, preset.scored_blocks * preset.block_size)
    settings = {
        "format": 1,
        "preset": json.loads(json.dumps(vars(preset))),
        "corpus": {"name": str(store.facts.get("name")), "sha256": hash_file(Path(corpus) / FACTS_FILE)},
    }
    comparisons = [name for name in COMPARISONS if name in comparisons]
    models = list_models(preset, architectures, range(seeds), comparisons)
    check_model(models[0].recipe, str(corpus), folder / "models")
    prepare_folder(folder, settings, models, comparisons, overwrite)
    with tell_write_faults(folder):
        for name in ("recipes", "models", "scores", "logs"):
            (folder / name).mkdir(parents=True, exist_ok=True)
    write_json(settings, folder / SETTINGS)
    begun = time.monotonic()
    with phase("Training models", unit="models") as training:
        failed = train_all(models, Path(corpus), folder, jobs)
        training.add(len(models) - len(failed))
    held_out = {
        "split": split,
        "windows": len(windows.contig),
        "bases": int((windows.end - windows.start).sum()),
        "contigs": [store.contigs[one].record for one in sorted(set(windows.contig.tolist()))],
        "species": sorted({store.contigs[one].species for one in windows.contig.tolist()}),
    }
    report = make_report(models, comparisons, {name: read_scores(folder, name) for name in _list_names(models)}, failed)
    with phase("Markov models"):
        markov = measure_markov(store, windows)
    report |= {
        "markov": markov,
        "corpus": settings["corpus"]["name"],
        "held_out": held_out,
        "seconds_of_this_call": round(time.monotonic() - begun, 1),
        "gengram_version": __version__,
        "torch_version": torch.__version__,
    }
    with phase("Writing the report"):
        write_report(report, folder)
    return report


def prepare_folder(
    folder: Path,
    settings: dict[str, Any],
    models: Sequence[StudiedModel],
    comparisons: Sequence[str],
    overwrite: bool,
) -> None:
    """
    Check what is in the folder of a study, and empty it if that is asked for.

    Raises:
        `InputError`: another study, a finished one, or somebody else's files.
    """
    if overwrite:
        if folder.exists() and not (folder / SETTINGS).exists():
            check_free(folder, PIECES)  # it is no study's: nothing of it is removed
        for name in PIECES:
            for path in folder.glob(name):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        return
    if not (folder / SETTINGS).exists():
        check_free(folder, PIECES)
        return
    earlier = _read(folder / SETTINGS)
    if earlier != settings:
        ours, theirs = (
            f"preset {one.get('preset', {}).get('name')} on the corpus {one.get('corpus', {}).get('name')}"
            for one in (settings, earlier)
        )
        what = f"{theirs}, not {ours}" if ours != theirs else f"{theirs}, of other settings or another build of it"
        raise InputError(
            f"{folder}: another study is there ({what}). Choose another --out, or replace it with --overwrite."
        )
    if (folder / REPORT).exists():
        report = _read(folder / REPORT)
        trained = set(report.get("models", {}))
        if (
            report.get("complete")
            and set(_list_names(models)) <= trained
            and set(comparisons) <= set(report["compare"])
        ):
            raise InputError(
                f"{folder}: this study is finished ({REPORT}). More --seeds, --architectures or --compare go on with "
                "it; choose another --out, or replace it with --overwrite."
            )


def train_all(models: Sequence[StudiedModel], corpus: Path, folder: Path, jobs: int) -> dict[str, str]:
    """
    Train the models that have no scores yet.

    Returns:
        Name -> reason of each that failed.
    """
    waiting = [model for model in models if read_scores(folder, model.name).get("recipe") != model.checksum]
    if len(waiting) < len(models):
        tell(f"{len(models) - len(waiting)} of {len(models)} models are trained already")
    waiting.reverse()
    places = list(range(jobs))
    running: dict[int, tuple[StudiedModel, subprocess.Popen]] = {}  # by place
    failed: dict[str, str] = {}
    with _ending(running), track(total=len(waiting), desc="models", unit="model") as bar:
        while waiting or running:
            while waiting and places:
                model, place = waiting.pop(), places.pop(0)
                running[place] = model, start_model(model, corpus, folder, jobs, place)
            for place, (model, process) in list(running.items()):
                if (code := process.poll()) is None:
                    continue
                del running[place]
                places.append(place)
                bar.update()
                if code == 0 and (found := read_scores(folder, model.name)):
                    bits = sum(found["bits"]) / sum(found["bases"])
                    tell(f"{model.name}: {bits:.4f} bits per base, {found['seconds']:.0f} s")
                else:
                    failed[model.name] = explain_failure(folder / "logs" / f"{model.name}.log", code)
                    tell(f"{model.name} has failed: {failed[model.name]}")
            if running:
                time.sleep(_LOOK)
    return failed


def start_model(model: StudiedModel, corpus: Path, folder: Path, jobs: int, place: int) -> subprocess.Popen:
    """Start the process that trains one model; `place` of `jobs` that run at a time."""
    write_text(model.recipe, folder / "recipes" / f"{model.name}.yaml")
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    command = compose_command(model, corpus, folder, gpus if jobs == 1 else min(gpus, 1))
    environment = dict(os.environ)
    if jobs > 1:  # or the threads of all would share the cores with each other
        environment["OMP_NUM_THREADS"] = str(max((os.cpu_count() or 1) // jobs, 1))
        if gpus:
            environment["CUDA_VISIBLE_DEVICES"] = _name_gpu(place % gpus)
    with open(folder / "logs" / f"{model.name}.log", "ab") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)


def compose_command(model: StudiedModel, corpus: Path, folder: Path, gpus: int) -> list[str]:
    """The command that trains one model, on all of several GPUs by `accelerate launch`."""
    words = [sys.executable, "-m"]
    if gpus > 1:
        words += ["accelerate.commands.launch", "--multi_gpu", "--num_processes", str(gpus), "-m"]
    words += ["gengram.benchmarks.study.train", str(folder / "recipes" / f"{model.name}.yaml"), "--corpus", str(corpus)]
    words += ["--out", str(folder / "models" / model.name), "--scores", str(name_scores(folder, model.name))]
    return [*words, "--bases", str(model.preset.scored_blocks * model.preset.block_size)]


def _name_gpu(place: int) -> str:
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    return str(place) if not given else given.split(",")[place].strip()


def explain_failure(log: Path, code: int) -> str:
    """Return why a process has failed: the last line of its log, or what has ended it."""
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        reason = f"ended by {name}"
        return f"{reason}, as the system does where memory runs out" if name == "SIGKILL" else reason
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.exists() else []
    last = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
    return last.partition("error: ")[2] or last


def name_scores(folder: Path, name: str) -> Path:
    """The file with what a model needed for each window; it is there when the model is finished."""
    return folder / "scores" / f"{name}.json"


def read_scores(folder: Path, name: str) -> dict[str, Any]:
    """
    What `train_model` has written of a model; empty if it is not finished.

    Raises:
        `InputError`: a file that holds something else.
    """
    path = name_scores(folder, name)
    if not path.exists():
        return {}
    found = _read(path)
    with tell_faults(_remedy(path), (KeyError, TypeError, ValueError)):
        bits, bases = (np.asarray(found[key], dtype=np.float64) for key in ("bits", "bases"))
        if bits.ndim != 1 or bits.shape != bases.shape or not np.isfinite(bits).all() or not bases.sum() > 0:
            raise ValueError("its bits or bases are no numbers of windows")
        if not {"recipe", *SCORED} <= found.keys():
            raise ValueError(f"there is no {next(key for key in ('recipe', *SCORED) if key not in found)}")
    return found


def _read(path: Path) -> dict[str, Any]:
    with tell_faults(_remedy(path), (OSError, ValueError)):
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("no mapping")
        return found


def _remedy(path: Path) -> str:
    return f"{path}: this cannot be read; remove it, or replace the study with --overwrite"


def _list_names(models: Sequence[StudiedModel]) -> list[str]:
    return [model.name for model in models]


@contextlib.contextmanager
def _ending(running: dict[int, tuple[StudiedModel, subprocess.Popen]]) -> Iterator[None]:
    """After an error or an interrupt, let no process go on: they are asked to write a checkpoint, then killed."""
    try:
        yield
    finally:
        for _, process in running.values():
            process.terminate()
        end = time.monotonic() + _STOPPING
        for _, process in running.values():
            try:
                process.wait(max(end - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


__all__ = ["compose_command", "explain_failure", "prepare_folder", "read_scores", "run_study", "train_all"]
