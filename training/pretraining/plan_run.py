"""From the arguments of a run to its plan, and to its job: what `gengram pretrain --plan` and `--slurm` do."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gengram.command_line import Answer
from gengram.errors import InputError
from gengram.files import check_free
from gengram.loading.faults import tell_faults
from gengram.loading.models import TASKS
from gengram.progress import tell
from gengram.training.memory_estimate import measure_optimizer_state
from gengram.training.pretraining.arguments import CorpusArguments, PretrainModelArguments
from gengram.training.pretraining.batches import count_token_bases
from gengram.training.pretraining.plan import PlannedStage, PlanOptions, plan_pretraining, tabulate_plan
from gengram.training.pretraining.plan_arguments import NAMES, PlanArguments
from gengram.training.pretraining.pretrain import prepare
from gengram.training.pretraining.set_up import Preparation
from gengram.training.pretraining.slurm import Job, add_margin, render_job, write_job
from gengram.training.pretraining.trainer_arguments import PretrainArguments, divide_step

_DROPPED = ("--resume_from_checkpoint", "--overwrite", "--max_hours", "--quiet", "--json")  # which the job decides
_BOOLEANS = ("--plan", "--overwrite", "--resume_from_checkpoint", "--quiet")
_WITH_VALUE = {"--max_hours", *(f"--{name}" for name in NAMES if name not in ("plan", "slurm"))}


def plan_run(
    model: PretrainModelArguments, corpus: CorpusArguments, training: PretrainArguments, asked: PlanArguments
) -> dict[str, Any]:
    """Say what a run is going to take; nothing is written, and no weights are made.

    Args:
        model, corpus, training: as `pretrain` takes them.
        asked: for which devices.

    Returns:
        `dict`, see `plan_pretraining`; with `corpus`: `bases` of the training contigs, and `passes` over them, None
        where tokens are of several lengths.

    Raises:
        `InputError`: whatever stops the run before it has weights, and what `plan_pretraining` refuses.
    """
    options = PlanOptions(
        gpu=asked.gpu,
        gpus=asked.gpus,
        mfu=asked.mfu,
        sharding=asked.sharding,
        precision="bf16" if training.bf16 else "fp16" if training.fp16 else "no",
        checkpoints=bool(training.gradient_checkpointing or getattr(training, "activation_checkpointing", False)),
        context=training.context_parallel,
    )
    ready = prepare(model, corpus, training)
    groups = max(asked.gpus // training.context_parallel, 1)
    stages = [
        PlannedStage(
            f"stage {stage.number}",
            stage.corpus.block_size,
            stage.training.blocks_per_step,
            stage.steps,
            divide_step(stage.training.blocks_per_step, stage.training.per_device_train_batch_size, groups)[1],
        )
        for stage in ready.stages
    ]
    config = ready.configs[0]
    with tell_faults("config: no such model can be made with these fields"), torch.device("meta"):
        empty = TASKS[ready.task].from_config(config, dtype=torch.float32)
    options = dataclasses.replace(options, optimizer_bytes=measure_optimizer_state(training, empty))
    plan = plan_pretraining(config, stages, options, causal=ready.task == "causal_lm", model=empty)
    return {"corpus": _measure_corpus(ready, plan["tokens"]), **plan}


def _measure_corpus(ready: Preparation, tokens: int) -> dict[str, Any]:
    segments = ready.corpus.segments
    trained = np.asarray(segments.split) == 0
    bases = int((np.asarray(segments.end) - np.asarray(segments.start))[trained].sum())
    each = set(count_token_bases(ready.tokenizer).tolist()) - {0}
    per_token = max(each) if len(each - {1}) < 2 else None  # k-mer tokenizers have single bases besides
    return {"bases": bases, "passes": None if per_token is None else tokens * per_token / max(bases, 1)}


def answer_plan(plan: dict[str, Any]) -> Answer:
    """Return a plan for people, and for JSON."""
    corpus = plan["corpus"]
    passes = "" if corpus["passes"] is None else f", read {corpus['passes']:,.3g} times"
    return Answer(f"{'corpus':<12}{corpus['bases']:,} bases that train{passes}\n{tabulate_plan(plan)}", plan)


def make_job(words: Sequence[str], training: PretrainArguments, asked: PlanArguments) -> Answer:
    """Write the job of a run, or return its script.

    Args:
        words: of the command.
        training: what they say of the run.
        asked: what they say of the job.

    Raises:
        `InputError`: a job that cannot be asked for, or a file that is there already.
    """
    workers = int(training.dataloader_num_workers or 0)
    job = Job(
        command=strip_words(words),
        out=str(training.output_dir),
        hours=asked.job_hours if training.max_hours is None else add_margin(training.max_hours),
        gpus=asked.gpus,
        gpus_per_node=asked.gpus_per_node,
        cpus_per_gpu=max(4, workers + 2),
        sharding=asked.sharding,
        folder=str(Path.cwd()),
    )
    if training.overwrite:
        tell(f"the job goes on with what is in {training.output_dir}: remove the folder to begin anew")
    script = render_job(job)
    told = {"nodes": job.nodes, "gpus": job.gpus, "hours": job.hours, "max_hours": job.max_hours, "script": script}
    if asked.slurm in (None, "-"):
        return Answer(script.rstrip("\n"), told)
    path = Path(str(asked.slurm))
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a file for the job script")
    if not training.overwrite:
        check_free(path.parent, [path.name])
    write_job(job, path)
    return Answer(f"sbatch {path}", {**told, "file": str(path)})


def strip_words(words: Sequence[str]) -> list[str]:
    """Return a command's words without those about the plan, the job, and how it goes on."""
    dropped = {*_DROPPED, *(f"--{name}" for name in NAMES)}
    kept, skip = [], False
    for at, word in enumerate(words):
        flag = "--" + word.partition("=")[0][2:].replace("-", "_") if word.startswith("--") else ""
        if skip:
            skip = False
            continue
        if flag not in dropped:
            kept.append(word)
            continue
        following = words[at + 1] if at + 1 < len(words) else "--"
        takes = flag in _WITH_VALUE
        if not takes and not following.startswith("-"):
            takes = flag not in _BOOLEANS or following.lower() in ("true", "false", "1", "0", "yes", "no")
        skip = "=" not in word and takes
    return kept


__all__ = ["answer_plan", "make_job", "plan_run", "strip_words"]
