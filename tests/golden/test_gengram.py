"""The motif memory against the released code and against a brute force of the paper's equations.

A case is a folder with config.json and inputs, model and outputs in safetensors; the keys of its config.json say what
it is, not its name. Every form that applies to a case is compared with it, and a spy proves that the form ran.
"""

import pytest
import torch
from transformers import LlamaConfig

from gengram import GengramConfig, MotifMemory
from gengram.gengram import motif_memory
from gengram.gengram.kmer_index import KmerContext
from gengram.gengram.modeling_gengram import find_letters

MODULE_KEYS = {"dna_token_ids", "ngram_sizes", "embed_dim_per_ngram", "use_short_conv", "short_conv_dilation", "dtype"}
PAPER_KEYS = {"token_order_A_C_G_T_N", "ngram_sizes", "embed_dim_per_ngram", "rms_eps"}
OPERATIONS = {
    "definition": "pool_by_definition",
    "lifetime": "pool_by_lifetime",
    "merged": "read_merged",
    "fused": "run_fused",
}


def pytest_generate_tests(metafunc):
    for fixture, keys in (("module_case", MODULE_KEYS), ("paper_case", PAPER_KEYS)):
        if fixture in metafunc.fixturenames:
            cases = metafunc.config.find_golden_cases(keys)
            metafunc.parametrize(fixture, [pytest.param(case, id=case.id) for case in cases])


def build_memory(hidden_size: int, token_ids: list[int], dtype: torch.dtype, **fields) -> MotifMemory:
    backbone = LlamaConfig(
        hidden_size=hidden_size, num_attention_heads=1, num_hidden_layers=1, vocab_size=max(token_ids) + 1
    )
    config = GengramConfig(backbone_config=backbone, memory_layers=[0], base_token_ids=token_ids, **fields)
    return MotifMemory(config).to(dtype)


def build_released(config: dict, dtype: torch.dtype) -> MotifMemory:
    return build_memory(
        config["hidden_size"],
        config["dna_token_ids"],
        dtype,
        kmer_sizes=config["ngram_sizes"],
        memory_dim=config["embed_dim_per_ngram"],
        window_size=config["window_size"],
        mixer="conv_residual" if config["use_short_conv"] else "none",
        conv_kernel_size=config["short_conv_kernel_size"],
        conv_dilation=config["short_conv_dilation"],
        memory_norm_eps=config["norm_eps"],
    )


def run(memory: MotifMemory, path: str, hidden_states, input_ids, token_ids, monkeypatch):
    """Forward by one form; fails unless exactly that form's operation ran."""
    ran = []
    for name, operation in OPERATIONS.items():
        original = getattr(motif_memory, operation)

        def spy(*args, name=name, original=original, **kwargs):
            ran.append(name)
            return original(*args, **kwargs)

        monkeypatch.setattr(motif_memory, operation, spy)
    memory.path = path
    context = KmerContext(find_letters(input_ids, token_ids))
    output = memory(hidden_states, context)
    assert ran == [path]
    return output, context


def assert_near(name: str, ours: torch.Tensor, reference: torch.Tensor, tolerance: float):
    ours, reference = ours.detach().to(reference.dtype), reference.detach()
    error = float((ours - reference).abs().max() / reference.abs().max().clamp(min=1e-300))
    assert error <= tolerance, f"{name}: {error:.2e} of its scale, allowed {tolerance:.0e}"


@pytest.mark.parametrize("path", OPERATIONS)
def test_released_module(module_case, path, monkeypatch):
    config = module_case.config
    dtype = getattr(torch, config["dtype"])
    memory = build_released(config, dtype)
    memory.load_state_dict(module_case.load("model"))
    inputs, outputs = module_case.load("inputs"), module_case.load("outputs")
    if dtype == torch.bfloat16:
        return check_half_precision(memory, path, config, inputs, outputs, monkeypatch)

    hidden_states = inputs["hidden_states"].transpose(0, 1).clone().requires_grad_()
    output, context = run(memory, path, hidden_states, inputs["input_ids"], config["dna_token_ids"], monkeypatch)
    (output.transpose(0, 1) * inputs["cotangent"]).sum().backward()
    key, value = memory.read(context)
    ours = {
        "output": output.transpose(0, 1),
        "intermediate.key": key.transpose(0, 1),
        "intermediate.value": value.transpose(0, 1),
        "grad.hidden_states": hidden_states.grad.transpose(0, 1),
        **{f"grad.{name}": parameter.grad for name, parameter in memory.named_parameters()},
    }
    compared = set(ours) & set(outputs)
    assert compared >= {name for name in outputs if name.startswith(("output", "grad."))}
    tolerance = 1e-9 if dtype == torch.float64 else 1e-5
    exact = None if dtype == torch.float64 else released_gradients_in_float64(module_case)
    for name in sorted(compared):
        if exact is not None and name.startswith("grad."):
            # The gate's slope is unbounded near 0: two right float32 gradients differ. Ours must not be the worse one.
            ours_off = float((ours[name] - exact[name]).norm() / exact[name].norm())
            reference_off = float((outputs[name] - exact[name]).norm() / exact[name].norm())
            assert ours_off <= 2 * reference_off + tolerance, f"{name}: {ours_off:.2e}, reference {reference_off:.2e}"
        else:
            assert_near(name, ours[name], outputs[name], tolerance)


def released_gradients_in_float64(case) -> dict[str, torch.Tensor]:
    memory = build_released(case.config, torch.float64)
    memory.load_state_dict({name: tensor.double() for name, tensor in case.load("model").items()})
    memory.path = "definition"
    inputs = case.load("inputs")
    hidden_states = inputs["hidden_states"].double().transpose(0, 1).clone().requires_grad_()
    output = memory(hidden_states, KmerContext(find_letters(inputs["input_ids"], case.config["dna_token_ids"])))
    (output.transpose(0, 1) * inputs["cotangent"].double()).sum().backward()
    gradients = {f"grad.{name}": parameter.grad for name, parameter in memory.named_parameters()}
    return {"grad.hidden_states": hidden_states.grad.transpose(0, 1), **gradients}


def check_half_precision(memory, path, config, inputs, outputs, monkeypatch):
    """The released prefix sums lose bits in bfloat16, so the truth is float64 of the same rounded weights."""
    hidden_states = inputs["hidden_states"].transpose(0, 1)
    _, context = run(memory, path, hidden_states, inputs["input_ids"], config["dna_token_ids"], monkeypatch)
    key, value = memory.read(context)
    exact = build_released(config, torch.float64)
    exact.load_state_dict({name: tensor.double() for name, tensor in memory.state_dict().items()})
    exact.path = "definition"
    for name, ours, truth in zip(("key", "value"), (key, value), exact.read(context)):
        ours, truth = ours.detach(), truth.detach()
        reference = outputs[f"intermediate.{name}"].transpose(0, 1).double()
        ours_off = float((ours.double() - truth).norm() / truth.norm())
        reference_off = float((reference - truth).norm() / truth.norm())
        assert ours_off <= 5e-3, f"{name}: {ours_off:.1e}"
        assert ours_off <= reference_off


@pytest.mark.parametrize("path", ["definition", "lifetime"])
def test_paper_equations(paper_case, path, monkeypatch):
    config, outputs, inputs = paper_case.config, paper_case.load("outputs"), paper_case.load("inputs")
    tokens = config["token_order_A_C_G_T_N"]
    letters = find_letters(inputs["input_ids"], tokens)
    names = {"W_z": "key_proj", "W_u": "value_proj", "norm_x": "norm_q", "norm_z": "norm_k", "norm_u": "norm_out"}
    weights = {
        f"{names.get(name.split('.')[0], name.split('.')[0])}.{name.split('.', 1)[1]}": tensor
        for name, tensor in paper_case.load("model").items()
    }

    def build(**fields):
        memory = build_memory(
            config["hidden_size"],
            tokens,
            torch.float64,
            memory_preset="paper",
            kmer_sizes=config["ngram_sizes"],
            memory_dim=config["embed_dim_per_ngram"],
            window_size=config["window_size"],
            memory_norm_eps=config["rms_eps"],
            **fields,
        )
        memory.load_state_dict(weights)
        memory.path = path
        return memory

    memory = build()
    residual, context = run(memory, path, inputs["X"], inputs["input_ids"], tokens, monkeypatch)
    assert_near("residual", residual, outputs["residual"], 1e-9)
    assert_near("Y", inputs["X"] + residual, outputs["Y"], 1e-9)
    key, value = memory.read(context)
    assert_near("z", key, outputs["z"], 1e-9)
    assert_near("u", value, outputs["u"], 1e-9)

    # Algorithm 1 of the same paper does not de-duplicate.
    plain, _ = run(build(deduplicate=False), path, inputs["X"], inputs["input_ids"], tokens, monkeypatch)
    assert_near("Y.algorithm1_nodedup", inputs["X"] + plain, outputs["Y.algorithm1_nodedup"], 1e-9)

    pool = getattr(motif_memory, OPERATIONS[path])
    tables = [table.weight for table in memory.embeddings]
    for include in (False, True):
        for deduplicate in (False, True):
            window = build(include_current=include, deduplicate=deduplicate).window
            name = f"m.{'include' if include else 'exclude'}_current.{'dedup' if deduplicate else 'nodedup'}"
            assert_near(name, pool(tables, letters, window), outputs[name], 1e-9)


def test_paper_without_deduplication_merges(paper_case):
    """Algorithm 1 keeps every occurrence, so the merged tables apply to the paper's window too."""
    config, inputs, outputs = paper_case.config, paper_case.load("inputs"), paper_case.load("outputs")
    tokens, model = config["token_order_A_C_G_T_N"], paper_case.load("model")
    tables = [model[f"embeddings.{i}.weight"] for i in range(len(config["ngram_sizes"]))]
    memory = build_memory(
        config["hidden_size"],
        tokens,
        torch.float64,
        memory_preset="paper",
        deduplicate=False,
        kmer_sizes=config["ngram_sizes"],
        memory_dim=config["embed_dim_per_ngram"],
        window_size=config["window_size"],
    )
    weights, letters = (model["W_z.weight"], model["W_u.weight"]), find_letters(inputs["input_ids"], tokens)
    merged = motif_memory.merge_tables(tables, *weights, memory.window, letters)
    key, value = motif_memory.read_merged(merged, tables, *weights, letters, memory.window)
    pooled = outputs["m.exclude_current.nodedup"]
    assert_near("key", key, pooled @ model["W_z.weight"].T, 1e-9)
    assert_near("value", value, pooled @ model["W_u.weight"].T, 1e-9)
