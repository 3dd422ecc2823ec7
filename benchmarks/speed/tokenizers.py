"""`python -m gengram.benchmarks.speed.tokenizers`: ids of every kind of tokenizer, in bulk and by itself, in one run.

Random DNA with 0.2% N, or what FASTA files have, in sequences of one length. All ids are compared, block by block; CPU
seconds are counted, since a tokenizer may use threads.
"""

import sys
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from gengram.benchmarks.speed.program import answer, list_versions, make_parser
from gengram.command_line import whole_number
from gengram.genome.fasta import read_fasta
from gengram.progress import track
from gengram.tokenization import build_kmer_tokenizer, build_nucleotide_tokenizer, find_encoder
from gengram.tokenization.ntv3 import build_ntv3_tokenizer
from gengram.tokenization.overlapping import build_overlapping_tokenizer, list_overlapping_vocabulary
from gengram.tokenization.train_tokenizer import train_bpe_tokenizer
from gengram.tokenization.whole_kmer import build_whole_kmer_tokenizer

_BLOCK = 2_000_000  # bp that are compared at a time


def _draw(bp: int, seed: int) -> str:
    random = np.random.default_rng(seed)
    bases = np.frombuffer(b"ACGT", dtype=np.uint8)[random.integers(0, 4, bp)]
    bases[random.random(bp) < 0.002] = ord("N")
    return bases.tobytes().decode()


KINDS: dict[str, Callable[[], PreTrainedTokenizerBase]] = {
    "nucleotide": lambda: build_nucleotide_tokenizer(template="cls_sep"),
    "ntv3": build_ntv3_tokenizer,
    "kmer": build_kmer_tokenizer,
    "kmer-one": lambda: build_kmer_tokenizer(1),
    "overlapping": lambda: build_overlapping_tokenizer(list_overlapping_vocabulary(6)),
    "whole_kmer": lambda: build_whole_kmer_tokenizer(
        ["<oov>", "<s>", "</s>", "<pad>", "<mask>", *("".join(letters) for letters in product("ATCG", repeat=6))]
    ),
    "bpe": lambda: train_bpe_tokenizer([_draw(20_000, seed) for seed in range(20)], vocab_size=4096),
}


def list_blocks(total: int, length: int, files: list[str]) -> Iterator[list[str]]:
    """Yield sequences of `length` bp in blocks, `total` bp together: of the files, then random ones."""
    left = total
    for file in files:
        for _, _, sequence in read_fasta(file):
            for start in range(0, len(sequence), _BLOCK):
                if left <= 0:
                    return
                text = sequence[start : start + min(_BLOCK, left)]
                left -= len(text)
                yield [text[place : place + length] for place in range(0, len(text), length)]
    for seed in range(-(-left // _BLOCK)):
        text = _draw(min(_BLOCK, left - seed * _BLOCK), seed)
        yield [text[place : place + length] for place in range(0, len(text), length)]


def run_benchmark(kinds: list[str], total: int, length: int, files: list[str]) -> list[dict[str, Any]]:
    """Measure each kind.

    Returns:
        A list of cells: `kind`, `encoder`, `bp` that were compared, `mbp_per_second` of CPU time of the `encoder` and
        of the `tokenizer`, `ratio` of the two, `bytes_per_bp` of the ids.

    Raises:
        RuntimeError: an id differs from the tokenizer's.
    """
    cells = []
    for kind in kinds:
        tokenizer = KINDS[kind]()
        encode = find_encoder(tokenizer)
        encode(["ACGTN" * 10])  # compiles
        seconds, bp, size = {"encoder": 0.0, "tokenizer": 0.0}, 0, 0
        blocks = list_blocks(total, length, files)
        for texts in track(blocks, total=-(-total // _BLOCK), desc=f"Measuring {kind}"):
            start = time.process_time()
            found = encode(texts, split_special_tokens=True)
            middle = time.process_time()
            expected = tokenizer(texts, split_special_tokens=True, return_attention_mask=False, verbose=False)
            seconds["tokenizer"] += time.process_time() - middle
            seconds["encoder"] += middle - start
            bp += sum(map(len, texts))
            size += found.ids.nbytes
            if [ids.tolist() for ids in found.split()] != expected["input_ids"]:
                raise RuntimeError(f"{kind}: ids differ from the tokenizer's in the block that ends at {bp:,} bp")
        speed = {name: bp / 1e6 / max(spent, 1e-9) for name, spent in seconds.items()}
        cells.append(
            {
                "kind": kind,
                "encoder": type(encode).__name__,
                "bp": bp,
                "mbp_per_second": speed,
                "ratio": speed["encoder"] / speed["tokenizer"],
                "bytes_per_bp": size / max(bp, 1),
            }
        )
    return cells


def tabulate(cells: list[dict[str, Any]]) -> str:
    """The report as text."""
    lines = [
        f"{'kind':<14}{'encoder':<24}{'bp, ids equal':>15}{'tokenizer':>11}{'bulk':>9}   (Mbp/s of CPU time, ratio)"
    ]
    for cell in cells:
        speed = cell["mbp_per_second"]
        lines.append(
            f"{cell['kind']:<14}{cell['encoder']:<24}{cell['bp']:>15,}{speed['tokenizer']:>11.2f}"
            f"{speed['encoder']:>9.0f}{cell['ratio']:>7.0f}x  {cell['bytes_per_bp']:.2f} bytes a bp"
        )
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    parser = make_parser("tokenizers", __doc__, "--json tokenizers.json")
    parser.add_argument(
        "--kinds", nargs="+", choices=list(KINDS), default=list(KINDS), metavar="KIND", help="which ones"
    )
    parser.add_argument("--total", type=whole_number, default=2_000_000, help="bp of each kind")
    parser.add_argument("--length", type=whole_number, default=1_000, help="bp a sequence")
    parser.add_argument("--genomes", nargs="+", type=Path, default=[], metavar="FILE", help="FASTA, before random DNA")
    arguments = parser.parse_args(argv)
    cells = run_benchmark(arguments.kinds, arguments.total, arguments.length, list(map(str, arguments.genomes)))
    return answer(parser, tabulate(cells), {**list_versions(), "cells": cells}, arguments.json)


__all__ = ["KINDS", "list_blocks", "main", "run_benchmark", "tabulate"]

if __name__ == "__main__":
    sys.exit(main())
