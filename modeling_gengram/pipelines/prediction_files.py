"""Predictions on their way to a file: what a finished part holds, and how parts are put together in each format."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gengram.errors import InputError
from gengram.files import find_suffix
from gengram.genome.places import place_rows
from gengram.genome.row_files import write_rows
from gengram.pipelines.answers import Answers
from gengram.pipelines.outputs import PLACES
from gengram.pipelines.parts import Parts, join_columns, pack_lists, pack_vectors, unpack
from gengram.pipelines.placed_predictions import write_placed
from gengram.pipelines.predictions import describe_bases, describe_rows, find_missing
from gengram.progress import tell
from gengram.training.problems import Problem

# Columns of a part come first and are found by their place: those of the rows may be called as they will.
_LOGITS, _STARTS = 0, 1


class PredictionFile:
    """What several models say of a file, block by block; part `block * models + model` of a run has an answer.

    Args:
        out, file: of the predictions, and of the rows.
        names: of the classes, labels or targets.
        problem: what is predicted.
        models: the folders or ids of S models.
        are_averaged: whether their mean is written, else there is one.
    """

    def __init__(
        self, out: Path, file: str | Path, names: list[str], problem: Problem, models: list[str], are_averaged: bool
    ):
        self.out, self.file, self.names, self.problem = out, file, names, problem
        self.models, self.are_averaged = models, are_averaged

    def name_columns(self) -> list[str]:
        """Return what the columns of the predictions are called."""
        logits = np.zeros((len(self.models), 1, len(self.names)), dtype=np.float32)
        return list(self._describe(logits if self.are_averaged else logits[0], [1], [0]))

    def pack(self, answers: Answers, rows: pa.Table | None) -> pa.Table:
        """Return a part.

        Args:
            answers: of one model for a block.
            rows: the columns of the block that go with the predictions; None for all models but the first.
        """
        if self.problem == "token":
            packed = pack_lists(answers.logits)
        else:
            packed = pack_vectors(np.concatenate(answers.logits))
        columns = {"logits": packed, "starts": pa.array(answers.starts or [0] * len(packed), pa.int64())}
        if rows is None:
            return pa.table(columns)
        table = join_columns(rows, columns)
        order = [table.num_columns - 2, table.num_columns - 1, *range(table.num_columns - 2)]
        return table.select(order)

    def write(self, parts: Parts, blocks: int, shown: list[str], counted_from: int) -> None:
        """Put the parts of all blocks together in the format that the file's name tells.

        Args:
            parts: all finished.
            blocks: how many there are.
            shown, counted_from: of files with places, see `choose_track` and `survey_places`.

        Raises:
            `InputError`: of one of the models no output is finite; its parts are removed.
        """
        tables = self._read(parts, blocks)
        if find_suffix(self.out) in PLACES:
            placed = (place_rows(table, counted_from) for table in tables)
            write_placed(self.out, placed, shown, self.problem, parts.folder)
        else:
            write_rows(self.out, tables)

    def _read(self, parts: Parts, blocks: int) -> Iterator[pa.Table]:
        """Yield the rows of the result, and tell of those without a prediction."""
        S, rows = len(self.models), 0
        broken, first = [0] * S, [0] * S
        for block in range(blocks):
            tables = list(parts.read(range(block * S, block * S + S)))
            logits = np.stack([unpack(table.column(_LOGITS)).reshape(-1, len(self.names)) for table in tables])
            lengths = self._measure(tables[0])
            for model, missing in enumerate(find_missing(logits)):
                faulty = np.logical_or.reduceat(missing, np.cumsum(lengths) - lengths)
                if faulty.any() and not broken[model]:
                    first[model] = rows + int(faulty.argmax()) + 1
                broken[model] += int(faulty.sum())
            rows += len(lengths)
            columns = self._describe(
                logits if self.are_averaged else logits[0], lengths, tables[0].column(_STARTS).to_pylist()
            )
            yield join_columns(tables[0].select(range(2, tables[0].num_columns)), columns)
        for folder, count, row in zip(self.models, broken, first):
            where = f"{self.file}: the outputs of {folder} are not finite for {count} of {rows} rows"
            if count == rows:
                parts.remove()  # the next run would be told the same
                raise InputError(f"{where}: its numbers overflow, or the training diverged. Take another model")
            if count:
                tell(f"{where}, the first is data row {row}: these have no prediction (null)")

    def _measure(self, table: pa.Table) -> np.ndarray:
        """Return how many logits each row of a part has, int64 [N]: 1, or as many as bases."""
        if self.problem != "token":
            return np.ones(len(table), dtype=np.int64)
        return pc.list_value_length(table.column(_LOGITS)).to_numpy().astype(np.int64)

    def _describe(
        self, logits: np.ndarray, lengths: Sequence[int] | np.ndarray, starts: list[int]
    ) -> dict[str, pa.Array]:
        """Return the columns of the predictions, of logits (M, C) or (S, M, C) of all rows."""
        if self.problem == "token":
            return describe_bases(np.split(logits, np.cumsum(lengths)[:-1], axis=-2), starts, self.names)
        return describe_rows(logits, self.names, self.problem)


__all__ = ["PredictionFile"]
