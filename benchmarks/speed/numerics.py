"""How the error of keys and values runs along a sequence: `python -m gengram.benchmarks.speed.numerics --plot x.png`.

This memory beside the released algorithm's running sums (`window_sums="prefix"`), both against float64 with the same
rounded weights.
"""

import sys
from pathlib import Path
from typing import Any

import torch

from gengram.benchmarks.speed import memory as speed
from gengram.benchmarks.speed.program import answer, make_parser
from gengram.files import save_figure
from gengram.gengram.kmer_index import KmerContext
from gengram.gengram.motif_memory import MotifMemory
from gengram.progress import track

BLOCK = 1024  # positions over which an error is taken


def make_memory(width: int, window_sums: str, mean: float) -> MotifMemory:
    """A memory in the released form, D = E = width, whose tables have this mean beside a standard deviation of 1."""
    memory = speed.make_memory(width, width, window_sums=window_sums).eval()
    with torch.no_grad():
        for table in memory.embeddings:
            table.weight.normal_(mean=mean)
    return memory


@torch.no_grad()
def measure_drift(length: int = 131_072, width: int = 32, mean: float = 0.25) -> list[dict[str, Any]]:
    """
    Errors along one random sequence of A, C, G, T.

    Returns:
        One entry for each dtype and form: `dtype`, `form` (`"this package"` or `"running sums"`), `errors`: relative L2
        error of key and value together in each block of `BLOCK` positions.
    """
    letters = torch.randint(0, 4, (1, length), generator=torch.Generator().manual_seed(1))
    context = KmerContext(letters)
    rows = []
    with track(total=4, desc="Measuring", unit=" forms") as progress:
        for dtype in (torch.float32, torch.bfloat16):
            rounded = make_memory(width, "exact", mean).to(dtype).state_dict()
            exact = make_memory(width, "exact", mean).double()
            exact.load_state_dict(rounded)
            exact.path = "lifetime"
            truth = _in_blocks(exact, context)
            for form, window_sums in (("this package", "exact"), ("running sums", "prefix")):
                memory = make_memory(width, window_sums, mean).to(dtype)
                memory.load_state_dict(rounded)
                difference = _in_blocks(memory, context) - truth
                errors = difference.norm(dim=(1, 2)) / truth.norm(dim=(1, 2))
                rows.append({"dtype": str(dtype).removeprefix("torch."), "form": form, "errors": errors.tolist()})
                progress.update()
    return rows


def _in_blocks(memory: MotifMemory, context: KmerContext) -> torch.Tensor:
    """Key and value in float64: [blocks, BLOCK, 2D]."""
    key_value = torch.cat(memory.read(context), dim=-1)[0].double()
    whole = len(key_value) // BLOCK * BLOCK
    return key_value[:whole].unflatten(0, (-1, BLOCK))


def plot_drift(rows: list[dict[str, Any]], path: Path) -> None:
    """Errors over the position, both axes logarithmic."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    colours = {"float32": "tab:blue", "bfloat16": "tab:red"}
    for row in rows:
        position = [BLOCK * (i + 1) for i in range(len(row["errors"]))]
        style = "-" if row["form"] == "this package" else "--"
        axes.plot(position, row["errors"], style, color=colours[row["dtype"]], label=f"{row['dtype']}, {row['form']}")
    axes.set(xscale="log", yscale="log", xlabel="position in bases", ylabel="relative error of key and value")
    axes.axhline(1.0, color="0.7", linewidth=0.8)
    axes.legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(0.02, 0.51))
    axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path, dpi=120)


def tabulate(rows: list[dict[str, Any]], length: int) -> str:
    """Errors at a few positions of a sequence of this length."""
    ends = [end for end in (8_192, 32_768, 131_072) if end <= length] or [length // BLOCK * BLOCK]
    lines = [
        f"relative L2 error of key and value in the {BLOCK:,} positions before",
        f"{'dtype':<10}{'form':<14}" + "".join(f"{end:>10,}" for end in ends),
    ]
    for row in rows:
        errors = "".join(f"{row['errors'][end // BLOCK - 1]:>10.1e}" for end in ends)
        lines.append(f"{row['dtype']:<10}{row['form']:<14}{errors}")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Print errors at a few lengths; exit code 0."""
    parser = make_parser("numerics", __doc__, "--plot drift.png --json drift.json")
    parser.add_argument("--length", type=int, default=131_072, help="bases, at least 1,024")
    parser.add_argument("--mean", type=float, default=0.25, help="of the tables, whose standard deviation is 1")
    parser.add_argument("--plot", type=Path, help="file for the plot (needs matplotlib)")
    arguments = parser.parse_args(argv)
    if arguments.length < BLOCK:
        parser.error(f"--length must be at least {BLOCK}")
    rows = measure_drift(arguments.length, mean=arguments.mean)
    if arguments.plot:
        plot_drift(rows, arguments.plot)
    return answer(parser, tabulate(rows, arguments.length), {"block": BLOCK, "rows": rows}, arguments.json)


if __name__ == "__main__":
    sys.exit(main())

__all__ = ["main", "make_memory", "measure_drift", "plot_drift", "tabulate"]
