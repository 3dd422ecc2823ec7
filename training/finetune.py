"""`gengram finetune`: train a model on labelled DNA, once for each seed, and report how good it is."""

import argparse
import copy
import dataclasses
import difflib
import functools
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import torch
import transformers
import yaml
from peft import PeftModel
from transformers import (
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    HfArgumentParser,
    IntervalStrategy,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
)

from gengram import __version__
from gengram.training.adapters import LEARNING_RATES, add_adapter, describe_adapter, finish_adapter, refuse_adapter
from gengram.training.arguments import DataArguments, FinetuneArguments, ModelArguments
from gengram.training.augmentation import augment_rows, check_augmentation, predict_split
from gengram.training.classifier import build_classifier, load_config, load_tokenizer, measure_capacity
from gengram.training.errors import InputError
from gengram.training.evaluation import Scores, measure, score
from gengram.training.inputs import LabelledSplits, prepare_splits
from gengram.training.predictions import name_predictions, write_predictions
from gengram.training.report import (
    clear_earlier_run,
    describe_arguments,
    describe_model,
    summarize_classes,
    summarize_resamples,
    summarize_seeds,
    tabulate,
    write_report,
)
from gengram.training.weights import choose_loss

_EXAMPLE = """\
example:
  gengram finetune --train_file train.csv --test_file test.csv --output_dir runs/splice --seeds 0 1 2 \\
      --backbone llama --memory '{"memory_layers": [0, 1], "memory_dim": 64}' --num_train_epochs 8 --backbone_config \\
      '{"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}'

  gengram finetune --train_file peaks.bed --genome hg38.fa.gz --backbone modernbert --output_dir runs/peaks

  gengram finetune recipe.yaml --seeds 0 1 2     the same names as keys of a YAML file; flags win

The tables need a column of sequences (sequence, seq, dna) and one or more of labels (label, label_...): classes,
several labels, numbers, or a class for each base. Results go to OUTPUT_DIR/report.json, models to OUTPUT_DIR/seed-0,
seed-1, ...

exit codes: 0 done; 1 something has to be mended, the message says what; 2 wrong arguments
"""


def finetune(
    model_arguments: ModelArguments, data_arguments: DataArguments, training_arguments: FinetuneArguments
) -> dict[str, Any]:
    """Train a model for each seed, save the models and `report.json` in `output_dir`, and return the report.

    Rows, vocabulary and split are the same for all seeds; a seed decides the new weights, the order of the rows and
    dropout. On a CPU the same call gives the same report, but for `seconds`. Where several processes run it
    (`accelerate launch`), only the main one writes.

    Args:
        model_arguments: which model.
        data_arguments: which rows.
        training_arguments: how, which seeds, and where to.

    Returns:
        `dict`, the content of `report.json`:
        - `test`, `validation`: for each of the problem's `METRICS` the `mean` and `sd` over seeds (n - 1; null for one
          seed) and the list `per_seed`; null as a whole without such rows, a value null where it is not defined.
        - `intervals`: 95% bootstrap intervals over the test rows, see `summarize_resamples`; `per_class`: for `test`
          and `validation` the metrics of each class, label or target, means over seeds.
        - `model`, `data`, `arguments`, versions, `seeds`, `parameters`, `seconds`, `model_folders`.

    Raises:
        `InputError`: whatever the user can mend. No model and no report is left half-written; models of seeds that
            were finished before stay, and a folder without `report.json` is a run that did not come to its end.
    """
    started = time.perf_counter()
    output = Path(training_arguments.output_dir)
    _check_arguments(training_arguments)
    _check_output(output, training_arguments.overwrite)
    refuse_adapter(model_arguments)
    tokenizer = load_tokenizer(model_arguments)
    config = load_config(model_arguments, tokenizer)
    tokenizer.model_max_length = measure_capacity(config, tokenizer)
    data = prepare_splits(data_arguments, tokenizer, config)
    if training_arguments.load_best_model_at_end and "validation" not in data.splits:
        raise InputError(
            "load_best_model_at_end needs validation rows: give a validation_file or a validation_fraction"
        )

    check_augmentation(data, training_arguments)
    loss = choose_loss(training_arguments, data)
    scores: dict[str, list[Scores]] = {"validation": [], "test": []}
    created = not output.exists()
    try:
        for seed in training_arguments.seeds:
            model, new_weights = build_classifier(model_arguments, config, data.classes, seed, data.problem)
            trained = add_adapter(model, new_weights, model_arguments, data.problem)
            if seed == training_arguments.seeds[0] and training_arguments.process_index == 0:
                clear_earlier_run(output)
            arguments = _set_up_seed(training_arguments, model_arguments, seed, validates="validation" in data.splits)
            measured = _train_seed(trained, tokenizer, data, arguments, output / f"seed-{seed}")
            for split, scored in measured.items():
                scores[split].append(scored)
    except BaseException:
        if created and output.is_dir() and not any(output.iterdir()):
            output.rmdir()
        raise

    report = {
        "gengram_version": __version__,
        "transformers_version": transformers.__version__,
        "torch_version": torch.__version__,
        "model": describe_model(model, model_arguments, new_weights),
        "data": data.report,
        "arguments": describe_arguments(model_arguments, data_arguments, arguments),
        "adapter": describe_adapter(trained),
        "loss_weights": loss and loss.weights,
        "seeds": training_arguments.seeds,
        "parameters": model.num_parameters(),
        "test": summarize_seeds(scores["test"]),
        "validation": summarize_seeds(scores["validation"]),
        "intervals": summarize_resamples(scores["test"]),
        "per_class": {split: summarize_classes(scored, data.classes) for split, scored in scores.items()},
        "seconds": round(time.perf_counter() - started, 3),
        "model_folders": [f"seed-{seed}" for seed in training_arguments.seeds],
    }
    if training_arguments.process_index == 0:
        write_report(report, output / "report.json")
    return report


def parse_arguments(argv: list[str]) -> tuple[ModelArguments, DataArguments, FinetuneArguments]:
    """Read flags, or a YAML file as the first argument and flags that override it.

    Raises:
        `InputError`: a YAML file that cannot be read or has unknown keys.
        `SystemExit`: code 2, with a message: unknown flags, or values that do not fit.
    """
    groups: list[Any] = [ModelArguments, DataArguments, FinetuneArguments]
    known = [entry.name for group in groups for entry in dataclasses.fields(group) if entry.init]
    parser = HfArgumentParser(
        groups,
        prog="gengram finetune",
        usage="gengram finetune [RECIPE.yaml] [--train_file FILE --backbone NAME ...]",
        description="Train a model on labelled DNA, once for each seed, and report how good it is.",
        epilog=_EXAMPLE,
        formatter_class=_Help,
        allow_abbrev=False,
    )
    if argv and argv[0].endswith((".yaml", ".yml")):
        parser.set_defaults(**_read_recipe(argv[0], known))
        argv = argv[1:]
    try:
        model, data, training, unknown = parser.parse_args_into_dataclasses(
            argv, return_remaining_strings=True, look_for_args_file=False
        )
    except ValueError as error:
        parser.error(str(error))
    if unknown:
        parser.error(f"unknown arguments: {' '.join(unknown)}{_suggest(unknown[0].lstrip('-'), known)}")
    return model, data, training


def main(argv: list[str] | None = None) -> int:
    """Run `gengram finetune`; returns the exit code: 0, or 1 after a message about what has to be mended."""
    verbosity = transformers.utils.logging.get_verbosity()
    try:
        model_arguments, data_arguments, training_arguments = parse_arguments(sys.argv[1:] if argv is None else argv)
        transformers.utils.logging.set_verbosity_error()
        report = finetune(model_arguments, data_arguments, training_arguments)
    except (InputError, OSError) as error:
        return _complain(str(error))
    except torch.OutOfMemoryError as error:
        return _complain(
            f"the device has not enough memory ({error}). Lower --per_device_train_batch_size, raise "
            "--gradient_accumulation_steps by the same factor, or use --bf16."
        )
    finally:
        transformers.utils.logging.set_verbosity(verbosity)
    if training_arguments.process_index == 0:
        print(tabulate(report), Path(training_arguments.output_dir, "report.json"), sep="\n")
    return 0


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Defaults beside each flag that has one, the example as it is written."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, "") else super()._get_help_string(action)


def _complain(message: str) -> int:
    if os.environ.get("RANK", "0") == "0":
        print(f"gengram finetune: error: {message}", file=sys.stderr)
    return 1


def _read_recipe(path: str, known: list[str]) -> dict[str, Any]:
    try:
        recipe = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(recipe, dict):
        raise InputError(f"{path}: a recipe is a mapping of argument names to values, e.g. `train_file: train.csv`")
    for name in recipe:
        if name not in known:
            raise InputError(f"{path}: no argument is called {name!r}{_suggest(str(name), known)}")
    return recipe


def _suggest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _check_arguments(arguments: FinetuneArguments) -> None:
    if arguments.push_to_hub:
        raise InputError(
            "push_to_hub is not supported here yet: load OUTPUT_DIR/seed-0 and call push_to_hub on the model"
        )
    if arguments.resume_from_checkpoint:
        raise InputError("resume_from_checkpoint is not supported here yet: start the run again with --overwrite")


def _check_output(output: Path, overwrite: bool) -> None:
    existing = next(folder for folder in (output, *output.absolute().parents) if folder.exists())
    if not existing.is_dir():
        raise InputError(f"output_dir={str(output)!r}: {existing} is not a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"output_dir={str(output)!r}: the folder {existing} is not writable")
    if (output / "report.json").exists() and not overwrite:
        raise InputError(
            f"output_dir={str(output)!r} already holds the report of a run: choose another folder, or --overwrite it"
        )


def _set_up_seed(training: FinetuneArguments, model: ModelArguments, seed: int, validates: bool) -> FinetuneArguments:
    # A shallow copy: the state of the processes and devices is shared, not set up again.
    arguments = copy.copy(training)
    arguments.seed = seed
    if arguments.learning_rate is None:
        default = 1e-3 if model.model_name_or_path is None else 3e-5
        arguments.learning_rate = LEARNING_RATES.get(model.peft or "", default)
    if arguments.device.type == "cpu":
        arguments.dataloader_pin_memory = False  # There is no device to copy to, only a warning for each loader.
    if not validates:
        arguments.eval_strategy = IntervalStrategy.NO
    return arguments


def _train_seed(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    data: LabelledSplits,
    arguments: FinetuneArguments,
    folder: Path,
) -> dict[str, Scores]:
    """Train one model, save it in `folder`, and return the scores of each split that is not trained on."""
    partial = folder.with_name(folder.name + ".partial")
    in_partial = copy.copy(arguments)
    in_partial.output_dir = str(partial)
    collator = DataCollatorForTokenClassification if data.problem == "token" else DataCollatorWithPadding
    half = arguments.bf16 or arguments.fp16
    try:
        trainer = Trainer(
            model=model,
            args=in_partial,
            data_collator=collator(tokenizer, pad_to_multiple_of=8 if half else None),
            train_dataset=augment_rows(data, tokenizer, arguments),
            eval_dataset=data.splits.get("validation"),
            processing_class=tokenizer,
            compute_loss_func=choose_loss(arguments, data),
            compute_metrics=functools.partial(measure, data.problem),
            preprocess_logits_for_metrics=_keep_logits,
        )
        trainer.train()
        scores: dict[str, Scores] = {}
        trainer.compute_metrics = None  # `score` measures more, once.
        for split in ("validation", "test"):
            if split in data.splits:
                prediction = predict_split(trainer, data, split, tokenizer, arguments.average_strands)
                scores[split] = score(data.problem, prediction, with_resamples=split == "test")
                if trainer.is_world_process_zero():
                    path = name_predictions(partial, split)
                    write_predictions(
                        path, data.splits[split], prediction, data.problem, data.classes, tokenizer, data.too_long
                    )
        trainer.save_model()
        trainer.save_state()
        trainer.accelerator.wait_for_everyone()
        if trainer.is_world_process_zero():
            # A pickle with the paths of this machine; report.json says the same.
            (partial / "training_args.bin").unlink(missing_ok=True)
            finish_adapter(partial, model)
            if folder.exists():
                shutil.rmtree(folder)
            os.replace(partial, folder)
        trainer.accelerator.wait_for_everyone()
    except BaseException:
        if arguments.process_index == 0:
            shutil.rmtree(partial, ignore_errors=True)
        raise
    return scores


def _keep_logits(outputs: torch.Tensor | tuple, labels: torch.Tensor) -> torch.Tensor:
    # Some models return more than logits (router logits, caches), which would fill the memory.
    logits = outputs[0] if isinstance(outputs, tuple) else outputs
    return logits.float()


__all__ = ["finetune", "main", "parse_arguments"]

if __name__ == "__main__":
    sys.exit(main())
