"""Letters that are not DNA: counted, told with the first place, refused if they are many."""

import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from gengram.errors import InputError
from gengram.genome.letters import MAX_NON_DNA, LetterSurvey, judge_rows, name_row

AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"


def survey(*sequences: str, limit: float = MAX_NON_DNA) -> LetterSurvey:
    letters = LetterSurvey("rows.csv", limit)
    letters.look(sequences[:1], lambda row: f"data row {row + 1}")
    letters.look(sequences[1:], lambda row: f"data row {row + 2}")
    return letters


def test_dna_is_not_talked_about(capsys):
    survey("ACGTNacgtn", "ACGTACGTACURYSWKMBDHVacgtacgtacuryswkmbdhv", "", "uuuuu").judge()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("letter", ["-", "*", "X", "x", "1", " ", "\0", "\x1b", "é", "Ж", "🧬"])
def test_a_few_others_are_told_with_the_first_place(letter, capsys):
    survey("ACGT" * 10, f"AC{letter}GT").judge()
    told = capsys.readouterr().err
    assert "rows.csv: 1 of 45 letters" in told
    assert f"the first is {letter!r}" in told and "at position 2 (from 0) of data row 2" in told
    assert told.strip().isprintable()


@pytest.mark.parametrize(
    "sequence", ["MKVLAAGIVGLLLA", "1 acgtacgtac", "AC--GT--AC", "MKVSTRGH", "krskrs", "Glu-Ala-Val", "ACGU-" * 3]
)
def test_many_are_no_dna(sequence):
    with pytest.raises(InputError, match="This does not look like DNA"):
        survey(sequence).judge()


def test_the_share_is_of_the_whole_file(capsys):
    survey("X" * 10, "A" * round(10 / MAX_NON_DNA)).judge()
    assert "10 of 110 letters" in capsys.readouterr().err


def test_the_share_can_be_chosen(capsys):
    with pytest.raises(InputError, match=r"1 of 1,000 letters .* a larger share than 0 with --max_non_dna"):
        survey("A" * 999 + "-", limit=0).judge()
    survey("MKVLAAGIVGLLLA", limit=1).judge()
    assert "14 letters are not DNA" in capsys.readouterr().err
    for limit in (-0.1, 1.1, float("nan")):
        with pytest.raises(InputError, match="give a share of letters from 0 to 1"):
            survey("ACGT", limit=limit)


def test_ambiguity_codes_are_dna_until_they_are_most_of_a_sequence(capsys):
    survey("ACGTRYKM").judge()  # half
    assert capsys.readouterr().err == ""
    with pytest.raises(InputError, match=r"5 of 9 letters .* 'R' at position 4"):
        survey("ACGTRYKMS").judge()


@given(st.lists(st.text(AMINO_ACIDS, min_size=60, max_size=400), min_size=5, max_size=9))
def test_proteins_are_refused(proteins):
    # Random peptides of which two in three are A, C, G, T or N would be DNA; draws of hypothesis can be.
    letters = "".join(proteins)
    definite = sum(letter in "ACGTN" for letter in letters)
    if all(2 * sum(letter in "ACGTN" for letter in one) < len(one) for one in proteins):
        judged = survey(*proteins)
        assert judged.others == len(letters) - definite
        with pytest.raises(InputError):
            judged.judge()


@given(st.lists(st.text("ACGTUNacgtun", max_size=50), max_size=9))
def test_bases_never_are(sequences):
    letters = LetterSurvey("rows.csv", 0)
    letters.look(sequences, str)
    letters.judge()
    assert letters.others == 0 and letters.letters == sum(map(len, sequences))


def test_sequences_of_nothing_but_n_are_told(capsys):
    survey("ACGT", "NNNN", "nN", "NNA").judge()
    assert "rows.csv: 2 of 4 sequences are nothing but N; the first is data row 2" in capsys.readouterr().err


def test_positions_of_pieces_are_those_of_the_whole(capsys):
    letters = LetterSurvey("genome.fa")
    letters.look(["ACGTACGTACG-"], lambda _: "contig 'chr1'", origin=100)
    letters.judge()
    assert "'-' (a gap) at position 111 (from 0) of contig 'chr1'" in capsys.readouterr().err


def test_a_data_set_is_judged_as_a_whole():
    rows = Dataset.from_dict({"sequence": ["ACGT", "MKVL"], "name": ["good", "bad"]})
    with pytest.raises(
        InputError, match=r"rows.csv: 4 of 8 letters .* 'M' at position 0 \(from 0\) of data row 2 \('bad'\)"
    ):
        judge_rows(rows, "rows.csv")
    judge_rows(rows, "rows.csv", limit=0.5)


def test_rows_are_called_by_what_they_have():
    assert name_row(0, {"sequence": "A"}) == "data row 1"
    assert name_row(1, {"name": "peak"}) == "data row 2 ('peak')"
    assert name_row(1, {"name": None}) == "data row 2"
    assert name_row(2, {"chrom": "chr1", "start": 5, "end": 9, "name": "x"}) == "data row 3 (chr1:5-9)"
