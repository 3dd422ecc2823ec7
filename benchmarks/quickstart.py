"""`gengram quickstart`: what does the motif memory add? A task, four models, a table, a saved model, in minutes.

Simulates splice sites and decoys (`builders/splice_sites.py`), trains a small BERT with and without the motif memory on
the same rows for the same number of steps, three seeds each, and puts a positional and a k-mer logistic regression
beside them. A trained model is reloaded as anybody would load it, and has to give the same answers.
"""

import csv
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
import yaml
from scipy.special import softmax
from sklearn.metrics import matthews_corrcoef
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from gengram._version import __version__
from gengram.benchmarks.builders.splice_sites import LENGTH, write_splice_sites
from gengram.files import save_figure, tell_write_faults, write_json, write_text
from gengram.phases import phase
from gengram.pipelines.predictions import name_predictions, read_predictions
from gengram.progress import tell
from gengram.training.arguments import DataArguments, FinetuneArguments, ModelArguments
from gengram.training.baselines.linear import make_kmer_classifier, make_position_classifier
from gengram.training.finetune import finetune

# Sizes by the clock: both models, three seeds each, within three minutes on two cores. BERT, because its positions
# are absolute, as the evidence of the task is; no dropout, because it costs a third of the time. What is not here is
# the default of `gengram finetune`.
RECIPE: dict[str, Any] = {
    "backbone": "bert",
    "backbone_config": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    },
    "memory": {"memory_layers": [0], "memory_dim": 64, "center_window": True},
}
NO_MEMORY: dict[str, Any] = {"memory": {"memory_layers": []}}
PIECES = ("data", "gengram", "baseline", "recipe.yaml", "scores.png")
"""What a quickstart writes beside its report."""

BATCH = 64  # sequences, in evaluation

TITLES = {
    "gengram": "Gengram (with memory)",
    "baseline": "same backbone, no memory",
    "one_hot_lr": "one-hot positions, logistic regression",
    "kmer_lr": "6-mer counts, logistic regression",
}


def run_quickstart(
    output_dir: str | os.PathLike[str] = "runs/quickstart",
    train_pairs: int = 2000,
    validation_pairs: int = 250,
    test_pairs: int = 1000,
    num_train_epochs: float = 3,
    seeds: Sequence[int] = (0, 1, 2),
) -> dict[str, Any]:
    """Make the task, train and score everything, reload a model, and return what `output_dir`/report.json holds.

    Args:
        output_dir: for report.json, recipe.yaml (what `gengram finetune` needs to do the same with other rows),
            data/*.csv, gengram/seed-*, baseline/seed-*; an earlier quickstart is replaced.
        train_pairs, validation_pairs, test_pairs: sites, each with its decoy.
        num_train_epochs, seeds: of the two networks.

    Returns:
        `gengram`, `baseline`: `test_mcc` (mean over seeds), `per_seed`, `parameters`; `one_hot_lr`, `kmer_lr`:
        `test_mcc`; `reload_max_abs_diff`: largest difference between a test probability of the last seed's model in
        memory, as the run wrote it, and after saving and loading; `seconds` of all of it; `task`, `seeds` and versions.

    Raises:
        `InputError`, `OSError`: a folder that cannot be written.
    """
    output = Path(output_dir)
    with tell_write_faults(output):
        output.mkdir(parents=True, exist_ok=True)
        (output / "report.json").unlink(missing_ok=True)
    try:
        report = _run(output, (train_pairs, validation_pairs, test_pairs), num_train_epochs, seeds)
        write_json(report, output / "report.json")
    except BaseException:
        for name in PIECES:
            if (output / name).is_dir():
                shutil.rmtree(output / name, ignore_errors=True)
            else:
                (output / name).unlink(missing_ok=True)
        raise
    return report


def _run(output: Path, pairs: tuple[int, int, int], num_train_epochs: float, seeds: Sequence[int]) -> dict[str, Any]:
    """The work of `run_quickstart`; returns the report."""
    started = time.perf_counter()
    tell(f"Simulating {sum(pairs):,} splice sites, each with a decoy, {LENGTH} bp")
    with phase("Simulating"):
        paths = write_splice_sites(output / "data", *pairs)
        train, test = read_rows(paths["train"]), read_rows(paths["test"])

    report: dict[str, Any] = {
        "gengram_version": __version__,
        "transformers_version": transformers.__version__,
        "torch_version": torch.__version__,
        "task": {"train_rows": len(train[0]), "validation_rows": 2 * pairs[1], "test_rows": len(test[0])},
        "seeds": list(seeds),
    }
    data = DataArguments(
        train_file=str(paths["train"]), validation_file=str(paths["validation"]), test_file=str(paths["test"])
    )
    for name, model in (("gengram", RECIPE), ("baseline", RECIPE | NO_MEMORY)):
        tell(f"Training {len(seeds)} models: {TITLES[name]}")
        training = FinetuneArguments(
            output_dir=str(output / name),
            overwrite=True,
            baselines=False,
            seeds=list(seeds),
            num_train_epochs=num_train_epochs,
            per_device_eval_batch_size=BATCH,
            eval_strategy="no",
            logging_strategy="no",
            use_cpu=True,  # the same figures wherever it runs
        )
        scores = finetune(ModelArguments(**model), data, training)
        report[name] = {
            "test_mcc": scores["test"]["mcc"]["mean"],
            "per_seed": scores["test"]["mcc"]["per_seed"],
            "parameters": scores["parameters"],
        }
        if name == "gengram":
            report["model_folder"] = f"{name}/{scores['model_folders'][-1]}"
            classes = scores["data"]["classes"]

    for name, classifier in (("one_hot_lr", make_position_classifier()), ("kmer_lr", make_kmer_classifier())):
        tell(f"Fitting: {TITLES[name]}")
        with phase("Fitting simple models"):
            predicted = classifier.fit(*train).predict(test[0])
        report[name] = {"test_mcc": float(matthews_corrcoef(test[1], predicted))}

    tell("Reloading the last Gengram model with AutoModelForSequenceClassification")
    written = name_predictions(output / report["model_folder"], "test")
    in_memory = np.concatenate([part for part, _ in read_predictions(written, "single_label", classes)])
    with phase("Reloading", unit="rows") as reloading:
        reloaded = predict_probabilities(output / report["model_folder"], test[0])
        reloading.add(len(reloaded))
    report["reload_max_abs_diff"] = float(np.abs(in_memory - reloaded).max())
    write_recipe(output / "recipe.yaml", num_train_epochs, seeds)
    report["seconds"] = round(time.perf_counter() - started, 1)
    return report


def read_rows(path: Path) -> tuple[list[str], np.ndarray]:
    """Sequences, and their labels as int64 [rows]."""
    with open(path, newline="", encoding="ascii") as file:
        rows = list(csv.DictReader(file))
    return [row["sequence"] for row in rows], np.array([int(row["label"]) for row in rows])


@torch.inference_mode()
def predict_probabilities(folder: Path, sequences: list[str]) -> np.ndarray:
    """Load a classifier and its tokenizer with the Auto classes; float32 [sequences, labels]."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    batches = (sequences[start : start + BATCH] for start in range(0, len(sequences), BATCH))
    logits = [model(**tokenizer(batch, padding=True, return_tensors="pt")).logits for batch in batches]
    return softmax(torch.cat(logits).numpy(), axis=1)


def write_recipe(path: Path, num_train_epochs: float, seeds: Sequence[int]) -> None:
    """The arguments of the Gengram models as a file for `gengram finetune`; the rows are the reader's."""
    recipe = RECIPE | {"num_train_epochs": num_train_epochs, "seeds": list(seeds)}
    command = "gengram finetune recipe.yaml --train_file my.csv --test_file my-test.csv --output_dir runs/mine"
    write_text(f"# {command}\n{yaml.safe_dump(recipe, sort_keys=False)}", path)


def tabulate(report: dict[str, Any]) -> str:
    """A line for each model: mean test MCC, then each seed's."""
    seeds = "".join(f"{f'seed {seed}':>9}" for seed in report["seeds"])
    lines = [f"{'test MCC, ' + format(report['task']['test_rows'], ',') + ' sequences':<42}{'mean':>7}{seeds}"]
    for name, title in TITLES.items():
        cells = "".join(f"{score:>9.3f}" for score in report[name].get("per_seed", []))
        lines.append(f"{title:<42}{report[name]['test_mcc']:>7.3f}{cells}")
    return "\n".join(lines)


def explain(report: dict[str, Any], output: Path) -> str:
    """Return what the command shows at its end: the table, and what to do next."""
    return (
        f"\n{tabulate(report)}\n\n"
        "A site and its decoy have the same count of every k-mer up to 6, so counts alone score 0; positions decide.\n"
        f"Reloaded {report['model_folder']}: largest difference of a probability {report['reload_max_abs_diff']}\n"
        f"{report['seconds']:.0f} s; everything is in {output}, the figures in {output / 'report.json'}\n\n"
        "The same with your own CSV (columns sequence, label):\n"
        f"  gengram finetune {output / 'recipe.yaml'} --train_file my.csv --out runs/mine\n"
        "Such a CSV from a data set of the Hub:\n"
        "  python -c \"import datasets; datasets.load_dataset('USER/NAME', split='train').to_csv('my.csv')\""
    )


def plot_scores(report: dict[str, Any], path: Path) -> None:
    """A bar for each model's mean test MCC, a dot for each seed's; the format is that of the path's suffix."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 2.6), layout="constrained")
    axes = figure.subplots()
    for row, (name, title) in enumerate(TITLES.items()):
        axes.barh(row, report[name]["test_mcc"], color="tab:blue" if name == "gengram" else "silver")
        seeds = report[name].get("per_seed", [])
        axes.plot(seeds, [row] * len(seeds), "o", color="black", markersize=3)
        axes.annotate(title, (0.01, row), va="center", fontsize="small")
    axes.set(xlim=(min(0, axes.get_xlim()[0]), 1), xlabel="Matthews correlation on the test rows", yticks=[])
    axes.invert_yaxis()
    save_figure(figure, path, dpi=150)


__all__ = ["explain", "plot_scores", "run_quickstart", "tabulate"]
