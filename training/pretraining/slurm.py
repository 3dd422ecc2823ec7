"""A job script for SLURM: the run on as many machines as it takes, put back into the queue until it is done.

A run ends with a checkpoint at `--max_hours` and at SIGTERM. The script sets the first so that it comes before the
job's own limit, and hands on the second, which SLURM sends before it takes a machine away. The launcher is not told: it
would kill its processes 30 seconds later, which a large checkpoint may not be written in.
"""

import dataclasses
import math
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from gengram.errors import InputError
from gengram.files import write_text

CONFIG_OF = {"ddp": "ddp", "zero2": "deepspeed_zero2", "zero3": "deepspeed_zero3", "fsdp2": "fsdp2"}
"""Way to divide the model, see `gengram.training.pretraining.plan` -> configuration of `accelerate launch`."""

_CONFIGS = "gengram.training.accelerate_configs"
_MARGIN = 0.25  # hours between the run's own limit and the job's, at most a tenth of it
_MOST_RESTARTS = 200
_NAME = re.compile(r"[^A-Za-z0-9_.-]+")


@dataclasses.dataclass(frozen=True)
class Job:
    """What a job asks the cluster for.

    Attributes:
        command: words behind `gengram pretrain`, without those about the plan, the job and resuming.
        out: folder of the run, as the command has it.
        hours: that one start of the job may take; the run goes on in the next.
        gpus: in all.
        gpus_per_node: of one machine; the last one is as large as the others.
        cpus_per_gpu: processor cores.
        sharding: how the model is divided.
        folder: where the job runs.
    """

    command: Sequence[str]
    out: str
    hours: float = 24.0
    gpus: int = 1
    gpus_per_node: int = 8
    cpus_per_gpu: int = 8
    sharding: str = "ddp"
    folder: str = "."

    def __post_init__(self) -> None:
        if not 0.05 <= self.hours <= 24 * 365:
            raise InputError(f"hours={self.hours}: a job takes from 0.05 hours to a year")
        for name in ("gpus", "gpus_per_node", "cpus_per_gpu"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)}: give 1 or more")
        if self.gpus > self.gpus_per_node and self.gpus % self.gpus_per_node:
            raise InputError(
                f"{self.gpus} GPUs are no whole machines of {self.gpus_per_node}: give a multiple as --gpus, or "
                "another --gpus_per_node"
            )
        if self.sharding not in CONFIG_OF:
            raise InputError(f"sharding={self.sharding!r}: there are configurations for {', '.join(CONFIG_OF)}")
        if any("\0" in word or "\n" in word for word in (self.out, self.folder)):
            raise InputError("a folder's name with a line break cannot stand in a job script")

    @property
    def nodes(self) -> int:
        """Machines."""
        return math.ceil(self.gpus / self.gpus_per_node)

    @property
    def max_hours(self) -> float:
        """When the run itself stops."""
        return round(self.hours - min(_MARGIN, 0.1 * self.hours), 3)


def add_margin(max_hours: float) -> float:
    """Return the hours of a job whose run stops itself after `max_hours`."""
    return max_hours + min(_MARGIN, max_hours / 9)


def render_job(job: Job) -> str:
    """Return the script, for `sbatch`."""
    name = _NAME.sub("_", Path(job.out).name).strip("_.-")[:60] or "pretrain"
    per_node = min(job.gpus, job.gpus_per_node)
    minutes = math.ceil(60 * job.hours)
    days, rest = divmod(minutes, 24 * 60)
    time = f"{days}-{rest // 60:02}:{rest % 60:02}:00"
    words = [*job.command, "--max_hours", f"{job.max_hours:g}", "--resume_from_checkpoint"]
    command = " ".join(map(shlex.quote, ["pretrain", *words]))
    launch = "" if job.gpus == 1 else f'--config_file "$("$PYTHON" -m {_CONFIGS} {CONFIG_OF[job.sharding]})" '
    return _SCRIPT.format(
        name=name,
        nodes=job.nodes,
        gpus=per_node,
        cpus=job.cpus_per_gpu * per_node,
        threads=job.cpus_per_gpu,
        time=time,
        folder=shlex.quote(job.folder),
        python=shlex.quote(sys.executable),
        report=shlex.quote(str(Path(job.out) / "pretraining.json")),
        launch=launch,
        processes=job.gpus,
        command=command,
        limit=math.floor(3600 * job.max_hours),
        restarts=_MOST_RESTARTS,
    )


def write_job(job: Job, path: Path) -> None:
    """Write the script to a file."""
    write_text(render_job(job), path)


# Braces of the shell are doubled.
_SCRIPT = """\
#!/bin/bash
#SBATCH --job-name={name}
#SBATCH --nodes={nodes}
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node={gpus}
#SBATCH --cpus-per-task={cpus}
#SBATCH --time={time}
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
#SBATCH --signal=B:USR1@300
# Add what your cluster asks for: --partition, --account, --mem, modules. All machines must see this folder and the
# run's.

set -u
cd -- {folder} || exit 1
PYTHON=${{PYTHON:-{python}}}
REPORT={report}
[ -e "$REPORT" ] && {{ echo "$REPORT is there: the run is done"; exit 0; }}

export OMP_NUM_THREADS={threads}
export SRUN_CPUS_PER_TASK=${{SLURM_CPUS_PER_TASK:-{cpus}}}
MAIN_HOST=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
MAIN_PORT=$((20000 + SLURM_JOB_ID % 20000))
export PYTHON MAIN_HOST MAIN_PORT

# Runs once on each machine. SIGTERM goes to the processes that train, not to their launcher, which would kill them
# after 30 seconds; it has a session of its own, so that SLURM does not tell it either.
train() {{
    setsid "$PYTHON" -m accelerate.commands.launch {launch}\\
        --num_machines "$SLURM_NNODES" --machine_rank "$SLURM_NODEID" --num_processes {processes} \\
        --main_process_ip "$MAIN_HOST" --main_process_port "$MAIN_PORT" \\
        -m gengram {command} &
    local launcher=$! code
    trap 'pkill -TERM -P "$launcher"' TERM
    while :; do
        wait "$launcher"
        code=$?
        kill -0 "$launcher" 2>/dev/null || return "$code"
    done
}}

stopping=0
stop() {{
    stopping=1
    scancel --signal=TERM "$SLURM_JOB_ID"
}}
trap stop USR1 TERM

srun --kill-on-bad-exit=0 --wait=900 --export=ALL bash -c "$(declare -f train); train" &
while :; do
    wait $!
    code=$?
    kill -0 $! 2>/dev/null || break
done

[ -e "$REPORT" ] && {{ echo "$REPORT is there: the run is done"; exit 0; }}
if [ "$stopping" = 1 ] || [ "$SECONDS" -ge {limit} ]; then
    if [ "${{SLURM_RESTART_COUNT:-0}}" -lt {restarts} ]; then
        echo "not done yet: back into the queue"
        scontrol requeue "$SLURM_JOB_ID"
        exit 0
    fi
    echo "not done after {restarts} restarts"
fi
exit "$code"
"""

__all__ = ["CONFIG_OF", "Job", "add_margin", "render_job", "write_job"]
