"""What does a segment more cost a recurrent memory? `python -m gengram.benchmarks.speed.recurrence`

A GENA-LM encoder of 6 layers reads segments of 512 tokens with 10 memory tokens. Its peak memory at two numbers of
segments gives the growth a segment; each figure is measured in a process of its own (Linux). Beside it stand plain
backpropagation through all segments, and inference that keeps all hidden states as the original code does. Times are
medians of runs that alternate in one process.
"""

import argparse
import json
import statistics
import sys
import time
from typing import Any

import torch

from gengram.benchmarks.speed.measure import read_status
from gengram.benchmarks.speed.program import answer, list_versions, make_parser, run_apart
from gengram.gena.configuration_gena import GenaBertConfig
from gengram.progress import track
from gengram.rmt.configuration_rmt import RmtConfig
from gengram.rmt.modeling_rmt import RmtForSequenceClassification

# Segments that are compared: enough for the growth to stand out of the allocator's steps.
ARMS = {
    "train, plain": (4, 12),
    "train, recomputed": (8, 40),
    "inference, hidden states kept": (8, 40),
    "inference": (8, 136),
}
MEGABYTE = 2**20


def build_model(layers: int = 6, hidden_size: int = 384) -> RmtForSequenceClassification:
    """The model of the measurements; its vocabulary is small, the embedding is not what is measured."""
    torch.manual_seed(0)
    encoder = GenaBertConfig(
        vocab_size=1000,
        hidden_size=hidden_size,
        intermediate_size=4 * hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=hidden_size // 64 or 1,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    config = RmtConfig(backbone_config=encoder, cls_token_id=1, sep_token_id=2, num_memory_tokens=10)
    return RmtForSequenceClassification(config)


def run_arm(arm: str, segments: int) -> dict[str, float]:
    """Peak memory in bytes above what the imports and the model take, and seconds."""
    model = build_model()
    ids = torch.randint(5, 1000, (1, segments * model.config.content_length))
    kept: list[Any] = []
    if "kept" in arm:
        model.model.bert.register_forward_hook(lambda module, args, outputs: kept.append(outputs.hidden_states))
    before, started = read_status("VmHWM"), time.perf_counter()
    _step(model, ids, arm)
    return {"peak": read_status("VmHWM") - before, "seconds": time.perf_counter() - started}


def _step(model: RmtForSequenceClassification, ids: torch.Tensor, arm: str) -> None:
    if arm.startswith("train"):
        model.config.recompute_segments = arm == "train, recomputed"
        model.train()(ids, labels=torch.tensor([1])).loss.backward()
    else:
        with torch.no_grad():
            model.eval()(ids)


def compare_seconds(segments: int = 8, repeats: int = 5) -> dict[str, float]:
    """Median seconds a segment of plain and recomputed training, and of inference."""
    model = build_model()
    ids = torch.randint(5, 1000, (1, segments * model.config.content_length))
    seconds: dict[str, list[float]] = {arm: [] for arm in ARMS if "kept" not in arm}
    for _ in track(range(repeats), desc="Times", unit=" rounds"):
        for arm, times in seconds.items():
            started = time.perf_counter()
            _step(model, ids, arm)
            times.append((time.perf_counter() - started) / segments)
    return {arm: statistics.median(times) for arm, times in seconds.items()}


def compare_gradients(segments: int = 8) -> float:
    """Largest difference between the gradients of both trainings, as a share of the largest gradient."""
    model = build_model().train()
    ids = torch.randint(5, 1000, (1, segments * model.config.content_length))
    gradients = []
    for recompute in (False, True):
        model.config.recompute_segments = recompute
        model.zero_grad()
        model(ids, labels=torch.tensor([1])).loss.backward()
        gradients.append([parameter.grad for parameter in model.parameters() if parameter.grad is not None])
    scale = max(float(gradient.abs().max()) for gradient in gradients[0])
    return max(float((plain - again).abs().max()) for plain, again in zip(*gradients)) / scale


def measure_growth() -> dict[str, float]:
    """For each arm the growth of memory a segment, in bytes."""
    results = {}
    for arm, (few, many) in track(ARMS.items(), desc="Arms", unit=" arms"):
        ends = [_run_apart(arm, segments) for segments in (few, many)]
        results[arm] = (ends[1]["peak"] - ends[0]["peak"]) / (many - few)
    return results


def tabulate(report: dict[str, Any]) -> str:
    """The table for the terminal."""
    growth, seconds = report["bytes_per_segment"], report["seconds_per_segment"]
    lines = [f"{'':<32}{'MB a segment':>14}{'of the peer':>14}{'ms a segment':>14}"]
    for arm, value in growth.items():
        peer = growth["train, plain" if arm.startswith("train") else "inference, hidden states kept"]
        time_cell = f"{1000 * seconds[arm]:.1f}" if arm in seconds else ""
        lines.append(f"{arm:<32}{value / MEGABYTE:>14.2f}{value / peer:>14.1%}{time_cell:>14}")
    lines.append(
        f"recomputed training takes {seconds['train, recomputed'] / seconds['train, plain']:.2f}x plain training"
    )
    long = report["long_sequence"]
    lines += [
        f"gradients differ by {report['gradient_difference']:.1e} of the largest",
        f"{long['bases']:,} bp (about {long['tokens']:,} BPE tokens, {long['segments']} segments) classified in "
        f"{long['seconds']:.1f} s, peak {long['peak'] / MEGABYTE:.0f} MB above the model",
    ]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Measure, print the table, write JSON where asked."""
    parser = make_parser("recurrence", __doc__, "--json recurrence.json")
    parser.add_argument("--bases", type=int, default=500_000, help="length of the long sequence in bp")
    parser.add_argument("--arm", help=argparse.SUPPRESS)
    parser.add_argument("--segments", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.arm:  # the process of one measurement
        print(json.dumps(run_arm(arguments.arm, arguments.segments)))
        return 0
    length = build_model().config.content_length
    tokens = arguments.bases // 6  # GENA-LM's tokens have six bases on average
    segments = -(-tokens // length)
    report = {
        **list_versions(),
        "threads": torch.get_num_threads(),
        "bytes_per_segment": measure_growth(),
        "seconds_per_segment": compare_seconds(),
        "gradient_difference": compare_gradients(),
        "long_sequence": {
            "bases": arguments.bases,
            "tokens": tokens,
            "segments": segments,
            **_run_apart("inference", segments),
        },
    }
    return answer(parser, tabulate(report), report, arguments.json)


def _run_apart(arm: str, segments: int) -> dict[str, float]:
    module = "gengram.benchmarks.speed.recurrence"
    return json.loads(run_apart("-m", module, "--arm", arm, "--segments", str(segments)))


__all__ = ["build_model", "compare_gradients", "compare_seconds", "measure_growth", "run_arm"]

if __name__ == "__main__":
    sys.exit(main())
