"""How does the cost grow with the data? `python -m gengram.benchmarks.speed.scale --rows 1000 10000 100000`.

Every verb that reads rows or genomes, and the parts below them, each in a process of its own on random data of several
sizes: CPU seconds (user and system; neighbours disturb them less than the clock), the peak of memory, and the growth.
What a verb spends its time on is in its own table of phases, which this program collects (`gengram.phases`).
"""

import itertools
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gengram.benchmarks.speed.program import answer, list_versions, make_parser, run_apart
from gengram.command_line import complain, whole_number
from gengram.errors import InputError
from gengram.files import Numbers, check_output_file, open_safetensors, save_figure
from gengram.phases import REST, START, phase, recording
from gengram.progress import QUIET, quiet_libraries, tell

LENGTH = 200  # bp of a row
_LABELS, _LONG = 919, 1000  # of DeepSEA's table: labels, bp
_FEATURES = 14
_INPUT = "Making the input"
# What is not the work of a case.
_OUTSIDE = (START, _INPUT)
_MOST_GROWTH = 1.35
"""The largest exponent of size that `--check` takes for linear; between sizes of which the smaller takes a second."""

_NETWORK = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
_MEMORY = {"memory_layers": [0], "memory_dim": 8, "center_window": True}


class Case(NamedTuple):
    """What is measured.

    Attributes:
        title: in the table.
        unit: what a size counts, in the plural.
        factor: size of the case for each row that is asked for.
        run: of a verb, writes the input of a size into a folder and returns the words of the command; of a part, does
            the work of a size.
        is_verb: which of both it is.
    """

    title: str
    unit: str
    factor: float
    run: Callable[..., Any]
    is_verb: bool = True


# ---------------------------------------------------------------- inputs


def draw_sequences(rows: int, length: int, seed: int = 0) -> list[str]:
    """Return random DNA, N texts of a length."""
    bases = np.frombuffer(b"ACGT", dtype=np.uint8)[np.random.default_rng(seed).integers(0, 4, (rows, length))]
    text = bases.tobytes().decode()
    return [text[first : first + length] for first in range(0, rows * length, length)]


def draw_library(rows: int, changes: int = 5, parents: int = 4, length: int = 256) -> list[str]:
    """Return variants of a few parents, each with some substitutions: a library of mutants."""
    draw = np.random.default_rng(0)
    letters = np.frombuffer("".join(draw_sequences(parents, length)).encode(), dtype=np.uint8).reshape(parents, length)
    found = letters[draw.integers(0, parents, rows)].copy()
    for _ in range(changes):
        found[np.arange(rows), draw.integers(0, length, rows)] = np.frombuffer(b"ACGT", dtype=np.uint8)[
            draw.integers(0, 4, rows)
        ]
    text = found.tobytes().decode()
    return [text[first : first + length] for first in range(0, rows * length, length)]


def _write_rows(path: Path, rows: int) -> Path:
    """A table of random sequences and one of two labels."""
    with open(path, "w", encoding="ascii") as stream:
        stream.write("sequence,label\n")
        stream.writelines(f"{text},{row % 2}\n" for row, text in enumerate(draw_sequences(rows, LENGTH)))
    return path


def _write_fasta(path: Path, sequences: Sequence[str]) -> Path:
    with open(path, "w", encoding="ascii") as stream:
        stream.writelines(f">r{number}\n{text}\n" for number, text in enumerate(sequences))
    return path


def _write_labels(path: Path, rows: int) -> Path:
    """A table in DeepSEA's layout: long sequences and 919 labels, each 0 or 1."""
    draw = np.random.default_rng(0)
    with open(path, "wb") as stream:
        stream.write(b"sequence," + b",".join(b"label_%d" % number for number in range(_LABELS)) + b"\n")
        for first in range(0, rows, 1000):
            for text in draw_sequences(min(1000, rows - first), _LONG, seed=first):
                cells = np.full(2 * _LABELS, ord(","), dtype=np.uint8)
                cells[1::2] = ord("0") + (draw.random(_LABELS) < 0.02)
                stream.write(text.encode() + cells.tobytes() + b"\n")
    return path


def _save_classifier(folder: Path) -> Path:
    """A tiny network with a memory for two classes, of random weights, with its tokenizer."""
    import torch
    from transformers import BertConfig

    from gengram.gengram.configuration_gengram import GengramConfig
    from gengram.gengram.modeling_gengram import GengramForSequenceClassification
    from gengram.tokenization.nucleotide import build_nucleotide_tokenizer

    torch.manual_seed(0)
    tokenizer = build_nucleotide_tokenizer()
    tokenizer.model_max_length = 256
    backbone = BertConfig(**_NETWORK, vocab_size=len(tokenizer), max_position_embeddings=256, pad_token_id=3)
    bases: Any = tokenizer.convert_tokens_to_ids(list("ACGTN"))
    shape: dict[str, Any] = {**_MEMORY, "base_token_ids": bases, "pad_token_id": 3, "num_labels": 2}
    config = GengramConfig(backbone_config=backbone, **shape)
    GengramForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _save_segmenter(folder: Path) -> Path:
    """A tiny SegmentNT of random weights, with its tokenizer."""
    import torch

    from gengram.nucleotide_transformer.configuration_segment_nt import SegmentNTConfig
    from gengram.nucleotide_transformer.modeling_segment_nt import SegmentNTForTokenClassification
    from gengram.tokenization.kmer import build_kmer_tokenizer

    torch.manual_seed(0)
    tokenizer = build_kmer_tokenizer(6)
    features = [f"feature_{number}" for number in range(_FEATURES)]
    shape: dict[str, Any] = {**_NETWORK, "vocab_size": len(tokenizer), "kmer_size": 6, "num_layers_head": 2}
    config = SegmentNTConfig(**{**shape, "features": features})
    SegmentNTForTokenClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


# ---------------------------------------------------------------- verbs: words of a command


def _train(table: Path, rows: int, folder: Path, *more: str, positions: int = 256) -> list[str]:
    network = {**_NETWORK, "max_position_embeddings": positions}
    words = ["finetune", "--train_file", str(table), "--out", str(folder / "run"), "--backbone", "bert"]
    words += ["--backbone_config", json.dumps(network), "--memory", json.dumps(_MEMORY), "--max_steps", "1"]
    few = min(max(0.01, 50 / rows), 0.5)
    return [*words, "--validation_fraction", str(few), "--use_cpu", "--no_baselines", *more]


def _run_data(rows: int, folder: Path) -> list[str]:
    return _train(_write_rows(folder / "rows.csv", rows), rows, folder)


def _run_copies_only(rows: int, folder: Path) -> list[str]:
    return _train(_write_rows(folder / "rows.csv", rows), rows, folder, "--group_similarity", "1")


def _run_labels(rows: int, folder: Path) -> list[str]:
    table = _write_labels(folder / "labels.csv", rows)
    return _train(table, rows, folder, "--group_similarity", "1", positions=1024)


def _run_predict(rows: int, folder: Path) -> list[str]:
    table, model = _write_rows(folder / "rows.csv", rows), _save_classifier(folder / "model")
    return ["predict", str(table), "--model", str(model), "--out", str(folder / "out.parquet"), "--devices", "cpu"]


def _run_embed(rows: int, folder: Path) -> list[str]:
    table, model = _write_rows(folder / "rows.csv", rows), _save_classifier(folder / "model")
    return ["embed", str(table), "--model", str(model), "--out", str(folder / "out.parquet"), "--devices", "cpu"]


def _run_embed_fasta(rows: int, folder: Path) -> list[str]:
    table = _write_fasta(folder / "rows.fa", draw_sequences(rows, LENGTH))
    model = _save_classifier(folder / "model")
    return ["embed", str(table), "--model", str(model), "--out", str(folder / "out.parquet"), "--devices", "cpu"]


def _run_segment(bases: int, folder: Path) -> list[str]:
    genome = _write_fasta(folder / "genome.fa", draw_sequences(1, bases))
    model = _save_segmenter(folder / "model")
    return ["segment", str(genome), "--model", str(model), "--out", str(folder / "tracks"), "--devices", "cpu"]


def _run_train_tokenizer(bases: int, folder: Path) -> list[str]:
    genome = _write_fasta(folder / "genome.fa", draw_sequences(1, bases))
    return ["train-tokenizer", str(genome), "--out", str(folder / "tokenizer"), "--vocab_size", "4096"]


def _save_large(folder: Path, size: int) -> Path:
    model = _save_classifier(folder / "model")
    with open_safetensors(model / "model.safetensors", {"weight": Numbers("F32", (size // 4,), 4)}, {}) as stream:
        stream.truncate(stream.tell() + size // 4 * 4)
    return model


def _run_card(size: int, folder: Path) -> list[str]:
    return ["card", "lab/model", "--model", str(_save_large(folder, size)), "--out", str(folder / "card.md")]


def _run_push(size: int, folder: Path) -> list[str]:
    return ["push", "lab/model", "--model", str(_save_large(folder, size)), "--dry_run"]


# ---------------------------------------------------------------- parts: the work itself


def _group(make: Callable[[int], list[str]], rows: int) -> None:
    with phase(_INPUT):
        from gengram.training.data.duplicates import group_sequences

        sequences = make(rows)
    with phase("Grouping", unit="rows") as one:
        group_sequences(sequences)
        one.add(rows)


def _group_random(rows: int) -> None:
    _group(lambda rows: draw_sequences(rows, LENGTH), rows)


def _group_library(rows: int) -> None:
    _group(draw_library, rows)


def _group_tiles(rows: int) -> None:
    def make(rows: int) -> list[str]:
        genome = draw_sequences(1, 10 * rows + LENGTH)[0]
        return [genome[first : first + LENGTH] for first in range(0, 10 * rows, 10)]

    _group(make, rows)


def _group_copies(rows: int) -> None:
    _group(lambda rows: (draw_sequences(-(-rows // 10), LENGTH) * 10)[:rows], rows)


def _encode(kind: str, bases: int) -> None:
    with phase(_INPUT):
        from gengram.tokenization.choose_encoder import find_encoder
        from gengram.tokenization.kmer import build_kmer_tokenizer
        from gengram.tokenization.nucleotide import build_nucleotide_tokenizer
        from gengram.tokenization.train_tokenizer import train_bpe_tokenizer

        if kind == "base":
            tokenizer: Any = build_nucleotide_tokenizer()
        elif kind == "kmer":
            tokenizer = build_kmer_tokenizer(6)
        else:
            tokenizer = train_bpe_tokenizer(draw_sequences(200, 1000, seed=1), vocab_size=512)
        encode = find_encoder(tokenizer)
        encode(draw_sequences(1, 1000))  # what is compiled, or set up, once
        sequences = draw_sequences(-(-bases // _LONG), _LONG)
    with phase("Encoding", unit="bp") as one:
        encode(sequences)
        one.add(bases)


def _encode_bases(bases: int) -> None:
    _encode("base", bases)


def _encode_kmers(bases: int) -> None:
    _encode("kmer", bases)


def _encode_bpe(bases: int) -> None:
    _encode("bpe", bases)


def _score(problem: Any, columns: int, rows: int) -> None:
    with phase(_INPUT):
        from transformers import EvalPrediction

        from gengram.training.metrics.scores import measure, score

        draw = np.random.default_rng(0)
        outputs = draw.standard_normal((rows, columns)).astype(np.float32)
        answers: Any = draw.integers(0, columns, rows)
        if problem == "multi_label":
            answers = (draw.random((rows, columns)) < 0.1).astype(np.int8)
        elif problem == "regression":
            answers = (outputs + draw.standard_normal((rows, columns))).astype(np.float32)
        prediction = EvalPrediction(outputs, answers)
    with phase("Measuring", unit="rows") as one:
        measure(problem, prediction)
        one.add(rows)
    with phase("Scoring with intervals", unit="rows") as one:
        score(problem, prediction, with_resamples=True)
        one.add(rows)


def _score_classes(rows: int) -> None:
    _score("single_label", 2, rows)


def _score_regression(rows: int) -> None:
    _score("regression", 1, rows)


def _score_labels(rows: int) -> None:
    _score("multi_label", _LABELS, rows)


CASES: dict[str, Case] = {
    "data": Case("finetune, one step", "rows", 1, _run_data),
    "copies_only": Case("finetune, --group_similarity 1", "rows", 1, _run_copies_only),
    "labels": Case(f"finetune, {_LABELS} labels, {_LONG} bp", "rows", 0.1, _run_labels),
    "predict": Case("predict", "rows", 1, _run_predict),
    "embed": Case("embed, csv", "rows", 1, _run_embed),
    "embed_fasta": Case("embed, FASTA", "rows", 1, _run_embed_fasta),
    "segment": Case(f"segment, {_FEATURES} features", "bp", 30, _run_segment),
    "train_tokenizer": Case("train-tokenizer", "bp", 100, _run_train_tokenizer),
    "card": Case("card", "bytes", 10_000, _run_card),
    "push": Case("push --dry_run", "bytes", 10_000, _run_push),
    "group_random": Case("near-duplicates: random", "rows", 1, _group_random, False),
    "group_library": Case("near-duplicates: variants", "rows", 1, _group_library, False),
    "group_tiles": Case("near-duplicates: tiles", "rows", 1, _group_tiles, False),
    "group_copies": Case("near-duplicates: copies", "rows", 1, _group_copies, False),
    "encode_bases": Case("ids: single bases", "bp", LENGTH, _encode_bases, False),
    "encode_kmers": Case("ids: 6-mers", "bp", LENGTH, _encode_kmers, False),
    "encode_bpe": Case("ids: BPE", "bp", LENGTH, _encode_bpe, False),
    "score_classes": Case("scores: two classes", "rows", 1, _score_classes, False),
    "score_regression": Case("scores: a number", "rows", 1, _score_regression, False),
    "score_labels": Case(f"scores: {_LABELS} labels", "rows", 0.1, _score_labels, False),
}

_PART = "from gengram.benchmarks.speed.scale import run_part; run_part({name!r}, {size})"


def run_part(name: str, size: int) -> None:
    """Do the work of a part in this process, and print its phases as JSON."""
    os.environ[QUIET] = "1"  # Who has started the process tells of it.
    with recording() as recorded:
        CASES[name].run(size)
        print(json.dumps({"phases": [one.describe() for one in recorded.list_phases()]}))


def measure_case(name: str, size: int) -> dict[str, Any]:
    """Run a case of a size in a process of its own.

    Returns:
        `case`, `size`, `unit`, `phases` as a command has them, and of them without the start and what makes the input
        `seconds` and `cpu_seconds`; `peak_bytes` of the process.

    Raises:
        `InputError`: a command fails, with what it says; or a part, which says it itself.
    """
    case = CASES[name]
    if case.is_verb:
        with tempfile.TemporaryDirectory() as folder:
            words = [*case.run(size, Path(folder)), "--json"]
            command = [sys.executable, "-m", "gengram.cli", *words]
            done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise InputError(f"{name}, {size:,} {case.unit}: {(done.stderr.splitlines() or ['it failed'])[-1]}")
        phases = json.loads(done.stdout).get("phases", [])
    else:
        try:
            phases = json.loads(run_apart("-c", _PART.format(name=name, size=size)))["phases"]
        except subprocess.CalledProcessError as error:
            raise InputError(f"{name}, {size:,} {case.unit}: it failed, see above") from error
    work = [one for one in phases if one["name"] not in _OUTSIDE]
    return {
        "case": name,
        "size": size,
        "unit": case.unit,
        "seconds": round(sum(one["seconds"] for one in work), 3),
        "cpu_seconds": round(sum(one["cpu_seconds"] for one in work), 3),
        "peak_bytes": max((one["peak_bytes"] or 0 for one in phases), default=0) or None,
        "phases": phases,
    }


def measure_growth(found: Sequence[dict[str, Any]]) -> list[float | None]:
    """Return for each size the exponent of the growth since the size before: 1 is linear, 2 quadratic; None for the
    first, and where there is no time to speak of."""
    growth: list[float | None] = [None]
    for before, after in itertools.pairwise(found):
        both = before["cpu_seconds"], after["cpu_seconds"]
        known = min(both) > 0.01 and after["size"] != before["size"]
        growth.append(math.log(both[1] / both[0]) / math.log(after["size"] / before["size"]) if known else None)
    return growth


def list_faster_than_linear(report: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Say which costs grow clearly faster than the data, loosely: between sizes of which the smaller takes a second."""
    said = []
    for name, found in report.items():
        for before, after, growth in zip(found, found[1:], measure_growth(found)[1:]):
            if growth is not None and before["cpu_seconds"] >= 1 and growth > _MOST_GROWTH:
                sizes = f"{before['size']:,} to {after['size']:,} {after['unit']}"
                said.append(f"{CASES[name].title}: from {sizes} the CPU seconds grow like n^{growth:.2f}")
    return said


def tabulate(report: dict[str, list[dict[str, Any]]]) -> str:
    """Return a row for each case and size, and below it what each verb spends its CPU seconds on."""
    head = f"{'':<34}{'size':>22}{'CPU s':>10}{'clock s':>10}{'peak GB':>9}{'growth':>9}"
    lines = [head]
    for name, found in report.items():
        for one, growth in zip(found, measure_growth(found)):
            peak = "" if one["peak_bytes"] is None else f"{one['peak_bytes'] / 1e9:.2f}"
            power = "" if growth is None else f"n^{growth:.2f}"
            size = f"{one['size']:,} {one['unit']}"
            times = f"{one['cpu_seconds']:>10,.1f}{one['seconds']:>10,.1f}"
            lines.append(f"{CASES[name].title:<34}{size:>22}{times}{peak:>9}{power:>9}")
    for name, found in report.items():
        if CASES[name].is_verb and found:
            lines += ["", *_tabulate_phases(CASES[name].title, found)]
    return "\n".join(lines)


def _tabulate_phases(title: str, found: Sequence[dict[str, Any]]) -> list[str]:
    """CPU seconds of each phase at each size."""
    names = dict.fromkeys(phase["name"] for one in found for phase in one["phases"])
    lines = [f"{title + ', CPU s':<40}" + "".join(f"{one['size']:>16,}" for one in found)]
    for name in (*(name for name in names if name != REST), REST):
        spent = [next((each["cpu_seconds"] for each in one["phases"] if each["name"] == name), None) for one in found]
        cells = ("" if value is None else f"{value:,.2f}" for value in spent)
        lines.append(f"  {name:<38}" + "".join(f"{cell:>16}" for cell in cells))
    return lines


def plot(report: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Draw CPU seconds over sizes, both logarithmic, with a line that is linear growth."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    units = dict.fromkeys(CASES[name].unit for name in report)
    figure = Figure(figsize=(4.2 * len(units), 5.6), layout="constrained")
    for panel, unit in zip(np.atleast_1d(figure.subplots(1, len(units))), units):
        panel.set(xscale="log", yscale="log", xlabel=unit, ylabel="CPU seconds" if unit == next(iter(units)) else "")
        for number, (name, found) in enumerate(item for item in report.items() if CASES[item[0]].unit == unit):
            points = [(one["size"], max(one["cpu_seconds"], 1e-3)) for one in found]
            style = ("-", "--", ":")[number // 10]
            panel.plot(*zip(*points), style, marker="o", markersize=3, linewidth=1.2, label=CASES[name].title)
        low, high = panel.get_xlim()
        bottom, top = panel.get_ylim()
        bottom, top = min(bottom, top / 100), max(top, bottom * 100)  # two decades at least
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_minor_formatter(NullFormatter())
        start = math.sqrt(bottom * top) / math.sqrt(high / low)
        panel.plot([low, high], [start, start * high / low], color="0.8", linewidth=4, zorder=0, label="linear growth")
        panel.set(xlim=(low, high), ylim=(bottom, top))
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(fontsize=7, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.14))
    save_figure(figure, path, dpi=150)


def run_benchmark(names: Sequence[str], rows: Sequence[int], most: float) -> dict[str, list[dict[str, Any]]]:
    """Measure cases at all sizes, from small to large.

    Args:
        names: of `CASES`.
        rows: the sizes, as rows; the others follow from them, see `Case.factor`.
        most: CPU seconds; a size at which linear growth would take longer is left out.

    Raises:
        `InputError`: see `measure_case`.
    """
    report: dict[str, list[dict[str, Any]]] = {}
    for name in names:
        found = report.setdefault(name, [])
        for count in sorted(rows):
            size = max(int(count * CASES[name].factor), 1)
            if found and found[-1]["cpu_seconds"] * size / found[-1]["size"] > most:
                tell(f"{CASES[name].title}: {size:,} {CASES[name].unit} are left out, see --most_seconds")
                break
            with phase(CASES[name].title):  # What takes long is told of meanwhile.
                found.append(measure_case(name, size))
            one = found[-1]
            tell(f"{CASES[name].title}: {size:,} {one['unit']}, {one['cpu_seconds']:,.1f} CPU s")
    return report


def main(argv: list[str] | None = None) -> int:
    """Print the table; exit code 0, or 1 if a case fails, or with `--check` if a cost grows faster than the data."""
    parser = make_parser("scale", __doc__, "--rows 1000 10000 100000 --json scale.json --plot scale.png")
    parser.add_argument("--rows", type=whole_number, nargs="+", default=[1000, 10_000, 100_000], help="sizes, in rows")
    parser.add_argument("--only", nargs="+", choices=CASES, metavar="CASE", help=f"of {', '.join(CASES)}")
    parser.add_argument(
        "--most_seconds", type=float, default=1800.0, metavar="S", help="leave out sizes that would take longer (CPU)"
    )
    parser.add_argument(
        "--check", action="store_true", help=f"exit code 1 if a cost grows faster than n^{_MOST_GROWTH}"
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="the plot, .png or .svg (needs matplotlib)")
    arguments = parser.parse_args(argv)
    try:
        if arguments.plot is not None:
            check_output_file(arguments.plot, (".png", ".svg"))
            if find_spec("matplotlib") is None:
                raise InputError(f"{arguments.plot}: no plot without matplotlib: pip install 'gengram[plots]'")
        quiet_libraries()
        with recording():
            report = run_benchmark(arguments.only or list(CASES), arguments.rows, arguments.most_seconds)
        if arguments.plot is not None:
            plot(report, arguments.plot)
    except InputError as error:
        return complain(parser.prog, str(error))
    found = {**list_versions(), "rows": sorted(arguments.rows), "cases": report}
    failed = answer(parser, tabulate(report), found, arguments.json)
    faster = list_faster_than_linear(report) if arguments.check else []
    for line in faster:
        tell(line)
    return failed or int(bool(faster))


if __name__ == "__main__":
    sys.exit(main())

__all__ = [
    "CASES",
    "Case",
    "draw_library",
    "draw_sequences",
    "list_faster_than_linear",
    "main",
    "measure_case",
    "measure_growth",
    "plot",
    "run_benchmark",
    "run_part",
    "tabulate",
]
