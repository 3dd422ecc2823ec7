"""All weights are trained for the task, the best epoch is chosen on validation rows: the protocol `finetune`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gengram.benchmarks.protocols.entrants import Entrant
from gengram.benchmarks.protocols.table import PROTOCOLS, Outcome
from gengram.benchmarks.protocols.train import check_task, open_work, train_entrant
from gengram.benchmarks.protocols.tuning_settings import FinetuneSettings

if TYPE_CHECKING:
    from gengram.benchmarks.data.prepared import PreparedTask


def run_finetune(
    model: Entrant, task: "PreparedTask", settings: FinetuneSettings, seeds: Sequence[int], cache: Path | None
) -> list[Outcome]:
    """Train the model and a new head, once for each seed, and return what each says of the test rows.

    Raises:
        `InputError`: see `check_task` and `train_entrant`.
    """
    check_task(task, "finetune")
    version = f"finetune {PROTOCOLS['finetune'].version}"
    with open_work(version, model, task, settings, cache, list(seeds)) as work:
        return train_entrant(model, task, settings, seeds, work)


__all__ = ["run_finetune"]
