"""The `gengram` command: its verbs, its help, and what a wrong command line gets."""

import subprocess
import sys
from importlib import import_module

import pytest

from gengram import __version__
from gengram.cli import VERBS, main


def call(*words: str) -> tuple[int, str, str]:
    done = subprocess.run([sys.executable, "-m", "gengram.cli", *words], capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def exit_code(words: list[str]) -> int:
    """Of `main`, which returns it, or ends the process with it where argparse does."""
    try:
        return main(words)
    except SystemExit as stop:
        return int(stop.code or 0)


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_the_command_alone_and_its_help_name_every_verb(words, capsys):
    assert main(words) == 0
    text = capsys.readouterr().out
    for name, verb in VERBS.items():
        assert f"  {name} " in text and verb.help in text


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"gengram {__version__}"


def test_the_module_runs_as_the_command():
    assert call("--version") == (0, f"gengram {__version__}\n", "")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["fine-tune"], "there is no verb 'fine-tune'; did you mean 'finetune'?"),
        (["--verb"], "there is no verb '--verb'"),
        (["convert", "megatrn"], "choose megatron or to-megatron; did you mean 'megatron'?"),
        (["dataset", "pull"], "gengram dataset pull: choose push"),
    ],
)
def test_a_wrong_verb_exits_with_2_and_says_what_is_right(words, told, capsys):
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("usage: gengram VERB") and told in error


@pytest.mark.parametrize("word", ["convert", "dataset"])
@pytest.mark.parametrize("rest", [[], ["--help"]])
def test_the_first_of_two_words_shows_the_verbs_that_it_begins(word, rest, capsys):
    assert main([word, *rest]) == 0
    shown = capsys.readouterr().out
    assert f"{word} " in shown and "embed" not in shown


def test_a_word_that_begins_a_verb_is_no_file(tmp_path, monkeypatch, capsys):
    (tmp_path / "convert").mkdir()
    monkeypatch.chdir(tmp_path)
    assert main(["convert"]) == 0
    assert "convert megatron" in capsys.readouterr().out
    assert main(["convert", "megatron", "./convert", "--out", "out"]) == 1
    assert "convert" in capsys.readouterr().err


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_where_the_table_says_and_has_help_in_groups_with_an_example(verb, capsys):
    module, function = VERBS[verb].function.split(":")
    assert callable(getattr(import_module(module), function))
    assert exit_code([*verb.split(), "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: gengram {verb} ")
    assert "\nanswer:\n" in text and "--json [FILE]" in text and "--quiet" in text
    assert "\nexample" in text and text.count(f"gengram {verb}") >= 2
    assert "exit codes: 0 done; 1 an error" in text
    assert "\noptions:\n" not in text
    # One spelling of each flag.
    flags = [word.strip(",") for line in text.splitlines() for word in line.split() if line.startswith("  --")]
    assert not [flag for flag in flags if flag.startswith("--") and "-" in flag[2:] and flag.replace("-", "_") in flags]


@pytest.mark.parametrize("verb", VERBS)
def test_an_unknown_flag_is_named_with_the_most_similar_one_before_anything_else_is_looked_at(verb, capsys):
    assert exit_code([*verb.split(), "--jsn"]) == 2
    error = capsys.readouterr().err
    assert f"gengram {verb}: error: there is no --jsn; did you mean '--json'?" in error


@pytest.mark.parametrize("verb", VERBS)
def test_flags_are_not_guessed_from_their_beginnings(verb, capsys):
    assert exit_code([*verb.split(), "--qui"]) == 2
    assert "there is no --qui" in capsys.readouterr().err


@pytest.mark.parametrize("verb", VERBS)
def test_an_answer_in_a_file_needs_a_name_for_json(verb, capsys):
    assert exit_code([*verb.split(), "--json", "genome.fa"]) == 2
    assert "'genome.fa': the file's name must end with .json" in capsys.readouterr().err
