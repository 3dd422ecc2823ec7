"""The DNA alphabet: every complement against the bases that a code stands for, and the reverse complement of a text."""

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gengram.genome.alphabet import AMBIGUITY_CODES, ANY_BASE, BASES, COMPLEMENT
from gengram.tokenization import IUPAC_BASES, reverse_complement

DNA_CODES = "ACGTRYSWKMBDHVN"


def test_codes_partition_into_bases_uracil_ambiguity_codes_and_n():
    assert sorted(IUPAC_BASES) == sorted(BASES + "U" + AMBIGUITY_CODES + ANY_BASE)
    assert sorted(AMBIGUITY_CODES) == sorted("RYSWKMBDHV")
    # 4 bases have 15 non-empty subsets, and IUPAC has one code for each of them (U is a second way to write T)
    assert len({frozenset(IUPAC_BASES[code]) for code in DNA_CODES}) == 2**4 - 1


@pytest.mark.parametrize("code", IUPAC_BASES)
def test_complement_stands_for_the_partners_of_the_bases(code):
    partner = {"A": "T", "C": "G", "G": "C", "T": "A"}
    assert {partner[base] for base in IUPAC_BASES[code]} == set(IUPAC_BASES[COMPLEMENT[code]])


@pytest.mark.parametrize(
    ("sequence", "expected"),
    [
        ("", ""),
        ("A", "T"),
        ("ACGT", "ACGT"),
        ("AAC", "GTT"),
        ("AACNn", "nNGTT"),
        ("acgtACGG", "CCGTacgt"),
        ("RYSWKMBDHV", "BDHVKMWSRY"),
        ("rYsWkMbDhV", "BdHvKmWsRy"),
        ("AUGu", "aCAT"),
    ],
)
def test_reverse_complement(sequence, expected):
    assert reverse_complement(sequence) == expected


@settings(deadline=None)
@given(st.text(DNA_CODES + DNA_CODES.lower()))
def test_two_reverse_complements_give_the_sequence_back(sequence):
    assert reverse_complement(reverse_complement(sequence)) == sequence


@settings(deadline=None)
@given(st.text(DNA_CODES + "Uacgtun"), st.text(DNA_CODES + "Uacgtun"))
def test_reverse_complement_of_a_concatenation(left, right):
    assert reverse_complement(left + right) == reverse_complement(right) + reverse_complement(left)


@settings(deadline=None)
@given(
    st.text(DNA_CODES), st.characters().filter(lambda c: c not in set("ACGTURYSWKMBDHVNacgturyswkmbdhvn")), st.text()
)
def test_anything_but_a_code_is_refused_with_its_position(head, fault, tail):
    with pytest.raises(ValueError, match=f"at position {len(head)} ") as error:
        reverse_complement(head + fault + tail)
    assert repr(fault) in str(error.value)


@pytest.mark.parametrize("text", ["ACGT\n", "AC-GT", "ACG[MASK]T", ">chr1", "AC GT", "ACGX", "ÀCG"])
def test_text_that_is_no_sequence_is_refused(text):
    with pytest.raises(ValueError, match="is not an IUPAC nucleotide code"):
        reverse_complement(text)


def test_using_the_alphabet_imports_nothing_that_the_package_does_not():
    """Whatever `import gengram` loads, the alphabet adds no tokenizer library, no torch and no Triton to it."""
    script = (
        "import sys, gengram; before = set(sys.modules)\n"
        "from gengram.tokenization import reverse_complement\n"
        "assert reverse_complement('AAC') == 'GTT'\n"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["gengram"]
