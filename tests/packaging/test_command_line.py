"""What all verbs have in common: spellings, positions, answers, errors and exit codes."""

import functools
import json
import os
import signal
import subprocess
import sys
import textwrap
import warnings
from argparse import ArgumentTypeError
from pathlib import Path

import pytest

from gengram.cli import main
from gengram.command_line import Answer, VerbParser, add_genome, add_model, add_out, run, share, whole_number
from gengram.errors import InputError
from gengram.files import replace_whole
from gengram.progress import tell


@pytest.fixture
def parser() -> VerbParser:
    parser = VerbParser("try", usage="FILE --model MODEL --out FILE", description="Try.", example="gengram try a.fa")
    parser.add_position("model", "--model")
    parser.add_position("file", "FILE")
    group = parser.add_argument_group("what")
    group.add_argument("--file")
    group.add_argument("--batch_size", type=whole_number, default=2)
    group.add_argument("--dry_run", action="store_true")
    add_model(group)
    add_genome(group)
    add_out(group, "where")
    parser.add_common()
    return parser


@pytest.mark.parametrize(
    "words",
    [
        "m f --out o",
        "f --model m --out o",
        "--model m --out o f",
        "--out o --model m --file f",
        "m --out o --file f",
        "--out=o m f",
    ],
)
def test_arguments_come_by_position_or_by_flag(parser, words):
    found = parser.parse(words.split())
    assert (found.model, found.file, found.out) == ("m", "f", "o")


@pytest.mark.parametrize("flag", ["--batch_size", "--batch-size"])
@pytest.mark.parametrize("join", [" ", "="])
def test_both_spellings_of_a_flag(parser, flag, join):
    found = parser.parse(f"f --model m --out o {flag}{join}7 --dry-run --ref g".split())
    assert (found.batch_size, found.dry_run, found.genome) == (7, True, "g")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("f --out o", "missing: --model, or FILE"),
        ("--model m --out o", "missing: FILE"),
        ("a b c --out o", "too many arguments: c"),
        ("f --model m --out o --batch_size 0", "give a whole number of at least 1"),
        ("f --model m --out o --batch_size 1.5", "give a whole number of at least 1"),
        ("f --model m --out o --batch 2", "there is no --batch; did you mean '--batch_size'?"),
        ("f --model m --out o --json f.fa", "must end with .json"),
    ],
)
def test_wrong_command_lines(parser, words, told, capsys):
    with pytest.raises(SystemExit) as stop:
        parser.parse(words.split())
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert told in error and error.startswith("usage: gengram try FILE") and "`gengram try --help`" in error


@pytest.mark.parametrize("text", ["0", "-1", "1.0", "x", "", "\u0661", "9223372036854775808", "9" * 5000])
def test_what_is_no_whole_number(text):
    with pytest.raises(ArgumentTypeError, match="whole number") as told:
        whole_number(text)
    assert len(str(told.value)) < 200


@pytest.mark.parametrize("text", ["0", "1.01", "nan", "x", "-0.5"])
def test_what_is_no_share(text):
    with pytest.raises(Exception, match="above 0 and up to 1"):
        share(text)
    assert share("1") == 1.0


def answer(**options) -> Answer:
    print("what a library prints")
    return Answer("for people", {"options": sorted(options)})


def test_the_answer_is_alone_on_standard_output(parser, capsys):
    arguments = parser.parse(["m", "f", "--out", "o"])
    assert run(parser, arguments, answer) == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("for people\n", "what a library prints\n")


def test_the_answer_as_json(parser, capsys, tmp_path):
    assert run(parser, parser.parse(["m", "f", "--out", "o", "--json"]), answer) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"options": ["batch_size", "dry_run", "file", "genome", "model", "out", "overwrite", "slices"]}
    file = tmp_path / "answer.json"
    assert run(parser, parser.parse(["m", "f", "--out", "o", "--json", str(file)]), answer) == 0
    assert json.loads(file.read_text()) == told
    assert capsys.readouterr().out == "for people\n"
    assert run(parser, parser.parse(["m", "f", "--out", "o", "--json", str(file)]), answer) == 1
    assert "or replace it with --overwrite" in capsys.readouterr().err
    assert run(parser, parser.parse(["m", "f", "--out", "o", "--overwrite", "--json", str(file)]), answer) == 0


def test_a_place_for_the_answer_that_cannot_be_written_is_told_before_the_work(parser, tmp_path, capsys):
    def work(**options):
        raise AssertionError("this must not run")

    words = ["m", "f", "--out", "o", "--json", str(tmp_path / "no" / "answer.json")]
    assert run(parser, parser.parse(words), work) == 1
    assert "does not exist" in capsys.readouterr().err


@pytest.mark.parametrize("error", [InputError("mend this"), OSError("the disk is full")])
def test_what_a_user_can_mend_is_a_message(parser, error, capsys, monkeypatch):
    def work(**options):
        raise error

    assert run(parser, parser.parse(["m", "f", "--out", "o"]), work) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err == f"gengram try: error: {error}\n"
    monkeypatch.setenv("RANK", "1")  # another process of several says it
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run(parser, parser.parse(["m", "f", "--out", "o"]), work) == 1
    assert capsys.readouterr().err == ""


def test_other_errors_are_not_hidden(parser):
    def work(**options):
        raise ValueError("a fault of ours")

    with pytest.raises(ValueError, match="a fault of ours"):
        run(parser, parser.parse(["m", "f", "--out", "o"]), work)


def test_ctrl_c(parser, capsys):
    def work(**options):
        raise KeyboardInterrupt

    assert run(parser, parser.parse(["m", "f", "--out", "o"]), work) == 130
    assert capsys.readouterr().err == "gengram try: error: interrupted\n"


def test_a_closed_pipe_is_no_traceback(tmp_path):
    code = textwrap.dedent(
        """
        import sys
        from gengram.command_line import Answer, VerbParser, run
        parser = VerbParser("try", usage="", description="Try.", example="gengram try")
        parser.add_common()
        sys.exit(run(parser, parser.parse([]), lambda: Answer("line\\n" * 100_000, {})))
        """
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


def test_quiet_holds_for_the_work_and_for_nothing_else(parser, capsys):
    from gengram.progress import is_quiet, tell, track

    def work(**options):
        tell("a note")
        assert list(track(range(3), desc="Working", mininterval=0, delay=0)) == [0, 1, 2]
        return Answer(str(is_quiet()), {})

    assert run(parser, parser.parse(["m", "f", "--out", "o", "--quiet"]), work) == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("True\n", "")
    assert not is_quiet()
    assert run(parser, parser.parse(["m", "f", "--out", "o"]), work) == 0
    captured = capsys.readouterr()
    assert captured.out == "False\n" and "a note" in captured.err


def test_without_a_terminal_progress_is_lines(capsys):
    from gengram.progress import track

    for _ in track(range(3), desc="Working", mininterval=0, maxinterval=0, miniters=1, delay=0):
        pass
    lines = capsys.readouterr().err.splitlines()
    assert "\r" not in "".join(lines)
    assert lines[-1].startswith("Working: 100%")


def test_without_a_terminal_short_work_is_silent(capsys):
    from gengram.progress import track

    assert list(track(range(3))) == [0, 1, 2]
    assert capsys.readouterr().err == ""


def test_help_names_a_flag_once(parser, capsys):
    with pytest.raises(SystemExit):
        parser.parse(["--help"])
    text = capsys.readouterr().out
    assert "--batch_size BATCH_SIZE" in text and "--batch-size" not in text and "--genome, --ref FASTA" in text


NAME = "a\nb\x1b[31m\u202e\udcff.csv"
SHOWN = r"a\nb\x1b[31m\u202e\udcff.csv"


def test_names_do_nothing_to_a_terminal(parser, capsys, tmp_path):
    def refuse(**options):
        tell(f"reading {NAME}")
        # What Python prints for a warning; pytest would catch the warning itself.
        sys.stderr.write(warnings.formatwarning(UserWarning(f"{NAME}: strange"), UserWarning, "file.py", 1))
        raise InputError(f"{NAME}: mend this")

    arguments = parser.parse(["m", "f", "--out", "o", "--json", str(tmp_path / "answer.json")])
    assert run(parser, arguments, refuse) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"reading {SHOWN}", f"warning: {SHOWN}: strange", f"gengram try: error: {SHOWN}: mend this"]
    assert warnings.formatwarning(Warning("x"), Warning, "file.py", 1).startswith("file.py:1")  # as it was
    with pytest.raises(SystemExit):
        parser.parse(["m", "f", "more", NAME, "--out", "o"])
    assert f"too many arguments: more {SHOWN}" in capsys.readouterr().err


def test_an_answer_is_shown_to_people_and_exact_for_programs(parser, capsys, tmp_path):
    def work(**options):
        return Answer(f"3\t{NAME}\n4\tb", {"file": NAME})

    assert run(parser, parser.parse(["m", "f", "--out", "o"]), work) == 0
    assert capsys.readouterr().out == "3\ta\nb" + SHOWN[4:] + "\n4\tb\n"
    for target in ("-", str(tmp_path / "answer.json")):
        assert run(parser, parser.parse(["m", "f", "--out", "o", "--json", target]), work) == 0
        said = capsys.readouterr().out
        assert json.loads(said if target == "-" else Path(target).read_text()) == {"file": NAME}


def test_a_verb_that_there_is_not_is_named_in_one_line(capsys):
    assert main([NAME]) == main(["convert", NAME]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 6 and "\x1b" not in error and f"convert {SHOWN}: choose" in error


def test_a_message_with_the_content_of_a_file_is_cut_and_keeps_its_end(parser, capsys):
    def work(**_):
        raise InputError(f"table.csv: no column {'x' * 100_000!r}. Name the right one.")

    assert run(parser, parser.parse(["f", "--model", "m", "--out", "o"]), work) == 1
    said = capsys.readouterr().err
    assert len(said) < 2000 and said.startswith("gengram try: error: table.csv: no") and said.endswith("right one.\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_a_verb_leaves_time_to_clean_up(number, parser, tmp_path, capsys):
    def work(**options):
        with replace_whole(tmp_path / "out") as partial:
            partial.touch()
            os.kill(os.getpid(), number)
            raise AssertionError("this must not be reached")

    before = signal.signal(number, signal.SIG_DFL)  # that of coverage would end the tests
    try:
        assert run(parser, parser.parse(["m", "f", "--out", "o"]), work) == 128 + number
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, before)
    assert capsys.readouterr().err == f"gengram try: error: ended by {number.name}\n"
    assert not list(tmp_path.iterdir())


def test_a_handler_of_somebody_else_stays(parser):
    caught = []
    before = signal.signal(signal.SIGTERM, lambda *_: caught.append(1))
    try:
        kill = functools.partial(os.kill, os.getpid(), signal.SIGTERM)
        assert run(parser, parser.parse(["m", "f", "--out", "o"]), lambda **_: kill()) == 0
        assert caught == [1]
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("words", [["--version"], ["--help"]])
def test_a_full_standard_output_is_told(words):
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "gengram.cli", *words]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("gengram: error: the answer cannot be written to standard output (No space left")
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_standard_error_is_an_exit_code():
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "gengram.cli", "nope"], stdout=subprocess.PIPE, stderr=full)
    assert done.returncode == 1


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&- 2>&-"])
def test_closed_streams_do_not_lend_their_numbers_to_files(closed, tmp_path):
    program = (
        "from gengram import cli; import os, sys; cli._mend_streams(); "
        f"file = open({str(tmp_path / 'number')!r}, 'w'); file.write(str(file.fileno()))"
    )
    subprocess.run(["sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, program], check=True)
    assert int((tmp_path / "number").read_text()) > 2
