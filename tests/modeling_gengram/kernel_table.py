"""Every Triton kernel of the memory compiled to machine code for GPUs that are not here.

    python tests/modeling_gengram/kernel_table.py [--sm 80 90] [--dtype fp32 bf16 fp16] [--json FILE] [--quick]

What is compiled comes from calls of the memory, forward and backward, in evaluation and in training, over dtypes and
switches, whose launches are recorded (`kernel_launches`). A compiler sees more of an argument than its type: an integer
that is 1 becomes a constant, one that 16 divides is known to be so, a large one has 64 bits; the interpreter knows none
of this. So each kernel is compiled for integers of each kind (`SPECIALISATIONS`), by Triton's own just-in-time compiler
up to the launch: only the driver, which it asks for the GPU, is ours.
"""

import argparse
import json
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from kernel_launches import Launch, Pointer, import_kernels
from launch_counts import count_launches
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction, MockTensor

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
ARCHITECTURES = (80, 90)

# An integer of each kind, as Triton tells them apart.
PLAIN, ONE, DIVISIBLE, LONG = 17, 1, 48, 2**40 + 1
KINDS = {"one": ONE, "16": DIVISIBLE, "64 bits": LONG}
CALLED = "as called"  # each integer of the kind that it has in the recorded call: widths that 16 divides
GROUPS = (CALLED, "plain", *(f"all {kind}" for kind in KINDS), "unaligned")

# What every GPU since the A100 has, and a thread's stack without spilled registers. A spill is a fault where 16 divides
# the widths; elsewhere (odd widths, offsets of 64 bits, all of them at once) it is only slow, and told.
MOST_SHARED, MOST_STACK = 99 * 1024, 32
MAY_NOT_SPILL = (CALLED, "all 16")


@dataclass(frozen=True)
class Variant:
    """A kernel with the dtypes of its tensors, its constants and one configuration; integers are those of one call."""

    kernel: JITFunction
    arguments: tuple[tuple[str, Any], ...]
    configuration: tuple[tuple[str, Any], ...]

    def __str__(self) -> str:
        constants = [f"{name}={_spell(value)}" for name, value in self.arguments if not self._is_open(name, value)]
        return " ".join([*constants, *(f"{name}={value}" for name, value in self.configuration)])

    def _is_open(self, name: str, value: Any) -> bool:
        return isinstance(value, Pointer | float) or name in self.integers

    @property
    def key(self) -> tuple[str, str, str]:
        return self.kernel.__name__, str(self), self.dtypes

    @property
    def dtypes(self) -> str:
        return " ".join(str(value.dtype) for _, value in self.arguments if isinstance(value, Pointer))

    @property
    def integers(self) -> list[str]:
        constants = {parameter.name for parameter in self.kernel.params if parameter.is_constexpr}
        return [name for name, value in self.arguments if type(value) is int and name not in constants]


@dataclass(frozen=True)
class Compiled:
    """One row: what became of a variant under a specialisation. Registers and stack (bytes) are a thread's."""

    kernel: str
    variant: str
    dtype: str
    sm: int
    specialisation: str
    error: str = ""
    registers: int = 0
    stack: int = 0
    shared: int = 0
    seconds: float = 0.0

    @property
    def fault(self) -> str:
        """Why the row fails, or nothing."""
        if self.error:
            return self.error
        if self.stack > MOST_STACK and self.specialisation in MAY_NOT_SPILL:
            return f"spills {self.stack} bytes a thread"
        return f"{self.shared} bytes of shared memory" if self.shared > MOST_SHARED else ""


# The calls: fields of the configuration, and what the context holds. Sizes are small where they decide nothing.
SWITCHES: dict[str, dict[str, Any]] = {
    "released": {},
    "paper": {"memory_preset": "paper"},
    "documents": {"documents": True, "padding": True},
    "paper, documents": {"memory_preset": "paper", "documents": True},
    "centred": {"center_window": True},
    "centred, set, tied": {"center_window": True, "deduplicate": True, "tie_reverse_complement": True},
    "tied": {"tie_reverse_complement": True},
    "no mixer, sigmoid, bias": {"mixer": "none", "gate": "sigmoid", "projection_bias": True},
    "convolution norm": {"conv_norm": True},
    "sigmoid, set, bias": {"gate": "sigmoid", "deduplicate": True, "projection_bias": True},
    "taps": {"conv_kernel_size": 3, "conv_dilation": 1},
    "one size": {"kmer_sizes": [3]},
    "odd": {"hidden_size": 40, "memory_dim": 24},
    "narrow": {"hidden_size": 256, "memory_dim": 128},
    "wide": {"hidden_size": 2048, "memory_dim": 1024, "kmer_sizes": [1, 2]},
}
QUICK = ("released", "paper, documents")


def record_calls(dtype: torch.dtype, switches: Iterable[str] = SWITCHES) -> Iterator[Launch]:
    """Every launch of a memory over the switches, in both forms for a GPU."""
    from transformers import LlamaConfig

    from gengram import GengramConfig, MotifMemory
    from gengram.gengram.kmer_index import KmerContext

    for name in switches:
        fields = {"hidden_size": 1024, "memory_dim": 256, **SWITCHES[name]}
        D, cut, padded = fields.pop("hidden_size"), fields.pop("documents", False), fields.pop("padding", False)
        backbone = LlamaConfig(hidden_size=D, num_attention_heads=1, num_hidden_layers=1, vocab_size=16)
        memory = MotifMemory(GengramConfig(backbone_config=backbone, memory_layers=[0], **fields)).to(dtype)
        T = 200
        documents = torch.arange(T).div(70, rounding_mode="floor").expand(2, -1) if cut else None
        context = KmerContext(torch.zeros(2, T, dtype=torch.int64), documents)
        if padded:
            context = KmerContext(context.letters, documents, torch.ones(2, T, dtype=torch.bool))
        for form in ("triton", "triton_pooled"):
            memory.path = form
            hidden = torch.zeros(2, T, D, dtype=dtype, requires_grad=True)
            with count_launches() as training:
                residual = memory.train()(hidden, context)
                residual.backward(torch.zeros_like(residual))
            memory.zero_grad()
            with torch.no_grad(), count_launches() as evaluation:
                memory.eval()(hidden, context)
            yield from (*training.recorded, *evaluation.recorded)


def find_variants(launches: Iterable[Launch]) -> list[Variant]:
    """Each kernel with each combination of dtypes, constants and configurations, once."""
    found: dict[tuple, Variant] = {}
    for launch in launches:
        for configuration in launch.configurations:
            variant = Variant(launch.kernel, tuple(launch.arguments.items()), tuple(configuration.items()))
            found.setdefault(variant.key, variant)
    return list(found.values())


def choose_specialisations(variants: list[Variant], quick: bool) -> list[tuple[Variant, str]]:
    """
    For the first variant of each kernel all groups and, unless `quick`, from the plain base one argument at a time
    through the other kinds; for the first of other dtypes also all integers 1; for every other variant the call alone.
    """
    chosen, kernels, seen = [], set(), set()
    for variant in variants:
        kernel, _, dtypes = variant.key
        specialisations = [CALLED]
        if kernel not in kernels:
            specialisations += GROUPS[1:] if variant.integers else ["unaligned"]
            if not quick:
                specialisations += [f"{name} {kind}" for name in variant.integers for kind in KINDS]
        elif (kernel, dtypes) not in seen and variant.integers:
            specialisations.append("all one")
        kernels.add(kernel)
        seen.add((kernel, dtypes))
        chosen += [(variant, specialisation) for specialisation in specialisations]
    return chosen


class Driver:
    """A GPU that is not here, for Triton's just-in-time compiler."""

    def __init__(self, sm: int):
        self.sm = sm

    def get_current_device(self) -> int:
        return self.sm  # kernels are kept by device

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.sm, 32)


class Address(MockTensor):
    """A tensor without memory, at an address that 16 divides or not."""

    def __init__(self, dtype: torch.dtype, aligned: bool):
        super().__init__(dtype)
        self.aligned = aligned

    def data_ptr(self) -> int:
        return 0 if self.aligned else 4


def build_arguments(variant: Variant, specialisation: str) -> dict[str, Any]:
    """What the kernel is called with."""
    integers = set(variant.integers)
    name, _, kind = specialisation.partition(" ")
    arguments = {}
    for argument, value in variant.arguments:
        if isinstance(value, Pointer):
            value = Address(value.dtype, specialisation != "unaligned")
        elif argument in integers and specialisation != CALLED:
            value = KINDS.get(kind, PLAIN) if name in ("all", argument) else PLAIN
        arguments[argument] = value
    return arguments


def compile_kernel(variant: Variant, specialisation: str, dtype: str, sm: int) -> Compiled:
    """Compile to machine code, and read what it takes."""
    triton.runtime.driver.set_active(Driver(sm))
    row = {"kernel": variant.kernel.__name__, "variant": str(variant), "dtype": dtype, "sm": sm}
    row["specialisation"] = specialisation
    arguments = build_arguments(variant, specialisation)
    start = time.perf_counter()
    try:
        kernel = variant.kernel.run(grid=(1,), warmup=True, **arguments, **dict(variant.configuration))
    except Exception as error:  # whatever a compiler raises is what the row says
        return Compiled(**row, error=_explain(error))
    seconds = time.perf_counter() - start
    registers, stack = _read_usage(kernel.asm["cubin"])
    return Compiled(**row, registers=registers, stack=stack, shared=kernel.metadata.shared, seconds=round(seconds, 2))


def _explain(error: BaseException) -> str:
    """The innermost reason: of an error in a function that a kernel calls, that of the function."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" ^\t")]
    return f"{type(error).__name__}: {lines[-1] if lines else ''}"


def _read_usage(code: bytes) -> tuple[int, int]:
    dump = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(code)
        file.flush()
        command = [dump, "--dump-resource-usage", file.name]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    registers, stack = re.search(r"REG:(\d+) STACK:(\d+)", said).groups()
    return int(registers), int(stack)


def compile_all(sms: list[int], dtypes: list[str], processes: int = 1, quick: bool = False) -> list[Compiled]:
    """The whole table; kernels that see no dtype of the memory are compiled once, under "any"."""
    import_kernels()
    switches = QUICK if quick else tuple(SWITCHES)
    by_dtype = {dtype: find_variants(record_calls(DTYPES[dtype], switches)) for dtype in dtypes}
    times = Counter(variant.key for variants in by_dtype.values() for variant in variants)
    _jobs.clear()
    done = set()
    for dtype, variants in by_dtype.items():
        for variant, specialisation in choose_specialisations(variants, quick):
            if (variant.key, specialisation) not in done:
                done.add((variant.key, specialisation))
                label = "any" if len(dtypes) > 1 and times[variant.key] == len(dtypes) else dtype
                _jobs.extend((variant, specialisation, label, sm) for sm in sms)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TRITON_CACHE_DIR"] = folder
        if processes == 1:
            return [_run(number) for number in range(len(_jobs))]
        with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("fork")) as pool:
            return list(pool.map(_run, range(len(_jobs)), chunksize=4))


_jobs: list[tuple[Variant, str, str, int]] = []  # read by processes that are forked


def _run(number: int) -> Compiled:
    return compile_kernel(*_jobs[number])


def _spell(value: Any) -> str:
    return str(value).removeprefix("triton.language.")


def tabulate(rows: list[Compiled]) -> str:
    """Markdown: a line for each kernel, dtype and GPU."""
    lines = [
        "| kernel | dtype | sm | variants | compiled | failed | registers | shared memory | spills elsewhere |",
        "| --- " * 9 + "|",
    ]
    groups: dict[tuple, list[Compiled]] = {}
    for row in rows:
        groups.setdefault((row.kernel, row.dtype, row.sm), []).append(row)
    for (kernel, dtype, sm), group in sorted(groups.items()):
        good = [row for row in group if not row.error]
        variants, failed = len({row.variant for row in group}), sum(bool(row.fault) for row in group)
        spills = sum(row.stack > MOST_STACK and not row.fault for row in good)
        usage = [_span([row.registers for row in good]), _span([row.shared for row in good]), spills]
        cells = [f"`{kernel}`", dtype, sm, variants, len(group), failed, *usage]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def _span(numbers: list[int]) -> str:
    if not numbers:
        return ""
    least, most = min(numbers), max(numbers)
    return f"{least:,}" if least == most else f"{least:,} - {most:,}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sm", type=int, nargs="+", default=list(ARCHITECTURES), help="compute capabilities")
    parser.add_argument("--dtype", nargs="+", choices=DTYPES, default=list(DTYPES), help="of the memory's weights")
    parser.add_argument("--json", type=Path, help="file for every row")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="fewer specialisations, none of one argument alone")
    arguments = parser.parse_args()
    start = time.perf_counter()
    rows = compile_all(arguments.sm, arguments.dtype, arguments.processes, arguments.quick)
    print(tabulate(rows))
    failed = [row for row in rows if row.fault]
    print(f"\n{len(rows)} compiled, {len(failed)} failed, {time.perf_counter() - start:.0f} s")
    for row in failed:
        print(f"{row.kernel} [{row.variant}] {row.specialisation}, {row.dtype}, sm_{row.sm}: {row.fault}")
    if arguments.json:
        content = {"triton": triton.__version__, "rows": [asdict(row) | {"fault": row.fault} for row in rows]}
        arguments.json.write_text(json.dumps(content, indent=1) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
