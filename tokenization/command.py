"""The verb that makes a tokenizer: train-tokenizer."""

import sys
from collections.abc import Sequence
from typing import Any

from gengram.command_line import Answer, VerbParser, add_max_non_dna, add_out, run, whole_number
from gengram.files import check_input_files, check_new_folder
from gengram.genome.letters import MAX_NON_DNA
from gengram.progress import is_quiet


def train_tokenizer(argv: Sequence[str] | None = None) -> int:
    """Run `gengram train-tokenizer`; returns the exit code."""
    parser = VerbParser(
        "train-tokenizer",
        usage="GENOME [GENOME ...] --out FOLDER [...]",
        description="Train a BPE tokenizer on genomes and report how it reads pieces that it has not seen.",
        example="gengram train-tokenizer genome.fa.gz --out tokenizer --vocab_size 4096",
        notes="The folder is read by AutoTokenizer and by gengram finetune --tokenizer_name_or_path.",
    )
    what = parser.add_argument_group("what")
    what.add_argument("files", nargs="+", metavar="GENOME", help="FASTA, plain or .gz")
    what.add_argument("--sample", type=int, default=20_000_000, metavar="BP", help="most bp to train on")
    what.add_argument("--one_strand", action="store_true", help="do not add the reverse complement of each piece")
    add_max_non_dna(what, MAX_NON_DNA)
    what.add_argument("--seed", type=int, default=0, help="seed for drawing pieces of the genomes")
    tokenizer = parser.add_argument_group("tokenizer")
    tokenizer.add_argument("--vocab_size", type=whole_number, default=32000, help="tokens, special ones included")
    tokenizer.add_argument("--max_token_length", type=whole_number, default=64, metavar="BP", help="longest token")
    tokenizer.add_argument(
        "--n_run", type=int, default=10, metavar="N", help="N or more letters N in a row become one token '-'; 0: never"
    )
    tokenizer.add_argument("--model_max_length", type=whole_number, default=512, help="tokens that the model will read")
    add_out(parser.add_argument_group("output"), "folder to make", "FOLDER")
    parser.add_common()

    def work(files: list[str], out: str, overwrite: bool, one_strand: bool, **options: Any) -> Answer:
        check_input_files(*files)
        folder = check_new_folder(out, "tokenizer.json", overwrite)
        from gengram.tokenization.train_tokenizer import tabulate, train_tokenizer

        options |= {"both_strands": not one_strand, "progress": sys.stderr.isatty() and not is_quiet()}
        report = train_tokenizer(files, folder, overwrite=overwrite, **options)
        return Answer(f"{tabulate(report)}\n{out}", {"out": out, **report})

    return run(parser, parser.parse(argv), work)


__all__ = ["train_tokenizer"]
