"""The model stays as it is, a small adapter and a head are trained for the task: the protocol `lora`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gengram.benchmarks.protocols.entrants import Entrant
from gengram.benchmarks.protocols.table import PROTOCOLS, Outcome
from gengram.benchmarks.protocols.train import check_task, open_work, train_entrant
from gengram.benchmarks.protocols.tuning_settings import LoraSettings

if TYPE_CHECKING:
    from gengram.benchmarks.data.prepared import PreparedTask


def run_lora(
    model: Entrant, task: "PreparedTask", settings: LoraSettings, seeds: Sequence[int], cache: Path | None
) -> list[Outcome]:
    """Train an adapter and a new head, once for each seed, and return what each model says of the test rows.

    Raises:
        `InputError`: see `check_task` and `train_entrant`; a backbone whose layers PEFT does not know.
    """
    check_task(task, "lora")
    with open_work(f"lora {PROTOCOLS['lora'].version}", model, task, settings, cache, list(seeds)) as work:
        return train_entrant(model, task, settings, seeds, work)


__all__ = ["run_lora"]
