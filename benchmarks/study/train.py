"""One model of a study: trained by `gengram pretrain`, then measured on the held-out windows, all in one process.

`python -m gengram.benchmarks.study.train RECIPE --corpus DIR --out DIR --scores FILE` is what a study starts for each
of its models, so that one that fails, or is killed for its memory, takes nothing with it.
"""

import argparse
import math
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from gengram.benchmarks.study.models import hash_recipe
from gengram.command_line import complain
from gengram.errors import InputError
from gengram.files import write_json
from gengram.phases import phase, read_peak_bytes
from gengram.team import is_main
from gengram.training.corpus.store import Corpus, open_corpus
from gengram.training.corpus.windows import Windows
from gengram.training.evaluation.bits_per_base import measure_bits
from gengram.training.evaluation.evaluate import make_batches
from gengram.training.evaluation.expert_balance import measure_expert_balance
from gengram.training.evaluation.held_out import choose_windows, spread_choice
from gengram.training.evaluation.scoring import WindowScorer
from gengram.training.objectives.build import build_objective
from gengram.training.pretraining.arguments import CorpusArguments, PretrainModelArguments
from gengram.training.pretraining.logs import LOG, read_log
from gengram.training.pretraining.pretrain import prepare, pretrain
from gengram.training.pretraining.trainer_arguments import PretrainArguments

_WATCHED, _BATCH_TOKENS = 32, 16_384  # windows in which routers are watched, and tokens of a batch
_OF_MODEL = ("config", "tokenizer_name_or_path", "objective")
_OF_CORPUS = ("block_size",)


def train_model(recipe: Path, corpus: str, folder: Path, scores: Path, bases: int) -> None:
    """
    Train a model, or go on with it, and write what it needed for each held-out window.

    Args:
        recipe: of `StudiedModel.recipe`.
        corpus: folder.
        folder: for the model.
        scores: JSON file that says that the model is finished; see `measure_model`.
        bases: of the held-out windows, at most.
    """
    model, blocks, training = read_arguments(recipe.read_text(encoding="utf-8"), corpus, folder)
    report = pretrain(model, blocks, training)
    if "stopped" in report:
        raise InputError(report["stopped"]["message"])
    measured = measure_model(folder, corpus, blocks.block_size, bases)
    if is_main():
        log = read_log(folder / LOG)
        found = {
            "recipe": hash_recipe(recipe.read_text(encoding="utf-8")),
            **measured,
            "seconds": report["seconds"],
            "cpu_seconds": round(time.process_time(), 1),  # of this process: imports, training, evaluation
            "tokens": report["tokens"],
            "peak_bytes": read_peak_bytes(),
            "training": [
                [line["step"], line["bits_per_base"]] for line in log if line.get("bits_per_base") is not None
            ],
            "held_out": [
                [line["step"], line["eval_bits_per_base"]] for line in log if line.get("eval_bits_per_base") is not None
            ],
        }
        write_json(found, scores)
        for stage in folder.glob("stage-*"):  # Checkpoints, three times the model's size: nobody goes on from them.
            shutil.rmtree(stage)


def check_model(recipe: str, corpus: str, folder: Path) -> None:
    """
    Check all that a training needs besides the weights; nothing is written.

    Raises:
        `InputError`: a corpus that does not fit the model, e.g. blocks that are longer than every contig.
    """
    with phase("Checking the corpus"):
        prepare(*read_arguments(recipe, corpus, folder))


def read_arguments(
    recipe: str, corpus: str, folder: Path
) -> tuple[PretrainModelArguments, CorpusArguments, PretrainArguments]:
    """The arguments of `pretrain` that a recipe stands for."""
    fields = yaml.safe_load(recipe)
    model = {name: fields.pop(name) for name in _OF_MODEL}
    blocks = {name: fields.pop(name) for name in _OF_CORPUS}
    return (
        PretrainModelArguments(**model),
        CorpusArguments(corpus=corpus, **blocks),
        PretrainArguments(output_dir=str(folder), resume_from_checkpoint=True, report_to="none", **fields),
    )


def measure_model(folder: Path, corpus: str, length: int, bases: int) -> dict[str, Any]:
    """
    Measure a finished model on held-out windows.

    Returns:
        `bits` and `bases` of each window, `parameters`, and of a mixture of experts `balance`, by layer.
    """
    store = open_corpus(corpus)
    windows = choose_held_out(store, length, bases)[1]
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    model.to(device).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    scorer = WindowScorer(model, tokenizer, build_objective("causal", tokenizer), store)
    with torch.no_grad():
        found = measure_bits(scorer, windows)
        some = windows.take(spread_choice(windows, _WATCHED))
        balance = measure_expert_balance(model, make_batches(scorer, some, _BATCH_TOKENS))
    return {
        "bits": (found.nats / math.log(2)).tolist(),
        "bases": found.bases.tolist(),
        "parameters": model.num_parameters(),
        "balance": balance,
    }


def choose_held_out(store: Corpus, length: int, bases: int) -> tuple[str, Windows]:
    """
    Return the split that final figures are of, and its windows: test, or validation where no contig is kept for tests.

    Raises:
        `InputError`: nothing is held out.
    """
    held = set(store.segments.split.tolist())
    split = "test" if 2 in held else "validation"
    return split, choose_windows(store, length, bases, split)


def main(argv: Sequence[str] | None = None) -> int:
    """Train one model; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m gengram.benchmarks.study.train", description=__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--scores", required=True, type=Path)
    parser.add_argument("--bases", required=True, type=int)
    given = parser.parse_args(argv)
    try:
        train_model(given.recipe, given.corpus, given.out, given.scores, given.bases)
    except InputError as error:
        return complain(parser.prog, str(error))
    return 0


__all__ = ["check_model", "choose_held_out", "measure_model", "read_arguments", "train_model"]

if __name__ == "__main__":
    sys.exit(main())
