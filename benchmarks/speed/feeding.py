"""`python -m gengram.benchmarks.speed.feeding`: what share of the time of `gengram embed` is the model's?

The model alone reads full batches of one length without padding; the whole embeds a FASTA file of sequences of 600 to
6,000 bp and writes Parquet, loading aside. The share is the time that the model alone would take for their tokens.

Beside that, a stand-in takes the place of the device: it computes nothing, and has a batch for as long as a device of
so many tokens a second would. What is left of its share is lost around the model: in reading, tokenising, filling up,
and writing. It is fed ahead, as a GPU is, or waited for, batch after batch.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from gengram.benchmarks.speed.embedding import write_fasta
from gengram.benchmarks.speed.measure import take_turns
from gengram.benchmarks.speed.program import answer, list_versions, make_parser
from gengram.loading.models import choose_device, require_model
from gengram.nucleotide_transformer.configuration_nucleotide_transformer import NucleotideTransformerConfig
from gengram.nucleotide_transformer.modeling_nucleotide_transformer import NucleotideTransformerModel
from gengram.phases import recording
from gengram.pipelines import embed as embedding
from gengram.pipelines import embed_file as file_embedding
from gengram.pipelines.budget import scale_blocks
from gengram.pipelines.embed_file import choose_dtype, embed_file
from gengram.tokenization import build_kmer_tokenizer, find_encoder

LENGTHS = (600, 6000)  # bp
FULL = 1000  # tokens of a row of a full batch
_ASIDE = ("Loading the model", "Checksums")


def draw_sequences(count: int) -> list[str]:
    """Random bases."""
    random = np.random.default_rng(0)
    lengths = random.integers(LENGTHS[0], LENGTHS[1] + 1, count)
    return [random.choice(np.frombuffer(b"ACGT", dtype=np.uint8), length).tobytes().decode() for length in lengths]


def save_model(folder: Path, layers: int, width: int) -> None:
    """A Nucleotide Transformer v2 of random weights."""
    torch.manual_seed(0)
    tokenizer = build_kmer_tokenizer()
    config = NucleotideTransformerConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=max(1, width // 64),
        max_position_embeddings=2050,
        pad_token_id=tokenizer.pad_token_id,
        mask_token_id=tokenizer.mask_token_id,
    )
    NucleotideTransformerModel(config).save_pretrained(folder)
    tokenizer.model_max_length = 2048
    tokenizer.save_pretrained(folder)


class StandIn:
    """A device that computes nothing, and is busy as long as one of so many tokens a second is.

    Args:
        rate: tokens a second.
        running: batches that it is given before one is waited for; 0: each is waited for.
    """

    def __init__(self, rate: float, running: int):
        self.running, self._rate, self._busy = running, rate, 0.0

    def send(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return inputs

    def run(self, model: Any, input_ids: torch.Tensor, *others: Any, **options: Any) -> torch.Tensor:
        """Take the place of `read_vectors`."""
        self._busy = max(self._busy, time.perf_counter()) + input_ids.numel() / self._rate
        return torch.zeros(len(input_ids), model.config.hidden_size)

    def fetch(self, output: torch.Tensor) -> Callable[[], np.ndarray]:
        done = self._busy

        def wait() -> np.ndarray:
            time.sleep(max(0.0, done - time.perf_counter()))
            return output.numpy()

        found = wait() if not self.running else None
        return wait if found is None else lambda: found

    def free(self) -> None:
        pass


def embed_whole(folder: Path, **options: Any) -> float:
    """Embed the file of a folder; returns seconds, without those of loading."""
    begun = time.perf_counter()
    with recording() as recorded:
        embed_file(folder / "model", folder / "all.fa", folder / "out.parquet", **options)
        aside = sum(one.seconds for one in recorded.list_phases() if one.name in _ASIDE)
    return time.perf_counter() - begun - aside


def run_full(folder: Path, device: torch.device, dtype: str, room: int) -> Callable[[], None]:
    """Return what lets the model read a full batch."""
    model = require_model(folder / "model", dtype=choose_dtype(dtype), device=device)
    ids = torch.randint(10, model.config.vocab_size, (max(1, room // FULL), FULL), device=device)
    mask = torch.ones_like(ids)

    def run() -> None:
        embedding.read_vectors(model, ids, mask, layer=-1, pool="mean").cpu()

    return run


def measure_share(
    folder: Path, tokens: int, device: torch.device, dtype: str, room: int, rounds: int
) -> dict[str, Any]:
    """Let the model read full batches, and embed the file, in turns."""
    full, seconds = run_full(folder, device, dtype, room), list[float]()

    def whole() -> None:
        seconds.append(embed_whole(folder, dtype=dtype, devices=str(device), batch_tokens=room))

    times = take_turns({"full": full, "whole": whole}, rounds, seconds=600)
    rate = max(1, room // FULL) * FULL / statistics.median(times["full"])
    middle = statistics.median(seconds[1:])
    return {"full": rate, "whole": tokens / middle, "share": tokens / rate / middle}


def measure_stand_in(folder: Path, tokens: int, rate: float, running: int, room: int, rounds: int) -> dict[str, Any]:
    """Embed the file on a stand-in."""
    seconds = []
    for _ in range(rounds):
        device = StandIn(rate, running)
        with (
            mock.patch.object(embedding, "find_feeding", lambda _, device=device: device),
            mock.patch.object(embedding, "read_vectors", device.run),
            mock.patch.object(file_embedding, "scale_blocks", lambda _: scale_blocks(torch.device("cuda"))),
        ):
            seconds.append(embed_whole(folder, dtype="float32", devices="cpu", batch_tokens=room))
    middle = statistics.median(seconds)
    return {"full": rate, "whole": tokens / middle, "share": tokens / rate / middle}


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    parser = make_parser("feeding", __doc__, "--layers 29 --width 1024 --sequences 8192 --room 65536")
    parser.add_argument("--sequences", type=int, default=2048, help="how many")
    parser.add_argument("--rounds", type=int, default=3, help="turns")
    parser.add_argument("--layers", type=int, default=2, help="of the model")
    parser.add_argument("--width", type=int, default=128, help="of the model")
    parser.add_argument("--room", type=int, default=8192, help="tokens of a batch")
    parser.add_argument("--dtype", default="auto", help="what the model computes in")
    parser.add_argument("--devices", help="what it computes on")
    parser.add_argument(
        "--rates", type=float, nargs="*", default=[240_000, 2_000_000], help="tokens a second of stand-ins"
    )
    parser.add_argument("--only_stand_in", action="store_true", help="leave the model itself out")
    arguments = parser.parse_args(argv)
    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        save_model(folder / "model", arguments.layers, arguments.width)
        sequences = draw_sequences(arguments.sequences)
        write_fasta(folder / "all.fa", sequences)
        tokens = len(find_encoder(build_kmer_tokenizer())(sequences, split_special_tokens=True).ids)
        device = choose_device(arguments.devices)
        if not arguments.only_stand_in:
            rows[str(device)] = measure_share(folder, tokens, device, arguments.dtype, arguments.room, arguments.rounds)
        for rate in arguments.rates:
            for running, how in ((2, "fed ahead"), (0, "waited for")):
                rows[f"stand-in of {rate:,.0f} tokens/s, {how}"] = measure_stand_in(
                    folder, tokens, rate, running, arguments.room, arguments.rounds
                )
    lines = ["| device | full batches, tokens/s | whole, tokens/s | share of the model |", "| --- | --- | --- | --- |"]
    for name, one in rows.items():
        lines.append(f"| {name} | {one['full']:,.0f} | {one['whole']:,.0f} | {one['share']:.0%} |")
    report = {**list_versions(), **vars(arguments), "json": None, "tokens": tokens, "rows": rows}
    return answer(parser, "\n".join(lines), report, arguments.json)


__all__ = ["StandIn", "draw_sequences", "embed_whole", "main", "measure_share", "measure_stand_in", "save_model"]

if __name__ == "__main__":
    sys.exit(main())
