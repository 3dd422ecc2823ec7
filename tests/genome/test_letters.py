"""Letters that are no DNA: counted, told with the first place, refused if they are many."""

import pytest

from gengram.errors import InputError
from gengram.genome.letters import MOST_OTHERS, LetterSurvey


def survey(*sequences: str) -> LetterSurvey:
    letters = LetterSurvey("rows.csv")
    letters.look(0, sequences[:1])
    letters.look(1, sequences[1:])
    return letters


def test_dna_is_not_talked_about(capsys):
    survey("ACGTNacgtn", "URYSWKMBDHVuryswkmbdhv", "").judge()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("letter", ["-", "*", "X", "x", "1", " ", "\0", "é", "Ж"])
def test_a_few_others_are_told_with_the_first_place(letter, capsys):
    survey("ACGT" * 10, f"AC{letter}GT").judge()
    told = capsys.readouterr().err
    assert "rows.csv: 1 of 45 letters" in told
    assert f"the first is {letter!r} at position 2 (from 0) of data row 2" in told


@pytest.mark.parametrize("sequence", ["MKVLAAGIVGLLLA", "1 acgtacgtac", "AC--GT--AC"])
def test_many_are_no_dna(sequence):
    with pytest.raises(InputError, match="This does not look like DNA"):
        survey(sequence).judge()


def test_the_share_is_of_the_whole_file(capsys):
    survey("X" * 10, "A" * round(10 / MOST_OTHERS)).judge()
    assert "10 of 110 letters" in capsys.readouterr().err
