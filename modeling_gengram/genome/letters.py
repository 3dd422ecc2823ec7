"""Are these sequences DNA? Letters that are neither bases nor IUPAC codes are counted, told, and refused if they are
many."""

from collections.abc import Iterable

from gengram.errors import InputError
from gengram.genome.alphabet import IUPAC_BASES
from gengram.progress import tell

MOST_OTHERS = 0.1
"""Share of other letters above which a file is no DNA. A third of the letters of a protein are no IUPAC codes."""

_CODES = "".join(IUPAC_BASES) + "".join(IUPAC_BASES).lower()
_BYTES = _CODES.encode()


class LetterSurvey:
    """Counts the letters of a file's sequences, block by block.

    Args:
        file: for messages.
    """

    def __init__(self, file: str):
        self.file = file
        self.letters = self.others = 0
        self.first: tuple[int, int, str] | None = None

    def look(self, start: int, sequences: Iterable[str]) -> None:
        """Count the letters of a block; `start` is the number of its first row, from 0."""
        for row, sequence in enumerate(sequences, start=start):
            self.letters += len(sequence)
            strange = sequence.encode("ascii", "replace").translate(None, _BYTES)
            if strange:
                self.others += len(strange)
                if self.first is None:
                    place = next(place for place, letter in enumerate(sequence) if letter not in _CODES)
                    self.first = (row + 1, place, sequence[place])

    def judge(self) -> None:
        """Tell of other letters where there are some.

        Raises:
            `InputError`: they are more than `MOST_OTHERS`.
        """
        if self.first is None:
            return
        row, place, letter = self.first
        found = (
            f"{self.file}: {self.others:,} of {self.letters:,} letters are neither bases nor IUPAC codes; the first is "
            f"{letter!r} at position {place} (from 0) of data row {row}"
        )
        if self.others > MOST_OTHERS * self.letters:
            raise InputError(f"{found}. This does not look like DNA (is it protein, or an alignment?)")
        tell(f"{found}. The model reads them as unknown")


__all__ = ["MOST_OTHERS", "LetterSurvey"]
