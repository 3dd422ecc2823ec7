"""What does the motif memory add on real data? The same backbone with and without it, beside two linear models.

`python -m gengram.benchmarks.real_data --data FOLDER` trains every arm on every task with several seeds. All arms of a
task have the same backbone, rows, steps and schedule; which of the candidate backbones it is decides the validation
score of the arm *without* memory at the first seed. The checkpoint that is tested is the one that validates best. Test
rows are read once a model, after its training, and decide nothing.

A finished cell (task, backbone, arm, seed) is a file and is not trained again, so that a run that was stopped goes on,
and two processes can share a folder with different `--tasks`; the same command for all tasks then makes the table.
"""

import argparse
import dataclasses
import json
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from datasets.utils import logging as datasets_logging
from sklearn.metrics import matthews_corrcoef
from sklearn.pipeline import Pipeline
from transformers import AutoModelForSequenceClassification

from gengram._version import __version__
from gengram.benchmarks.real_data_report import ARMS, tabulate, write_results
from gengram.command_line import complain
from gengram.errors import InputError
from gengram.files import write_json
from gengram.genome.tables import read_rows
from gengram.progress import track
from gengram.training.arguments import DataArguments, FinetuneArguments, ModelArguments
from gengram.training.baselines.linear import make_kmer_classifier, make_position_classifier
from gengram.training.classifier import prepare_config, prepare_tokenizer
from gengram.training.data.duplicates import count_duplicates
from gengram.training.finetune import finetune

TASKS = ("GUE/tf_3", "GUE/prom_core_all", "other/celegans_splice_42", "GUE/mouse_0")
GPU_TASKS = ("GUE/splice_reconstructed", "NTB/H3", "NTB/H3K36me3", "GB/human_nontata_promoters")
TEST_FILES = ("test_shared.csv.gz", "test.csv.gz")
KMER_ROWS = 10_000  # of a second 6-mer model, as published tables of it have

LONGER = 3  # times the steps of the other arms


@dataclasses.dataclass(frozen=True)
class Size:
    """How large the models are and how long they are trained; the same for all tasks and arms.

    Attributes:
        hidden_size, layers, memory_dim: of the models; the MLP is twice as wide as the hidden size.
        steps, batch_size: of the training.
        evaluations: how often validation rows are scored on the way.
        learning_rate: peak, after a tenth of the steps.
        bf16: mixed precision.
    """

    hidden_size: int = 64
    layers: int = 2
    memory_dim: int = 64
    steps: int = 2000
    batch_size: int = 16
    evaluations: int = 4
    learning_rate: float = 1e-3
    bf16: bool = False


# Chosen on validation rows of two tasks that are not in the table, GUE/mouse_4 and the UCI splice junctions, for the
# arm without memory: with batches of 32 and half the steps, or three times the learning rate, it was still at chance.
CPU = Size()
# 4.7 million parameters with the memory.
GPU = Size(hidden_size=176, layers=6, memory_dim=128, steps=10_000, batch_size=32, evaluations=10, bf16=True)
QUICK = Size(hidden_size=16, memory_dim=16, steps=20, evaluations=2)


def describe_backbone(name: str, size: Size) -> dict[str, Any]:
    """Fields of a candidate's configuration: learned absolute positions, or local attention with rotary positions."""
    fields = {
        "hidden_size": size.hidden_size,
        "intermediate_size": 2 * size.hidden_size,
        "num_hidden_layers": size.layers,
        "num_attention_heads": 4,
    }
    if name == "bert":
        return fields | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    kinds = ["sliding_attention", "full_attention"]
    return fields | {"local_attention": 16, "layer_types": [kinds[layer % 2] for layer in range(size.layers)]}


BACKBONES = ("modernbert", "bert")


def describe_model(backbone: str, arm: str, size: Size) -> ModelArguments:
    """The model of an arm, for `finetune`."""
    memory: dict[str, Any] = {"memory_layers": []}
    if arm == "memory":
        memory = {"memory_layers": [0], "memory_dim": size.memory_dim, "center_window": True}
    if arm == "wider":
        size = widen(backbone, size)
    return ModelArguments(backbone=backbone, backbone_config=describe_backbone(backbone, size), memory=memory)


def widen(backbone: str, size: Size) -> Size:
    """Spend the memory's parameters on the backbone: the smallest width with at least as many as with memory."""
    wanted = count_parameters(describe_model(backbone, "memory", size))
    wider = size
    while count_parameters(describe_model(backbone, "no_memory", wider)) < wanted:
        wider = dataclasses.replace(wider, hidden_size=wider.hidden_size + 16)
    return wider


def count_parameters(model: ModelArguments) -> int:
    """Parameters of a model that is described but not made."""
    config = prepare_config(model, prepare_tokenizer(model))
    with torch.device("meta"):
        return AutoModelForSequenceClassification.from_config(config).num_parameters()


def find_files(data: Path, task: str) -> tuple[Path, Path]:
    """The training and the test file of a task.

    Raises:
        `InputError`: one of them is missing.
    """
    train = data / task / "train.csv.gz"
    test = next((data / task / name for name in TEST_FILES if (data / task / name).is_file()), None)
    if not train.is_file() or test is None:
        raise InputError(f"{data / task}: a task is a folder with train.csv.gz and {' or '.join(TEST_FILES)}")
    return train, test


def train_cell(folder: Path, data: Path, task: str, backbone: str, arm: str, seed: int, size: Size) -> dict[str, Any]:
    """Train and score one model, or read what an earlier run of the same settings has found.

    Returns:
        `validation`, `test`: metric to value; `interval`: of the test MCC; `parameters`, `seconds`, `cpu_seconds`,
        `data`, and the settings.
    """
    path = folder / "cells" / f"{task.replace('/', '_')}-{backbone}-{arm}-{seed}.json"
    settings = {"task": task, "backbone": backbone, "arm": arm, "seed": seed, "size": dataclasses.asdict(size)}
    if path.is_file():
        cell = json.loads(path.read_text(encoding="utf-8"))
        if {name: cell.get(name) for name in settings} == settings:
            return cell
    train, test = find_files(data, task)
    steps = size.steps * (LONGER if arm == "longer" else 1)
    models = path.with_suffix(".models")
    started, processor = time.perf_counter(), time.process_time()
    report = finetune(
        describe_model(backbone, arm, size),
        DataArguments(train_file=str(train), test_file=str(test)),
        FinetuneArguments(
            output_dir=str(models),
            overwrite=True,
            baselines=False,
            seeds=[seed],
            max_steps=steps,
            per_device_train_batch_size=size.batch_size,
            learning_rate=size.learning_rate,
            eval_strategy="steps",
            save_strategy="steps",
            eval_steps=steps // size.evaluations,
            save_steps=steps // size.evaluations,
            save_total_limit=1,
            save_only_model=True,
            load_best_model_at_end=True,
            metric_for_best_model="mcc",
            greater_is_better=True,
            logging_strategy="no",
            report_to="none",
            use_cpu=not size.bf16,
            bf16=size.bf16,
        ),
    )
    cell = settings | {
        split: {metric: value["mean"] for metric, value in report[split].items()} for split in ("validation", "test")
    }
    cell |= {
        "interval": report["intervals"]["metrics"]["mcc"]["mean"],
        "parameters": report["parameters"],
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(time.process_time() - processor, 1),
        "data": report["data"],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(cell, path)
    shutil.rmtree(models)
    return cell


def train_task(
    folder: Path, data: Path, task: str, arms: Sequence[str], seeds: Sequence[int], size: Size
) -> Iterator[dict[str, Any]]:
    """Choose the backbone on validation rows, then train the arms; yields a cell after the other."""
    candidates = []
    for backbone in BACKBONES:
        candidates.append(train_cell(folder, data, task, backbone, "no_memory", seeds[0], size))
        yield candidates[-1]
    chosen = choose_backbone(candidates)
    for seed in seeds:
        for arm in arms:
            if (arm, seed) != ("no_memory", seeds[0]):
                yield train_cell(folder, data, task, chosen, arm, seed, size)


def choose_backbone(candidates: list[dict[str, Any]]) -> str:
    """The backbone of the cell with the best validation MCC."""
    return max(candidates, key=lambda cell: cell["validation"]["mcc"])["backbone"]


def score_linear(data: Path, task: str) -> dict[str, Any]:
    """Test MCC of the linear models, fitted on all training rows (or `KMER_ROWS` of them), and what the rows are.

    Returns:
        for each of `LINEAR` its `mcc`; `one_hot_lr` is None where the sequences differ in length.
    """
    train, test = (read_rows(path) for path in find_files(data, task))
    labels, truth = np.asarray(train["label"]), np.asarray(test["label"])
    sequences, unseen = np.asarray(train["sequence"]), np.asarray(test["sequence"])
    some = np.random.default_rng(0).permutation(len(labels))[:KMER_ROWS]

    def score(model: Pipeline, rows: Any = slice(None)) -> float:
        return float(matthews_corrcoef(truth, model.fit(sequences[rows], labels[rows]).predict(unseen)))

    lengths = {len(sequence) for sequence in [*sequences, *unseen]}
    return {
        "kmer_lr": score(make_kmer_classifier()),
        "kmer_lr_10000": score(make_kmer_classifier(), some),
        "one_hot_lr": score(make_position_classifier()) if len(lengths) == 1 else None,
        "rows": {"train": len(labels), "test": len(truth)},
        "classes": len(set(labels.tolist())),
        "length": [min(lengths), max(lengths)],
        "test_in_train": count_duplicates(sequences, unseen),
    }


def read_linear(folder: Path, data: Path, task: str) -> dict[str, Any]:
    """`score_linear`, or what an earlier run has found."""
    path = folder / "cells" / f"{task.replace('/', '_')}-linear.json"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(score_linear(data, task), path)
    return json.loads(path.read_text(encoding="utf-8"))


def run_real_data(
    data: Path,
    output_dir: Path,
    tasks: Sequence[str] = TASKS,
    arms: Sequence[str] = ("no_memory", "memory"),
    seeds: Sequence[int] = (0, 1, 2),
    size: Size = CPU,
) -> dict[str, Any]:
    """Train what is missing and return what `output_dir`/results.json holds.

    Args:
        data: folder with a sub-folder a task.
        output_dir: for results.json, results.md, scores.png, and a file a cell in cells/.
        tasks, arms, seeds, size: what is trained.

    Returns:
        For each task `linear`, `backbone`, `candidates` (validation MCC) and for each arm `test_mcc` (mean, sd,
        per_seed, intervals), `validation_mcc`, `test_auroc`, `parameters`, `seconds`, `cpu_seconds`.

    Raises:
        `InputError`: a task that is not there, or what `finetune` refuses.
    """
    for task in tasks:
        find_files(data, task)
    report: dict[str, Any] = {
        "gengram_version": __version__,
        "transformers_version": transformers.__version__,
        "torch_version": torch.__version__,
        "device": torch.cuda.get_device_name() if size.bf16 else "cpu",
        "threads": torch.get_num_threads(),
        "seeds": list(seeds),
        "size": dataclasses.asdict(size),
        "tasks": {},
    }
    total = len(tasks) * (len(arms) * len(seeds) + len(BACKBONES) - ("no_memory" in arms))
    with track(total=total, desc="Training", unit=" models") as progress:
        for task in tasks:
            linear = read_linear(output_dir, data, task)
            cells = []
            for cell in train_task(output_dir, data, task, arms, seeds, size):
                cells.append(cell)
                progress.update()
                progress.write(
                    f"{task:<26} {cell['backbone']:<11} {cell['arm']:<10} seed {cell['seed']}  "
                    f"MCC validation {cell['validation']['mcc']:.3f}, test {cell['test']['mcc']:.3f}  "
                    f"{cell['seconds']:.0f} s"
                )
            report["tasks"][task] = {"linear": linear} | summarize_task(cells, arms, seeds)
    return report


def summarize_task(cells: list[dict[str, Any]], arms: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
    """Mean and spread over seeds of each arm on the chosen backbone."""
    candidates = [cell for cell in cells if cell["arm"] == "no_memory" and cell["seed"] == seeds[0]]
    chosen = choose_backbone(candidates)
    summary: dict[str, Any] = {
        "backbone": chosen,
        "candidates": {cell["backbone"]: cell["validation"]["mcc"] for cell in candidates},
        "data": {name: value for name, value in cells[0]["data"].items() if name in ("duplicates", "classes")},
        "arms": {},
    }
    for arm in arms:
        some = [cell for cell in cells if cell["arm"] == arm and cell["backbone"] == chosen]
        scores = [cell["test"]["mcc"] for cell in some]
        summary["arms"][arm] = {
            "test_mcc": {
                "mean": float(np.mean(scores)),
                "sd": float(np.std(scores, ddof=1)) if len(scores) > 1 else None,
                "per_seed": scores,
                "intervals": [cell["interval"] for cell in some],
            },
            "validation_mcc": float(np.mean([cell["validation"]["mcc"] for cell in some])),
            "test_auroc": float(np.mean([cell["test"]["auroc"] for cell in some])),
            "parameters": some[0]["parameters"],
            "seconds": float(np.mean([cell["seconds"] for cell in some])),
            "cpu_seconds": float(np.mean([cell["cpu_seconds"] for cell in some])),
        }
    return summary


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code: 0, or 1 after an error message."""
    parser = argparse.ArgumentParser(
        prog="python -m gengram.benchmarks.real_data",
        description="The same backbone with and without motif memory on real tasks, beside linear models.",
        epilog="example:\n  python -m gengram.benchmarks.real_data --data benchmarks --output_dir runs/real-data\n\n"
        "DATA/GUE/tf_3/train.csv.gz and test.csv.gz (columns seq or sequence, label) are the task GUE/tf_3.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder with the tasks")
    parser.add_argument("--output_dir", type=Path, default=Path("runs/real-data"), metavar="DIR", help="for results")
    parser.add_argument("--tasks", nargs="+", metavar="TASK", help=f"sub-folders of DATA (default: {' '.join(TASKS)})")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=["no_memory", "memory"], help="what is compared")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="a model each (default: 0 1 2)")
    parser.add_argument(
        "--gpu", action="store_true", help=f"models of up to 5 million parameters on {' '.join(GPU_TASKS)}"
    )
    parser.add_argument("--quick", action="store_true", help="a few steps of tiny models: does everything work?")
    arguments = parser.parse_args(argv)
    if arguments.gpu and arguments.quick:
        parser.error("give either --gpu or --quick")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()  # of reading and writing files; the bar of the models stays
    datasets_logging.disable_progress_bar()
    tasks = arguments.tasks or (GPU_TASKS if arguments.gpu else TASKS)
    size = GPU if arguments.gpu else QUICK if arguments.quick else CPU
    output = arguments.output_dir
    try:
        if arguments.gpu and not torch.cuda.is_available():
            report: dict[str, Any] = {"tasks": {task: {"skipped": "not run: no GPU"} for task in tasks}}
        else:
            report = run_real_data(arguments.data, output, tasks, arguments.arms, arguments.seeds, size)
        output.mkdir(parents=True, exist_ok=True)
        write_results(report, output)
    except (InputError, OSError) as error:
        return complain("real_data", str(error))
    print(tabulate(report), output / "results.json", sep="\n\n")
    return 0


__all__ = ["Size", "choose_backbone", "main", "run_real_data", "score_linear", "widen"]

if __name__ == "__main__":
    sys.exit(main())
