"""`python -m gengram.benchmarks.speed.embedding`: `gengram embed` beside the loop that everybody writes, in one run.

The loop pads to the longest input of the model, in float32, 16 sequences at a time, and keeps Python lists; both load
the model and write Parquet. They take turns on parts of the sequences, so that a machine that slows down slows both.
`--memory` measures instead how the peak of the memory depends on the number of sequences.
"""

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import torch
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel

from gengram.benchmarks.speed.measure import summarize_ratio
from gengram.benchmarks.speed.program import answer, list_versions, make_parser, run_apart
from gengram.genome.fasta import read_fasta
from gengram.pipelines.embed_file import choose_dtype, embed_file
from gengram.progress import track
from gengram.tokenization import build_nucleotide_tokenizer

# In a process of its own: embeds a file, and prints the peak of the memory.
_CHILD = """
import sys
from gengram.benchmarks.speed.measure import read_status
from gengram.pipelines.embed_file import embed_file

embed_file(*sys.argv[1:])
print(read_status("VmHWM"))
"""
LONGEST = 1024  # tokens that the model takes
LENGTHS = (100, 1000)  # bp
BATCH = 16


def cut_sequences(genome: Path | None, count: int) -> list[str]:
    """Stretches of 100 to 1,000 bp, at random from the first contig of a FASTA file, or random bases without one."""
    random = np.random.default_rng(0)
    if genome is None:
        contig = random.choice(np.frombuffer(b"ACGT", dtype=np.uint8), 1_000_000).tobytes().decode()
    else:
        contig = next(read_fasta(genome))[2].upper().strip("N")
    lengths = random.integers(LENGTHS[0], LENGTHS[1] + 1, count)
    starts = random.integers(0, len(contig) - LENGTHS[1], count)
    return [contig[start : start + length] for start, length in zip(starts, lengths)]


def save_model(folder: Path, layers: int, width: int) -> None:
    """A BERT of random weights with one token a base."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=16,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=max(1, width // 64),
        max_position_embeddings=LONGEST,
        pad_token_id=0,
    )
    BertModel(config).save_pretrained(folder)
    build_nucleotide_tokenizer(template="cls_sep", model_max_length=LONGEST).save_pretrained(folder)


def write_fasta(path: Path, sequences: list[str]) -> None:
    """Records `0`, `1` and so on."""
    path.write_text("".join(f">{row}\n{sequence}\n" for row, sequence in enumerate(sequences)))


@torch.no_grad()
def embed_naively(folder: Path, sequences: list[str], out: Path) -> list[list[float]]:
    """Mean over attended tokens, as the model cards of the Nucleotide Transformers have it."""
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    vectors: list[list[float]] = []
    for start in range(0, len(sequences), BATCH):
        batch = tokenizer(
            sequences[start : start + BATCH], return_tensors="pt", padding="max_length", max_length=LONGEST
        )
        hidden = model(**batch, output_hidden_states=True).hidden_states[-1]
        mask = batch["attention_mask"][..., None]
        vectors += ((hidden * mask).sum(1) / mask.sum(1)).tolist()
    pyarrow.parquet.write_table(pa.table({"embedding": vectors}), out)
    return vectors


def compare_speed(genome: Path | None, count: int, rounds: int, layers: int, width: int) -> dict[str, Any]:
    """Embed the same sequences both ways, in turns on `rounds` parts of them.

    Returns:
        Seconds of each, the ratio of the sums, and of each round (`ratio`: median, `low`, `high`); the largest relative
        distance of two vectors of the same sequence, `difference`.
    """
    times: dict[str, list[float]] = {"ours": [], "loop": []}
    difference = 0.0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        save_model(folder / "model", layers, width)
        sequences = cut_sequences(genome, count)
        for number in (bar := track(range(rounds), desc="Rounds")):
            part = sequences[number::rounds]
            write_fasta(folder / "part.fa", part)
            begun = time.perf_counter()
            embed_file(folder / "model", folder / "part.fa", folder / "ours.parquet")
            times["ours"].append(time.perf_counter() - begun)
            begun = time.perf_counter()
            vectors = np.array(embed_naively(folder / "model", part, folder / "loop.parquet"))
            times["loop"].append(time.perf_counter() - begun)
            bar.set_postfix({name: f"{found[-1]:.1f} s" for name, found in times.items()})
            column = pyarrow.parquet.read_table(folder / "ours.parquet")["embedding"].combine_chunks()
            ours = column.flatten().to_numpy().reshape(vectors.shape)
            distance = np.linalg.norm(ours - vectors, axis=1) / np.linalg.norm(vectors, axis=1)
            difference = max(difference, float(distance.max()))
    total = {name: sum(found) for name, found in times.items()}
    return {
        "sequences": count,
        "layers": layers,
        "width": width,
        "dtype": str(choose_dtype("auto")).removeprefix("torch."),
        "seconds": total,
        "total_ratio": total["loop"] / total["ours"],
        **summarize_ratio(times["loop"], times["ours"]),
        "difference": difference,
    }


def measure_memory(genome: Path | None, counts: list[int]) -> dict[int, int]:
    """The peak of the resident memory in bytes (Linux), of a process of its own for each number of sequences."""
    peaks = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        save_model(folder / "model", 1, 16)
        for count in counts:
            write_fasta(folder / "all.fa", cut_sequences(genome, count))
            files = (str(folder / name) for name in ("model", "all.fa", "out.parquet"))
            peaks[count] = int(run_apart("-c", _CHILD, *files))
    return peaks


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    parser = make_parser("embedding", __doc__, "--genome chr22.fa.gz --json embedding.json")
    parser.add_argument("--genome", type=Path, help="FASTA file to cut sequences from; random bases without one")
    parser.add_argument("--sequences", type=int, default=500, help="how many")
    parser.add_argument("--rounds", type=int, default=4, help="turns that they are shared out to")
    parser.add_argument("--layers", type=int, default=6, help="of the model")
    parser.add_argument("--width", type=int, default=768, help="of the model")
    parser.add_argument("--memory", type=int, nargs="+", metavar="N", help="measure the memory for N sequences instead")
    arguments = parser.parse_args(argv)
    if not 1 <= arguments.rounds <= arguments.sequences:
        parser.error("--rounds must be at least 1 and at most --sequences")
    if arguments.memory:
        report: dict[str, Any] = {"peak_bytes": measure_memory(arguments.genome, arguments.memory)}
        lines = [f"{count:>8,} sequences: {peak / 1e6:,.0f} MB" for count, peak in report["peak_bytes"].items()]
        text = "\n".join(lines)
    else:
        report = compare_speed(
            arguments.genome, arguments.sequences, arguments.rounds, arguments.layers, arguments.width
        )
        seconds = report["seconds"]
        text = (
            f"{report['sequences']} sequences: gengram embed ({report['dtype']}) {seconds['ours']:.1f} s, loop "
            f"{seconds['loop']:.1f} s: {report['total_ratio']:.1f}x ({report['low']:.1f} to {report['high']:.1f}); "
            f"vectors differ by at most {report['difference']:.1%}"
        )
    return answer(parser, text, {**list_versions(), **report}, arguments.json)


__all__ = ["compare_speed", "cut_sequences", "embed_naively", "main", "measure_memory", "save_model", "write_fasta"]

if __name__ == "__main__":
    sys.exit(main())
