"""Which kernels run here, and right? Each is compiled, run forward and backward, and compared with its definition."""

import math
import os
from functools import partial
from typing import Any

from gengram.benchmarks.doctor.facts import Fact, Step

GROUP = "kernels"
_COMPILING = 600.0  # seconds that the kernels of one dtype may take the first time
# Relative L2 errors that rounding explains: of values, and of gradients.
ALLOWED = {"float64": (1e-12, 1e-9), "float32": (1e-5, 1e-3), "float16": (5e-3, 2e-2), "bfloat16": (2e-2, 0.1)}


def list_steps() -> list[Step]:
    """Of the processor, then of each GPU or of Triton's interpreter."""
    import torch

    steps = [
        Step(GROUP, f"C++ memory, {name}", partial(examine_compiled_memory, name)) for name in ("float32", "float64")
    ]
    steps.append(Step(GROUP, "BigBird, gathered blocks", lambda: examine_big_bird("cpu", flex=False)))
    steps.append(Step(GROUP, "BPE encoder", examine_bpe_encoder))
    names = ("float32", "bfloat16", "float16")
    if os.environ.get("TRITON_INTERPRET") == "1":
        return steps + [
            Step(
                GROUP,
                f"Triton memory, interpreter, {name}",
                partial(examine_triton_memory, "cpu", name),
                _COMPILING,
            )
            for name in names
        ]
    devices = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    for device in devices:
        for name in names:
            run = partial(examine_triton_memory, device, name)
            steps.append(Step(GROUP, f"Triton memory, {device}, {name}", run, _COMPILING, True))
        for label, flex in (("gathered blocks", False), ("flex_attention", True)):
            run = partial(examine_big_bird, device, flex)
            steps.append(Step(GROUP, f"BigBird, {label}, {device}", run, _COMPILING, True))
        run = partial(examine_generation, device)
        steps.append(Step(GROUP, f"static cache, {device}", run, _COMPILING, True))
    if not devices:
        steps.append(Step(GROUP, "Triton memory", _tell_no_gpu))
    return steps


def _tell_no_gpu() -> Fact:
    found = "not run: there is no GPU (TRITON_INTERPRET=1 runs the kernels slowly on a CPU)"
    return Fact(GROUP, "Triton memory", found, "note")


def _judge(name: str, dtype: str, errors: dict[str, tuple[float, float]], what: str) -> Fact:
    """A fact of the errors of values and gradients, by what has run."""
    allowed = ALLOWED[dtype]
    values, gradients = (max(pair[column] for pair in errors.values()) for column in (0, 1))
    right = values <= allowed[0] and gradients <= allowed[1]
    found = f"error of values {values:.0e} (at most {allowed[0]:.0e}), of gradients {gradients:.0e} ({allowed[1]:.0e})"
    data = {"errors": {key: [_finite(one) for one in pair] for key, pair in errors.items()}, "allowed": list(allowed)}
    if right:
        return Fact(GROUP, name, found, data=data)
    worst = max(errors, key=lambda key: max(one / limit for one, limit in zip(errors[key], allowed)))
    remedy = f"please report it with this table; until then {what}"
    return Fact(GROUP, name, f"wrong results ({worst}): {found}", "fails", remedy, data)


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def examine_compiled_memory(dtype: str) -> Fact:
    """The memory by `cpu_kernel.cpp`."""
    import torch

    from gengram.gengram.cpu_library import load_kernel
    from gengram.gengram.fallback import KernelError, require_kernels
    from gengram.gengram.kernel_trial import try_memory
    from gengram.gengram.motif_memory import MotifMemory

    name = f"C++ memory, {dtype}"
    try:
        with require_kernels():
            load_kernel()
    except KernelError as error:
        fallback = error.fallback
        found = f"does not run, a slower form does ({fallback.cost}): {fallback.reason}"
        return Fact(GROUP, name, found, "fails", fallback.remedy)
    tried = try_memory(MotifMemory, "fused", "released", torch.device("cpu"), getattr(torch, dtype))
    errors = {"released": (max(tried.evaluation, tried.training), tried.gradients)}
    return _judge(name, dtype, errors, "CXX=false keeps the memory from it")


def examine_triton_memory(device: str, dtype: str) -> Fact:
    """The memory by Triton's kernels: both forms, both presets, packed and not."""
    import torch

    from gengram.gengram import gpu_kernel
    from gengram.gengram.kernel_trial import FULL, PRESETS, SMALL, try_memory
    from gengram.gengram.motif_memory import MotifMemory

    where = "interpreter" if device == "cpu" else device
    name = f"Triton memory, {where}, {dtype}"
    if gpu_kernel.missing is not None:
        fault = f"{type(gpu_kernel.missing).__name__}: {gpu_kernel.missing}"
        remedy = "pip install triton; without it the memory is about ten times slower on a GPU"
        return Fact(GROUP, name, f"cannot be imported: {fault}", "fails", remedy)
    errors: dict[str, tuple[float, float]] = {}
    for preset in PRESETS:
        for path in ("triton", "triton_pooled"):
            for packed in (True, False):
                key = f"{path}, {preset}{', packed' if packed else ''}"
                scale = SMALL if device == "cpu" else FULL
                try:
                    found = try_memory(
                        MotifMemory, path, preset, torch.device(device), getattr(torch, dtype), scale, packed
                    )
                except Exception as error:  # whatever a compiler or driver raises
                    fault = gpu_kernel.shorten_reason(f"{type(error).__name__}: {error}")
                    remedy = "the memory is about ten times slower here; please report it with this table"
                    return Fact(GROUP, name, f"does not run ({key}): {fault}", "fails", remedy)
                errors[key] = (max(found.evaluation, found.training), found.gradients)
    return _judge(name, dtype, errors, "set memory.path = 'lifetime' on each MotifMemory")


def examine_big_bird(device: str, flex: bool) -> Fact:
    """BigBird's sparse attention, forward and backward, beside dense attention with its mask in float64."""
    import torch

    from gengram.gena.block_sparse_attention import attend_sparsely

    S, n, r = 64, 12, 3
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    torch.manual_seed(0)
    parts = [torch.randn(2, n * S, 2, 64).to(dtype) for _ in range(3)]
    cotangent = torch.randn(2, n * S, 2, 64).to(dtype)
    mask = torch.ones(2, n * S)
    mask[1, -100:] = 0
    truth = _differentiate(
        lambda q, k, v: _attend_densely(q, k, v, mask, S, r), [part.double() for part in parts], cotangent.double()
    )
    found = _differentiate(
        lambda q, k, v: attend_sparsely(q, k, v, mask.to(device), S, r, flex=flex), [part.to(device) for part in parts],
        cotangent.to(device),
    )  # fmt: skip
    errors = [float((ours.cpu().double() - exact).norm() / exact.norm()) for ours, exact in zip(found, truth)]
    label = "flex_attention" if flex else "gathered blocks"
    name = f"BigBird, {label}" + ("" if device == "cpu" else f", {device}")
    return _judge(name, str(dtype)[6:], {label: (errors[0], max(errors[1:]))}, "use_fast_attention(model, flex=False)")


def _differentiate(function: Any, parts: list, cotangent: Any) -> list:
    """A value without its padding, and the gradients of it."""
    import torch

    parts = [part.requires_grad_() for part in parts]
    value = function(*parts)
    real = torch.ones_like(value)
    real[1, -100:] = 0  # queries of padding: what they get is nobody's
    return [(value * real).detach(), *torch.autograd.grad(value, parts, cotangent * real)]


def _attend_densely(query: Any, key: Any, value: Any, mask: Any, S: int, r: int) -> Any:
    """The definition: all T x T scores, of which most do not count, and the first block counts r + 1 times."""
    import torch

    T = query.shape[1]
    block = torch.arange(T) // S
    i, j, last = block[:, None], block, T // S - 1
    seen = (i == 0) | (i == last) | (j == 0) | (j == last) | ((i - j).abs() <= 1)
    bias = torch.where(seen, 0.0, -torch.inf).double()
    bias = bias + math.log(1 + r) * ((j == 0) & (i > 0) & (i < last))
    scores = torch.einsum("bqhd,bkhd->bhqk", query, key) * query.shape[-1] ** -0.5
    scores = scores + bias + torch.where(mask > 0, 0.0, -torch.inf).double()[:, None, None]
    return torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), value)


def examine_bpe_encoder() -> Fact:
    """The bulk BPE encoder, compiled by numba, beside the tokenizer."""
    from gengram.benchmarks.doctor.libraries import find_version
    from gengram.tokenization import BpeEncoder
    from gengram.tokenization.train_tokenizer import train_bpe_tokenizer

    version = find_version("numba")
    tokenizer = train_bpe_tokenizer(["ACGTTGCAACGGTTTATATCCGA" * 20, "GATTACA" * 40], vocab_size=40)
    encoder = BpeEncoder(tokenizer)
    name = "BPE encoder"
    if not encoder.is_fast and version is None:
        found = "not compiled: numba is not installed, tokenizers does the work"
        return Fact(GROUP, name, found, "note", "pip install 'gengram[fast]': several times faster on BPE models")
    if not encoder.is_fast:
        remedy = "pip install --force-reinstall numba; until then tokenizers does the work, several times slower"
        return Fact(GROUP, name, f"does not run, though numba {version} is installed", "fails", remedy)
    sequences = ["", "A", "ACGTTGCAACGG" * 9, "ACNNNNNNNNNNNNGT", "ttaggg" * 30]
    if [ids.tolist() for ids in encoder(sequences).split()] != [tokenizer(one)["input_ids"] for one in sequences]:
        return Fact(GROUP, name, "wrong ids", "fails", "pip uninstall numba, and please report it with this table")
    return Fact(GROUP, name, f"compiled by numba {version}, the same ids as tokenizers'")


def examine_generation(device: str) -> Fact:
    """A model with a memory generates with a static cache, compiled, what it generates with a dynamic one."""
    import torch
    from transformers import LlamaConfig

    from gengram.gengram.configuration_gengram import GengramConfig
    from gengram.gengram.modeling_gengram import GengramForCausalLM

    torch.manual_seed(0)
    backbone = LlamaConfig(
        vocab_size=16, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        pad_token_id=0, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    config = GengramConfig(backbone_config=backbone, memory_layers=[0, 1], memory_dim=32)
    model: Any = GengramForCausalLM(config)
    model = model.to(device).eval()
    prompt = torch.randint(5, 9, (2, 50), device=device)
    options: dict[str, Any] = {"max_new_tokens": 12, "do_sample": False}
    expected = model.generate(prompt, **options)
    found = model.generate(prompt, cache_implementation="static", **options)
    name, same = f"static cache, {device}", torch.equal(found, expected)
    if same:
        return Fact(GROUP, name, "generates the same as with a dynamic cache")
    return Fact(GROUP, name, "other tokens than with a dynamic cache", "fails", "please report it")


__all__ = ["ALLOWED", "examine_big_bird", "examine_bpe_encoder", "examine_compiled_memory", "examine_generation",
           "examine_triton_memory", "list_steps"]  # fmt: skip
