"""The DNA alphabet: bases, IUPAC codes, complements and the reverse complement."""

import re
from collections.abc import Mapping
from types import MappingProxyType

BASES = "ACGT"
"""The four bases of DNA."""

ANY_BASE = "N"
"""The code of a base that is not known; a letter of the models' vocabulary beside the four bases."""

URACIL = "U"
"""RNA's thymine: one definite base, written differently."""

IUPAC_BASES: Mapping[str, str] = MappingProxyType(
    {
        "A": "A",
        "C": "C",
        "G": "G",
        "T": "T",
        "U": "T",
        "R": "AG",
        "Y": "CT",
        "S": "CG",
        "W": "AT",
        "K": "GT",
        "M": "AC",
        "B": "CGT",
        "D": "AGT",
        "H": "ACT",
        "V": "ACG",
        "N": "ACGT",
    }
)
"""Each IUPAC nucleotide code and the bases that it may stand for (NC-IUB 1984, doi:10.1093/nar/13.9.3021)."""

AMBIGUITY_CODES = "".join(code for code, bases in IUPAC_BASES.items() if 2 <= len(bases) <= 3)
"""The IUPAC codes for two or three bases: everything ambiguous except `N`."""

_CODES, _PARTNERS = "ACGTURYSWKMBDHVN", "TGCAAYRSWMKVHDBN"
_PAIRS = str.maketrans(_CODES + _CODES.lower(), _PARTNERS + _PARTNERS.lower())
_NOT_A_CODE = re.compile(f"[^{_CODES}{_CODES.lower()}]")

COMPLEMENT: Mapping[str, str] = MappingProxyType(dict(zip(_CODES, _PARTNERS)))
"""Each IUPAC code and the code of the bases that pair with it; both strands are DNA: `A` with `T`, `U` with `A`."""


def reverse_complement(sequence: str, keep_others: bool = False) -> str:
    """Return the other strand of a DNA sequence, read 5' to 3'.

    IUPAC codes become the code of the complementary bases (`R`, A or G, becomes `Y`, T or C). A base keeps its
    case, so soft-masked repeats stay masked. The result is DNA: `U` becomes `A`, and `A` becomes `T`.

    Args:
        sequence (`str`): any number of IUPAC nucleotide codes, upper or lower case.
        keep_others (`bool`, defaults to `False`): other letters stay as they are; for sequences whose letters have been
            counted and told, see `gengram.genome.letters`.

    Returns:
        `str`: the reverse complement, as long as `sequence`.

    Raises:
        `ValueError`: a character is no nucleotide code (a gap, a blank, a line end, the name of a special token);
            it has no complement, and moving it to the other end in silence would hide the fault.

    Example:
        >>> reverse_complement("ACCGRn")
        'nYCGGT'
    """
    if not keep_others and (fault := _NOT_A_CODE.search(sequence)):
        raise ValueError(
            f"character {fault.group()!r} at position {fault.start()} (counted from 0) is not an IUPAC nucleotide code "
            f"({_CODES}, either case): remove it, or write N where a base is unknown"
        )
    return sequence.translate(_PAIRS)[::-1]


__all__ = ["AMBIGUITY_CODES", "ANY_BASE", "BASES", "COMPLEMENT", "IUPAC_BASES", "URACIL", "reverse_complement"]
