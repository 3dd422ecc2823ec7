"""The Megatron converter on checkpoints made here: unsafe pickles, wrong ones, interruptions."""

import argparse
import json
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from gengram.cli import main
from gengram.conversion import megatron
from gengram.conversion.megatron import UnsupportedCheckpoint, convert_megatron, read_config
from gengram.conversion.megatron_files import UnsafePickle, load_pickle

D, FFN, V, L = 16, 24, 128, 3
ARGUMENTS = {
    "num_layers": L,
    "hidden_size": D,
    "ffn_hidden_size": FFN,
    "num_attention_heads": 4,
    "group_query_attention": True,
    "num_query_groups": 2,
    "kv_channels": 4,
    "padded_vocab_size": V,
    "seq_length": 64,
    "max_position_embeddings": 64,
    "rotary_base": 10000,
    "norm_epsilon": 1e-5,
    "swiglu": True,
    "add_bias_linear": False,
    "untie_embeddings_and_output_weights": True,
    "tensor_model_parallel_size": 1,
    "pipeline_model_parallel_size": 1,
    "expert_model_parallel_size": 1,
    "gengram_enabled": True,
    "gengram_layer_ids": [2],
    "gengram_ngram_sizes": [1, 2],
    "gengram_embed_dim_per_ngram": 4,
    "gengram_window_size": 6,
    "gengram_use_short_conv": True,
    "gengram_short_conv_kernel_size": 4,
    "gengram_short_conv_dilation": None,
    "gengram_token_ids": [8, 5, 6, 7, 9],
}


def make_weights(dtype=torch.float32, **changes) -> dict[str, torch.Tensor]:
    """The tensors of a dense checkpoint by Megatron's names."""
    arguments = {**ARGUMENTS, **changes}
    shapes = {"embedding.word_embeddings.weight": (V, D), "output_layer.weight": (V, D)}
    shapes["decoder.final_layernorm.weight"] = (D,)
    for i in range(L):
        layer = f"decoder.layers.{i}."
        shapes[f"{layer}input_layernorm.weight"] = shapes[f"{layer}pre_mlp_layernorm.weight"] = (D,)
        shapes[f"{layer}self_attention.linear_qkv.weight"] = ((4 + 2 * 2) * 4, D)
        shapes[f"{layer}self_attention.linear_proj.weight"] = (D, D)
        if arguments.get("qk_layernorm"):
            shapes[f"{layer}self_attention.q_layernorm.weight"] = (4,)
            shapes[f"{layer}self_attention.k_layernorm.weight"] = (4,)
        shapes[f"{layer}mlp.linear_fc1.weight"] = (2 * FFN, D)
        shapes[f"{layer}mlp.linear_fc2.weight"] = (D, FFN)
        for j, k in enumerate((1, 2)):
            shapes[f"{layer}gengram.embeddings.{j}.weight"] = (5**k, 4)
        shapes[f"{layer}gengram.key_proj.weight"] = shapes[f"{layer}gengram.value_proj.weight"] = (D, 8)
        shapes[f"{layer}gengram.norm_q.weight"] = shapes[f"{layer}gengram.norm_k.weight"] = (D,)
        shapes[f"{layer}gengram.short_conv.conv.weight"] = (D, 1, 4)
    torch.manual_seed(0)
    return {name: (0.2 * torch.randn(shape)).to(dtype) for name, shape in shapes.items()}


def write_checkpoint(folder: Path, weights=None, **changes) -> Path:
    arguments = {**ARGUMENTS, **changes}
    target = folder / "iter_0000007" / "mp_rank_00"
    target.mkdir(parents=True)
    (folder / "latest_checkpointed_iteration.txt").write_text("7")
    model = make_weights(**changes) if weights is None else weights
    torch.save({"args": argparse.Namespace(**arguments), "model": model}, target / "model_optim_rng.pt")
    return folder


class Payload:
    """A pickle that runs a command when it is loaded in the ordinary way."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("place", ["args", "model", "extra"])
def test_a_pickle_that_runs_a_command_is_refused_and_nothing_runs(tmp_path, place, capsys):
    folder = write_checkpoint(tmp_path / "checkpoint")
    path = folder / "iter_0000007" / "mp_rank_00" / "model_optim_rng.pt"
    content = torch.load(path, weights_only=False)
    payload = Payload(tmp_path / "was-run")
    if place == "args":
        content["args"].optimizer = payload
    elif place == "model":
        content["model"]["decoder.layers.0._extra_state"] = payload
    else:
        content["rng_state"] = [payload]
    torch.save(content, path)
    with pytest.raises(ValueError, match=r"asks for (posix|nt)\.system") as raised:
        convert_megatron(folder, tmp_path / "out")
    assert isinstance(raised.value.__cause__, UnsafePickle)
    assert main(["convert", "megatron", str(folder), str(tmp_path / "out")]) == 1
    assert "nothing of it was run" in capsys.readouterr().err
    assert not (tmp_path / "was-run").exists() and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "module, name",
    [("builtins", "eval"), ("builtins", "getattr"), ("torch", "load"), ("torch.hub", "load"), ("numpy", "load"),
     ("subprocess", "Popen"), ("torch._utils", "_import_dotted_name"), ("argparse", "_sys")],
)  # fmt: skip
def test_names_beyond_the_list_are_refused(tmp_path, module, name):
    path = tmp_path / "x.pt"
    torch.save({"a": torch.zeros(1)}, path)
    unpickler = megatron.open_checkpoint.__globals__["_Unpickler"]
    with open(path, "rb") as file, pytest.raises(UnsafePickle, match=f"{module}.{name}"):
        unpickler(file).find_class(module, name)
    assert torch.equal(load_pickle(path)["a"], torch.zeros(1))


def test_what_is_converted(tmp_path):
    """Attention heads, halves of the MLP, the memory of the active layer only, tokenizer, code and card of facts."""
    weights = make_weights()
    output = convert_megatron(write_checkpoint(tmp_path / "m", weights), tmp_path / "out")
    ours = load_file(output / "model.safetensors")
    qkv = weights["decoder.layers.1.self_attention.linear_qkv.weight"].view(2, 4, 4, D)
    layer = "model.backbone.layers.1."
    assert torch.equal(ours[f"{layer}self_attn.q_proj.weight"], qkv[:, :2].reshape(16, D))
    assert torch.equal(ours[f"{layer}self_attn.k_proj.weight"], qkv[:, 2].reshape(8, D))
    assert torch.equal(ours[f"{layer}self_attn.v_proj.weight"], qkv[:, 3].reshape(8, D))
    fc1 = weights["decoder.layers.1.mlp.linear_fc1.weight"]
    assert torch.equal(ours[f"{layer}mlp.gate_proj.weight"], fc1[:FFN])
    memories = {name.split(".")[2] for name in ours if ".memory." in name}
    assert memories == {"1"}
    names = {path.name for path in output.iterdir()}
    assert {"config.json", "modeling_gengram.py", "motif_memory.py", "tokenizer.json"} <= names
    assert not any("partial" in name or "unfinished" in name or "sha256" in name for name in names)
    tokenizer = AutoTokenizer.from_pretrained(output)
    assert tokenizer("ACGTN")["input_ids"] == [8, 5, 6, 7, 9] and tokenizer.model_max_length == 64
    model = AutoModelForCausalLM.from_pretrained(output)
    assert model.config.memory_layers == [1] and model.config.conv_dilation == 2
    assert json.loads((output / "config.json").read_text())["architectures"] == ["GengramForCausalLM"]


def test_zero_centred_norms_are_shifted_and_the_memorys_are_not(tmp_path):
    weights = make_weights()
    output = convert_megatron(write_checkpoint(tmp_path / "m", weights, apply_layernorm_1p=True), tmp_path / "out")
    ours = load_file(output / "model.safetensors")
    assert torch.equal(ours["model.backbone.norm.weight"], weights["decoder.final_layernorm.weight"] + 1)
    assert torch.equal(ours["model.memory.1.norm_q.weight"], weights["decoder.layers.1.gengram.norm_q.weight"])


def test_query_and_key_norms_become_qwen3(tmp_path):
    output = convert_megatron(write_checkpoint(tmp_path / "m", qk_layernorm=True), tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(output)
    assert model.config.backbone_config.model_type == "qwen3"
    assert torch.isfinite(model(torch.tensor([[5, 6, 7, 8]])).logits).all()


def test_half_precision_stays(tmp_path):
    output = convert_megatron(write_checkpoint(tmp_path / "m", make_weights(torch.bfloat16)), tmp_path / "out")
    assert {tensor.dtype for tensor in load_file(output / "model.safetensors").values()} == {torch.bfloat16}
    assert AutoModelForCausalLM.from_pretrained(output).dtype == torch.bfloat16


def interrupt_at_the_third(folder, out, monkeypatch) -> list[str]:
    """Convert until half of the third shard is written; the names of those before it."""
    written, original = [], megatron._write_safetensors

    def stop_at_the_third(path, *args):
        if len(written) == 2:
            path.with_name(path.name + ".partial").write_bytes(b"half")
            raise KeyboardInterrupt
        written.append(path.name)
        return original(path, *args)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(megatron, "_write_safetensors", stop_at_the_third)
        convert_megatron(folder, out, max_shard_size="5KB")
    return written


def test_shards_and_resuming_after_an_interruption(tmp_path, monkeypatch):
    folder = write_checkpoint(tmp_path / "m")
    whole = convert_megatron(folder, tmp_path / "whole")
    original = megatron._write_safetensors
    written = interrupt_at_the_third(folder, tmp_path / "out", monkeypatch)
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(
        megatron, "_write_safetensors", lambda path, *a: written.append(path.name) or original(path, *a)
    )
    convert_megatron(folder, tmp_path / "out", max_shard_size="5KB")
    assert len(written) == len(set(written)) > 3, "finished shards are not written again"
    ids = torch.tensor([[5, 6, 7, 8, 9, 5]])
    logits = [AutoModelForCausalLM.from_pretrained(out)(ids).logits for out in (whole, tmp_path / "out")]
    assert torch.equal(*logits)


@pytest.mark.parametrize(
    "argument, value",
    [
        ("normalization", "LayerNorm"),
        ("rotary_interleaved", True),
        ("position_embedding_type", "learned_absolute"),
        ("squared_relu", True),
        ("window_size", [127, 0]),
    ],
)
def test_what_has_no_class_is_refused_by_its_argument(tmp_path, argument, value, capsys):
    folder = write_checkpoint(tmp_path / "m", **{argument: value})
    assert main(["convert", "megatron", str(folder), str(tmp_path / "out")]) == 1
    assert f"{argument}={value!r}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.partial").exists()


def test_mixtures_of_experts_that_route_differently_are_refused():
    experts = {**ARGUMENTS, "num_experts": 4, "moe_router_topk": 2}
    assert read_config(experts).backbone_config.model_type == "mixtral"
    for change in (
        {"moe_router_score_function": "sigmoid"},
        {"moe_shared_expert_intermediate_size": 8},
        {"add_bias_linear": True},
        {"rotary_percent": 0.5},
    ):
        with pytest.raises(UnsupportedCheckpoint, match=next(iter(change))):
            read_config({**experts, **change})


@pytest.mark.parametrize("fused, activation", [(True, "gelu_pytorch_tanh"), (False, "gelu")])
def test_plain_mlps_keep_their_gelu(fused, activation):
    """Megatron's fused kernel is the tanh form, the unfused one is exact."""
    config = read_config({**ARGUMENTS, "swiglu": False, "bias_gelu_fusion": fused}).backbone_config
    assert (config.model_type, config.hidden_act, config.gated_mlp) == ("megatron_decoder", activation, False)


def test_wrong_folders_and_incomplete_checkpoints(tmp_path):
    with pytest.raises(ValueError, match="no Megatron checkpoint"):
        convert_megatron(tmp_path, tmp_path / "out")
    folder = write_checkpoint(tmp_path / "m")
    (tmp_path / "exists").mkdir()
    with pytest.raises(FileExistsError, match="choose another"):
        convert_megatron(folder, tmp_path / "exists")
    with pytest.raises(ValueError, match="mp_rank_01"):
        convert_megatron(write_checkpoint(tmp_path / "tp", tensor_model_parallel_size=2), tmp_path / "out")
    lacking = {name: tensor for name, tensor in make_weights().items() if "layers.2.mlp.linear_fc2" not in name}
    with pytest.raises(ValueError, match=r"linear_fc2"):
        convert_megatron(write_checkpoint(tmp_path / "lacking", lacking), tmp_path / "out")
    (folder / "latest_checkpointed_iteration.txt").write_text("9")
    with pytest.raises(ValueError, match="iteration '9'"):
        convert_megatron(folder, tmp_path / "out")
    broken = write_checkpoint(tmp_path / "broken")
    path = broken / "iter_0000007" / "mp_rank_00" / "model_optim_rng.pt"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match="cannot be read as a Megatron checkpoint"):
        convert_megatron(broken, tmp_path / "out")
    path.write_bytes(pickle.dumps({"args": 1}))
    with pytest.raises(ValueError, match="cannot be read as a Megatron checkpoint"):
        convert_megatron(broken, tmp_path / "out")


def test_the_card_says_what_the_checkpoint_tells(tmp_path):
    folder = write_checkpoint(tmp_path / "m", consumed_train_samples=1234)
    card = (convert_megatron(folder, tmp_path / "converted") / "README.md").read_text()
    assert "1,234 sequences of 64 tokens" in card and "does not tell what it was trained on" in card
    assert "this card claims no figures" in card and "license: unknown" in card
    assert 'pipeline("text-generation", model="converted"' in card


def test_files_of_other_writers(tmp_path):
    """Offsets are taken from the archive's directory, not from how torch would have written it."""
    folder = write_checkpoint(tmp_path / "m")
    path = folder / "iter_0000007" / "mp_rank_00" / "model_optim_rng.pt"
    original = convert_megatron(folder, tmp_path / "original")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "x.pt", "w", zipfile.ZIP_STORED) as new:
        for name in reversed(old.namelist()):
            new.writestr(name, old.read(name))
    os.replace(tmp_path / "x.pt", path)
    again = convert_megatron(folder, tmp_path / "again")
    assert (again / "model.safetensors").read_bytes() == (original / "model.safetensors").read_bytes()


def test_an_interrupted_conversion_does_not_go_on_with_a_later_iteration(tmp_path, monkeypatch):
    folder = write_checkpoint(tmp_path / "m")
    interrupt_at_the_third(folder, tmp_path / "out", monkeypatch)
    later = folder / "iter_0000008" / "mp_rank_00"
    later.mkdir(parents=True)
    weights = {name: 2 * tensor for name, tensor in make_weights().items()}
    torch.save({"args": argparse.Namespace(**ARGUMENTS), "model": weights}, later / "model_optim_rng.pt")
    (folder / "latest_checkpointed_iteration.txt").write_text("8")
    convert_megatron(folder, tmp_path / "out", max_shard_size="5KB")
    convert_megatron(folder, tmp_path / "whole")
    whole, found = (AutoModelForCausalLM.from_pretrained(tmp_path / name).state_dict() for name in ("whole", "out"))
    assert all(torch.equal(tensor, found[name]) for name, tensor in whole.items())
