"""One way for every verb to declare its arguments, to run, to answer and to fail.

A room's `command.py` declares the room's verbs with this, and imports nothing else until a verb runs: help and wrong
flags need no torch. What a verb does is a function of the room; the verb answers with an `Answer`.
"""

import argparse
import contextlib
import json
import logging
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from gengram.errors import InputError, suggest
from gengram.files import check_output_file, describe_os_error, write_json
from gengram.phases import Phase, recording, tabulate_phases
from gengram.printable import make_printable, shorten
from gengram.progress import QUIET, is_quiet, quiet_libraries
from gengram.team import is_main, speaks

EXIT_CODES = "exit codes: 0 done; 1 an error, the message says what to change; 2 wrong arguments"

SEQUENCE_FILES = ".csv, .tsv, .jsonl, .json, .parquet, FASTA (.fa, .fasta, .fna), or .bed with --genome; plain or .gz"

NON_DNA_HELP = (
    "largest share of letters that are not DNA (bases, N, IUPAC codes). Fewer are counted and told, more are refused; "
    "0: none at all, 1: any"
)

SLICES_HELP = (
    "records of the genome that samtools faidx has cut, as chr20:1000001-2000000, are these bases of chr20, and hold "
    "its intervals"
)

# Flags that are the same for all verbs come first where a verb has another name for them, too.
_EVERYWHERE = ("--model", "--out", "--genome")
# As a shell tells of a program that a signal has ended.
_ANSWERS_A_CLOSED_PIPE = 128 + 13
_ANSWERS_AN_INTERRUPT = 128 + 2
# What schedulers and closed terminals send; like Ctrl-C, it leaves time to clean up.
_ENDS = ("SIGTERM", "SIGHUP")
_LONGEST = 1600  # letters of an error message


class Answer(NamedTuple):
    """What a verb answers: `text` for people, `data` for programs (one JSON object, `--json`), names as they are."""

    text: str
    data: dict[str, Any]


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """One spelling of each flag, defaults where there are any, examples as they are written."""

    def __init__(self, prog: str, **options: Any):
        super().__init__(prog, **{"max_help_position": 30, "width": 110, **options})

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if not action.option_strings or action.default is None or action.default is False or action.default == "":
            return action.help
        return super()._get_help_string(action)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings:
            return super()._format_action_invocation(action)
        flags = sorted(dict.fromkeys(map(_spell, action.option_strings)), key=lambda flag: flag not in _EVERYWHERE)
        metavar = self._get_default_metavar_for_optional(action)
        return ", ".join(flags) + ("" if action.nargs == 0 else f" {self._format_args(action, metavar)}")


class VerbParser(argparse.ArgumentParser):
    """The arguments of a verb.

    A flag with `_` is understood with `-` too; nothing is guessed from the beginning of a flag. Arguments may be given
    by position as well, in the order of `positions`; those that have a flag and were given by it are left out then.

    Args:
        verb: `predict`, `dataset push`.
        usage: what follows the verb in the usage line.
        description: what it does, in a sentence.
        example: one command line or more, the best documentation that there is.
        notes: what else somebody should know, behind the example.
        options: of `argparse.ArgumentParser`.
    """

    def __init__(self, verb: str, *, usage: str, description: str, example: str, notes: str = "", **options: Any):
        lines = "\n".join(f"  {line}" for line in example.strip().splitlines())
        title = "examples" if len(example.strip().splitlines()) > 1 else "example"
        epilog = "\n\n".join(part for part in (f"{title}:\n{lines}", notes.strip(), EXIT_CODES) if part)
        super().__init__(
            prog=f"gengram {verb}",
            usage=f"gengram {verb} {usage}",
            description=description,
            epilog=epilog,
            formatter_class=HelpFormatter,
            allow_abbrev=False,
            add_help=False,
            **options,
        )
        self._positions: list[tuple[str, str, bool]] = []

    def add_position(self, name: str, metavar: str, optional: bool = False) -> None:
        """Let an argument that has a flag be given by position, too; the order of the calls is that of the positions.

        Args:
            name: of the argument.
            metavar: how messages call it.
            optional: whether the verb can do without.
        """
        if not self._positions:
            self.add_argument("positions", nargs="*", help=argparse.SUPPRESS)
        self._positions.append((name, metavar, optional))

    def add_common(self) -> None:
        """Add what every verb understands; the last group of its help."""
        common = self.add_argument_group("answer")
        common.add_argument(
            "--json",
            nargs="?",
            const="-",
            type=_json_target,
            metavar="FILE",
            help="answer with one JSON object, on standard output or in FILE (a name that ends with .json)",
        )
        common.add_argument("--quiet", action="store_true", help="no progress, no notes: the answer and errors only")
        common.add_argument("-h", "--help", action="help", help="show this and exit")

    def parse(self, argv: Sequence[str] | None) -> argparse.Namespace:
        """Return the arguments; a wrong command line ends the process with exit code 2."""
        arguments = self.parse_intermixed_args(argv)
        if self._positions:
            given = list(vars(arguments).pop("positions") or [])
            open_ = [entry for entry in self._positions if getattr(arguments, entry[0], None) is None]
            taken = [name for name, _, _ in open_[: len(given)]]
            for name in taken:
                setattr(arguments, name, given.pop(0))
            if given:
                self.error(f"too many arguments: {' '.join(given)}")
            for name, _, _ in self._positions:
                setattr(arguments, name, getattr(arguments, name, None))
            needed = [(name, metavar) for name, metavar, optional in self._positions if not optional]
            if lacking := [metavar for name, metavar in needed if getattr(arguments, name) is None]:
                if taken and taken[0] == "model":  # in the old form; or it was what follows
                    lacking[0] = f"--model, or {lacking[0]}"
                self.error(f"missing: {', '.join(lacking)}")
        return arguments

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        args = sys.argv[1:] if args is None else list(args)
        words = [self._respell(word) for word in args]
        flags = [word.partition("=")[0] for word in words if word.startswith("--") and word != "--"]
        if unknown := [flag for flag in flags if flag not in self._option_string_actions]:
            close = suggest(_spell(unknown[0]), map(_spell, self._option_string_actions))
            self.error(f"there is no {', '.join(unknown)}{close}")
        return super().parse_known_args(words, namespace)

    def error(self, message: str) -> NoReturn:
        if not is_main():  # one of several processes says it
            self.exit(2)
        shown = make_printable(message)
        self.exit(2, f"usage: {self.usage}\n{self.prog}: error: {shown}\n`{self.prog} --help` shows all arguments.\n")

    def _respell(self, word: str) -> str:
        flag, equals, value = word.partition("=")
        if not flag.startswith("--") or flag in self._option_string_actions:
            return word
        same = next((known for known in self._option_string_actions if _spell(known) == _spell(flag)), flag)
        return f"{same}{equals}{value}"


def run(parser: VerbParser, arguments: argparse.Namespace, work: Callable[..., Answer | None]) -> int:
    """Run a verb's work and print its answer; what the work prints by itself goes to standard error.

    Args:
        parser: of the verb.
        arguments: of `VerbParser.parse`.
        work: takes the arguments by name, without `json` and `quiet`; answers, or None where another process does.

    Returns:
        The exit code: 0, 1 after an error message, 130 after Ctrl-C, 129 or 143 after SIGHUP or SIGTERM, 141 if nobody
        reads on.
    """
    options = vars(arguments).copy()
    target, quiet = options.pop("json", None), options.pop("quiet", False)
    before, form = os.environ.get(QUIET), warnings.formatwarning
    if quiet:
        os.environ[QUIET] = "1"
        logging.disable(logging.WARNING)
    try:
        with _end_on_signals(), recording() as recorded:
            if target not in (None, "-"):
                _check_target(target, options)
            quiet_libraries()
            with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
                warnings.formatwarning = _show_warning
                if quiet:
                    warnings.simplefilter("ignore")
                answer = work(**options)
            if answer is not None:
                phases = recorded.list_phases()
                if (table := tabulate_phases(phases)) and not is_quiet():
                    print(table, file=sys.stderr, flush=True)
                _print_answer(_add_phases(answer, phases), target)
    except BrokenPipeError:
        return answer_closed_pipe()
    except Told as told:
        return told.code
    except InputError as error:
        return complain(parser.prog, str(error))
    except OSError as error:
        return complain(parser.prog, describe_os_error(error))
    except _Ended as end:
        complain(parser.prog, f"ended by {end.signal.name}")
        return 128 + end.signal
    except KeyboardInterrupt:
        complain(parser.prog, "interrupted")
        return _ANSWERS_AN_INTERRUPT
    finally:
        warnings.formatwarning = form
        if quiet:
            logging.disable(logging.NOTSET)
            os.environ.pop(QUIET)
            if before is not None:
                os.environ[QUIET] = before
    return 0


class Told(Exception):
    """An error that another process has told: the exit code is left."""

    def __init__(self, code: int):
        super().__init__(code)
        self.code = code


class _Ended(KeyboardInterrupt):
    """A signal that ends the process after it has cleaned up."""

    def __init__(self, number: int):
        super().__init__()
        self.signal = signal.Signals(number)


@contextlib.contextmanager
def _end_on_signals() -> Iterator[None]:
    """Let the signals of `_ENDS` end the work as Ctrl-C does, where nothing else is done about them."""
    owner = os.getpid()

    def end(number: int, frame: Any) -> None:
        if os.getpid() != owner:  # a worker that was forked: nothing to clean up
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        raise _Ended(number)

    numbers = [number for name in _ENDS if (number := getattr(signal, name, None)) is not None]
    if threading.current_thread() is not threading.main_thread():
        numbers = []  # Python allows it to the main thread only.
    taken = [number for number in numbers if signal.getsignal(number) == signal.SIG_DFL]
    for number in taken:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def answer_closed_pipe() -> int:
    """Return the exit code where nobody reads standard output or standard error any more (`| head -1`)."""
    drop_streams()
    return _ANSWERS_A_CLOSED_PIPE


def drop_streams() -> None:
    """Send to nowhere what standard output and standard error cannot write: Python would try again at its end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def complain(program: str, message: str) -> int:
    """Print an error message in one line, whatever names it holds, if no process that shares the work has; returns the
    exit code, 1."""
    if speaks():
        said = make_printable(message)
        if len(said) > _LONGEST:  # A name in it may be as long as a file; the remedy comes last.
            said = f"{said[: _LONGEST - 400]} ... {said[-400:]}"
        try:
            print(f"{program}: error: {said}", file=sys.stderr)
        except OSError:  # Its disk is full, too.
            drop_streams()
    return 1


def whole_number(text: str) -> int:
    """Type of an argument: a whole number of at least 1, with which libraries still count (2^63 - 1)."""
    if not re.fullmatch("[0-9]{1,4000}", text) or not 1 <= int(text) <= sys.maxsize:
        shown = shorten(text, 60)
        raise argparse.ArgumentTypeError(f"{shown!r}: give a whole number of at least 1, and at most {sys.maxsize}")
    return int(text)


def share(text: str) -> float:
    """Type of an argument: above 0, and at most 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}: give a number above 0 and up to 1")
    return value


def fraction(text: str) -> float:
    """Type of an argument: from 0 to 1."""
    return 0.0 if re.fullmatch(r"0+(\.0*)?", text) else share(text)


def add_model(group: Any, what: str = "a model") -> None:
    """Declare `--model`."""
    group.add_argument("--model", help=f"{what}: a folder, a run of gengram finetune, or a Hub id (organization/name)")


def add_genome(group: Any, what: str = "FASTA file that the intervals of a .bed file are cut from") -> None:
    """Declare `--genome`, the reference (`--ref` is the same), and `--slices`: how its contigs are found."""
    group.add_argument("--genome", "--ref", metavar="FASTA", help=f"{what}; plain or .gz")
    group.add_argument("--slices", action="store_true", help=SLICES_HELP)


def add_max_non_dna(group: Any, default: float) -> None:
    """Declare `--max_non_dna`: what every verb that reads sequences says to letters that are not DNA."""
    group.add_argument("--max_non_dna", type=fraction, default=default, metavar="SHARE", help=NON_DNA_HELP)


def add_out(group: Any, what: str, metavar: str = "FILE", *, required: bool = True) -> None:
    """Declare `--out` and `--overwrite`: what is there is never replaced unless that is asked for."""
    group.add_argument("--out", required=required, metavar=metavar, help=what)
    add_overwrite(group)


def add_overwrite(group: Any) -> None:
    """Declare `--overwrite`."""
    group.add_argument("--overwrite", action="store_true", help="replace what an earlier run has written there")


def add_devices(group: Any) -> None:
    """Declare `--devices`."""
    group.add_argument(
        "--devices",
        metavar="DEVICES",
        help="cpu, cuda, cuda:1, mps ...; several share the work, a process each: a number of them (2), which (0,2), "
        "all, or cpu:4 for 4 processes on the CPUs (default: an accelerator if there is one)",
    )


def _json_target(text: str) -> str:
    if text != "-" and not text.endswith(".json"):
        raise argparse.ArgumentTypeError(f"{text!r}: the file's name must end with .json (without a name: put it last)")
    return text


def _check_target(target: str, options: dict[str, Any]) -> None:
    """Refuse a file for the answer that cannot be written, or is there already."""
    check_output_file(target, (".json",))
    if Path(target).exists() and not options.get("overwrite", False):
        remedy = "replace it with --overwrite" if "overwrite" in options else "remove it"
        raise InputError(f"{target}: the file is there already. Choose another one for --json, or {remedy}.")


def _add_phases(answer: Answer, phases: Sequence[Phase]) -> Answer:
    """The answer with what the command spent its time on, if it has phases."""
    if not phases:
        return answer
    return answer._replace(data={**answer.data, "phases": [one.describe() for one in phases]})


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> str:
    """A warning as a message of a command: not where in the code it was given."""
    return f"warning: {make_printable(message)}\n"


def _print_answer(answer: Answer, target: str | None) -> None:
    if target not in (None, "-"):
        write_json(answer.data, Path(str(target)))
    shown = make_printable(answer.text, keep="\n\t")
    text = json.dumps(answer.data, indent=2, allow_nan=False) if target == "-" else shown
    try:
        print(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        drop_streams()
        raise InputError(f"the answer cannot be written to standard output ({describe_os_error(error)})") from error


def _spell(flag: str) -> str:
    """One spelling of a flag: `--dry-run` is `--dry_run`."""
    return f"--{flag[2:].replace('-', '_')}" if flag.startswith("--") else flag


__all__ = [
    "EXIT_CODES",
    "NON_DNA_HELP",
    "SEQUENCE_FILES",
    "SLICES_HELP",
    "Answer",
    "HelpFormatter",
    "Told",
    "VerbParser",
    "add_devices",
    "add_genome",
    "add_max_non_dna",
    "add_model",
    "add_out",
    "add_overwrite",
    "answer_closed_pipe",
    "complain",
    "drop_streams",
    "fraction",
    "run",
    "share",
    "whole_number",
]
