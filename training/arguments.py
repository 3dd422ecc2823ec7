"""The arguments of a fine-tuning run: flags of a command, keys of a YAML file, or dataclasses in a script."""

import copy
import math
import os
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from transformers import IntervalStrategy, TrainingArguments
from transformers.trainer_pt_utils import AcceleratorConfig
from transformers.trainer_utils import SaveStrategy

from gengram.command_line import NON_DNA_HELP, SLICES_HELP
from gengram.genome.contigs import Genome, fold_name
from gengram.genome.letters import MAX_NON_DNA
from gengram.training.mappings import read_mapping
from gengram.training.problems import MASKS, PROBLEMS
from gengram.training.search_space import SEARCHED, SPACES, TRIALS, read_space
from gengram.training.trainer_flags import check_accelerator, check_flags

SIMILARITY = 0.9
"""Jaccard similarity of canonical k-mers from which on two sequences are near-duplicates."""

LEARNING_RATES = {"lora": 5e-4, "ia3": 3e-3}
"""Published for the Nucleotide Transformer, LoRA with rank 1, alpha 32, dropout 0.1 and batches of 8, IA3 likewise."""

ORDERS = ("random", "sequential", "group_by_length")
"""What `train_sampling_strategy` may be here."""

LOGGING_SHARE = 0.025
"""Of a run's steps, between two training losses, so that a plot of them has 20 points or more."""

_VALIDATION_STEPS = 500  # by default between two validations, with `eval_strategy="steps"`, as in transformers

COUNTED = ("no", "all", "non_padding")
"""What `include_num_input_tokens_seen` may be."""

_KEYWORDS: tuple[str, ...] = ("lr_scheduler_kwargs", "gradient_checkpointing_kwargs", "liger_kernel_config")
_KEYWORDS += ("activation_checkpointing_kwargs",) if hasattr(TrainingArguments, "activation_checkpointing") else ()


@dataclass
class ModelArguments:
    """Which model is trained: a checkpoint (`model_name_or_path`) or a new one (`backbone`); exactly one of the two.

    Raises:
        ValueError: both or neither are given, fields of a new backbone without a backbone, or text that is no JSON
            mapping.
    """

    _argument_group_name = "model"  # of the flags, in the help

    model_name_or_path: str | None = field(
        default=None,
        metadata={
            "help": "Checkpoint to fine-tune: a folder, a run of gengram finetune, or a Hub id (organization/name).",
            "aliases": ["--model"],
            "metavar": "MODEL",
        },
    )
    backbone: str | None = field(
        default=None,
        metadata={
            "help": "Train from scratch on this transformers architecture (a model_type): llama, mixtral, modernbert, "
            "bert, esm, ..."
        },
    )
    backbone_config: dict[str, Any] | str | None = field(
        default=None,
        metadata={
            "help": "Fields of the new backbone's configuration as JSON (a mapping in YAML), e.g. "
            '\'{"hidden_size": 64, "num_hidden_layers": 2}\'. The vocabulary and the special tokens are the '
            "tokenizer's unless given here."
        },
    )
    memory: dict[str, Any] | str | None = field(
        default=None,
        metadata={
            "help": "Fields of GengramConfig as JSON (a mapping in YAML), e.g. "
            '\'{"memory_layers": [0, 1], "memory_dim": 64}\'. With a checkpoint: the memory that is added to it. '
            "Without this: the same model, no memory."
        },
    )
    rmt: dict[str, Any] | str | None = field(
        default=None,
        metadata={
            "help": "Fields of RmtConfig as JSON (a mapping in YAML): read sequences in segments that hand memory on "
            'to each other, so that they may be longer than the model, e.g. \'{"num_memory_tokens": 10, '
            '"segment_length": 512}\'.'
        },
    )
    tokenizer_name_or_path: str | None = field(
        default=None,
        metadata={"help": "Tokenizer folder or Hub id. Default: the checkpoint's; one token a base for a new model."},
    )
    peft: Literal["lora", "ia3"] | None = field(
        default=None,
        metadata={
            "help": "Leave the checkpoint's weights as they are and train a small adapter and a new head: lora or ia3. "
            "What is saved is the adapter."
        },
    )
    peft_target_modules: list[str] | None = field(
        default=None,
        metadata={
            "help": "Ends of the names of the adapted layers, e.g. q_proj v_proj key_proj value_proj. Default: "
            "those of the attention (and, for ia3, of the feed-forward layers) that PEFT has for the backbone."
        },
    )
    peft_memory: bool = field(
        default=False,
        metadata={"help": "Train the whole motif memory too, and save it with the adapter."},
    )
    lora_r: int = field(default=1, metadata={"help": "Rank of LoRA's matrices."})
    lora_alpha: int = field(default=32, metadata={"help": "LoRA's updates are scaled by lora_alpha / lora_r."})
    lora_dropout: float = field(default=0.1, metadata={"help": "Share of inputs that LoRA drops in training."})

    def __post_init__(self):
        if (self.model_name_or_path is None) == (self.backbone is None):
            raise ValueError(
                "give either model_name_or_path (--model: fine-tune a checkpoint) or backbone (train from scratch, "
                "e.g. llama)"
            )
        self.backbone_config = read_mapping("backbone_config", self.backbone_config)
        self.memory = read_mapping("memory", self.memory)
        self.rmt = read_mapping("rmt", self.rmt)
        for name in ("backbone_config", "memory", "rmt"):
            if "dtype" in (getattr(self, name) or {}):
                raise ValueError(f"{name}: leave dtype out; weights are trained in float32 (--bf16: mixed precision)")
        if self.backbone is None and self.backbone_config is not None:
            raise ValueError("backbone_config describes a new model; a checkpoint brings its own configuration")
        self._check_peft()

    def _check_peft(self) -> None:
        if self.peft not in (None, "lora", "ia3"):
            raise ValueError(
                f"peft={self.peft!r}: choose lora or ia3. Prompt and prefix tuning hand a model vectors instead of "
                "bases, which a motif memory cannot read."
            )
        if self.peft is None and (self.peft_target_modules or self.peft_memory):
            raise ValueError("peft_target_modules and peft_memory describe an adapter: say which with peft")
        for name in ("lora_r", "lora_alpha", "lora_dropout"):
            if self.peft != "lora" and getattr(self, name) != type(self).__dataclass_fields__[name].default:
                raise ValueError(f"{name} is read with --peft lora only")
        if self.peft is not None and self.backbone is not None:
            raise ValueError("peft adapts a checkpoint (model_name_or_path); a new backbone has nothing to keep")
        if self.peft is not None and self.rmt is not None:
            raise ValueError(
                "peft and rmt exclude each other: an adapter is saved without its base, and the memory tokens would be "
                "saved nowhere. Train all weights, or save the base in an RMT first (from_backbone, then "
                "save_pretrained)."
            )
        if self.peft is not None and self.memory is not None:
            raise ValueError(
                "peft and memory exclude each other: an adapter is saved without its base, and a base with a new "
                "memory is saved nowhere. Save the base with its memory first (from_backbone, then save_pretrained)."
            )
        if self.lora_r < 1 or self.lora_alpha < 1 or not 0 <= self.lora_dropout < 1:
            raise ValueError("lora_r and lora_alpha must be at least 1, lora_dropout at least 0 and below 1")


@dataclass
class DataArguments:
    """Which rows train, validate and test.

    Raises:
        ValueError: no training file, or a fraction or length that makes no sense.
    """

    _argument_group_name = "data"  # of the flags, in the help

    train_file: str = field(
        default="",
        metadata={
            "help": "Labelled sequences to train on, plain or .gz: .csv, .tsv, .jsonl, .parquet; FASTA with headers "
            "'>name|label'; .bed with --genome. Required, unless there is a dataset."
        },
    )
    validation_file: str | None = field(
        default=None, metadata={"help": "Rows for validation. Default: a part of the training file."}
    )
    test_file: str | None = field(
        default=None, metadata={"help": "Rows for the final test; seen once, after the training."}
    )
    label_files: list[str] | None = field(
        default=None,
        metadata={
            "help": "Tables with the labels of files that hold sequences only (FASTA): one for each of train_file, "
            "validation_file and test_file that is given, in this order. Rows go together by a column name, else by "
            "their order."
        },
    )
    dataset: str | None = field(
        default=None,
        metadata={
            "help": "Instead of files: a folder with one file a split (train.csv, test.csv, ...), a folder that "
            "datasets wrote or reads, or the id of a data set on the Hub."
        },
    )
    dataset_config: str | None = field(
        default=None, metadata={"help": "Configuration of the data set, or the sub-folder of the task."}
    )
    dataset_revision: str | None = field(
        default=None, metadata={"help": "Commit, tag or branch of a data set on the Hub."}
    )
    genome: str | None = field(
        default=None,
        metadata={
            "help": "FASTA file, plain or .gz, that the intervals of .bed files are cut from.",
            "aliases": ["--ref"],
            "metavar": "FASTA",
        },
    )
    slices: bool = field(default=False, metadata={"help": f"{SLICES_HELP[0].upper()}{SLICES_HELP[1:]}."})
    sequence_column: str | None = field(
        default=None, metadata={"help": "Column of sequences. Default: sequence, else seq, dna, ..."}
    )
    max_non_dna: float = field(
        default=MAX_NON_DNA,
        metadata={"help": f"{NON_DNA_HELP[0].upper()}{NON_DNA_HELP[1:]}.", "metavar": "SHARE"},
    )
    num_proc: int | None = field(
        default=None,
        metadata={"help": "Processes that tokenize the rows, as of `datasets`. Default: this one.", "metavar": "N"},
    )
    label_column: list[str] | None = field(
        default=None,
        metadata={
            "help": "Column of labels, or several of them, or a pattern like 'label_*'. Default: label, else labels, "
            "target, targets, else all columns called label_... or target_...; name in a .bed file."
        },
    )
    problem: Literal["auto", "single_label", "multi_label", "regression", "token"] = field(
        default="auto",
        metadata={
            "help": "What the labels are: one class a row, any number of labels a row, numbers, or one class a base. "
            "auto: what they can only be; an error where that is not clear."
        },
    )
    label_start: int = field(
        default=0,
        metadata={"help": "Labels of bases: the base, counted from 0, of the first label. 0: every base has a label."},
    )
    mask_labels: list[str] = field(
        default_factory=lambda: list(MASKS),
        metadata={"help": "Labels of bases that mean 'not known': neither trained on nor measured."},
    )
    validation_fraction: float = field(
        default=0.1,
        metadata={
            "help": "Without validation rows of their own: share of the groups of training sequences that validate, "
            "stratified by class. 0: no validation."
        },
    )
    group_similarity: float = field(
        default=SIMILARITY,
        metadata={
            "help": "A sequence, its reverse complement and all whose canonical k-mers are so similar (Jaccard) "
            "are one group and stay on one side. 1: only copies and reverse complements are."
        },
    )
    group_column: str | None = field(
        default=None,
        metadata={
            "help": "Column whose rows of one value stay on one side too: the sequence that variants are of, a gene, a "
            "patient."
        },
    )
    validation_chromosomes: list[str] | None = field(
        default=None,
        metadata={
            "help": "Validate on the rows of these chromosomes instead (column chrom, or a BED file's contigs); 7 is "
            "chr7."
        },
    )
    test_chromosomes: list[str] | None = field(
        default=None, metadata={"help": "Test on the rows of these chromosomes; they do not train."}
    )
    split_seed: int = field(
        default=0, metadata={"help": "Seed of that split; the seeds of the training do not change it."}
    )
    max_length: int | None = field(
        default=None, metadata={"help": "Longest input in tokens, special tokens included. Default: the model's."}
    )
    too_long: Literal["error", "truncate", "center"] = field(
        default="error",
        metadata={
            "help": "What happens to longer sequences: stop before training, cut their end off, or keep the middle."
        },
    )

    def __post_init__(self):
        for name in ("train_file", "validation_file", "test_file", "dataset", "genome"):
            if isinstance(path := getattr(self, name), os.PathLike):
                setattr(self, name, os.fspath(path))
        if not self.train_file and self.dataset is None:
            raise ValueError("train_file is missing: give a file with the columns sequence, label, or a dataset")
        if self.dataset is not None and (self.train_file or self.validation_file or self.test_file):
            raise ValueError("give either a dataset or files (train_file, validation_file, test_file), not both")
        if self.slices and self.genome is None:
            raise ValueError("slices are records of a genome: give its FASTA file with genome")
        if self.dataset is None and (self.dataset_config is not None or self.dataset_revision is not None):
            raise ValueError("dataset_config and dataset_revision are read with a dataset only: give --dataset too")
        if isinstance(self.label_files, str):
            self.label_files = [self.label_files]
        files = [file for file in (self.train_file, self.validation_file, self.test_file) if file]
        if self.label_files is not None and len(self.label_files) != len(files):
            raise ValueError(f"label_files: {len(self.label_files)} for {len(files)} files of sequences; give one each")
        if isinstance(self.label_column, str):
            self.label_column = [self.label_column]
        self.mask_labels = [str(label) for label in self.mask_labels]
        if self.problem not in ("auto", *PROBLEMS):
            raise ValueError(f"problem={self.problem!r}: choose auto, {', '.join(PROBLEMS)}")
        if self.label_start < 0:
            raise ValueError(f"label_start={self.label_start}: bases are counted from 0")
        if not 0 <= self.validation_fraction < 1:
            raise ValueError(f"validation_fraction={self.validation_fraction}: give a share of at least 0, below 1")
        if not 0.8 <= self.group_similarity <= 1:
            raise ValueError(f"group_similarity={self.group_similarity}: give a share from 0.8 to 1")
        if self.group_column is not None and (
            self.validation_file or self.validation_chromosomes or self.validation_fraction == 0
        ):
            raise ValueError("group_column is read only where validation rows are drawn from those for training")
        for name in ("validation", "test"):
            if isinstance(chromosomes := getattr(self, f"{name}_chromosomes"), str):
                setattr(self, f"{name}_chromosomes", [chromosomes])
            if chromosomes and getattr(self, f"{name}_file"):
                raise ValueError(f"give either {name}_file or {name}_chromosomes, not both")
        tested = {fold_name(chromosome): chromosome for chromosome in self.test_chromosomes or []}
        for chromosome in self.validation_chromosomes or []:
            if other := tested.get(fold_name(chromosome)):
                told = chromosome if other == chromosome else f"{chromosome}, which is {other}"
                raise ValueError(f"{told}: in validation_chromosomes and in test_chromosomes")
        if not 0 <= self.max_non_dna <= 1:
            raise ValueError(f"max_non_dna={self.max_non_dna}: give a share of letters from 0 to 1")
        if self.num_proc is not None and self.num_proc < 1:
            raise ValueError(f"num_proc={self.num_proc}: give a number of processes, 1 or more")
        if self.max_length is not None and self.max_length < 1:
            raise ValueError(f"max_length={self.max_length}: give a number of tokens, 1 or more")
        if self.too_long not in ("error", "truncate", "center"):
            raise ValueError(f"too_long={self.too_long!r}: choose 'error', 'truncate' or 'center'")

    def open_genome(self) -> Genome | None:
        """Return the genome, as its contigs are to be found."""
        return None if self.genome is None else Genome(self.genome, self.slices)


@dataclass
class FinetuneArguments(TrainingArguments):
    """How the model is trained: transformers' `TrainingArguments` with defaults for classifying DNA, and the seeds.

    A run trains one model for each of `seeds` on the same rows and reports the mean and the spread.

    With `sequences_per_step`, `per_device_train_batch_size` is a limit, and `gradient_accumulation_steps` follows from
    the number of devices.

    Raises:
        ValueError: seeds that are not distinct whole numbers of at least 0, sizes of steps that exclude each other, or
            what `TrainingArguments` refuses.
    """

    _argument_group_name = "training"  # of the flags, in the help

    output_dir: str = field(
        default="runs/finetune",
        metadata={
            "help": "Folder for report.json and one model folder a seed: seed-0, ...",
            "aliases": ["--out"],
            "metavar": "FOLDER",
        },
    )
    overwrite: bool = field(default=False, metadata={"help": "Replace the report and the models of an earlier run."})
    resume_from_checkpoint: bool = field(  # type: ignore[assignment]
        default=False,
        metadata={
            "help": "Go on with the run in output_dir where it was interrupted: finished seeds are kept, the next one "
            "goes on from its last complete checkpoint (--save_strategy), else from its start. All other arguments as "
            "they were. Where there is no such run, it begins."
        },
    )
    seeds: list[int] = field(
        default_factory=lambda: [0], metadata={"help": "Seeds of the training, one model each, e.g. --seeds 0 1 2."}
    )
    # One seed of `seeds` after the other; not an argument of its own.
    seed: int = field(default=0, init=False)
    reverse_complement: float = field(
        default=0.0,
        metadata={
            "help": "Chance that a training sequence is read as its reverse complement, drawn anew in each epoch. 0.5: "
            "both strands equally often."
        },
    )
    max_shift: int = field(
        default=0,
        metadata={
            "help": "A training sequence is moved by up to so many bp to either side, drawn anew in each epoch; N "
            "takes the place of what is not known."
        },
    )
    average_strands: bool = field(
        default=False,
        metadata={
            "help": "Final scores: average the probabilities (of a regression the values) of a sequence and of its "
            "reverse complement."
        },
    )
    class_weights: dict[str, Any] | str | None = field(
        default=None,
        metadata={
            "help": "How much the rows (or bases) of a class count in the training loss: balanced (each class as much "
            "as any other), or weights by name as JSON (a mapping in YAML), e.g. '{\"donor\": 5}'; others count 1."
        },
    )
    pos_weight: dict[str, Any] | str | None = field(
        default=None,
        metadata={
            "help": "Several labels: how much a row that has a label counts against one that has it not: balanced, one "
            "factor for all labels, e.g. 8, or factors by name as for class_weights."
        },
    )
    baselines: bool = field(
        default=True,
        metadata={
            "help": "Beside the scores, those of chance, of the most frequent class (the mean) and of a 6-mer "
            "regression on the same rows."
        },
    )

    search: bool = field(
        default=False,
        metadata={
            "help": "First try several settings, choose those with the best validation score (metric_for_best_model), "
            "and train the seeds with them. The test rows are read once, at the end. Needs gengram[search]."
        },
    )
    search_space: dict[str, Any] | str | None = field(
        default=None,
        metadata={
            "help": f"With search: which settings. A published space ({', '.join(SPACES)}), a YAML file, or JSON (a "
            'mapping in YAML), e.g. \'{"learning_rate": [1e-5, 3e-5], "weight_decay": {"low": 0, "high": 0.1}}\'. Of '
            f"{', '.join(SEARCHED)}. Default: learning rate, sequences_per_step and weight decay."
        },
    )
    search_trials: int | None = field(
        default=None,
        metadata={
            "help": f"With search: how many settings are tried. Default: all of a space of lists, {TRIALS} where there "
            "is a range."
        },
    )

    num_train_epochs: float = field(default=3.0, metadata={"help": "Passes over the training rows."})
    sequences_per_step: int | None = field(
        default=None,
        metadata={
            "help": "Sequences of an optimizer step over all devices, however many there are. Default: "
            "per_device_train_batch_size x gradient_accumulation_steps x devices."
        },
    )
    max_tokens_per_step: int | None = field(
        default=None,
        metadata={
            "help": "Steps of sequences of similar length, as many as fit: their number times the longest one is at "
            "most so many tokens, over all devices and accumulated batches."
        },
    )
    train_sampling_strategy: str = field(
        default="random",
        metadata={
            "help": "Order of the training sequences; group_by_length brings those of similar length together.",
            "choices": list(ORDERS),
        },
    )
    per_device_train_batch_size: int = field(
        default=32,
        metadata={
            "help": "Sequences on each device at a time; with sequences_per_step the most that there may be, and "
            "gradients are accumulated over as many batches as it takes."
        },
    )
    per_device_eval_batch_size: int = field(default=64, metadata={"help": "Sequences a step in evaluation."})
    learning_rate: float | None = field(  # type: ignore[assignment]
        default=None,
        metadata={
            "help": "Peak learning rate. Default: 3e-5 for a checkpoint, 1e-3 from scratch; 5e-4 for "
            "--peft lora, 3e-3 for --peft ia3."
        },
    )
    warmup_steps: float = field(
        default=0.1, metadata={"help": "Steps of linear warm-up; below 1: their share of all steps."}
    )
    weight_decay: float = field(default=0.01, metadata={"help": "Weight decay of AdamW."})
    eval_strategy: IntervalStrategy | str = field(
        default="epoch", metadata={"help": "When validation runs: no, steps or epoch."}
    )
    logging_strategy: IntervalStrategy | str = field(
        default="steps", metadata={"help": "When the training loss is shown: no, steps or epoch."}
    )
    logging_steps: float = field(
        default=LOGGING_SHARE,
        metadata={
            "help": "Steps between two training losses; below 1: their share of all steps. The default gives 20 to 40 "
            "of them in a run of any length (with early stopping, in the shortest one that there can be)."
        },
    )
    save_strategy: SaveStrategy | str = field(
        default="no",
        metadata={"help": "When a checkpoint is written beside the final model: no, steps, epoch or best."},
    )
    early_stopping_patience: int | None = field(
        default=None,
        metadata={
            "help": "Stop when metric_for_best_model has not become better in so many validations, and take the best "
            "checkpoint. Turns load_best_model_at_end on."
        },
    )
    metric_for_best_model: str | None = field(
        default=None,
        metadata={"help": "Which checkpoint is best: loss (the default), or another metric of the report, e.g. mcc."},
    )
    push_to_hub: bool = field(
        default=False,
        metadata={"help": "Publish the finished run as `gengram push` does, in one commit, to --hub_model_id."},
    )
    hub_license: str = field(
        default="unknown", metadata={"help": "With push_to_hub: licence of the weights, e.g. apache-2.0."}
    )
    disable_tqdm: bool | None = field(default=False, metadata={"help": "Show no progress bars."})
    # As transformers has them, in a form that a command line can give, or with what a run does by itself.
    include_num_input_tokens_seen: str = field(
        default="no",
        metadata={"help": "Log how many tokens were read, padding included or not.", "choices": list(COUNTED)},
    )
    liger_kernel_config: dict[str, Any] | str | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": "Which of Liger's kernels are used, as JSON (a mapping in YAML)."}
    )
    do_train: bool = field(default=True, metadata={"help": "A run always trains."})
    do_eval: bool = field(default=True, metadata={"help": "A run validates where there are validation rows."})
    do_predict: bool = field(default=True, metadata={"help": "A run is tested where there are test rows."})

    def count_sequences(self) -> int | None:
        """Return the sequences of an optimizer step, over all devices; None where `max_tokens_per_step` decides."""
        if self.max_tokens_per_step is not None:
            return None
        return self.sequences_per_step or self.train_batch_size * self.gradient_accumulation_steps * self.world_size

    def with_settings(self, settings: dict[str, Any]) -> "FinetuneArguments":
        """Return these arguments with the settings of a search's trial; batches are dealt out anew."""
        changed = copy.copy(self)
        for name, value in settings.items():
            setattr(changed, name, value)
        if "sequences_per_step" in settings:
            changed._deal_sequences()
        return changed

    def __post_init__(self):
        if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not torch.accelerator.is_available():
            # Several processes on CPUs: without this word, each of them would train alone, into the same folder.
            self.use_cpu = True
        if not str(self.output_dir or "").strip():
            raise ValueError("output_dir is empty (is a variable of the shell not set?)")
        check_flags(self)
        for name in _KEYWORDS:
            setattr(self, name, read_mapping(name, getattr(self, name)))
        self._largest_batch = self.per_device_train_batch_size
        self._plan_steps()
        self._check_search()
        if self.overwrite and self.resume_from_checkpoint:
            raise ValueError("overwrite begins a run anew, resume_from_checkpoint goes on with it: give one of the two")
        if self.early_stopping_patience is not None:
            if self.early_stopping_patience < 1:
                raise ValueError(f"early_stopping_patience={self.early_stopping_patience}: give 1 or more validations")
            self.load_best_model_at_end = True
        if self.load_best_model_at_end and self.eval_strategy == "no":
            raise ValueError(
                "load_best_model_at_end and early stopping choose by validation: leave --eval_strategy no out"
            )
        if self.eval_strategy == "steps" and self.eval_steps is None and self.logging_steps == LOGGING_SHARE:
            # `TrainingArguments` would validate as often as it logs, which is more often here.
            self.eval_steps = _VALIDATION_STEPS
        if self.load_best_model_at_end and self.save_strategy == "no":
            self.save_strategy = self.eval_strategy
            if self.eval_strategy == "steps":
                # As `TrainingArguments` fills in eval_steps: what is validated is there to be the best.
                self.save_steps = self.eval_steps or self.logging_steps
            # The best and the last: with 1, Trainer removes the last one before the run has ended.
            self.save_total_limit = self.save_total_limit or 2
        seeds = self.seeds if isinstance(self.seeds, list) else [self.seeds]
        if not seeds or not all(isinstance(seed, int) and 0 <= seed < 2**32 for seed in seeds):
            raise ValueError(f"seeds={self.seeds}: give one or more whole numbers of at least 0, e.g. 0 1 2")
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"seeds={self.seeds}: the same seed twice gives the same model twice")
        self.seeds = seeds
        if not 0 <= self.reverse_complement <= 1:
            raise ValueError(f"reverse_complement={self.reverse_complement}: give a chance from 0 to 1, e.g. 0.5")
        if self.max_shift < 0:
            raise ValueError(f"max_shift={self.max_shift}: give a number of bp, 0 or more")
        for name in ("class_weights", "pos_weight"):
            if name == "pos_weight" and _is_factor(self.pos_weight):
                self.pos_weight = str(self.pos_weight)  # of all labels
            elif getattr(self, name) != "balanced":
                setattr(self, name, _read_weights(name, getattr(self, name)))
        self._log_early()
        try:
            super().__post_init__()
        except (ImportError, LookupError, OSError, RuntimeError, TypeError) as error:
            # A package that an argument needs, a field of its configuration, a file that it names.
            raise ValueError(f"an argument of the training cannot be used: {type(error).__name__}: {error}") from error
        assert isinstance(self.accelerator_config, AcceleratorConfig)  # since it is read
        check_accelerator(self.accelerator_config)

    def _log_early(self) -> None:
        """Log so often that a run which stops as early as it can has a curve too."""
        if self.early_stopping_patience is None or self.logging_steps != LOGGING_SHARE:
            return
        validations = self.early_stopping_patience + 1
        if self.eval_strategy == "epoch" and self.max_steps < 0:
            self.logging_steps = LOGGING_SHARE * min(1, validations / self.num_train_epochs)
        elif self.eval_strategy == "steps" and self.eval_steps is not None:
            steps = validations * self.eval_steps * LOGGING_SHARE
            self.logging_steps = steps if self.eval_steps < 1 else max(1, int(steps))

    def _plan_steps(self) -> None:
        for name in ("sequences_per_step", "max_tokens_per_step"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: give 1 or more")
        if self.train_sampling_strategy not in ORDERS:
            raise ValueError(f"train_sampling_strategy={self.train_sampling_strategy!r}: choose {', '.join(ORDERS)}")
        divided = self.sequences_per_step is not None or self.train_sampling_strategy != "random"
        if self.max_tokens_per_step is not None and divided:
            raise ValueError(
                "max_tokens_per_step decides how many sequences a step has and in which order: leave "
                "sequences_per_step and train_sampling_strategy out"
            )
        if self.sequences_per_step is not None:
            # Before the devices are set up: DeepSpeed's configuration is filled in with what is found here.
            accumulated = self.gradient_accumulation_steps
            self._deal_sequences()
            if accumulated not in (1, self.gradient_accumulation_steps):
                raise ValueError(
                    "give either sequences_per_step or gradient_accumulation_steps: with the first, "
                    "per_device_train_batch_size limits what is on a device at a time, and the rest follows"
                )

    def _deal_sequences(self) -> None:
        """Divide a step's sequences into batches of at most as many as a device takes."""
        assert self.sequences_per_step is not None
        processes = int(os.environ.get("WORLD_SIZE", "1"))
        batches = math.ceil(self.sequences_per_step / (processes * self._largest_batch))
        self.gradient_accumulation_steps = batches
        self.per_device_train_batch_size = math.ceil(self.sequences_per_step / (processes * batches))

    def _check_search(self) -> None:
        if not self.search:
            for name in ("search_space", "search_trials"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} is read with search only: give --search too")
            return
        self.search_space = read_space(self.search_space)
        if self.search_trials is not None and self.search_trials < 1:
            raise ValueError(f"search_trials={self.search_trials}: give 1 or more")
        if self.max_tokens_per_step is not None and "sequences_per_step" in (self.search_space or {}):
            raise ValueError("max_tokens_per_step decides how many sequences a step has: leave sequences_per_step out")
        if self.fsdp or self.deepspeed:
            raise ValueError(
                "search trains one model after the other, which fsdp and deepspeed do not take: search without them "
                "on a part of the rows, and give what was found as flags"
            )


def _is_factor(value: Any) -> bool:
    try:
        return 0 < float(value) < math.inf
    except (TypeError, ValueError):
        return False


def _read_weights(name: str, value: dict[str, Any] | str | None) -> dict[str, float] | None:
    weights = read_mapping(name, value)
    for key, weight in (weights or {}).items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < math.inf:
            raise ValueError(f"{name}: {key!r} has the weight {weight!r}; give a number above 0")
    return weights and {str(key): float(weight) for key, weight in weights.items()}


__all__ = ["DataArguments", "FinetuneArguments", "ModelArguments"]
