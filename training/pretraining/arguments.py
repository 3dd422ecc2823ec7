"""The arguments of a pre-training: flags of a command, keys of a YAML file, or dataclasses in a script.

Nothing here imports torch: `gengram pretrain --help` shows all of it.
"""

import math
import os
from dataclasses import dataclass, field
from typing import Any, Literal

from gengram.training.mappings import read_mapping

TOKENIZERS = ("bases", "kmer6")
"""Tokenizers that are made, not loaded: one token a base, and 6-mers with the Nucleotide Transformer's ids."""


@dataclass
class PretrainModelArguments:
    """Which model is trained: a new one (`config` or `size`), or a checkpoint (`model_name_or_path`).

    Raises:
        ValueError: none or several of the three are given, or text that is no JSON mapping.
    """

    _argument_group_name = "model"  # of the flags, in the help

    config: dict[str, Any] | str | None = field(
        default=None,
        metadata={
            "help": "A new model: model_type of any transformers architecture and fields of its configuration, as JSON "
            '(a mapping in YAML), e.g. \'{"model_type": "llama", "hidden_size": 256, "num_hidden_layers": 6}\'. '
            "Vocabulary and special tokens are the tokenizer's. With --size: fields that are changed."
        },
    )
    size: str | None = field(
        default=None,
        metadata={"help": "A new model of the paper by name: 0.3b-dense-mha, 1.2b-moe-gqa, 10b-moe-gqa, ..."},
    )
    model_name_or_path: str | None = field(
        default=None,
        metadata={
            "help": "Go on with the weights of a checkpoint: a folder or a Hub id (organization/name).",
            "aliases": ["--model"],
            "metavar": "MODEL",
        },
    )
    memory: dict[str, Any] | str | None = field(
        default=None,
        metadata={
            "help": "Fields of GengramConfig as JSON (a mapping in YAML): the motif memory of the model, e.g. "
            '\'{"memory_layers": [1, 3], "memory_dim": 128}\'; also added to a checkpoint that has none.'
        },
    )
    without_memory: bool = field(default=False, metadata={"help": "The same model without the memory of the recipe."})
    tokenizer_name_or_path: str | None = field(
        default=None,
        metadata={
            "help": "bases (one token a base), kmer6 (the Nucleotide Transformer's 6-mers), or a tokenizer's folder or "
            "Hub id. Default: the checkpoint's; bases for a new model.",
            "aliases": ["--tokenizer"],
            "metavar": "TOKENIZER",
        },
    )
    objective: str = field(
        default="causal",
        metadata={
            "help": "What is learned: causal (the next token), masked (tokens that are hidden), masked as published "
            "(gena, nucleotide_transformer, dnabert), or next_sentence (gena, and whether halves of a block belong "
            "together)."
        },
    )
    objective_options: dict[str, Any] | str | None = field(
        default=None,
        metadata={"help": "Options of the objective as JSON (a mapping in YAML), see docs/pretraining.md."},
    )
    rope_theta: float | None = field(default=None, metadata={"help": "Base of the rotary positions of the model."})
    max_position_embeddings: int | None = field(
        default=None, metadata={"help": "Positions of the model; a later stage with longer blocks may need more."}
    )

    def __post_init__(self):
        for name in ("config", "memory", "objective_options"):
            setattr(self, name, read_mapping(name, getattr(self, name)))
        config = self.config if isinstance(self.config, dict) else None
        given = [self.model_name_or_path is not None, self.size is not None, "model_type" in (config or {})]
        if sum(given) != 1:
            raise ValueError(
                "give exactly one of config (a new model, with its model_type), size (a new one of the paper) and "
                "model_name_or_path (--model: go on with a checkpoint)"
            )
        if config is not None and self.model_name_or_path is not None:
            raise ValueError("config describes a new model; a checkpoint brings its own configuration")
        for name in ("config", "memory"):
            if "dtype" in (getattr(self, name) or {}):
                raise ValueError(f"{name}: leave dtype out; weights are trained in float32 (--bf16: mixed precision)")
        check_positive(self, "rope_theta")
        check_positive(self, "max_position_embeddings", whole=True)


@dataclass
class CorpusArguments:
    """Which blocks of which corpus are read.

    Raises:
        ValueError: no corpus, or a number that makes no sense.
    """

    _argument_group_name = "corpus"  # of the flags, in the help

    corpus: str = field(
        default="", metadata={"help": "Folder that gengram corpus build has made. Required.", "metavar": "DIR"}
    )
    block_size: int = field(
        default=1024, metadata={"help": "Tokens of a block, that is of a training sequence, special tokens included."}
    )
    pack: bool = field(
        default=False,
        metadata={
            "help": "Fill blocks with documents of up to --window bp, one behind the other, that do not see each "
            "other; short contigs whole. Without: one window a block."
        },
    )
    window: int | None = field(
        default=None, metadata={"help": "Bases of a window. Default: as many as fill a block.", "metavar": "BP"}
    )
    strand: Literal["forward", "random"] = field(
        default="random", metadata={"help": "Strand of the windows: forward, or random, each drawn for itself."}
    )
    order: Literal["random", "covering"] = field(
        default="random",
        metadata={"help": "random: windows begin anywhere; covering: each pass reads every base, in a new order."},
    )
    stride: int | None = field(
        default=None,
        metadata={"help": "Bases between windows of order covering. Default: their length.", "metavar": "BP"},
    )
    max_n: float = field(default=0.5, metadata={"help": "Largest share of N in a window.", "metavar": "SHARE"})
    haplotype_share: float | None = field(
        default=None,
        metadata={
            "help": "Share of the windows of a species with haplotypes that is read from one of these. Default: each "
            "haplotype as often as the reference.",
            "metavar": "SHARE",
        },
    )
    groups: dict[str, Any] | str | None = field(
        default=None,
        metadata={
            "help": "How often groups of species are read, as JSON (a mapping in YAML), e.g. "
            '\'{"human": 1, "others": 1}\'. Default: the corpus\' own weights.'
        },
    )

    def __post_init__(self):
        if isinstance(self.corpus, os.PathLike):
            self.corpus = os.fspath(self.corpus)
        if not self.corpus.strip():
            raise ValueError("corpus is missing: give the folder that gengram corpus build has made")
        check_positive(self, "block_size", "window", "stride", whole=True)
        if self.block_size < 8:
            raise ValueError(f"block_size={self.block_size}: a block needs 8 tokens or more")
        if not isinstance(self.pack, bool):
            raise ValueError(f"pack={self.pack}: give true or false")
        for name, choices in (("strand", ("forward", "random")), ("order", ("random", "covering"))):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name}={getattr(self, name)!r}: choose {' or '.join(choices)}")
        if self.stride is not None and self.order != "covering":
            raise ValueError("stride is read with --order covering only")
        if self.window is not None and not self.pack:
            raise ValueError("window is read with --pack only: else a block is one window, and as long as it is")
        for name in ("max_n", "haplotype_share"):
            value = getattr(self, name)
            if not (value is None and name == "haplotype_share") and not _is_share(value):
                raise ValueError(f"{name}={value}: give a share from 0 to 1")
        self.groups = read_mapping("groups", self.groups)


@dataclass
class TrainingOptions:
    """How the model is trained: what is new or has another default than in transformers' `TrainingArguments`."""

    _argument_group_name = "training"  # of the flags, in the help

    output_dir: str = field(
        default="runs/pretrain",
        metadata={
            "help": "Folder for the model, pretraining.json, log.jsonl, and stage-1, stage-2 ... with checkpoints.",
            "aliases": ["--out"],
            "metavar": "FOLDER",
        },
    )
    overwrite: bool = field(default=False, metadata={"help": "Replace the model and the stages of an earlier run."})
    resume_from_checkpoint: bool = field(
        default=False,
        metadata={
            "help": "Go on with the run in output_dir from its last complete checkpoint, all other arguments as they "
            "were; the number of processes may change. Where there is no such run, it begins."
        },
    )
    max_steps: int = field(
        default=-1, metadata={"help": "Optimizer steps of a stage.", "aliases": ["--steps"], "metavar": "STEPS"}
    )
    tokens: float | None = field(
        default=None,
        metadata={"help": "Instead of steps: tokens of a stage, e.g. 5e7, rounded to whole steps."},
    )
    blocks_per_step: int = field(
        default=16, metadata={"help": "Blocks of an optimizer step, over all processes and accumulated batches."}
    )
    per_device_train_batch_size: int = field(
        default=16,
        metadata={
            "help": "Most blocks on a device at a time; gradients are accumulated over as many batches as it takes."
        },
    )
    per_device_eval_batch_size: int = field(default=16, metadata={"help": "Blocks on a device at a time, evaluating."})
    learning_rate: float = field(default=1e-3, metadata={"help": "Peak learning rate of AdamW."})
    table_learning_rate: float | None = field(
        default=None,
        metadata={"help": "Peak learning rate of the memory's tables, without weight decay. Default: learning_rate."},
    )
    warmup_steps: float = field(
        default=0.05, metadata={"help": "Steps of linear warm-up; below 1: their share of the stage's steps."}
    )
    lr_scheduler_type: str = field(
        default="cosine_with_min_lr",
        metadata={"help": "Schedule of the learning rate behind the warm-up: cosine, linear, inverse_sqrt, ..."},
    )
    lr_scheduler_kwargs: dict[str, Any] | str | None = field(
        default=None,
        metadata={"help": "Its options as JSON (a mapping in YAML). Default: down to a tenth of the peak."},
    )
    weight_decay: float = field(
        default=0.1,
        metadata={"help": "Weight decay of AdamW; embeddings, the memory's tables, norms and biases have none."},
    )
    adam_beta2: float = field(default=0.95, metadata={"help": "AdamW's second beta."})
    stages: list[dict[str, Any]] | str | None = field(
        default=None,
        metadata={
            "help": "Stages, one after the other, as JSON (a list of mappings in YAML): arguments that are other ones "
            "in a stage, e.g. steps, block_size, learning_rate, rope_theta, strand."
        },
    )
    context_parallel: int = field(
        default=1,
        metadata={
            "help": "Processes that share each block, for blocks whose activations no device holds (causal models, one "
            "document a block)."
        },
    )
    max_hours: float | None = field(
        default=None,
        metadata={"help": "Write a checkpoint and stop when this process has run so long; SIGTERM does the same."},
    )
    eval_strategy: str = field(
        default="steps", metadata={"help": "steps: measure held-out contigs while training; no: only at the end."}
    )
    eval_steps: float | None = field(
        default=0.25, metadata={"help": "Steps between two evaluations; below 1: their share of the stage's steps."}
    )
    eval_bases: int | None = field(
        default=200_000,
        metadata={"help": "Bases of held-out contigs that an evaluation reads, the same ones each time. 0: none."},
    )
    logging_steps: float = field(
        default=0.01, metadata={"help": "Steps between two lines of log.jsonl; below 1: their share of the stage's."}
    )
    save_strategy: str = field(default="steps", metadata={"help": "Checkpoints are written every save_steps steps."})
    save_steps: float = field(
        default=0.1, metadata={"help": "Steps between two checkpoints; below 1: their share of the stage's steps."}
    )
    save_total_limit: int | None = field(
        default=2, metadata={"help": "Checkpoints of a stage that are kept, the last ones."}
    )
    disable_tqdm: bool | None = field(default=False, metadata={"help": "Show no progress bars."})
    hub_license: str = field(
        default="unknown", metadata={"help": "Licence of the published weights, an identifier of the Hub."}
    )
    push_checkpoints: bool = field(
        default=False,
        metadata={"help": "With --push_to_hub: publish each checkpoint too, on a branch stage-N-step-M."},
    )
    push_training_state: bool = field(
        default=False, metadata={"help": "With --push_checkpoints: optimizer, schedule and log beside the weights."}
    )


def check_positive(arguments: Any, *names: str, whole: bool = False) -> None:
    """Refuse arguments that are not None and no number above 0, or no whole one.

    Raises:
        ValueError: naming the first one.
    """
    for name in names:
        check_number(name, getattr(arguments, name), whole=whole)


def check_number(name: str, value: Any, whole: bool = False) -> None:
    """Refuse what is not None and no finite number above 0, or no whole one.

    Raises:
        ValueError: naming it.
    """
    if value is None:
        return
    kind = int if whole else int | float
    if isinstance(value, bool) or not isinstance(value, kind) or not 0 < value < math.inf:
        raise ValueError(f"{name}={value!r}: give a {'whole number of 1 or more' if whole else 'number above 0'}")


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


__all__ = [
    "TOKENIZERS",
    "CorpusArguments",
    "PretrainModelArguments",
    "TrainingOptions",
    "check_number",
    "check_positive",
]
