"""A Trainer whose steps read numbered blocks, the same ones on any number of processes, and count tokens and bases.

Dimensions: B blocks, T tokens.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from gengram.training.pretraining.batches import COUNTS, BlockBatches
from gengram.training.pretraining.logs import RunLog
from gengram.training.pretraining.losses import PretrainLoss
from gengram.training.pretraining.optimizer import group_parameters
from gengram.training.pretraining.shared_blocks import SharedBlocks
from gengram.training.pretraining.trainer_arguments import PretrainArguments
from gengram.training.trainer import FILLER, StepTrainer

_TARGETS = ("next_sentence_label",)  # which the loss reads, and not the model


class BlockTrainer(StepTrainer):
    """`StepTrainer` for blocks.

    Args:
        batches: of this process.
        loss: of a batch.
        log: is told what is read.
        measure: what an evaluation measures: takes the model, returns numbers by name; None: nothing is measured.
        shared: how processes share each block; None: each has blocks of its own.
        others: see `Trainer`.
    """

    args: PretrainArguments
    step_loss: PretrainLoss

    def __init__(
        self,
        *,
        batches: BlockBatches,
        loss: PretrainLoss,
        log: RunLog,
        measure: Callable[[Any], dict[str, Any]] | None = None,
        shared: SharedBlocks | None = None,
        **others: Any,
    ):
        super().__init__(steps=batches, compute_loss_func=loss, **others)
        self.batches, self.log_file, self.measure, self.shared = batches, log, measure, shared
        # Since the last line of the log: the tokens' loss, a sum over steps; learned tokens, their bases, steps.
        self._nats: torch.Tensor | float = 0.0
        self._learned = self._learned_bases = self._steps = 0
        self._table_rate: float | None = None

    def get_batch_samples(
        self, epoch_iterator: Iterator, num_batches: int, device: torch.device
    ) -> tuple[list, torch.Tensor]:
        """Return this process's batches of a step, and how many tokens the step learns on all processes."""
        batches = [batch for _, batch in zip(range(num_batches), epoch_iterator)]
        counts = torch.zeros(4, dtype=torch.int64)
        for batch in batches:
            own = batch.pop(COUNTS)
            if FILLER not in batch:
                counts[:3] += own
                counts[3] += batch["input_ids"].numel()
        summed = self.accelerator.reduce(counts.to(device))
        if self.shared is not None:  # All that share a block have counted it.
            summed = summed // self.shared.size
        learned, learned_bases, bases, tokens = summed.tolist()
        self._learned, self._learned_bases = self._learned + learned, self._learned_bases + learned_bases
        self._steps += 1
        self.log_file.count(tokens, bases)
        if self.count_rows is not None:
            self.count_rows(self.batches.blocks)
        return batches, summed[0]

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Return the loss whose gradient, averaged over processes as they do, is that of the step's mean loss."""
        is_filler = inputs.pop(FILLER, False)
        labels = inputs.pop("labels")
        others = {name: inputs.pop(name) for name in _TARGETS if name in inputs}
        if self.step_loss.balance:  # Else there is no loss that keeps the experts in balance.
            inputs["output_router_logits"] = True
        share = len(labels) / self.batches.blocks
        if self.shared is not None:
            inputs, labels = self.shared.cut(inputs, labels)
            share /= self.shared.size
        outputs = model(**inputs, return_dict=True)
        of_tokens, besides = self.step_loss(outputs, labels, others, num_items_in_batch, share)
        loss = (of_tokens + besides) * self.accelerator.num_processes
        if is_filler:
            loss = loss * 0
        else:
            self._nats = self._nats + of_tokens.detach()
        return (loss, outputs) if return_outputs else loss

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Make the optimizer, with the groups of `group_parameters`."""
        if self.optimizer is None:
            trained: Any = self.model if model is None else model
            rate = self.args.learning_rate
            table_rate = self.args.table_learning_rate
            groups = group_parameters(
                trained,
                self.get_decay_parameter_names(trained),
                self.args.weight_decay,
                rate,
                rate if table_rate is None else table_rate,
            )
            kind, options = self.get_optimizer_cls_and_kwargs(self.args, trained)
            self.optimizer = kind(groups, **options)
        return self.optimizer

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log what Trainer does, with bits per base, the tables' learning rate and the speed."""
        if "loss" in logs:
            if self._table_rate is not None:
                logs["table_learning_rate"] = self._table_rate
            logs |= self._measure_bits()
            logs["tokens_per_second"] = round(self.log_file.measure_rate(), 1)
        super().log(logs, start_time)

    def _get_learning_rate(self) -> float:
        # Of the step that was made: the schedule goes on before anything is logged.
        optimizer: Any = self.optimizer
        groups = optimizer.param_groups
        self._table_rate = next((group["lr"] for group in groups if group.get("name") == "tables"), None)
        return super()._get_learning_rate()

    def _measure_bits(self) -> dict[str, float]:
        """Bits for each base that was predicted since the last line; a masked base is no base of a likelihood."""
        nats = self.accelerator.reduce(torch.as_tensor(self._nats, device=self.args.device, dtype=torch.float32))
        steps, learned, bases = self._steps, self._learned, self._learned_bases
        self._nats, self._steps, self._learned, self._learned_bases = 0.0, 0, 0, 0
        if not (self.step_loss.is_causal and bases):
            return {}
        return {"bits_per_base": float(nats) / steps * learned / bases / math.log(2)}

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Measure the model on held-out contigs; the numbers are logged with `eval_` in front of their names."""
        if self.measure is None:
            return {}
        model: Any = self.model
        was_training = model.training
        model.eval()
        try:
            apart = contextlib.nullcontext() if self.shared is None else self.shared.apart()
            with apart, torch.no_grad(), self.compute_loss_context_manager():
                measured = self.measure(model)
        finally:
            model.train(was_training)
        metrics = {name if name.startswith("eval_") else f"eval_{name}": value for name, value in measured.items()}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _save_checkpoint(self, model, trial) -> None:
        super()._save_checkpoint(model, trial)
        if self.is_world_process_zero():
            folder = Path(self._get_output_dir(trial), f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}")
            self.log_file.keep(folder)


__all__ = ["BlockTrainer"]
