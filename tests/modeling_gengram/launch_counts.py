"""How many kernels a call launches on a GPU, counted on a CPU by a rule.

    python tests/modeling_gengram/launch_counts.py [--json]

prints a call's launches for both presets: the table of `docs/memory.md`, whose rule is

| operation | launches |
|---|---|
| view, metadata, allocation without a value (`empty`) | 0 |
| Triton kernel, whatever an autotuner tries | 1 |
| sort, scan (cumulative sums and maxima), histogram, `nonzero`, gradient of an embedding or index (a sort) | 4 |
| everything else: elementwise operation, reduction, matrix product, copy, concatenation, fill, search, gather | 1 |

An operator of ours counts for nothing itself: what it does inside is counted, each operation by the same rule. A tensor
made of Python numbers counts as the copy to the device that it is.

Some operations make the host wait for the device, or make a shape of numbers that only the device knows: they cannot be
captured in a CUDA graph. They are listed in `Counts.waits`.
"""

import argparse
import contextlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
import triton
from kernel_launches import Launch, import_kernels, record_launches
from torch._library.custom_ops import OPDEFS
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

FREE = {
    "empty", "empty_like", "empty_strided", "empty_permuted", "new_empty", "new_empty_strided",
    "_unsafe_view", "_reshape_alias", "lift", "set_", "resize_", "sym_size", "sym_stride", "sym_numel",
    "is_same_size", "_has_compatible_shallow_copy_type", "record_stream", "_version",
}  # fmt: skip
SORTS = {
    "sort", "argsort", "topk", "kthvalue", "mode", "median", "unique_dim", "unique_consecutive", "_unique", "_unique2",
    "cumsum", "cumsum_", "cumprod", "cummax", "cummin", "_cummax_helper", "_cummin_helper", "logcumsumexp",
    "nonzero", "nonzero_static", "bincount", "histc", "embedding_dense_backward",
}  # fmt: skip
WAITS = {
    "nonzero", "_unique", "_unique2", "unique_dim", "unique_consecutive", "_local_scalar_dense", "item", "equal",
    "is_nonzero", "masked_select", "bincount", "histc", "_to_cpu",
}  # fmt: skip
PRODUCTS = {"mm", "addmm"}
UPLOADS = {"lift_fresh"}  # a tensor of Python numbers: `torch.tensor([...], device="cuda")`


@dataclass
class Counts:
    """
    Attributes:
        launches: by operation (`aten::add`) or Triton kernel.
        waits: what makes the host wait or has a shape that depends on numbers, in order.
        recorded: the Triton kernels with their arguments, in order.
        peak: bytes that the call takes at its peak beyond what is there before it.
    """

    launches: Counter = field(default_factory=Counter)
    waits: list[str] = field(default_factory=list)
    recorded: list[Launch] = field(default_factory=list)
    peak: int = 0

    @property
    def total(self) -> int:
        return sum(self.launches.values())


class CountingMode(TorchDispatchMode):
    """Applies the rule above to every operation, also to those inside an operator of ours."""

    def __init__(self, counts: Counts):
        super().__init__()
        self.counts = counts
        self._made: dict[int, tuple[StorageWeakRef, int]] = {}  # and its bytes

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function.namespace not in ("aten", "prim", "prims"):
            with self:  # what the operator is made of, so that its own operations pass here, too
                return OPDEFS[function._schema.name]._init_fn(*args, **kwargs)
        name = function._schema.name.split("::")[1]
        self._count(function, name, args)
        if name in PRODUCTS and not triton.knobs.runtime.interpret:
            result = _leave_out(args, kwargs)
        else:
            result = function(*args, **kwargs)
        self._measure((args, kwargs), result)
        if name in FREE and name.startswith(("empty", "new_empty")) and not triton.knobs.runtime.interpret:
            result.zero_()  # no kernel writes it: at least numbers that an index may be
        return result

    def _measure(self, given, result) -> None:
        known = {leaf.untyped_storage()._cdata for leaf in tree_leaves(given) if isinstance(leaf, torch.Tensor)}
        self._made = {key: made for key, made in self._made.items() if not made[0].expired()}
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and (storage := leaf.untyped_storage())._cdata not in known:
                self._made[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self.counts.peak = max(self.counts.peak, sum(size for _, size in self._made.values()))

    def _count(self, function, name: str, args) -> None:
        if name in WAITS or (name in ("index", "index_put", "index_put_", "_index_put_impl_") and _by_mask(args)):
            self.counts.waits.append(name)
        if name == "repeat_interleave":
            self.counts.waits.append(name)
        if name in UPLOADS:
            self.counts.waits.append(f"{name} (upload)")
            self.counts.launches["upload"] += 1
            return
        if name in FREE or function.is_view or name in ("detach", "detach_", "alias"):
            return
        sorts = name in SORTS or (name.startswith("index_put") and len(args) > 3 and args[3])  # accumulates
        self.counts.launches[f"aten::{name}"] += 4 if sorts else 1


def _leave_out(args, kwargs) -> torch.Tensor:
    """A product whose numbers nobody reads: a CPU takes a minute for one of the tables in float16."""
    left, right = args[-2:]
    return kwargs["out"].zero_() if "out" in kwargs else left.new_zeros(left.shape[0], right.shape[1])


def _by_mask(args) -> bool:
    return any(isinstance(one, torch.Tensor) and one.dtype in (torch.bool, torch.uint8) for one in args[1] or ())


@contextlib.contextmanager
def count_launches() -> Iterator[Counts]:
    """Count what is launched inside the block; the Triton kernels come in where the block ends."""
    counts = Counts()
    with record_launches() as counts.recorded, CountingMode(counts):
        yield counts
    counts.launches.update(launch.name for launch in counts.recorded)


def measure() -> list[dict]:
    """
    Launches of a call of the memory in bfloat16: in evaluation with tables that are kept, and forward and backward.

    Returns:
        A row for each preset, size and T: preset, D, E, T, form, mode, total, peak, launches by kernel, waits.
    """
    import_kernels()
    from transformers import LlamaConfig

    from gengram import GengramConfig, MotifMemory
    from gengram.gengram.kmer_index import KmerContext

    rows = []
    for preset in ("released", "paper"):
        for D, E in ((1024, 1024), (256, 128)):
            backbone = LlamaConfig(hidden_size=D, num_attention_heads=1, num_hidden_layers=1, vocab_size=16)
            config = GengramConfig(backbone_config=backbone, memory_layers=[0], memory_dim=E, memory_preset=preset)
            memory = MotifMemory(config).to(torch.bfloat16)
            for T in (1_000, 8_192):
                context = KmerContext(torch.randint(0, 4, (1, T)))
                hidden = torch.randn(1, T, D, dtype=torch.bfloat16, requires_grad=True)
                cotangent = torch.ones_like(hidden)
                for mode in ("evaluation", "training"):
                    memory.train(mode == "training").zero_grad()
                    with torch.set_grad_enabled(mode == "training"):
                        if mode == "evaluation":
                            with count_launches():  # makes the tables that are kept
                                memory(hidden, context)
                        form = memory.choose_path(context)
                        with count_launches() as counts:
                            residual = memory(hidden, context)
                            if mode == "training":
                                residual.backward(cotangent)
                    row = {"preset": preset, "D": D, "E": E, "T": T, "form": form, "mode": mode}
                    launches = dict(counts.launches.most_common())
                    rows.append(
                        {**row, "total": counts.total, "peak": counts.peak, "launches": launches, "waits": counts.waits}
                    )
    return rows


def tabulate(rows: list[dict]) -> str:
    """Markdown: what each call launches, by kernel, most first."""
    lines = ["| preset | D, E | T | mode | form | MB at the peak | launches | of which |", "| --- " * 8 + "|"]
    for row in rows:
        parts = ", ".join(f"{name.removeprefix('aten::')} {count}" for name, count in row["launches"].items())
        size = f"{row['D']}, {row['E']}"
        lines.append(
            f"| {row['preset']} | {size} | {row['T']:,} | {row['mode']} | `{row['form']}` "
            f"| {row['peak'] / 1e6:.1f} | {row['total']} | {parts} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="count the kernels that a call of the memory launches on a GPU")
    parser.add_argument("--json", action="store_true", help="print rows as JSON")
    arguments = parser.parse_args()
    rows = measure()
    print(json.dumps(rows) if arguments.json else tabulate(rows))


if __name__ == "__main__":
    main()
