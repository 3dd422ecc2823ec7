"""A Trainer whose training steps are the same on any number of devices, and with any number of accumulated batches.

transformers divides the loss by the labels of a whole step only where a model's own loss can (losses of several labels
and of measurements cannot), and fills up the last batches of an epoch with rows from its beginning. Dimensions: B rows,
T tokens, C classes, labels or targets.
"""

import contextlib
import multiprocessing
import multiprocessing.process
import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import recursively_apply
from datasets import Dataset
from torch.utils.data import DataLoader, Sampler, SequentialSampler
from transformers import EvalPrediction, PreTrainedTokenizerBase, Trainer
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, EvalLoopOutput, seed_worker

from gengram.errors import InputError
from gengram.files import tell_write_faults
from gengram.loading.faults import tell_error
from gengram.phases import phase
from gengram.training.data.sampling import EpochCallback, StepBatches
from gengram.training.devices import return_memory
from gengram.training.losses import count_labels

FILLER = "is_filler"
"""Key of a batch that stands for none."""
_BATCHES_APART = 16  # between two times that memory is given back
_SKIPPED = 10  # steps in a row that mixed precision with float16 may leave out, while it looks for a scale


def start_worker(worker: int, num_workers: int, rank: int) -> None:
    """Seed a data loader's worker as transformers does, and have it end with the process that it reads for.

    torch looks whether the worker's parent is still there. Of a worker from a fork server, that is the server, which
    lives as long as a worker: after a kill -9 they would stay for ever.
    """
    seed_worker(worker, num_workers=num_workers, rank=rank)
    trainer = multiprocessing.parent_process()
    if trainer is not None:  # else the worker is a thread
        threading.Thread(target=_end_with, args=(trainer,), daemon=True).start()


def _end_with(trainer: multiprocessing.process.BaseProcess) -> None:
    trainer.join()
    os._exit(1)  # Nobody is there to take what it reads.


class DivergedError(InputError):
    """The loss of a step is not finite."""


class FillingCollator:
    """A collator that makes a batch of no rows too: one row without known labels, marked for `StepTrainer`.

    A process whose batch is empty has to take part in the step nevertheless, or the others would wait for it.
    """

    def __init__(self, collator: Callable[[list[dict[str, Any]]], Any], row: dict[str, Any]):
        self.collator, self.row = collator, row

    def __call__(self, rows: list[dict[str, Any]]) -> Any:
        """Collate the rows, or the row that stands for none."""
        if rows:
            return self.collator(rows)
        batch = self.collator([self.row])
        batch[FILLER] = True
        return batch


class StepTrainer(Trainer):
    """Trainer for the batches of `StepBatches`.

    Args:
        steps: the batches of this process.
        compute_loss_func: see `StepLoss`.
        others: see `Trainer`.

    Attributes:
        count_rows: is told how many rows a step, or a batch that is predicted, has on all processes together.
    """

    # The loss is that of the whole step: Trainer must not divide it by the number of accumulated batches.
    loss_is_scaled_for_ga = True

    def __init__(self, *, steps: StepBatches | Sampler[list[int]], compute_loss_func: Callable[..., Any], **others):
        super().__init__(compute_loss_func=compute_loss_func, **others)
        self.step_loss: Any = compute_loss_func
        self.model_accepts_loss_kwargs = False  # Whatever the model's signature says: its own loss is not used.
        self.steps = steps
        self.count_rows: Callable[[int], None] | None = None
        self._lost = self._left = self._predicted = 0
        self._said: dict[int, EvalPrediction] = {}  # by the step of the validation
        self._epochs = EpochCallback(steps, self.train_dataset)
        self.add_callback(self._epochs)

    def take_steps(self, steps: StepBatches) -> None:
        """Deal the rows out otherwise from the next training on: the batches of a search's trial."""
        self._epochs.listeners = [steps if listener is self.steps else listener for listener in self._epochs.listeners]
        self.steps = steps

    def get_train_dataloader(self) -> DataLoader:
        """Return this process's batches. They are dealt out already, so accelerate must not do it again."""
        rows: Any = self.train_dataset
        if hasattr(rows, "column_names"):
            rows = self._remove_unused_columns(rows, description="training")
        workers = self.args.dataloader_num_workers
        return DataLoader(
            rows,
            batch_sampler=self.steps,
            collate_fn=FillingCollator(self.data_collator, rows[0]),
            num_workers=workers,
            pin_memory=self.args.dataloader_pin_memory,
            persistent_workers=self.args.dataloader_persistent_workers,
            prefetch_factor=self.args.dataloader_prefetch_factor,
            multiprocessing_context=self.args.dataloader_multiprocessing_context if workers else None,
            worker_init_fn=partial(start_worker, num_workers=workers, rank=self.args.process_index),
        )

    def _get_eval_sampler(self, eval_dataset: Dataset) -> SequentialSampler:
        # In order, however the training is sampled: predictions are written beside the rows.
        return SequentialSampler(eval_dataset)

    def _remove_unused_columns(self, dataset: Dataset, description: str | None = None) -> Dataset:
        assert isinstance(self.processing_class, PreTrainedTokenizerBase)
        return select_inputs(dataset, self.processing_class)

    def get_batch_samples(
        self, epoch_iterator: Iterator, num_batches: int, device: torch.device
    ) -> tuple[list, torch.Tensor]:
        """Return this process's batches of a step, and how many labels the step has on all processes."""
        batches = [batch for _, batch in zip(range(num_batches), epoch_iterator)]
        if self.count_rows is not None:
            own = sum(len(batch["labels"]) for batch in batches if FILLER not in batch)
            self.count_rows(own * self.accelerator.num_processes)  # The others have as many, but for the last step.
        count = sum(count_labels(batch["labels"]) for batch in batches if FILLER not in batch)
        return batches, self.accelerator.reduce(torch.tensor(count, device=device))

    def training_step(self, *args, **kwargs):
        """Train on a batch, and return its part of the step's loss.

        Raises:
            `DivergedError`: the loss is not finite, with the step: from there on, no weight would be a number. Trainer
                itself shows the mean of the losses before instead (`logging_nan_inf_filter`).
        """
        loss = super().training_step(*args, **kwargs)
        self._lost = 0 if torch.isfinite(loss) else self._lost + 1
        if self._lost > (0 if self.accelerator.scaler is None else _SKIPPED):
            raise DivergedError(
                f"step {self.state.global_step + 1}: the training diverged: the loss is {loss.item()}. Lower "
                "--learning_rate, raise --warmup_steps, or leave half precision out."
            )
        return loss

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Return the loss whose gradient, averaged over processes as they do, is that of the step's mean loss."""
        is_filler = inputs.pop(FILLER, False)
        labels = inputs.pop("labels")
        outputs = model(**inputs, return_dict=True)
        loss = self.step_loss(outputs, labels, num_items_in_batch=num_items_in_batch)
        if num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes
        if is_filler:
            loss = loss * 0
        return (loss, outputs) if return_outputs else loss

    def evaluate(self, *args, **kwargs) -> dict[str, float]:
        """Measure the validation rows, as `Trainer` does."""
        with phase("Validating", unit="rows") as validating, self.counting(validating.add):
            return super().evaluate(*args, **kwargs)

    @contextlib.contextmanager
    def counting(self, count: Callable[[int], None]) -> Iterator[None]:
        """Let rows be counted by something else for a time, see `count_rows`."""
        before, self.count_rows = self.count_rows, count
        try:
            yield
        finally:
            self.count_rows = before

    def prediction_step(self, model, inputs, *args, **kwargs):
        """Predict a batch, and count its rows; several processes fill up the last one with rows from the beginning."""
        rows = min(len(inputs["labels"]) * self.accelerator.num_processes, self._left)
        predicted = super().prediction_step(model, inputs, *args, **kwargs)
        self._left -= rows
        self._predicted += 1
        if self._predicted % _BATCHES_APART == 0 and self.args.device.type == "cpu":
            return_memory()
        if self.count_rows is not None:
            self.count_rows(rows)
        return predicted

    def evaluation_loop(self, dataloader: DataLoader, description: str, *args, **kwargs) -> EvalLoopOutput:
        """Predict all rows; of a validation during the training, keep what was said, see `take_outputs`."""
        best = self._find_best_step()
        self._said = {step: said for step, said in self._said.items() if step == best}
        self._left = len(dataloader.dataset)  # type: ignore[arg-type]  # A table knows its rows.
        if self.args.device.type == "cpu":
            gather = self.gather_function
            self.gather_function = lambda parts: recursively_apply(_move, gather(parts))
        output = super().evaluation_loop(dataloader, description, *args, **kwargs)
        if self.is_in_train and output.predictions is not None and output.label_ids is not None:
            self._said[self.state.global_step] = EvalPrediction(output.predictions, output.label_ids)
        return output

    def take_outputs(self) -> EvalPrediction | None:
        """Return, once, what a validation has predicted with the weights that the training has ended with.

        None where there was none; or where `predict` would compute in another precision, as only outside of a training
        a model is turned to it.
        """
        if self.args.fp16_full_eval or self.args.bf16_full_eval:
            return None
        best = self._find_best_step() if self.args.load_best_model_at_end else None
        said, self._said = self._said, {}
        return said.get(self.state.global_step if best is None else best)

    def _find_best_step(self) -> int | None:
        """The step of the best checkpoint that was written so far."""
        path = self.state.best_model_checkpoint
        return None if path is None else int(Path(path).name.removeprefix(f"{PREFIX_CHECKPOINT_DIR}-"))

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model as `Trainer` does; what cannot be written is told with its name."""
        with tell_write_faults(Path(output_dir or str(self.args.output_dir))):
            super().save_model(output_dir, _internal_call)

    @phase("Saving checkpoints")
    def _save_checkpoint(self, model, trial) -> None:
        folder = Path(self._get_output_dir(trial), f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}")
        with tell_write_faults(folder):
            super()._save_checkpoint(model, trial)


def _move(part: torch.Tensor) -> torch.Tensor:
    """Return a tensor in memory of its own: what torch took for a batch stays taken with a few bytes of it."""
    exact = part.float() if part.dtype == torch.bfloat16 else part  # As Trainer does: numpy has no bfloat16.
    return torch.from_numpy(exact.numpy().copy())


def select_inputs(rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
    """Keep what tokenizer and labels have made: other columns may be called like the model's inputs by chance."""
    made = (*tokenizer.model_input_names, "label", "labels")
    return rows.select_columns([name for name in rows.column_names if name in made])


def run_training(trainer: StepTrainer, checkpoint: Path | None, unit: str) -> None:
    """Train, from a checkpoint on if there is one, and say what stops it, see `watch_training`."""
    with watch_training(trainer, unit):
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))


@contextlib.contextmanager
def watch_training(trainer: StepTrainer, unit: str, name: str = "Training") -> Iterator[None]:
    """Show how far a training is, and say what stops it.

    Args:
        unit: what the batches are of, for the progress: `rows`, `blocks`.
        name: of the phase.

    Raises:
        `InputError`: with the step, for whatever an argument does inside Trainer or torch.
    """
    try:
        with phase(name, unit=unit) as training, trainer.counting(training.add):
            yield
    except (InputError, OSError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # What an argument does inside Trainer or torch is not written down anywhere.
        raise InputError(
            f"step {trainer.state.global_step + 1}: the training stopped: {tell_error(error)}. Is it one of Trainer's "
            "arguments? Leave out what is not needed."
        ) from error


__all__ = [
    "FILLER",
    "DivergedError",
    "FillingCollator",
    "StepTrainer",
    "run_training",
    "select_inputs",
    "watch_training",
]
