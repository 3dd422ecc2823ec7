"""One seed of a run: train a model, from its start or from where it was interrupted, save it and score it."""

import copy
import functools
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from datasets import Dataset
from transformers import (
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    EarlyStoppingCallback,
    EvalPrediction,
    IntervalStrategy,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    TrainerCallback,
)

from gengram.errors import InputError
from gengram.files import name_partial, replace_folder, tell_write_faults
from gengram.loading.faults import tell_error, tell_faults
from gengram.loading.models import check_finite
from gengram.phases import phase
from gengram.pipelines.predictions import name_predictions, write_predictions
from gengram.progress import MINUTE, is_quiet, is_watched, tell
from gengram.training.arguments import LEARNING_RATES, FinetuneArguments, ModelArguments
from gengram.training.checkpoints import (
    CheckpointSeal,
    check_names,
    clear_unusable,
    find_checkpoint,
    is_trained,
    mark_trained,
    skip_rest,
)
from gengram.training.data.augmentation import augment_rows
from gengram.training.data.inputs import LabelledSplits
from gengram.training.data.sampling import StepBatches, measure_lengths
from gengram.training.data.strands import average_outputs, read_other_strand
from gengram.training.losses import StepLoss
from gengram.training.metrics.scores import Scores, measure, score
from gengram.training.problems import IGNORED, Problem
from gengram.training.resume import write_scores
from gengram.training.setup import check_optimizer
from gengram.training.trainer import StepTrainer, run_training

if TYPE_CHECKING:
    from peft import PeftModel


def set_up_seed(training: FinetuneArguments, model: ModelArguments, seed: int, validates: bool) -> FinetuneArguments:
    """Return the arguments of one seed, with the defaults that depend on the model and the data filled in."""
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


def divide_steps(arguments: FinetuneArguments, data: LabelledSplits) -> StepBatches:
    """Return this process's training batches.

    Raises:
        `InputError`: a sequence is longer than `max_tokens_per_step`.
    """
    return StepBatches(
        measure_lengths(data.splits["train"]),
        arguments.count_sequences() or 1,
        order=arguments.train_sampling_strategy,
        seed=arguments.seed if arguments.data_seed is None else arguments.data_seed,
        max_tokens=arguments.max_tokens_per_step,
        accumulation=arguments.gradient_accumulation_steps,
        processes=arguments.world_size,
        process=arguments.process_index,
    )


def train_seed(
    model: "PreTrainedModel | PeftModel",
    tokenizer: PreTrainedTokenizerBase,
    data: LabelledSplits,
    arguments: FinetuneArguments,
    loss: StepLoss,
    folder: Path,
) -> dict[str, Scores]:
    """Train one model, save it in `folder`, and return the scores of each split that is not trained on.

    Until all is there the folder is called `....partial`. With `resume_from_checkpoint`, the training goes on from the
    last complete checkpoint in it, and a model that is trained is only measured. Without a checkpoint, nothing is left
    of it when the training is interrupted. The weights are written before anything is measured: what goes wrong there
    (and half precision, which `bf16_full_eval` turns the model to) does not touch them.

    Raises:
        `InputError`: arguments that Trainer cannot work with, a loss or weights that are not finite, a checkpoint of an
            earlier version in which the optimizer had another order; or the model is there, and could not be measured:
            the message says where it is and how to go on.
    """
    partial = name_partial(folder)
    is_main = arguments.process_index == 0
    if is_main and arguments.resume_from_checkpoint:
        clear_unusable(partial)
    elif is_main and partial.exists():
        shutil.rmtree(partial)
    arguments.distributed_state.wait_for_everyone()
    checkpoint, trained = find_checkpoint(partial), is_trained(partial)
    if checkpoint is not None and not trained:
        check_names(checkpoint, model)
    try:
        trainer = make_trainer(model, tokenizer, data, arguments, loss, partial, None if trained else checkpoint)
        if trained:
            trainer._load_from_checkpoint(str(partial))
        else:
            _train(trainer, checkpoint)
            with tell_write_faults(folder, partial):
                _save(trainer, partial)
    except BaseException:
        if is_main and find_checkpoint(partial) is None:
            shutil.rmtree(partial, ignore_errors=True)
        elif is_main:
            clear_unusable(partial)  # Half of a checkpoint would only fill the disk.
        raise
    scores: dict[str, Scores] = {}
    trainer.compute_metrics = None  # `score` measures more, once.
    try:
        for split in ("validation", "test"):
            if split in data.splits:
                prediction = predict_split(trainer, data, split, tokenizer, arguments.average_strands)
                # The split that the run is judged by: without test rows the validation rows.
                judged = split == "test" or "test" not in data.splits
                with phase("Scoring", unit="rows") as scoring:
                    scores[split] = score(data.problem, prediction, with_resamples=judged)
                    scoring.add(len(data.splits[split]))
                if is_main:
                    path, rows = name_predictions(partial, split), data.splits[split]
                    with phase("Writing predictions", unit="rows") as writing:
                        write_predictions(path, rows, prediction, data.problem, data.classes, tokenizer, data.too_long)
                        writing.add(len(rows))
        if is_main:
            with tell_write_faults(folder, partial):
                write_scores(scores, partial)
                replace_folder(partial, folder)
    except Exception as error:
        raise InputError(
            f"the model is trained and saved in {partial}, but it could not be measured: {tell_error(error)}. Mend the "
            "cause (for memory, lower --per_device_eval_batch_size) and give the same command with "
            "--resume_from_checkpoint: only what is missing is done."
        ) from error
    trainer.accelerator.wait_for_everyone()
    return scores


def _train(trainer: StepTrainer, checkpoint: Path | None) -> None:
    run_training(trainer, checkpoint, "rows")
    if trainer.args.load_best_model_at_end and trainer.state.best_model_checkpoint is None:
        tell(
            f"no validation had a {trainer.args.metric_for_best_model} to choose the best checkpoint by: the last "
            "weights are kept"
        )


@phase("Saving models")
def _save(trainer: StepTrainer, folder: Path) -> None:
    """Write the model, and the note that it is whole."""
    model: Any = trainer.model
    check_finite(model, f"step {trainer.state.global_step}")
    trainer.save_model()
    trainer.save_state()
    trainer.accelerator.wait_for_everyone()
    if trainer.is_world_process_zero():
        # A pickle with the paths of this machine; report.json says the same.
        (folder / "training_args.bin").unlink(missing_ok=True)
        if not isinstance(model, PreTrainedModel):
            from gengram.training.adapters.adapt import finish_adapter

            finish_adapter(folder, model)
        mark_trained(folder)
    trainer.accelerator.wait_for_everyone()


def predict_split(
    trainer: StepTrainer, data: LabelledSplits, split: str, tokenizer: PreTrainedTokenizerBase, both_strands: bool
) -> EvalPrediction:
    """Predict the rows of a split, or these and their other strand, averaged with `average_outputs`.

    What the last validation of the training, or that of the best checkpoint, has predicted is not predicted again.

    Returns:
        Outputs (N, C) and labels (N,) or (N, C) of the split's rows; for `token` lists of them, padded batch by batch.
        Labelled bases are put back where they belong; outputs of other tokens are those of the strand as it was given.
    """
    rows, problem = data.splits[split], data.problem
    forward = trainer.take_outputs() if split == "validation" else None
    if forward is None:
        forward = _predict(trainer, rows, split)
    outputs: Any
    labels: Any
    if problem == "token":
        outputs, labels = list(forward.predictions), list(forward.label_ids)
    else:
        outputs, labels = np.concatenate(forward.predictions), np.concatenate(forward.label_ids)
    if not both_strands:
        return EvalPrediction(outputs, labels)
    backward = _predict(trainer, read_other_strand(rows, tokenizer, data.report["max_length"], data.too_long), split)
    if problem != "token":
        return EvalPrediction(average_outputs(outputs, np.concatenate(backward.predictions), problem), labels)
    turned = (row for batch in zip(backward.predictions, backward.label_ids) for row in zip(*batch))
    for batch, batch_labels in zip(outputs, labels):
        for output, row_labels in zip(batch, batch_labels):
            known, (other_output, other_labels) = row_labels != IGNORED, next(turned)
            output[known] = average_outputs(output[known], other_output[other_labels != IGNORED][::-1], problem)
    return EvalPrediction(outputs, labels)


def _predict(trainer: StepTrainer, rows: Dataset, split: str) -> EvalPrediction:
    """Return the outputs and labels of rows, lists of batches."""
    with phase("Predicting", unit="rows") as predicting, trainer.counting(predicting.add):
        prediction = trainer.predict(rows, metric_key_prefix=split)
    assert prediction.label_ids is not None  # Every split has labels.
    return EvalPrediction(prediction.predictions, prediction.label_ids)


def make_trainer(
    model: "PreTrainedModel | PeftModel | Callable[[Any], Any]",
    tokenizer: PreTrainedTokenizerBase,
    data: LabelledSplits,
    arguments: FinetuneArguments,
    loss: StepLoss,
    folder: Path,
    checkpoint: Path | None = None,
) -> StepTrainer:
    """Return what trains on the rows of `train` and validates on those of `validation`.

    Args:
        model: the model, or what makes one for a trial of a search, `model_init` of Trainer.
        tokenizer, data, arguments, loss: of the run.
        folder: for checkpoints.
        checkpoint: where the training will go on, if it does.

    Raises:
        `InputError`: arguments that Trainer cannot work with.
    """
    arguments = copy.copy(arguments)
    arguments.output_dir = str(folder)
    arguments.restore_callback_states_from_checkpoint = True  # How long early stopping has waited.
    arguments.push_to_hub = False  # The whole run is published at its end, with our card.
    arguments.eval_do_concat_batches = (
        False  # Trainer copies all earlier batches for each, and pads all to the longest.
    )
    if arguments.eval_accumulation_steps is None:
        arguments.eval_accumulation_steps = _ACCUMULATED
    arguments.label_names = ["labels"]  # Trainer takes every argument of a model with "label" in it: also a mask.
    if checkpoint is not None:
        skip_rest(checkpoint, arguments)
    callbacks: list[TrainerCallback] = [CheckpointSeal()]
    if arguments.early_stopping_patience is not None:
        callbacks.append(EarlyStoppingCallback(arguments.early_stopping_patience))
    made: dict[str, Any] = {"model": model} if isinstance(model, torch.nn.Module) else {"model_init": model}
    if "model" in made:
        check_optimizer(arguments, model)
    if not is_watched() or is_quiet():
        arguments.disable_tqdm = True
    train_rows, steps = augment_rows(data, tokenizer, arguments), divide_steps(arguments, data)
    with tell_faults("the training cannot be set up with these arguments"):
        trainer = StepTrainer(
            **made,
            args=arguments,
            data_collator=make_collator(tokenizer, data.problem, arguments),
            train_dataset=train_rows,
            eval_dataset=data.splits.get("validation"),
            processing_class=tokenizer,
            steps=steps,
            compute_loss_func=loss,
            compute_metrics=functools.partial(measure, data.problem),
            preprocess_logits_for_metrics=_keep_logits,
            callbacks=callbacks,
        )
    if trainer.pop_callback(PrinterCallback) is not None:  # It prints dictionaries, to standard output.
        trainer.add_callback(_ProgressLines())
    return trainer


def make_collator(tokenizer: PreTrainedTokenizerBase, problem: Problem, arguments: FinetuneArguments) -> Any:
    """Return what makes a padded batch of rows."""
    collator = DataCollatorForTokenClassification if problem == "token" else DataCollatorWithPadding
    return collator(tokenizer, pad_to_multiple_of=8 if arguments.bf16 or arguments.fp16 else None)


_ACCUMULATED = 16  # batches of outputs on the device, until they come into the computer's memory
_SECONDS_APART = 5  # lines with the loss of the training


class _ProgressLines(TrainerCallback):
    """Says how far the training is where there are no bars: what Trainer logs, and otherwise a line a minute."""

    def __init__(self) -> None:
        self._told = time.monotonic()

    def on_step_end(self, args, state, control, **kwargs):
        if time.monotonic() - self._told > MINUTE:
            self._tell(f"step {state.global_step:,} of {state.max_steps:,}")

    def on_log(self, args, state, control, logs=None, **kwargs):
        shown = {name: value for name, value in (logs or {}).items() if "_per_second" not in name and name != "epoch"}
        numbers = ", ".join(f"{name} {value:.4g}" for name, value in shown.items() if isinstance(value, float | int))
        # A short run logs many losses a second; what a validation or the end of the training says is told in any case.
        due = time.monotonic() - self._told > _SECONDS_APART or "loss" not in (logs or {})
        if state.is_local_process_zero and numbers and due:
            self._tell(f"epoch {state.epoch or 0:.4g}, step {state.global_step:,} of {state.max_steps:,}: {numbers}")

    def _tell(self, line: str) -> None:
        self._told = time.monotonic()
        tell(line)


def _keep_logits(outputs: torch.Tensor | tuple, labels: torch.Tensor) -> torch.Tensor:
    # Some models return more than logits (router logits, caches), which would fill the memory.
    logits = outputs[0] if isinstance(outputs, tuple) else outputs
    return logits.float()


__all__ = ["divide_steps", "make_collator", "make_trainer", "predict_split", "set_up_seed", "train_seed"]
