"""Does the package reach its goals on this GPU? `gpu_check.sh` runs these parts in turns, and then asks for the table.

`python -m gengram.benchmarks.speed.gpu_check PART FOLDER` measures a part and writes FOLDER/PART.json after each
figure, so that a part which is stopped has what it had found. The part `table` prints what is there. `--rehearse`
measures tiny models on a CPU: every row is exercised, and no figure means anything.
"""

import argparse
import contextlib
import copy
import json
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from gengram.command_line import HelpFormatter, complain
from gengram.errors import InputError
from gengram.files import write_json

Report = dict[str, Any]


class Size(NamedTuple):
    """What is measured, and where."""

    device: str
    dtype: str
    shapes: tuple[tuple[int, int], ...]  # (D, E)
    lengths: tuple[int, ...]  # the goals are those of `long`
    long: int
    scale: float  # of the widths of the paper's sizes
    batch: tuple[int, int]
    prompt: int
    new: int
    big_bird: dict[str, int]
    big_bird_batch: tuple[int, int]
    encoder: dict[str, int]
    full_batch: tuple[int, int]
    sequences: tuple[int, int]  # how many, a few first: what is there once does not count
    backend: str
    rounds: int


FULL = Size(
    device="cuda", dtype="bfloat16", shapes=((1024, 1024), (256, 128)),
    lengths=(200, 1_000, 2_000, 4_000, 8_192, 32_768), long=8_192, scale=1.0, batch=(2, 8_192), prompt=1_000, new=128,
    big_bird={}, big_bird_batch=(4, 4_096),
    encoder={"num_hidden_layers": 29, "hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16},
    full_batch=(64, 1_000), sequences=(64, 4_000), backend="inductor", rounds=7,
)  # fmt: skip
_TINY = {"num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
TINY = Size(
    device="cpu", dtype="float32", shapes=((32, 16), (16, 8)), lengths=(200, 300), long=300, scale=0.04, batch=(1, 64),
    prompt=30, new=6, big_bird=_TINY, big_bird_batch=(1, 1_024), encoder=_TINY, full_batch=(2, 50), sequences=(4, 24),
    backend="aot_eager", rounds=2,
)  # fmt: skip


def measure_memory(size: Size, report: Report, save: Callable[[], None]) -> None:
    """Forward, and forward and backward, beside the released algorithm; what is launched; device time by bytes."""
    import torch

    from gengram.benchmarks.speed import memory
    from gengram.benchmarks.speed.measure import measure_machine
    from gengram.benchmarks.speed.released import run_released

    dtype = getattr(torch, size.dtype)
    report["machine"] = measure_machine(size.device, memory._wait(size.device), dtype)
    report["cells"], report["calls"] = [], []
    for T in sorted(size.lengths, key=lambda length: length != size.long):
        for D, E in size.shapes:
            for mode in memory.MODES:
                peers = {"eager": run_released}
                cell = memory.measure_speed(D, E, T, mode, size.device, size.rounds, peers, dtype)
                report["cells"].append(cell)
                save()
        if size.long == T:
            for mode in memory.MODES:
                report["calls"].append(_profile_call(size, *size.shapes[0], mode))
                save()


def _profile_call(size: Size, D: int, E: int, mode: str) -> Report:
    """Kernels that a call launches, their time on the device, and what the bytes take at the speed of a copy."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    from gengram.benchmarks.speed.memory import make_memory
    from gengram.costs import bound_merged
    from gengram.gengram.kmer_index import KmerContext

    dtype = getattr(torch, size.dtype)
    memory = make_memory(D, E, size.device, dtype).train(mode == "train")
    context = KmerContext(torch.randint(0, 4, (1, size.long), device=size.device))
    hidden = torch.randn(1, size.long, D, device=size.device, dtype=dtype, requires_grad=mode == "train")
    cotangent = torch.ones_like(hidden)

    def call() -> None:
        with torch.set_grad_enabled(mode == "train"):
            value = memory(hidden, context)
            if mode == "train":
                torch.autograd.grad(value, [hidden, *memory.parameters()], cotangent)

    for _ in range(3):
        call()
    on_device = size.device == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if on_device else ProfilerActivity.CPU]) as traced:
        call()
        if on_device:
            torch.cuda.synchronize()
    events = [event for event in traced.events() if not on_device or "CUDA" in str(event.device_type)]
    microseconds = sum(event.device_time_total if on_device else event.self_cpu_time_total for event in events)
    moved = bound_merged(D, E, size.long, mode, dtype.itemsize)["bytes"]
    return {"mode": mode, "launches": len(events), "seconds": microseconds / 1e6, "bytes": moved}


def measure_compiled(size: Size, report: Report, save: Callable[[], None]) -> None:
    """A training step of the smallest size by torch.compile: with our memory, then without one."""
    import torch

    from gengram.benchmarks.speed.measure import take_turns
    from gengram.benchmarks.speed.step import TrainingStep, make_config

    config = make_config("0.3b-dense-gqa", size.scale)
    step = TrainingStep(config, *size.batch, torch.device(size.device), getattr(torch, size.dtype))
    wait = _find_wait(size)
    for memory in ("ours", "none"):
        compiled = torch.compile(step.models[memory], dynamic=False, backend=size.backend)
        runs = {f"{memory} compiled": lambda model=compiled: step.run(model)}
        runs[f"{memory} eager"] = lambda memory=memory: step.run(step.models[memory])
        times = take_turns(runs, size.rounds, wait, 10.0)
        report |= {name: statistics.median(found) for name, found in times.items()}
        save()


def measure_generation(size: Size, report: Report, save: Callable[[], None]) -> None:
    """Tokens a second of greedy generation with a static cache, and with a dynamic one."""
    import torch
    from transformers import AutoModelForCausalLM

    from gengram.benchmarks.speed.step import make_config

    with_memory = make_config("0.3b-dense-gqa", size.scale)
    without = copy.deepcopy(with_memory)
    without.memory_layers = []
    bases = torch.tensor(with_memory.base_token_ids[:4])
    prompt = bases[torch.randint(0, 4, (1, size.prompt))].to(size.device)
    for cache in ("static", "dynamic"):
        for name, config in (("with", with_memory), ("without", without)):
            torch.manual_seed(0)
            with torch.device(size.device):
                model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, size.dtype)).eval()
            options: Report = {"do_sample": False, "min_new_tokens": size.new, "max_new_tokens": size.new}
            options |= {"cache_implementation": "static"} if cache == "static" else {}
            model.generate(prompt, **options)  # compiles
            seconds = []
            for _ in range(2):
                _find_wait(size)()
                begun = time.perf_counter()
                model.generate(prompt, **options)
                _find_wait(size)()
                seconds.append(time.perf_counter() - begun)
            report[f"{cache} {name}"] = size.new / min(seconds)
            save()


def measure_big_bird(size: Size, report: Report, save: Callable[[], None]) -> None:
    """A whole BigBird, forward, and forward and backward, as transformers has it and with the fast attention."""
    import torch
    from transformers import BigBirdConfig, BigBirdModel

    from gengram.benchmarks.speed.measure import measure_peak, take_turns
    from gengram.gena.block_sparse_attention import use_fast_attention

    B, T = size.big_bird_batch
    config = BigBirdConfig(**size.big_bird, max_position_embeddings=max(T, 4_096), attention_type="block_sparse")
    torch.manual_seed(0)
    with torch.device(size.device):
        theirs = BigBirdModel(config, add_pooling_layer=False).to(getattr(torch, size.dtype)).eval()
    models = {"transformers": theirs, "ours": use_fast_attention(copy.deepcopy(theirs))}
    ids = torch.randint(100, 1_000, (B, T), device=size.device)

    def forward(model: Any) -> None:
        with torch.no_grad():
            model(ids)

    def train(model: Any) -> None:
        model(ids).last_hidden_state.float().square().mean().backward()
        model.zero_grad(set_to_none=True)

    for mode, run in (("forward", forward), ("forward and backward", train)):
        runs = {name: (lambda run=run, model=model: run(model)) for name, model in models.items()}
        times = take_turns(runs, size.rounds, _find_wait(size), 10.0)
        report[mode] = {name: statistics.median(found) for name, found in times.items()}
        report[f"{mode}, peak"] = {name: measure_peak(call, size.device) for name, call in runs.items()}
        save()
    with torch.no_grad():
        found, expected = (models[name](ids).last_hidden_state.float() for name in ("ours", "transformers"))
    report["difference"] = float((found - expected).norm() / expected.norm())
    save()


def measure_embedding(size: Size, report: Report, save: Callable[[], None]) -> None:
    """`gengram embed` on sequences of mixed lengths, and the model alone on full batches of one length."""
    import torch
    from transformers import AutoModel

    from gengram.benchmarks.speed.measure import take_turns
    from gengram.costs import count_operations
    from gengram.nucleotide_transformer.configuration_nucleotide_transformer import NucleotideTransformerConfig
    from gengram.pipelines.embed_file import embed_file
    from gengram.tokenization import build_kmer_tokenizer
    from gengram.training.devices import find_peak, measure_products

    dtype, device = getattr(torch, size.dtype), torch.device(size.device)
    config = NucleotideTransformerConfig(**size.encoder)
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModel.from_config(config, dtype=dtype).eval()
    B, T = size.full_batch
    ids = torch.randint(6, 4_000, (B, T), device=device)
    begin = partial(model, ids)
    with torch.no_grad():
        seconds = statistics.median(take_turns({"": begin}, size.rounds, _find_wait(size), 10.0)[""])
    operations = count_operations(config, B, T, "none")
    peak = find_peak(device, dtype) or measure_products(device, dtype, 8192)[0]
    report |= {"model": B * T / seconds, "mfu": operations.forward / seconds / peak if operations else None}
    save()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model.save_pretrained(folder / "model")
        build_kmer_tokenizer().save_pretrained(folder / "model")
        del model, begin
        found = []
        for number, count in enumerate((size.sequences[0], size.sequences[0], size.sequences[1])):
            tokens = _write_sequences(folder / f"{number}.fa", count)
            begun = time.perf_counter()
            embed_file(
                folder / "model", folder / f"{number}.fa", folder / f"{number}.parquet", devices=size.device,
                dtype=size.dtype,
            )  # fmt: skip
            found.append((tokens, time.perf_counter() - begun))
        (few, once), (many, all_) = found[1:]
        report["embed"] = (many - few) / max(all_ - once, 1e-9)
        save()


def _write_sequences(path: Path, count: int) -> int:
    """600 to 6,000 bp, whole 6-mers; returns their tokens."""
    import numpy as np

    random = np.random.default_rng(0)
    lengths = random.integers(100, 1_001, count) * 6
    records = (f">{row}\n{''.join(random.choice(list('ACGT'), length))}\n" for row, length in enumerate(lengths))
    path.write_text("".join(records))
    return int((lengths // 6 + 1).sum())


def _find_wait(size: Size) -> Callable[[], None]:
    import torch

    return torch.cuda.synchronize if size.device == "cuda" else lambda: None


PARTS = {
    "memory": measure_memory,
    "generation": measure_generation,
    "big_bird": measure_big_bird,
    "embedding": measure_embedding,
    "compiled": measure_compiled,
}


class Row(NamedTuple):
    """
    A line of the table.

    Attributes:
        part: whose report it reads; those of `PARTS`, and `step`, `doctor`, `tests`, which the script has made.
        path, goal: in words.
        read: what was found, in words, and whether the goal is reached.
    """

    part: str
    path: str
    goal: str
    read: Callable[[Report], tuple[str, bool]]


def _find_cell(report: Report, shape: int, mode: str, T: int | None = None) -> Report:
    D, E = report["size"]["shapes"][shape]
    T = report["size"]["long"] if T is None else T
    return next(cell for cell in report["cells"] if (cell["D"], cell["E"], cell["T"], cell["mode"]) == (D, E, T, mode))


def _read_speed(shape: int, mode: str, least: float, seconds: float | None) -> Callable[[Report], tuple[str, bool]]:
    def read(report: Report) -> tuple[str, bool]:
        cell = _find_cell(report, shape, mode)
        ratio, ours = cell["ratios"]["eager"]["ratio"], cell["seconds"]["ours"]
        return f"{ratio:.1f}x, {ours * 1e3:.2f} ms", ratio >= least and (seconds is None or ours <= seconds)

    return read


def _read_least(report: Report) -> tuple[str, bool]:
    wanted = 2 * len(report["size"]["shapes"]) * len(report["size"]["lengths"])
    ratio, cell = min(((cell["ratios"]["eager"]["ratio"], cell) for cell in report["cells"]), key=lambda pair: pair[0])
    place = f"{cell['mode']} at T = {cell['T']:,}, ({cell['D']}, {cell['E']})"
    missing = "" if len(report["cells"]) == wanted else f"; {len(report['cells'])} of {wanted} cells"
    return f"{ratio:.1f}x: {place}{missing}", ratio >= 2 and not missing


def _read_memory_peak(report: Report) -> tuple[str, bool]:
    peaks = [_find_cell(report, shape, "train")["peak_bytes"] for shape in (0, 1)]
    shares = [peak["ours"] / max(peak["eager"], 1) for peak in peaks]
    return " and ".join(f"{share:.2f}" for share in shares), max(shares) <= 0.6


def _read_bytes(report: Report) -> tuple[str, bool]:
    call = next(call for call in report["calls"] if call["mode"] == "forward")
    limit = call["bytes"] / report["machine"]["bytes_per_s"]
    return f"{call['seconds'] / limit:.1f}x ({call['seconds'] * 1e6:.0f} us)", call["seconds"] <= 2 * limit


def _read_launches(report: Report) -> tuple[str, bool]:
    forward, train = (
        next(c["launches"] for c in report["calls"] if c["mode"] == mode) for mode in ("forward", "train")
    )
    return f"{forward} and {train}", forward <= 8 and train <= 45


def _read_step(report: Report) -> tuple[str, bool]:
    cells = {cell["memory"]: cell for cell in report["steps"][0]["cells"] if cell["mode"] == "eager"}
    if told := [cell["skipped"] for cell in cells.values() if "skipped" in cell]:
        return told[0], False
    ours, theirs = (cells[name]["share"] for name in ("ours", "released"))
    return f"{ours:.1%} (released {theirs:.1%}), MFU {cells['ours']['mfu']:.0%}", ours <= 0.03


def _read_compiled(report: Report) -> tuple[str, bool]:
    compiled, eager = report["ours compiled"], report["ours eager"]
    return f"{compiled * 1e3:.0f} ms, eager {eager * 1e3:.0f} ms", compiled <= eager


def _read_compiled_share(report: Report) -> tuple[str, bool]:
    share = 1 - report["none compiled"] / report["ours compiled"]
    return f"{share:.1%}", share <= 0.04


def _read_generation(report: Report) -> tuple[str, bool]:
    ours, none = report["static with"], report["static without"]
    dynamic = f"; dynamic {report['dynamic with']:.0f}" if "dynamic with" in report else ""
    return f"{ours / none:.2f}: {ours:.0f} tokens/s, without {none:.0f}{dynamic}", ours >= 0.9 * none


def _read_big_bird(mode: str, least: float) -> Callable[[Report], tuple[str, bool]]:
    def read(report: Report) -> tuple[str, bool]:
        times = report[mode]
        ratio = times["transformers"] / times["ours"]
        return f"{ratio:.1f}x, {times['ours'] * 1e3:.1f} ms", ratio >= least

    return read


def _read_big_bird_peak(report: Report) -> tuple[str, bool]:
    shares = []
    for mode in ("forward", "forward and backward"):
        peak = report[f"{mode}, peak"]
        shares.append(peak["ours"] / max(peak["transformers"], 1))
    return " and ".join(f"{share:.2f}" for share in shares), max(shares) <= 0.2


def _read_embedding(report: Report) -> tuple[str, bool]:
    share = report["embed"] / report["model"]
    return f"{share:.0%}: {report['embed']:,.0f} tokens/s of {report['model']:,.0f}", share >= 0.9


def _read_utilisation(report: Report) -> tuple[str, bool]:
    return f"{report['mfu']:.0%}", report["mfu"] >= 0.45


def _read_doctor(report: Report) -> tuple[str, bool]:
    counts = report["verdicts"]
    failing = ", ".join(fact["name"] for fact in report["facts"] if fact["verdict"] == "fails")
    return f"{counts['ok']} ok, {counts['note']} notes" + (f", fails: {failing}" if failing else ""), report["healthy"]


def _read_tests(report: Report) -> tuple[str, bool]:
    return report["summary"], report["passed"] > 0 and not report["failed"]


ROWS = [
    Row(
        "memory", "memory forward, 8k, (1024, 1024)", ">= 40x released, <= 0.38 ms",
        _read_speed(0, "forward", 40, 0.38e-3),
    ),
    Row("memory", "its device time by its bytes at the speed of a copy", "<= 2x", _read_bytes),
    Row("memory", "memory forward, 8k, (256, 128)", ">= 2x", _read_speed(1, "forward", 2, None)),
    Row(
        "memory", "memory forward and backward, 8k, (1024, 1024)", ">= 20x, <= 1.5 ms",
        _read_speed(0, "train", 20, 1.5e-3),
    ),
    Row("memory", "memory forward and backward, 8k, (256, 128)", ">= 15x", _read_speed(1, "train", 15, None)),
    Row("memory", "slowest of all T >= 200", ">= 2x", _read_least),
    Row("memory", "peak memory of forward and backward, both shapes", "<= 0.6 of released", _read_memory_peak),
    Row("memory", "launches of forward; of forward and backward", "<= 8; <= 45", _read_launches),
    Row("step", "three layers in a 1.2B step, 2 x 8,192", "<= 3 %, stretch 2 %", _read_step),
    Row("compiled", "compiled training step with memory, 0.3B", "not slower than eager", _read_compiled),
    Row("compiled", "share of the memory in the compiled step", "<= 4 %", _read_compiled_share),
    Row("generation", "generation with a static cache, by that without memory", ">= 0.9", _read_generation),
    Row("big_bird", "BigBird 4 x 4,096, forward", ">= 5x transformers", _read_big_bird("forward", 5)),
    Row("big_bird", "BigBird, forward and backward", ">= 4x", _read_big_bird("forward and backward", 4)),
    Row("big_bird", "BigBird, peak memory of both", "<= 0.2 of transformers", _read_big_bird_peak),
    Row("embedding", "embedding, mixed lengths, by the model on full batches", ">= 90 %", _read_embedding),
    Row("embedding", "the model's MFU (Nucleotide Transformer 500M)", ">= 45 %", _read_utilisation),
    Row("tests", "pytest -m gpu", "all pass", _read_tests),
    Row("doctor", "gengram doctor", "nothing fails", _read_doctor),
]  # fmt: skip


def tabulate(folder: Path, rehearsed: bool) -> str:
    """All rows, of what the parts have found; a row whose part has not come so far says why."""
    lines = []
    for row in ROWS:
        try:
            report = json.loads((folder / f"{row.part}.json").read_text())
            found, reached = row.read(report)
            verdict = "rehearsed" if rehearsed else "reached" if reached else "SHORT OF IT"
        except (OSError, ValueError, LookupError, TypeError, StopIteration):
            found, verdict = _explain(folder, row.part), "not measured"
        lines.append((row.path, row.goal, found, verdict))
    widths = [max(map(len, column)) for column in zip(*lines, ("path", "goal", "found", "verdict"))]
    shown = [("path", "goal", "found", "verdict"), tuple("-" * width for width in widths), *lines]
    table = "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in shown)
    counts = {
        verdict: sum(line[3] == verdict for line in lines) for verdict in ("reached", "SHORT OF IT", "not measured")
    }
    if rehearsed:
        done = sum(line[3] == "rehearsed" for line in lines)
        told = "A rehearsal on a CPU with tiny models: no figure means anything."
        return f"{told}\n\n{table}\n\n{done} of {len(ROWS)} rows rehearsed"
    return f"{table}\n\n" + ", ".join(f"{count} {verdict.lower()}" for verdict, count in counts.items())


def _explain(folder: Path, part: str) -> str:
    """How a part has ended, and the last line of what it has said."""
    from gengram.printable import make_printable, shorten

    ended, said = "", ""
    with contextlib.suppress(OSError):
        ended = (folder / f"{part}.end").read_text().strip()
    with contextlib.suppress(OSError):
        lines = (folder / f"{part}.log").read_text(errors="replace").strip().splitlines()
        said = lines[-1] if lines else ""
    return shorten(make_printable(": ".join(word for word in (ended or "not begun", said) if word)), 100)


def read_summary(log: Path, out: Path) -> None:
    """Make a report of what `pytest -v` has said, to its end or not: how many tests have passed and failed."""
    text = log.read_text(errors="replace")
    verdicts = re.findall(r"^\S+::.* (PASSED|FAILED|ERROR|SKIPPED)\b", text, re.MULTILINE)
    passed, skipped = verdicts.count("PASSED"), verdicts.count("SKIPPED")
    failed = len(verdicts) - passed - skipped + len(re.findall("^ERROR tests", text, re.MULTILINE))
    stopped = not re.search(r"^=+ .*\bin [\d.]+s\b.*=+$", text, re.MULTILINE)
    shown = f"{passed} passed, {failed} failed, {skipped} skipped{'; stopped before the end' if stopped else ''}"
    write_json({"passed": passed, "failed": failed, "stopped": stopped, "summary": shown}, out)


def main(argv: list[str] | None = None) -> int:
    """Measure a part, or print the table."""
    prog = "python -m gengram.benchmarks.speed.gpu_check"
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=HelpFormatter, epilog=f"example: {prog} memory check"
    )
    parser.add_argument("part", choices=[*PARTS, "summary", "table"], help="what to measure")
    parser.add_argument("folder", type=Path, help="of the reports")
    parser.add_argument("--rehearse", action="store_true", help="tiny models on a CPU")
    arguments = parser.parse_args(argv)
    folder, size = arguments.folder, TINY if arguments.rehearse else FULL
    try:
        if arguments.part == "table":
            print(tabulate(folder, arguments.rehearse))
            return 0
        if arguments.part == "summary":
            read_summary(folder / "tests.log", folder / "tests.json")
            return 0
        with _measuring(size):
            report: Report = {"size": size._asdict()}
            path = folder / f"{arguments.part}.json"
            PARTS[arguments.part](size, report, lambda: write_json(report, path))
    except InputError as error:
        return complain(prog, str(error))
    except OSError as error:
        return complain(prog, str(error))
    return 0


@contextlib.contextmanager
def _measuring(size: Size) -> Iterator[None]:
    """On a GPU, where a kernel that does not run is an error."""
    import torch

    from gengram.benchmarks.speed.measure import refuse_fallbacks

    if size.device == "cuda" and not torch.cuda.is_available():
        raise InputError("no CUDA device here; --rehearse runs tiny models on a CPU")
    with refuse_fallbacks(size.device):
        yield


__all__ = ["FULL", "PARTS", "ROWS", "TINY", "main", "read_summary", "tabulate"]

if __name__ == "__main__":
    sys.exit(main())
