"""What is shown has no letter that does more than stand there, and what a shell reads is what was meant."""

import shlex
import subprocess
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gengram.printable import label_plot, make_printable, quote_word


@settings(max_examples=300)
@given(text=st.text())
def test_one_line_of_letters(text):
    shown = make_printable(text)
    kinds = {unicodedata.category(letter) for letter in shown if letter not in "\u200c\u200d"}
    assert len(shown.splitlines()) <= 1 and not kinds & {"Cc", "Cf", "Cs", "Zl", "Zp"}


def test_escapes_are_those_of_python():
    assert make_printable("a\n\x1b[31m\u202e\udcff\x85\u2028b") == r"a\n\x1b[31m\u202e\udcff\x85\u2028b"
    assert make_printable("naïve \U0001f469\u200d\U0001f52c 染色体") == "naïve \U0001f469\u200d\U0001f52c 染色体"
    assert make_printable("a\nb\tc", keep="\n") == "a\nb\\tc" and make_printable(3) == "3"


def test_labels_of_plots():
    assert label_plot("$x$\n") == r"\$x\$\n" and label_plot("_x") == " _x" and label_plot("") == ""
    assert label_plot("a" * 30) == "a" * 16 + "…" + "a" * 7


@settings(max_examples=30, deadline=None)
@given(
    words=st.lists(
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
        | st.sampled_from(["a'b\n", "\x1b[0m1", "\\x41", "", "$HOME `x`", "\udcff\udc801"]),
        min_size=1,
        max_size=5,
    )
)
def test_bash_reads_the_words_again(words):
    quoted = " ".join(map(quote_word, words))
    assert len(quoted.splitlines()) <= 1 and make_printable(quoted) == quoted
    read = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {quoted}"], capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"}
    )
    assert read.stdout.split(b"\0")[:-1] == [word.encode("utf-8", "surrogateescape") for word in words]


@pytest.mark.parametrize("word", ["plain", "two words", "it's"])
def test_usual_words_are_quoted_as_usual(word):
    assert quote_word(word) == shlex.quote(word)
