"""`python -m gengram.benchmarks.speed.kmer_tokenizer`: k-mer ids beside transformers' EsmTokenizer, in one run.

Random DNA in sequences of several lengths, without N and with 0.2% N, the same for all. The ids are compared before
anything is timed, and the two take turns.
"""

import json
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from transformers import EsmTokenizer

from gengram.benchmarks.speed.measure import compare
from gengram.benchmarks.speed.program import answer, list_versions, make_parser
from gengram.command_line import whole_number
from gengram.progress import track
from gengram.tokenization import KmerEncoder, build_kmer_tokenizer, list_kmer_vocabulary

LENGTHS = [1_000, 12_000, 100_000, 1_000_000]  # bp a sequence
SHARES = [0.0, 0.002]  # of N


def draw_sequences(length: int, total: int, share: float) -> list[str]:
    """Random sequences of `length` bp, `total` bp together, with this share of N."""
    random = np.random.default_rng(0)
    bases = random.choice(np.frombuffer(b"ACGT", dtype=np.uint8), (max(1, total // length), length))
    bases[random.random(bases.shape) < share] = ord("N")
    return [row.tobytes().decode() for row in bases]


def make_peer(k: int) -> EsmTokenizer:
    """transformers' tokenizer with the vocabulary and settings of the published v2 models."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "vocab.txt").write_text("\n".join(list_kmer_vocabulary(k)))
        Path(folder, "tokenizer_config.json").write_text(json.dumps({"eos_token": None}))
        return EsmTokenizer.from_pretrained(folder)


def run_benchmark(k: int, total: int, rounds: int) -> list[dict[str, Any]]:
    """Measure every length and share.

    Returns:
        A list of cells: `length` in bp, `share` of N, `sequences`, `mbp_per_second` of `bulk` (KmerEncoder),
        `tokenizer` (build_kmer_tokenizer) and `peer`; `bulk_ratio` and `tokenizer_ratio` to the peer (medians over
        rounds).

    Raises:
        RuntimeError: an id differs from the peer's.
    """
    peer, tokenizer = make_peer(k), build_kmer_tokenizer(k)
    encoder = KmerEncoder(tokenizer)
    cells = []
    for length, share in track([(length, share) for length in LENGTHS for share in SHARES], desc="Measuring"):
        texts = draw_sequences(length, total, share)
        expected = peer(texts, verbose=False)["input_ids"]
        found = {
            "bulk": [ids.tolist() for ids in encoder(texts).split()],
            "tokenizer": tokenizer(texts, verbose=False)["input_ids"],
        }
        for name, ids in found.items():
            if ids != expected:
                raise RuntimeError(f"{name}: ids differ from EsmTokenizer's at {length} bp, {share:.1%} N")
        run_peer = partial(peer, texts, verbose=False)
        runs = {
            "bulk": compare(partial(encoder, texts), run_peer, rounds),
            "tokenizer": compare(partial(tokenizer, texts, verbose=False), run_peer, rounds),
        }
        size = sum(map(len, texts)) / 1e6
        cells.append(
            {
                "length": length,
                "share": share,
                "sequences": len(texts),
                "mbp_per_second": {
                    "bulk": size / runs["bulk"]["ours"],
                    "tokenizer": size / runs["tokenizer"]["ours"],
                    "peer": size / runs["bulk"]["peer"],
                },
                "bulk_ratio": runs["bulk"]["ratio"],
                "tokenizer_ratio": runs["tokenizer"]["ratio"],
            }
        )
    return cells


def tabulate(cells: list[dict[str, Any]]) -> str:
    """The report as text."""
    lines = [f"{'bp':>10}{'N':>7}{'EsmTokenizer':>15}{'tokenizer':>22}{'KmerEncoder':>22}   (Mbp/s, ratio)"]
    for cell in cells:
        speed = cell["mbp_per_second"]
        lines.append(
            f"{cell['length']:>10,}{cell['share']:>7.1%}{speed['peer']:>15.1f}"
            f"{speed['tokenizer']:>14.1f}{cell['tokenizer_ratio']:>7.1f}x{speed['bulk']:>14.0f}{cell['bulk_ratio']:>7.0f}x"
        )
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    parser = make_parser("kmer_tokenizer", __doc__, "--json kmer.json")
    parser.add_argument("--k", type=int, default=6, help="letters of a token")
    parser.add_argument("--total", type=whole_number, default=2_000_000, help="bp of each cell")
    parser.add_argument("--rounds", type=whole_number, default=5, help="rounds a cell, of which the median is taken")
    arguments = parser.parse_args(argv)
    if not 2 <= arguments.k <= 8:
        parser.error("--k must be 2 to 8")
    cells = run_benchmark(arguments.k, arguments.total, arguments.rounds)
    return answer(parser, tabulate(cells), {**list_versions(), "k": arguments.k, "cells": cells}, arguments.json)


__all__ = ["draw_sequences", "main", "make_peer", "run_benchmark", "tabulate"]

if __name__ == "__main__":
    sys.exit(main())
