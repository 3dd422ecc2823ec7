"""`python -m gengram.benchmarks.speed.bpe_tokenizer TOKENIZER`: bulk BPE ids beside those of `tokenizers`, in one run.

Random DNA in sequences of several lengths, then whatever FASTA files are given, piece by piece, with their runs of N
and their lower case as they are. All ids are compared; the two take turns, the library with one thread as well.
"""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gengram.progress import track

os.environ.setdefault("RAYON_NUM_THREADS", "1")

from gengram.benchmarks.speed.program import answer, make_parser
from gengram.command_line import whole_number
from gengram.genome.fasta import read_fasta
from gengram.tokenization import BpeEncoder, load_bpe_tokenizer

LENGTHS = [1_000, 10_000, 100_000, 1_000_000]  # bp a sequence


def draw_sequences(length: int, total: int, gaps: bool, seed: int = 0) -> list[str]:
    """Random sequences, `total` bp together; with gaps some runs of 1 to 200 N in them."""
    random = np.random.default_rng(seed)
    sequences = []
    for _ in range(max(1, total // length)):
        bases = random.choice(np.frombuffer(b"ACGT", dtype=np.uint8), length)
        for _ in range(length // 5_000 if gaps else 0):
            start = int(random.integers(length))
            bases[start : start + int(random.integers(1, 200))] = ord("N")
        sequences.append(bases.tobytes().decode())
    return sequences


def cut_genomes(paths: list[Path], length: int = 250_000) -> Iterator[str]:
    """The records of FASTA files in pieces of `length` bp."""
    for path in paths:
        for _, _, sequence in read_fasta(path):
            for start in range(0, len(sequence), length):
                yield sequence[start : start + length]


def compare_ids(tokenizer: Any, encoder: BpeEncoder, sequences: list[str]) -> dict[str, float]:
    """Seconds of both over the same sequences.

    Raises:
        RuntimeError: an id differs.
    """
    started = time.perf_counter()
    ours = encoder(sequences)
    middle = time.perf_counter()
    expected = [tokenizer(sequence, verbose=False)["input_ids"] for sequence in sequences]
    ended = time.perf_counter()
    for ids, others in zip(ours.split(), expected):
        if not np.array_equal(ids, others):
            raise RuntimeError(f"ids differ, first at token {int(np.argmax(ids != np.array(others)))}")
    return {"ours": middle - started, "library": ended - middle}


def run_benchmark(
    tokenizer: Any, threads: int, total: int, rounds: int, genomes: list[Path], random_bases: int
) -> dict:
    """Measure every length, then compare ids on genomes and on `random_bases` bp with gaps."""
    encoder = BpeEncoder(tokenizer, threads)
    if not encoder.is_fast:
        raise RuntimeError("the encoder fell back to the tokenizer: install numba, pip install gengram[fast]")
    encoder(["ACGT"])  # compiles
    cells = []
    for length in track(LENGTHS, desc="Lengths"):
        sequences = draw_sequences(length, total, gaps=False)
        times = [compare_ids(tokenizer, encoder, sequences) for _ in range(rounds)]
        size = sum(map(len, sequences)) / 1e6
        ratios = sorted(each["library"] / each["ours"] for each in times)
        cells.append(
            {
                "length": length,
                "sequences": len(sequences),
                "ours_mbp_per_second": size / float(np.median([each["ours"] for each in times])),
                "library_mbp_per_second": size / float(np.median([each["library"] for each in times])),
                "ratio": float(np.median(ratios)),
                "ratio_range": [ratios[0], ratios[-1]],
            }
        )
    compared = 0
    pieces = cut_genomes(genomes)
    with track(desc="Comparing ids", unit=" bp", unit_scale=True) as progress:
        for piece in pieces:
            compare_ids(tokenizer, encoder, [piece])
            compared += len(piece)
            progress.update(len(piece))
        for seed in range(-(-random_bases // 1_000_000)):
            compare_ids(tokenizer, encoder, draw_sequences(250_000, 1_000_000, gaps=True, seed=seed + 1))
            compared += 1_000_000
            progress.update(1_000_000)
    return {"threads": threads, "lengths": cells, "identical_bases": compared}


def tabulate(report: dict) -> str:
    """The table for the terminal."""
    lines = [f"{'bp a sequence':>14}{'ours Mbp/s':>12}{'library Mbp/s':>15}{'ratio':>8}{'rounds':>16}"]
    for cell in report["lengths"]:
        low, high = cell["ratio_range"]
        lines.append(
            f"{cell['length']:>14,}{cell['ours_mbp_per_second']:>12.1f}{cell['library_mbp_per_second']:>15.2f}"
            f"{cell['ratio']:>7.1f}x{f'{low:.1f}..{high:.1f}x':>16}"
        )
    speeds = [cell["ours_mbp_per_second"] for cell in report["lengths"]]
    lines.append(f"slowest to fastest length: {max(speeds) / min(speeds):.2f}x a base")
    lines.append(f"identical ids on all of these and on {report['identical_bases']:,} bp besides")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Measure, print the table, write JSON where asked."""
    parser = make_parser("bpe_tokenizer", __doc__, "TOKENIZER --genomes chr22.fa.gz --json bpe.json")
    parser.add_argument("tokenizer", help="folder or Hub id of a BPE tokenizer")
    parser.add_argument("--genomes", type=Path, nargs="*", default=[], help="FASTA files whose ids are compared")
    parser.add_argument("--random_bases", type=int, default=0, help="random bp with runs of N, compared besides")
    parser.add_argument("--threads", type=int, default=1, help="of the bulk encoder")
    parser.add_argument("--total", type=int, default=1_000_000, help="bp a round")
    parser.add_argument("--rounds", type=whole_number, default=5, help="timed rounds")
    arguments = parser.parse_args(argv)
    report = run_benchmark(
        load_bpe_tokenizer(arguments.tokenizer),
        arguments.threads,
        arguments.total,
        arguments.rounds,
        arguments.genomes,
        arguments.random_bases,
    )
    return answer(parser, tabulate(report), report, arguments.json)


__all__ = ["compare_ids", "draw_sequences", "run_benchmark", "tabulate"]

if __name__ == "__main__":
    sys.exit(main())
