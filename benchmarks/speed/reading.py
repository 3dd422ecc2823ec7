"""`python -m gengram.benchmarks.speed.reading`: bases a second from a corpus into batches of tokens.

Three take turns, in one run, at batches [B, T] of random places of the same letters: blocks of a corpus, windows drawn
and all; `datasets.load_dataset("text")`, a window a line, and the tokenizer; a bare `numpy.memmap` of the letters and
the bulk encoder. CPU seconds are counted, since a tokenizer may use threads.

Beside that, the memory before and after an epoch, and how much of a training step on a GPU the reading of its tokens
takes: the GPU's speed is arithmetic, not measured here.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from gengram.benchmarks.speed.measure import read_status, summarize_ratio
from gengram.benchmarks.speed.program import answer, list_versions, make_parser
from gengram.command_line import whole_number
from gengram.costs import count_operations
from gengram.gengram.configuration_gengram import GengramConfig
from gengram.tokenization import build_kmer_tokenizer, build_nucleotide_tokenizer, find_encoder
from gengram.tokenization.train_tokenizer import train_bpe_tokenizer
from gengram.training.corpus.blocks import Blocks
from gengram.training.corpus.build import build_corpus
from gengram.training.corpus.reading import count_unknown
from gengram.training.corpus.store import Corpus, open_corpus
from gengram.training.corpus.windows import Drawing, tile
from gengram.training.devices import MFU, PEAKS

KINDS = ("bases", "kmers", "bpe")
MODEL, GPU = "0.3b-dense-mha", "H100"
_PIECE = 1 << 16  # letters that are copied at a time
_LINES = 64  # of the text file, at least
_LEARNT = 400_000  # bp that a BPE is trained on


def write_genome(path: Path, bases: int, contigs: int = 4) -> None:
    """Write a FASTA file of random bases, some in lower case, `bases` together."""
    random = np.random.default_rng(0)
    letters = np.frombuffer(b"ACGTACGTacgt", dtype=np.uint8)
    with open(path, "wb") as file:
        for number in range(contigs):
            file.write(f">chr{number + 1}\n".encode())
            left = bases // contigs
            while left > 0:
                file.write(letters[random.integers(0, 12, min(left, 1 << 22))].tobytes() + b"\n")
                left -= 1 << 22


def write_letters(corpus: Corpus, path: Path) -> None:
    """Write the letters of a corpus' segments, but for pieces with N, one after the other, as a bare file."""
    windows = tile(corpus, "train", _PIECE, keep_rest=True)
    with open(path, "wb") as file:
        for number in range(len(windows.start)):
            window = windows.get(number)
            letters = corpus.read(window.contig, window.start, window.end)
            if not count_unknown(letters):
                file.write(letters.tobytes())


def make_tokenizer(kind: str, letters: np.ndarray) -> PreTrainedTokenizerBase:
    """Make a tokenizer of `KINDS`; a BPE is trained on these letters."""
    if kind == "bases":
        return build_nucleotide_tokenizer()
    if kind == "kmers":
        return build_kmer_tokenizer()
    text = letters[:_LEARNT].tobytes().decode()
    return train_bpe_tokenizer([text[at : at + 20_000] for at in range(0, len(text), 20_000)], vocab_size=4096)


def make_readers(
    corpus: Corpus, letters: np.memmap, tokenizer: PreTrainedTokenizerBase, batch: int, length: int, folder: Path
) -> dict[str, Callable[[], torch.Tensor]]:
    """Return what reads a batch int64 [batch, length] of random places: `blocks`, `text`, `memmap`."""
    blocks = Blocks(corpus, tokenizer, length, 1 << 40)
    encode = find_encoder(tokenizer)
    random = np.random.default_rng(0)
    window = blocks.source.length
    around = len(encode.before) + len(encode.after)
    lines = max(_LINES, min(1024, len(letters) // window))
    path = folder / "lines.txt"
    with open(path, "w", encoding="ascii") as file:
        for start in random.integers(0, len(letters) - window, lines):
            file.write(letters[start : start + window].tobytes().decode() + "\n")
    text = datasets.load_dataset("text", data_files=str(path), split="train", cache_dir=str(folder / "cache"))
    done = 0

    def read_blocks() -> torch.Tensor:
        nonlocal done
        done += batch
        return torch.stack([row["input_ids"] for row in blocks.__getitems__(range(done - batch, done))])

    def read_text() -> torch.Tensor:
        rows = text[random.integers(0, lines, batch)]["text"]
        options = {"truncation": True, "max_length": length, "padding": "max_length"}
        return tokenizer(rows, return_tensors="pt", return_attention_mask=False, **options)["input_ids"]

    def read_memmap() -> torch.Tensor:
        starts = random.integers(0, len(letters) - window, batch)
        pieces = [letters[start : start + window].tobytes().decode() for start in starts.tolist()]
        ids = np.empty((batch, length), dtype=np.int64)
        for row, found in enumerate(encode(pieces, split_special_tokens=True).split()):
            # A window of few tokens, of a BPE: what is missing is nothing that takes time.
            ids[row] = np.resize(found[: length - around], length) if len(found) < length else found[:length]
        return torch.from_numpy(ids)

    return {"blocks": read_blocks, "text": read_text, "memmap": read_memmap}


def measure_readers(
    readers: dict[str, Callable[[], torch.Tensor]], rounds: int, bases: float, repeats: int = 8
) -> dict[str, Any]:
    """Let them read in turns.

    Args:
        readers: of `make_readers`.
        rounds: turns of each.
        bases: of a batch.
        repeats: batches of a turn, of all but the text.

    Returns:
        `bases_per_second` of CPU time of each, median; `to_text` and `to_memmap`: how many times as fast as those the
        blocks are, median over the turns, with the extremes.
    """
    seconds: dict[str, list[float]] = {name: [] for name in readers}
    for read in readers.values():
        read()
    for _ in range(rounds):
        for name, read in readers.items():
            times = 1 if name == "text" else repeats
            begun = time.process_time()
            for _ in range(times):
                read()
            seconds[name].append((time.process_time() - begun) / times)
    return {
        "bases_per_second": {name: bases / statistics.median(each) for name, each in seconds.items()},
        **{f"to_{name}": summarize_ratio(seconds[name], seconds["blocks"]) for name in ("text", "memmap")},
    }


def measure_epoch(corpus: Corpus, tokenizer: PreTrainedTokenizerBase, batch: int, length: int) -> dict[str, Any]:
    """Read every tile of a corpus once; the memory of this process after a tenth and at the end, in bytes (Linux).

    `RssAnon` is what it has for itself. `RssFile` counts pages of the corpus that are mapped: the system takes them
    back when it needs them.
    """
    epoch = Blocks(corpus, tokenizer, length, 1 << 40, Drawing(order="covering")).source.epoch
    assert epoch is not None
    blocks = Blocks(corpus, tokenizer, length, epoch, Drawing(order="covering"))
    found: list[dict[str, int]] = []
    for first in range(0, epoch, batch):
        torch.stack([row["input_ids"] for row in blocks.__getitems__(range(first, min(first + batch, epoch)))])
        if not found and first >= epoch // 10:
            found.append({name: read_status(name) for name in ("RssAnon", "RssFile")})
    found.append({name: read_status(name) for name in ("RssAnon", "RssFile")})
    return {"blocks": epoch, "begin": found[0], "end": found[-1]}


def count_gpu_tokens(length: int) -> float:
    """Return the tokens a second that a GPU trains of `MODEL` at its peak times `MFU`: arithmetic."""
    operations = count_operations(GengramConfig.from_size(MODEL), 1, length, training=True)
    assert operations is not None
    return PEAKS[GPU] * MFU * length / operations.count_step(causal=True)


def run_benchmark(
    corpus: Corpus, kinds: list[str], batch: int, length: int, rounds: int, folder: Path
) -> list[dict[str, Any]]:
    """Measure each kind of tokenizer.

    Returns:
        A list of cells: `kind`; `bases_per_token`; what `measure_readers` returns; `epoch`, of `measure_epoch`;
        `tokens_per_second` of the blocks, `gpu_tokens_per_second` of `count_gpu_tokens`, and `share`, the CPU seconds
        that reading takes for each second of a GPU.
    """
    path = folder / "letters.bin"
    write_letters(corpus, path)
    letters = np.memmap(path, dtype=np.uint8, mode="r")
    needed = count_gpu_tokens(length)
    cells = []
    for kind in kinds:
        tokenizer = make_tokenizer(kind, letters)
        inside = folder / kind
        inside.mkdir()
        readers = make_readers(corpus, letters, tokenizer, batch, length, inside)
        sample = letters[: min(len(letters), 1_000_000)].tobytes().decode()
        of_token = len(sample) / len(find_encoder(tokenizer)([sample]).ids)
        speeds = measure_readers(readers, rounds, batch * length * of_token)
        tokens = speeds["bases_per_second"]["blocks"] / of_token
        cells.append(
            {
                "kind": kind,
                "bases_per_token": of_token,
                **speeds,
                "epoch": measure_epoch(corpus, tokenizer, batch, length),
                "tokens_per_second": tokens,
                "gpu_tokens_per_second": needed,
                "share": needed / tokens,
            }
        )
    return cells


def tabulate(cells: list[dict[str, Any]], length: int) -> str:
    """The tables for the terminal."""
    lines = [
        "| tokenizer | blocks, Mbp/s | text, Mbp/s | memmap, Mbp/s | blocks / text | blocks / memmap |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for cell in cells:
        speeds = " | ".join(f"{cell['bases_per_second'][name] / 1e6:,.1f}" for name in ("blocks", "text", "memmap"))
        ratios = " | ".join(
            f"{cell[name]['ratio']:.3g} ({cell[name]['low']:.3g}..{cell[name]['high']:.3g})"
            for name in ("to_text", "to_memmap")
        )
        lines.append(f"| {cell['kind']} | {speeds} | {ratios} |")
    lines += [
        "",
        "| tokenizer | epoch, blocks | own memory, MB, a tenth in -> at the end | tokens/s a core | cores for a GPU |",
        "| --- | --- | --- | --- | --- |",
    ]
    for cell in cells:
        begin, end = (cell["epoch"][place]["RssAnon"] / 1e6 for place in ("begin", "end"))
        lines.append(
            f"| {cell['kind']} | {cell['epoch']['blocks']:,} | {begin:,.1f} -> {end:,.1f} | "
            f"{cell['tokens_per_second'] / 1e6:,.2f} M | {cell['share']:.2g} |"
        )
    lines.append(
        f"\nA GPU of {PEAKS[GPU] / 1e12:,.0f} TFLOP/s ({GPU}) at {MFU:.0%} trains "
        f"{cells[0]['gpu_tokens_per_second']:,.0f} tokens a second of {MODEL} at {length:,} (arithmetic)."
    )
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    parser = make_parser("reading", __doc__, "--corpus corpora/human --json reading.json")
    parser.add_argument("--corpus", help="folder of a corpus; default: one of random bases")
    parser.add_argument("--bases", type=whole_number, default=100_000_000, help="of the random ones")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="of tokenizers")
    parser.add_argument("--batch", type=whole_number, default=32, metavar="B", help="blocks of a batch")
    parser.add_argument("--length", type=whole_number, default=8192, metavar="T", help="tokens of a block")
    parser.add_argument("--rounds", type=whole_number, default=9, help="turns")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if arguments.corpus is None:
            write_genome(folder / "genome.fa", arguments.bases)
            (folder / "recipe.yaml").write_text("name: random\ngenomes:\n  - {species: random, fasta: genome.fa}\n")
            build_corpus(folder / "recipe.yaml", folder / "corpus")
        corpus = open_corpus(arguments.corpus or folder / "corpus")
        cells = run_benchmark(corpus, arguments.kinds, arguments.batch, arguments.length, arguments.rounds, folder)
    report = {**list_versions(), **vars(arguments), "json": None, "cells": cells}
    return answer(parser, tabulate(cells, arguments.length), report, arguments.json)


__all__ = [
    "count_gpu_tokens",
    "make_readers",
    "make_tokenizer",
    "measure_epoch",
    "measure_readers",
    "run_benchmark",
    "tabulate",
    "write_genome",
    "write_letters",
]

if __name__ == "__main__":
    os.environ.setdefault("RAYON_NUM_THREADS", "1")
    sys.exit(main())
