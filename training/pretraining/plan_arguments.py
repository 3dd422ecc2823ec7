"""Flags of `gengram pretrain` that train nothing: the plan of the run, and its job for a cluster."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass
class PlanArguments:
    """What is asked about the run before it starts, and for which devices."""

    _argument_group_name = "before it starts"  # of the flags, in the help

    plan: bool = field(
        default=False,
        metadata={
            "help": "Train nothing: say how many parameters, tokens and operations there are, what memory a device "
            "takes by part, how large a checkpoint is, how many hours it takes and whether it fits."
        },
    )
    slurm: str | None = field(
        default=None,
        metadata={
            "help": "Train nothing: write a job script for sbatch, to standard output or to FILE, that goes on with "
            "the run until it is done.",
            "nargs": "?",
            "const": "-",
            "metavar": "FILE",
        },
    )
    gpu: str = field(
        default="H100",
        metadata={"help": "Devices that are planned for: A100, A100-40GB, H100, H200, L40S, A10, 4090 or V100."},
    )
    gpus: int = field(default=1, metadata={"help": "How many there are in all."})
    gpus_per_node: int = field(default=8, metadata={"help": "How many a machine has (--slurm)."})
    mfu: float = field(
        default=0.4, metadata={"help": "Share of their peak that the model's operations reach.", "metavar": "SHARE"}
    )
    sharding: Literal["ddp", "zero1", "zero2", "zero3", "fsdp2"] = field(
        default="ddp",
        metadata={"help": "How the model is divided among them; --slurm takes the shipped configuration of this name."},
    )
    job_hours: float = field(
        default=24.0, metadata={"help": "Hours of one job (--slurm); the run goes on in the next.", "metavar": "HOURS"}
    )


NAMES = tuple(PlanArguments.__dataclass_fields__)
"""Of the flags, which a job's command is without."""

__all__ = ["NAMES", "PlanArguments"]
