"""What does a run look like so far? A picture, drawn anew at each evaluation, beside what simple models need."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from gengram.files import write_json
from gengram.loading.folders import read_object
from gengram.training.evaluation.curves import draw_curves, name_references
from gengram.training.pretraining.logs import LOG, read_log

CURVES, REFERENCES = "curves.png", "references.json"

MeasureSimple = Callable[[], dict[str, Any] | None]


class RunCurves(TrainerCallback):
    """Draws `curves.png` at each evaluation, beside the bits per base of simple models.

    Args:
        output: folder of the run, with its log.
        measure: of the simple models, see `find_references`.
    """

    def __init__(self, output: Path, measure: MeasureSimple):
        self._output, self._measure = output, measure

    def on_evaluate(self, args, state, control, **kwargs):
        """Draw what the log has."""
        if state.is_world_process_zero:
            found = find_references(self._output, self._measure)
            draw_curves(read_log(self._output / LOG), self._output / CURVES, name_references(found) if found else {})


def find_references(output: Path, measure: MeasureSimple) -> dict[str, Any] | None:
    """Return what simple models need for the held-out bases: measured once in a run, and kept in `references.json`.

    Args:
        output: folder of the run.
        measure: returns it; None where nothing is held out.
    """
    path = output / REFERENCES
    if path.is_file():
        return read_object(path)
    found = measure()
    if found is not None:
        write_json(found, path)
    return found


__all__ = ["CURVES", "REFERENCES", "RunCurves", "find_references"]
