"""The way back to Megatron on models made here: layouts of the files, refusals, interruptions."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, MixtralConfig, MixtralForCausalLM

from gengram import GengramConfig, GengramForCausalLM, GengramForSequenceClassification
from gengram.cli import main
from gengram.conversion import to_megatron
from gengram.conversion.megatron import UnsupportedCheckpoint, convert_megatron
from gengram.conversion.megatron_files import LegacyCheckpoint, load_pickle
from gengram.conversion.to_megatron import convert_to_megatron, make_arguments

SIZE = {
    "vocab_size": 128,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}


def make_config(backbone=None, **fields) -> GengramConfig:
    defaults = {"memory_layers": [1], "kmer_sizes": [1, 2], "memory_dim": 4, "window_size": 6}
    return GengramConfig(backbone_config=backbone or LlamaConfig(**SIZE), **{**defaults, **fields})


@pytest.fixture
def saved(tmp_path):
    """A small Gengram model, saved."""
    torch.manual_seed(0)
    GengramForCausalLM(make_config()).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_trained_model_comes_back_with_the_same_logits(saved, tmp_path):
    output = convert_to_megatron(saved, tmp_path / "out", tensor_parallel=2, pipeline_parallel=2)
    assert (output / "latest_checkpointed_iteration.txt").read_text() == "release"
    assert sorted(path.name for path in (output / "release").iterdir()) == [
        "mp_rank_00_000", "mp_rank_00_001", "mp_rank_01_000", "mp_rank_01_001",
    ]  # fmt: skip
    ids = torch.tensor([[5, 6, 7, 8, 9, 5, 5, 6]])
    logits = [AutoModelForCausalLM.from_pretrained(saved)(ids).logits]
    logits.append(AutoModelForCausalLM.from_pretrained(convert_megatron(output, tmp_path / "again"))(ids).logits)
    assert torch.equal(*logits)


def test_the_files_are_those_of_torch_save(saved, tmp_path):
    """The data are written apart from the rest of the file: torch reads it all the same, with or without mapping."""
    output = convert_to_megatron(saved, tmp_path / "out")
    path = output / "release" / "mp_rank_00" / "model_optim_rng.pt"
    weights = load_file(saved / "model.safetensors")
    for mmap in (False, True):
        content = torch.load(path, weights_only=False, mmap=mmap)
        assert content["checkpoint_version"] == 3.0 and content["args"].params_dtype == torch.float32
        found = content["model"]["decoder.layers.1.gengram.key_proj.weight"]
        assert torch.equal(found, weights["model.memory.1.key_proj.weight"])
    assert type(found) is torch.Tensor


def test_megatron_finds_no_memory_where_none_is(tmp_path):
    LlamaForCausalLM(LlamaConfig(**SIZE)).save_pretrained(tmp_path / "model")
    output = convert_to_megatron(tmp_path / "model", tmp_path / "out")
    checkpoint = LegacyCheckpoint(output / "release")
    assert not checkpoint.arguments["gengram_enabled"]
    assert not any("gengram" in name for name in checkpoint.names)


def test_experts_as_transformers_saves_them(tmp_path):
    """Plain Mixtral models are saved with their experts one by one, in another layout than the model's own."""
    torch.manual_seed(0)
    model = MixtralForCausalLM(MixtralConfig(**SIZE, num_local_experts=4, num_experts_per_tok=2)).bfloat16()
    model.save_pretrained(tmp_path / "model")
    assert any("w1" in name for name in load_file(tmp_path / "model" / "model.safetensors"))
    output = convert_to_megatron(tmp_path / "model", tmp_path / "out", expert_parallel=2)
    checkpoint = LegacyCheckpoint(output / "release")
    experts = model.model.layers[1].mlp.experts
    for expert in range(4):
        for linear, weight in (("linear_fc1", experts.gate_up_proj), ("linear_fc2", experts.down_proj)):
            found = checkpoint.read(f"decoder.layers.1.mlp.experts.{expert}.{linear}.weight")
            assert torch.equal(found, weight[expert])
    assert checkpoint.arguments["bf16"] and not checkpoint.arguments["fp16"]


def test_tied_embeddings(tmp_path):
    """Without pipelining there is one matrix; with it, the last stage has a copy."""
    LlamaForCausalLM(LlamaConfig(**SIZE, tie_word_embeddings=True)).save_pretrained(tmp_path / "model")
    one = convert_to_megatron(tmp_path / "model", tmp_path / "one")
    two = convert_to_megatron(tmp_path / "model", tmp_path / "two", pipeline_parallel=2)
    assert "output_layer.weight" not in LegacyCheckpoint(one / "release").names
    last = load_pickle(two / "release" / "mp_rank_00_001" / "model_optim_rng.pt")["model"]
    weights = load_file(tmp_path / "model" / "model.safetensors")
    assert torch.equal(last["output_layer.weight"], weights["model.embed_tokens.weight"])
    assert "embedding.word_embeddings.weight" not in last


@pytest.mark.parametrize(
    "config, field",
    [
        (make_config(memory_preset="paper"), "deduplicate=True"),
        (make_config(window_size=None), "window_size=None"),
        (make_config(tie_reverse_complement=True), "tie_reverse_complement=True"),
        (make_config(memory_norm_eps=1e-6), "memory_norm_eps=1e-06"),
        (make_config(conv_norm=True), "conv_norm=True"),
        (LlamaConfig(**SIZE, attention_bias=True), "attention_bias=True"),
        (LlamaConfig(**SIZE, hidden_act="relu"), "hidden_act='relu'"),
        (
            LlamaConfig(**SIZE, rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}),
            "rope_parameters=",
        ),
        (MixtralConfig(**SIZE, sliding_window=8), "sliding_window=8"),
    ],
)
def test_what_the_arguments_cannot_tell_is_refused_by_its_field(config, field):
    with pytest.raises(UnsupportedCheckpoint, match=field):
        make_arguments(config)


def test_other_architectures_and_heads_are_refused(tmp_path, capsys):
    GengramForSequenceClassification(make_config(num_labels=2)).save_pretrained(tmp_path / "classifier")
    with pytest.raises(UnsupportedCheckpoint, match="GengramForSequenceClassification"):
        convert_to_megatron(tmp_path / "classifier", tmp_path / "out")
    config = json.loads((tmp_path / "classifier" / "config.json").read_text())
    (tmp_path / "classifier" / "config.json").write_text(
        json.dumps({**config, "architectures": ["GPT2LMHeadForCausalLM"], "model_type": "gpt2"})
    )
    assert main(["convert", "to-megatron", str(tmp_path / "classifier"), str(tmp_path / "out")]) == 1
    assert "gpt2" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_wrong_folders_and_ranks(saved, tmp_path):
    with pytest.raises(ValueError, match=r"no config\.json"):
        convert_to_megatron(tmp_path, tmp_path / "out")
    with pytest.raises(FileExistsError, match="choose another"):
        convert_to_megatron(saved, saved)
    for ranks, message in [
        ({"tensor_parallel": 4}, "num_query_groups=2"),
        ({"pipeline_parallel": 3}, "num_layers=2"),
        ({"expert_parallel": 2}, "2 expert ranks"),
        ({"tensor_parallel": 0}, "0 tensor ranks"),
        ({"transformer_impl": "other"}, "transformer_impl='other'"),
    ]:
        with pytest.raises(ValueError, match=message):
            convert_to_megatron(saved, tmp_path / "out", **ranks)
    (saved / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="no safetensors"):
        convert_to_megatron(saved, tmp_path / "out")
    (saved / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match="merge"):
        convert_to_megatron(saved, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


@pytest.mark.parametrize("fault", ["missing", "nan"])
def test_weights_that_are_missing_or_no_numbers_are_not_converted(fault, saved, tmp_path, capsys):
    weights, name = load_file(saved / "model.safetensors"), "model.backbone.layers.1.mlp.up_proj.weight"
    if fault == "missing":
        del weights[name]
    else:
        weights[name][0, 0] = float("nan")
    save_file(weights, saved / "model.safetensors", {"format": "pt"})
    assert main(["convert", "to-megatron", str(saved), str(tmp_path / "out")]) == 1
    told = capsys.readouterr().err
    assert name in told and ("1 weights are missing" in told if fault == "missing" else "not finite" in told), told
    assert not (tmp_path / "out").exists()


def test_nothing_is_left_of_an_interrupted_conversion(saved, tmp_path, monkeypatch):
    original = to_megatron._write_rank
    done = []

    def stop_at_the_second(*args):
        if done:
            raise KeyboardInterrupt
        done.append(args[0])
        return original(*args)

    monkeypatch.setattr(to_megatron, "_write_rank", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        convert_to_megatron(saved, tmp_path / "out", pipeline_parallel=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]
