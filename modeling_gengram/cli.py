"""The `gengram` command: one function a verb, each importing what it needs when it is called."""

import argparse
import sys

from gengram._version import __version__


def bench(argv: list[str]) -> int:
    """measure the memory's speed and exactness beside the released algorithm"""
    from gengram.benchmarks.speed.memory import main

    return main(argv)


def convert(argv: list[str]) -> int:
    """convert a Megatron checkpoint to one that from_pretrained loads, and back"""
    from gengram.conversion.command import main

    return main(argv)


def finetune(argv: list[str]) -> int:
    """fine-tune a model on labelled sequences"""
    from gengram.training.finetune import main

    return main(argv)


def embed(argv: list[str]) -> int:
    """write a vector for each sequence, token or base of a file"""
    from gengram.pipelines.embed_file import main

    return main(argv)


def predict(argv: list[str]) -> int:
    """predict new sequences with a fine-tuned model"""
    from gengram.pipelines.predict import main

    return main(argv)


def quickstart(argv: list[str]) -> int:
    """simulate splice sites, train with and without memory, save, reload, predict"""
    from gengram.benchmarks.quickstart import main

    return main(argv)


def push(argv: list[str]) -> int:
    """publish a run or a model on the Hugging Face Hub, in one commit"""
    from gengram.training.publishing.model import main_push

    return main_push(argv)


def card(argv: list[str]) -> int:
    """render the model card of a run or a model, for review"""
    from gengram.training.publishing.model import main_card

    return main_card(argv)


def dataset(argv: list[str]) -> int:
    """publish a folder of labelled tables as a dataset on the Hugging Face Hub"""
    from gengram.training.publishing.dataset import main

    return main(argv)


def train_tokenizer(argv: list[str]) -> int:
    """train a BPE tokenizer on genomes"""
    from gengram.tokenization.train_tokenizer import main

    return main(argv)


def segment(argv: list[str]) -> int:
    """find the features of single bases along a genome, as tracks"""
    from gengram.pipelines.segment_genome import main

    return main(argv)


VERBS = {
    "bench": bench,
    "convert": convert,
    "finetune": finetune,
    "embed": embed,
    "predict": predict,
    "quickstart": quickstart,
    "segment": segment,
    "push": push,
    "card": card,
    "dataset": dataset,
    "train-tokenizer": train_tokenizer,
}


def main(argv: list[str] | None = None) -> int:
    """Run `gengram VERB ...`; returns the exit code (0 success, 1 a user's error, 2 a wrong command line)."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(
        prog="gengram",
        description="Genomic language models in Hugging Face Transformers.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="verbs:\n"
        + "\n".join(f"  {name:<17}{verb.__doc__}" for name, verb in VERBS.items())
        + "\n\n`gengram VERB --help` shows a verb's options and an example.",
    )
    parser.add_argument("--version", action="version", version=f"gengram {__version__}")
    parser.add_argument("verb", choices=VERBS, metavar="VERB", help="what to do")
    arguments, rest = parser.parse_known_args(argv[:1])
    return VERBS[arguments.verb](rest + argv[1:])


if __name__ == "__main__":
    sys.exit(main())
