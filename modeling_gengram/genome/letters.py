"""Are these sequences DNA? One policy for every command: letters that are not are counted, the first one is told, and
too many of them are refused."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from gengram.errors import InputError
from gengram.genome.alphabet import AMBIGUITY_CODES, ANY_BASE, BASES, URACIL
from gengram.genome.columns import read_columns, view_letters
from gengram.progress import tell

if TYPE_CHECKING:
    from datasets import Dataset

MAX_NON_DNA = 0.1
"""Share of letters that are not DNA above which a file is refused. Of a protein nine in ten are not."""

_DEFINITE = BASES + URACIL + ANY_BASE
_DEFINITE += _DEFINITE.lower()
_KNOWN = _DEFINITE + AMBIGUITY_CODES + AMBIGUITY_CODES.lower()
_EITHER_N = (ANY_BASE + ANY_BASE.lower()).encode()
_NO_BASE = np.ones(256, dtype=bool)  # other bytes than those of bases
_NO_BASE[np.frombuffer((BASES + URACIL + (BASES + URACIL).lower()).encode(), dtype=np.uint8)] = False
_HINTS = {"-": " (a gap)", "*": " (a stop)", " ": " (a blank)"}


class LetterSurvey:
    """Counts the letters of a file's sequences, some at a time.

    DNA is A, C, G, T, U and N in either case, and the other IUPAC codes as long as they are not most of a sequence:
    two thirds of the amino acids are written with the same letters, so a sequence in which A, C, G, T, U and N are
    fewer than half reads as a protein, and none of its other letters counts as DNA.

    Args:
        file: for messages.
        limit: largest share of letters that are not DNA, 0 to 1.

    Attributes:
        letters, others: how many there are, and how many of them are not DNA.
        sequences, unread: how many sequences there are, and how many of them are nothing but N.

    Raises:
        `InputError`: a limit that is no share.
    """

    def __init__(self, file: str, limit: float = MAX_NON_DNA):
        if not 0 <= limit <= 1:
            raise InputError(f"max_non_dna={limit}: give a share of letters from 0 to 1")
        self.file, self.limit = file, limit
        self.letters = self.others = self.sequences = self.unread = 0
        self._first = self._first_unread = ""

    def look(self, sequences: Iterable[str], name: Callable[[int], str], origin: int = 0) -> None:
        """Count the letters of some sequences.

        Args:
            sequences: text.
            name: gives what a message calls one of these sequences, by its number from 0.
            origin: position of their first letters, where they are pieces of something longer.
        """
        for number, sequence in enumerate(sequences):
            self.sequences += 1
            self.letters += len(sequence)
            text = sequence.encode("ascii", "replace")
            rest = text.translate(None, _DEFINITE.encode())
            if rest:
                reads_as_protein = 2 * len(rest) > len(sequence)
                strange = rest if reads_as_protein else rest.translate(None, _KNOWN.encode())
                self.others += len(strange)
                if strange and not self._first:
                    fine = _DEFINITE if reads_as_protein else _KNOWN
                    place = next(place for place, letter in enumerate(sequence) if letter not in fine)
                    letter = sequence[place]
                    self._first = (
                        f"{letter!r}{_HINTS.get(letter, '')} at position {origin + place} (from 0) of {name(number)}"
                    )
            elif text and not text.strip(_EITHER_N):
                self.unread += 1
                self._first_unread = self._first_unread or name(number)

    def look_at_column(self, column: pa.ChunkedArray, name: Callable[[int], str]) -> None:
        """Count the letters of a column of sequences; only rows with other letters than bases are looked at singly."""
        start = 0
        for chunk in column.chunks:
            letters, bounds = view_letters(chunk)
            places = np.flatnonzero(_NO_BASE[letters])
            rows = np.unique(np.searchsorted(bounds, places, side="right") - 1)
            self.sequences += len(chunk) - len(rows)
            self.letters += len(letters) - int((bounds[rows + 1] - bounds[rows]).sum())
            self.look(chunk.take(pa.array(rows)).to_pylist(), _name_some((start + rows).tolist(), name))
            start += len(chunk)

    def judge(self, remedy: str = "", read_as: str = "The model reads them as unknown") -> None:
        """Tell of letters that are not DNA, and of sequences without a base, where there are some.

        Args:
            remedy: what to do where they are too many; by default, to allow more with `--max_non_dna`.
            read_as: what becomes of them where they are few, a sentence.

        Raises:
            `InputError`: the letters are more than the limit.
        """
        if self.others:
            found = (
                f"{self.file}: {self.others:,} of {self.letters:,} letters are not DNA (bases, N, and IUPAC "
                f"codes where bases are most of a sequence); the first is {self._first}"
            )
            if self.others > self.limit * self.letters:
                remedy = remedy or f"allow a larger share than {self.limit:g} with --max_non_dna"
                raise InputError(
                    f"{found}. This does not look like DNA (is it protein, or an alignment?); if it is, {remedy}"
                )
            tell(f"{found}. {read_as}")
        if self.unread:
            tell(
                f"{self.file}: {self.unread:,} of {self.sequences:,} sequences are nothing but N; the first is "
                f"{self._first_unread}"
            )


def judge_rows(rows: "Dataset", file: str, limit: float = MAX_NON_DNA) -> None:
    """Judge the sequences of a whole data set, see `LetterSurvey`.

    Args:
        rows: with a column `sequence`.
        file: where they are from, for messages.
        limit: largest share of letters that are not DNA.

    Raises:
        `InputError`: the letters that are not DNA are more.
    """
    survey, before = LetterSurvey(file, limit), 0
    for block in read_columns(rows, ["sequence"]):
        numbers = range(before, before + len(block))
        survey.look_at_column(block["sequence"], _name_some(numbers, lambda row: name_row(row, rows[row])))
        before += len(block)
    survey.judge()


def _name_some(numbers: Sequence[int], name: Callable[[int], str]) -> Callable[[int], str]:
    """What names the sequences of some numbers by their places among these."""
    return lambda place: name(numbers[place])


def name_row(number: int, row: Mapping[str, Any]) -> str:
    """Return what a message calls a row of a file.

    Args:
        number: of the row, from 0.
        row: its columns; `chrom`, `start` and `end`, or `name`, say more than the number.
    """
    place = f"data row {number + 1}"
    if {"chrom", "start", "end"} <= row.keys():
        return f"{place} ({row['chrom']}:{row['start']}-{row['end']})"
    return f"{place} ({str(row['name'])[:60]!r})" if row.get("name") not in (None, "") else place


__all__ = ["MAX_NON_DNA", "LetterSurvey", "judge_rows", "name_row"]
