"""From arguments to rows, tokenizer and configuration, checked: what a run and its plan begin with; no weights yet."""

import dataclasses
from pathlib import Path

from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from gengram.errors import InputError
from gengram.files import check_input_files
from gengram.loading.adapters import is_adapter
from gengram.loading.checkpoints import find_model
from gengram.loading.configurations import measure_capacity
from gengram.phases import phase
from gengram.progress import tell
from gengram.training.arguments import DataArguments, FinetuneArguments, ModelArguments
from gengram.training.classifier import prepare_config, prepare_tokenizer
from gengram.training.data.augmentation import check_augmentation
from gengram.training.data.inputs import LabelledSplits, prepare_splits
from gengram.training.data.sampling import StepBatches
from gengram.training.losses import StepLoss, choose_loss
from gengram.training.setup import check_rows
from gengram.training.table_memory import check_table_memory
from gengram.training.train_seed import divide_steps, set_up_seed
from gengram.training.trainer_flags import list_unread


@dataclasses.dataclass(frozen=True)
class Preparation:
    """What is known of a run before there is a model.

    Attributes:
        model: the arguments, with the folder of a run's best model in place of the run.
        training: the arguments of the first seed, see `set_up_seed`.
        tokenizer: its `model_max_length` is the longest input of the model.
        config: of the model.
        data: rows of each split.
        loss: of a step.
        steps: this process's training batches, see `divide_steps`.
    """

    model: ModelArguments
    training: FinetuneArguments
    tokenizer: PreTrainedTokenizerBase
    config: PreTrainedConfig
    data: LabelledSplits
    loss: StepLoss
    steps: StepBatches


def prepare_run(model: ModelArguments, data: DataArguments, training: FinetuneArguments) -> Preparation:
    """Read and check everything that a run needs besides the weights; nothing is written.

    Args:
        model: which model.
        data: which rows.
        training: how, and which seeds.

    Raises:
        `InputError`: files that are not there or cannot be read, a configuration or tokenizer that does not fit, rows
            that do not fit the model, arguments that do not fit the rows.
    """
    _check_inputs(data)
    if model.model_name_or_path is not None:
        model = dataclasses.replace(model, model_name_or_path=find_model(model.model_name_or_path))
        _check_start(Path(str(model.model_name_or_path)), Path(str(training.output_dir)))
    with phase("Loading tokenizer and configuration"):
        tokenizer = prepare_tokenizer(model)
        config = prepare_config(model, tokenizer)
        tokenizer.model_max_length = measure_capacity(config, tokenizer)
    splits = prepare_splits(data, tokenizer, config)
    check_rows(training, splits)
    if training.process_index == 0:
        for line in list_unread(training):
            tell(line)
    check_augmentation(splits, training)
    loss = choose_loss(training, splits)
    arguments = set_up_seed(training, model, training.seeds[0], "validation" in splits.splits)
    return Preparation(model, arguments, tokenizer, config, splits, loss, divide_steps(arguments, splits))


def _check_inputs(arguments: DataArguments) -> None:
    """Refuse files that are not there, or cannot be held, before a model is looked for."""
    files = [arguments.train_file or None, arguments.validation_file, arguments.test_file, arguments.genome]
    check_input_files(*files, *(arguments.label_files or ()))
    check_table_memory(files[:3])


def _check_start(start: Path, output: Path) -> None:
    """Refuse an adapter as the checkpoint of a training, and a model that the run itself replaces."""
    if start.resolve().parent == output.resolve() and start.name.startswith("seed-"):
        raise InputError(f"{output}: the checkpoint is a model of this run, which is replaced; choose another --out")
    if start.is_dir() and is_adapter(start):
        raise InputError(
            f"{start} is an adapter, which cannot be trained on from here: name its base as model_name_or_path, or "
            "merge it into its base first (merge_and_unload, save_pretrained)"
        )


__all__ = ["Preparation", "prepare_run"]
