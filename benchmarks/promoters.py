"""What does a small GENA learn of promoters, and what do the published folds add to a score?

`python -m gengram.benchmarks.promoters --data FOLDER` trains a GENA-LM encoder from scratch, with a BPE tokenizer of
its training rows, on leak-free folds and on the published ones, each with several seeds, beside models without a
network. In the published folds most test rows have their partner, the other one of a promoter and its shuffle, among
the training rows. The nearest neighbour in 12-mers shows what that is worth: the partner has the opposite label.

A finished seed is a file and is not trained again.
"""

import argparse
import dataclasses
import json
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from datasets.utils import logging as datasets_logging
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.metrics import f1_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline

from gengram._version import __version__
from gengram.benchmarks.builders.gena import build_promoters
from gengram.command_line import complain
from gengram.errors import InputError
from gengram.files import write_json, write_text
from gengram.genome.tables import read_rows
from gengram.markdown import format_table
from gengram.tokenization.train_tokenizer import train_bpe_tokenizer
from gengram.training.arguments import DataArguments, FinetuneArguments, ModelArguments
from gengram.training.baselines.linear import make_kmer_classifier, make_position_classifier
from gengram.training.finetune import finetune

FOLDS = {"leak_free": "leak-free", "published": "published"}
BASELINES = {
    "kmer_lr": "6-mer LR",
    "one_hot_lr": "one-hot LR",
    "neighbour": "as the nearest neighbour",
    "opposite": "the opposite of the nearest neighbour",
}


@dataclasses.dataclass(frozen=True)
class Size:
    """How large the model is and how long it is trained; the same for all folds and seeds.

    Attributes:
        hidden_size, layers: of the encoder; the MLP is twice as wide as the hidden size.
        vocab_size: of the tokenizer.
        epochs, batch_size, learning_rate: of the training; the rate after a tenth of the steps, then falling linearly.
        rows: of training and test, the first of each; None: all.
    """

    hidden_size: int = 64
    layers: int = 2
    vocab_size: int = 4096
    epochs: float = 3
    batch_size: int = 16
    learning_rate: float = 1e-3
    rows: int | None = None


QUICK = Size(hidden_size=16, layers=1, vocab_size=64, epochs=1, rows=200)


def make_neighbour_classifier() -> Pipeline:
    """The class of the training row that shares most 12-mers, by cosine: the partner, where it is there."""
    return make_pipeline(
        HashingVectorizer(
            analyzer="char", ngram_range=(12, 12), n_features=2**22, alternate_sign=False, dtype=np.float32
        ),
        KNeighborsClassifier(n_neighbors=1, metric="cosine", algorithm="brute"),
    )


def score_baselines(tables: Path) -> dict[str, float]:
    """Test F1 of the promoters for each of `BASELINES`."""
    train, test = (read_rows(tables / f"{split}.csv.gz") for split in ("train", "test"))
    models = {
        "kmer_lr": make_kmer_classifier(),
        "one_hot_lr": make_position_classifier(),
        "neighbour": make_neighbour_classifier(),
    }
    answers = {
        name: model.fit(train["sequence"], train["label"]).predict(test["sequence"]) for name, model in models.items()
    }
    answers["opposite"] = 1 - answers["neighbour"]
    return {name: float(f1_score(test["label"], answer)) for name, answer in answers.items()}


def train_gena(tables: Path, folder: Path, seed: int, size: Size) -> dict[str, Any]:
    """Train and score one model.

    Returns:
        `f1` of the test promoters; `interval`, 95% over the test rows, of the mean of both classes' F1; the other
        `test` and `validation` metrics, `parameters`, `seconds`.
    """
    started = time.perf_counter()
    tokenizer = folder / "tokenizer"
    if not tokenizer.is_dir():
        sequences = read_rows(tables / "train.csv.gz")["sequence"]
        train_bpe_tokenizer(sequences, vocab_size=size.vocab_size).save_pretrained(tokenizer)
    models = folder / f"seed-{seed}"
    report = finetune(
        ModelArguments(
            backbone="gena_bert",
            backbone_config={
                "hidden_size": size.hidden_size,
                "intermediate_size": 2 * size.hidden_size,
                "num_hidden_layers": size.layers,
                "num_attention_heads": 4,
                "last_layer_norm": True,
                "max_position_embeddings": 256,
            },
            tokenizer_name_or_path=str(tokenizer),
        ),
        DataArguments(
            train_file=str(tables / "train.csv.gz"),
            validation_file=str(tables / "validation.csv.gz"),
            test_file=str(tables / "test.csv.gz"),
            label_column=["label"],
        ),
        FinetuneArguments(
            output_dir=str(models),
            overwrite=True,
            baselines=False,
            seeds=[seed],
            num_train_epochs=size.epochs,
            per_device_train_batch_size=size.batch_size,
            per_device_eval_batch_size=256,
            learning_rate=size.learning_rate,
            load_best_model_at_end=True,
            metric_for_best_model="macro_f1",
            greater_is_better=True,
            save_only_model=True,
            save_total_limit=1,
            logging_strategy="epoch",
            report_to="none",
            disable_tqdm=not sys.stderr.isatty(),
        ),
    )
    shutil.rmtree(models)
    return {
        "seed": seed,
        "f1": report["per_class"]["test"]["f1"]["1"],
        "test": {name: value["mean"] for name, value in report["test"].items()},
        "validation": {name: value["mean"] for name, value in report["validation"].items()},
        "interval": report["intervals"]["metrics"]["macro_f1"]["mean"],
        "parameters": report["parameters"],
        "seconds": round(time.perf_counter() - started, 1),
    }


def run_promoters(
    data: Path, output: Path, folds: Sequence[str], fold: int, seeds: Sequence[int], size: Size
) -> dict[str, Any]:
    """Score and train what is missing; returns the content of `output`/results.json."""
    report: dict[str, Any] = {
        "gengram_version": __version__,
        "transformers_version": transformers.__version__,
        "torch_version": torch.__version__,
        "fold": fold,
        "size": dataclasses.asdict(size),
        "folds": {},
    }
    for division in folds:
        # Tables and tokenizer of a quick run are others, too.
        folder = output / f"{'quick-' if size == QUICK else ''}{division}-{fold}"
        tables = folder / "tables"
        if not tables.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            build_promoters(data, tables, fold=fold, folds=division)
            if size.rows is not None:
                _shorten(tables, size.rows)
        baselines = _keep(
            folder / "baselines.json",
            lambda tables=tables: score_baselines(tables),
            {"rows": size.rows, "models": list(BASELINES)},
        )
        print(division, *(f"{BASELINES[name]} {baselines[name]:.4f}" for name in BASELINES), sep="  ", flush=True)
        cells = []
        for seed in seeds:
            cells.append(
                _keep(
                    folder / f"seed-{seed}.json",
                    lambda tables=tables, folder=folder, seed=seed: train_gena(tables, folder, seed, size),
                    dataclasses.asdict(size),
                )
            )
            print(f"{division}  GENA seed {seed}  F1 {cells[-1]['f1']:.4f}  {cells[-1]['seconds']:.0f} s", flush=True)
        scores = [cell["f1"] for cell in cells]
        report["folds"][division] = {
            "baselines": {name: baselines[name] for name in BASELINES},
            "gena": {
                "f1": float(np.mean(scores)),
                "sd": float(np.std(scores, ddof=1)) if len(scores) > 1 else None,
                "seeds": cells,
            },
        }
    return report


def tabulate(report: dict[str, Any]) -> str:
    """A Markdown table: F1 of the promoters, a line a model, a column a division into folds."""
    folds = report["folds"]
    head = [f"F1 of promoters, fold {report['fold']} tests", *(FOLDS[name] for name in folds)]
    rows = [
        [title, *(f"{found['baselines'][name]:.3f}" for found in folds.values())] for name, title in BASELINES.items()
    ]
    cells = [
        f"{found['gena']['f1']:.3f}" + (f" ± {found['gena']['sd']:.3f}" if found["gena"]["sd"] is not None else "")
        for found in folds.values()
    ]
    return format_table(head, [*rows, ["small GENA from scratch", *cells]])


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code: 0, or 1 after an error message."""
    parser = argparse.ArgumentParser(
        prog="python -m gengram.benchmarks.promoters",
        description="A small GENA from scratch on EPDnew's promoters, on leak-free and on the published folds.",
        epilog="example:\n  python -m gengram.benchmarks.promoters --data promoters_len_300 --output_dir runs/prom",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="fold_1.csv.gz ... and groups.csv")
    parser.add_argument("--output_dir", type=Path, default=Path("runs/promoters"), metavar="DIR", help="for results")
    parser.add_argument("--folds", nargs="+", choices=FOLDS, default=list(FOLDS), help="divisions (default: both)")
    parser.add_argument("--fold", type=int, default=1, help="that tests (default: 1)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="a model each (default: 0 1 2)")
    parser.add_argument("--quick", action="store_true", help="a tiny model on a few rows: does everything work?")
    arguments = parser.parse_args(argv)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets_logging.disable_progress_bar()
    output, size = arguments.output_dir, QUICK if arguments.quick else Size()
    try:
        report = run_promoters(arguments.data, output, arguments.folds, arguments.fold, arguments.seeds, size)
        write_json(report, output / "results.json")
        write_text(tabulate(report) + "\n", output / "results.md")
    except (InputError, OSError) as error:
        return complain("promoters", str(error))
    print(tabulate(report), output / "results.json", sep="\n\n")
    return 0


def _keep(path: Path, compute: Any, settings: dict[str, Any]) -> dict[str, Any]:
    """What an earlier run of the same settings has found, or else what is computed now."""
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["settings"] == settings:
            return found
    found = compute() | {"settings": settings}
    write_json(found, path)
    return found


def _shorten(tables: Path, rows: int) -> None:
    for path in tables.glob("*.csv.gz"):
        read_rows(path).to_pandas().head(rows).to_csv(path, index=False)


__all__ = ["BASELINES", "QUICK", "Size", "main", "run_promoters", "tabulate"]

if __name__ == "__main__":
    sys.exit(main())
