"""The `gengram` command: which verbs there are. A verb's module is imported when the verb runs."""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

from gengram._version import __version__
from gengram.command_line import answer_closed_pipe, complain, drop_streams
from gengram.errors import suggest
from gengram.files import describe_os_error
from gengram.lazy import do_without
from gengram.phases import recording
from gengram.printable import make_printable


class Verb(NamedTuple):
    """Where a verb is declared, `module:function`, and what it does."""

    function: str
    help: str


VERBS: dict[str, Verb] = {
    "finetune": Verb("gengram.training.command:finetune", "fine-tune a model on labelled sequences"),
    "pretrain": Verb("gengram.training.pretraining.command:pretrain", "train a language model on a corpus of genomes"),
    "predict": Verb("gengram.pipelines.command:predict", "predict new sequences with a fine-tuned model"),
    "embed": Verb("gengram.pipelines.command:embed", "write a vector for each sequence, token or base of a file"),
    "segment": Verb("gengram.pipelines.command:segment", "find the features of single bases along a genome, as tracks"),
    "push": Verb("gengram.training.publishing.command:push", "publish a run or a model on the Hub, in one commit"),
    "card": Verb("gengram.training.publishing.command:card", "render the model card of a run or a model, for review"),
    "dataset push": Verb(
        "gengram.training.publishing.command:push_dataset",
        "publish a folder of labelled tables as a dataset on the Hub",
    ),
    "dataset build": Verb(
        "gengram.benchmarks.builders.command:build", "build a benchmark task from genomes and annotations"
    ),
    "dataset check": Verb(
        "gengram.benchmarks.data.command:check", "look at the tasks of a folder: rows, classes, copies, faults"
    ),
    "corpus build": Verb("gengram.training.corpus.command:build", "build a corpus for pre-training from genomes"),
    "corpus show": Verb("gengram.training.corpus.command:show", "show what a corpus holds, and check its files"),
    "corpus push": Verb("gengram.training.corpus.command:push", "publish a corpus as a dataset on the Hub"),
    "models": Verb(
        "gengram.catalogue.command:models", "list published DNA models: sizes, limits, licences, how they load"
    ),
    "models fetch": Verb(
        "gengram.loading.command:models_fetch", "bring models and data sets to a machine without a network"
    ),
    "tasks": Verb(
        "gengram.benchmarks.tasks.command:tasks", "list benchmark tasks: data, sizes, metrics, traps, published scores"
    ),
    "train-tokenizer": Verb("gengram.tokenization.command:train_tokenizer", "train a BPE tokenizer on genomes"),
    "convert megatron": Verb("gengram.conversion.command:convert_megatron", "a Megatron checkpoint -> safetensors"),
    "convert to-megatron": Verb(
        "gengram.conversion.command:convert_to_megatron", "a saved causal language model -> Megatron"
    ),
    "quickstart": Verb(
        "gengram.benchmarks.command:quickstart", "simulate splice sites, train with and without memory, save, reload"
    ),
    "study memory": Verb(
        "gengram.benchmarks.study.command:study_memory",
        "train six architectures with and without the memory, and compare them",
    ),
    "evaluate": Verb(
        "gengram.benchmarks.evaluation.command:evaluate", "measure models on benchmark tasks, beside baselines"
    ),
    "compare": Verb(
        "gengram.benchmarks.evaluation.command:compare", "test whether one evaluated model is better than another"
    ),
    "leaderboard": Verb(
        "gengram.benchmarks.evaluation.command:leaderboard", "collect evaluations into one table of models by tasks"
    ),
    "doctor": Verb(
        "gengram.benchmarks.command:doctor", "examine this machine: versions, devices, kernels, threads, caches"
    ),
    "bench": Verb(
        "gengram.benchmarks.command:bench", "measure the memory's speed and exactness beside the released algorithm"
    ),
}

# They read configurations, tokenizers and headers of weights: what torch would add is a second or two of waiting.
_WITHOUT_TORCH = (
    "push",
    "card",
    "dataset push",
    "dataset build",
    "models",
    "models fetch",
    "tasks",
    "train-tokenizer",
    "corpus build",
    "corpus show",
    "corpus push",
)

_USAGE = "usage: gengram VERB [...]"


def main(argv: Sequence[str] | None = None) -> int:
    """Run `gengram VERB ...`; returns the exit code: 0 done, 1 an error, 2 a wrong command line.

    A word that begins a verb of two words is one, also where a file is called so: write `./convert` for the file.
    """
    _mend_streams()
    try:
        try:
            with recording():  # from here on: what a verb imports counts
                return _run(list(sys.argv[1:] if argv is None else argv), alone=argv is None)
        finally:  # What is still to be written is written here, where a closed pipe can be answered.
            sys.stdout.flush()
    except BrokenPipeError:
        return answer_closed_pipe()
    except KeyboardInterrupt:
        print("gengram: interrupted", file=sys.stderr)
        return 130
    except OSError as error:
        drop_streams()
        return complain("gengram", f"the answer cannot be written to standard output ({describe_os_error(error)})")


def _mend_streams() -> None:
    """Let a verb work without standard streams, and print letters that a terminal's encoding lacks."""
    # A file that is opened later must not get the number of a stream that C libraries write to.
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed before the start, as some schedulers do
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def describe_verbs(first: str = "") -> str:
    """Return the help: all verbs, or those that begin with a word."""
    shown = {name: verb for name, verb in VERBS.items() if not first or name.split()[0] == first}
    lines = [f"  {name:<21}{verb.help}" for name, verb in shown.items()]
    return "\n".join(
        [
            _USAGE,
            "",
            "Genomic language models in Hugging Face Transformers.",
            "",
            "verbs:",
            *lines,
            "",
            "`gengram VERB --help` shows a verb's arguments and an example, `gengram --version` the version.",
        ]
    )


def _run(words: list[str], alone: bool) -> int:
    """Run a command; `alone`: in a process that ends with it."""
    if not words or words[0] in ("-h", "--help", "help"):
        print(describe_verbs())
        return 0
    if words[0] == "--version":
        print(f"gengram {__version__}")
        return 0
    for length in (2, 1):
        if (name := " ".join(words[:length])) in VERBS:
            if alone and name in _WITHOUT_TORCH:
                do_without("torch")
            module, function = VERBS[name].function.split(":")
            return getattr(import_module(module), function)(words[length:])
    return _refuse(words)


def _refuse(words: list[str]) -> int:
    inner = [name.split()[1] for name in VERBS if name.split()[0] == words[0] and " " in name]
    if inner and words[1:2] in ([], ["-h"], ["--help"]):
        print(describe_verbs(words[0]))
        return 0
    if inner:
        message = f"gengram {words[0]} {words[1]}: choose {' or '.join(inner)}{suggest(words[1], inner)}"
    else:
        message = f"there is no verb {words[0]!r}{suggest(words[0], VERBS)}"
    print(f"{_USAGE}\ngengram: error: {make_printable(message)}\n`gengram --help` shows the verbs.", file=sys.stderr)
    return 2


__all__ = ["VERBS", "Verb", "main"]

if __name__ == "__main__":
    sys.exit(main())
