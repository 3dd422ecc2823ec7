"""How a letter outside `A C G T N` is read: as which base, or as none."""

from collections import defaultdict
from typing import Any, Literal, get_args

from tokenizers import Regex
from tokenizers.normalizers import Replace
from tokenizers.normalizers import Sequence as NormalizerSequence

from gengram.genome.alphabet import AMBIGUITY_CODES, ANY_BASE, BASES, URACIL

Case = Literal["fold", "unknown"]
Uracil = Literal["thymine", "unknown"]
Ambiguous = Literal["n", "unknown"]


def check_choice(argument: str, value: str, choices: Any) -> None:
    """Refuse a value that is none of a `Literal`'s.

    Raises:
        `ValueError`: with the argument, the value and the choices.
    """
    if value not in get_args(choices):
        raise ValueError(f"{argument}={value!r}: choose one of {', '.join(map(repr, get_args(choices)))}")


def read_letters(*, case: Case, uracil: Uracil, ambiguous: Ambiguous) -> NormalizerSequence | None:
    """Return the normalizer that writes each letter as the base it is read as; one character for one, always.

    Unicode case mapping is no choice here: it can lengthen the text (U+0130 has a lower case of two characters).

    Args:
        case: `"fold"` reads lower case as upper case, `"unknown"` leaves it.
        uracil: `"thymine"` reads `U` as `T`, `"unknown"` leaves it.
        ambiguous: `"n"` reads the IUPAC codes for two or three bases as `N`, `"unknown"` leaves them.

    Raises:
        `ValueError`: a policy that does not exist.
    """
    check_choice("case", case, Case)
    check_choice("uracil", uracil, Uracil)
    check_choice("ambiguous", ambiguous, Ambiguous)
    read_as = {base: base for base in BASES + ANY_BASE}
    if uracil == "thymine":
        read_as[URACIL] = "T"
    if ambiguous == "n":
        read_as |= dict.fromkeys(AMBIGUITY_CODES, ANY_BASE)
    if case == "fold":
        read_as |= {letter.lower(): base for letter, base in read_as.items()}

    letters = defaultdict(list)
    for letter, base in read_as.items():
        if letter != base:
            letters[base].append(letter)
    steps = [Replace(Regex(f"[{''.join(group)}]"), base) for base, group in letters.items()]
    return NormalizerSequence(steps) if steps else None


__all__ = ["Ambiguous", "Case", "Uracil", "check_choice", "read_letters"]
