"""Reference checkpoints there and back: Megatron -> ours -> Megatron -> ours, bit by bit.

Cases are those of `test_megatron.py` with multi-head or grouped attention, each in its plain layout.
"""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from gengram.conversion.megatron import convert_megatron
from gengram.conversion.megatron_files import LegacyCheckpoint, load_pickle
from gengram.conversion.to_megatron import convert_to_megatron

MEGATRON_KEYS = {"padded_vocab_size", "num_layers", "megatron_command_line"}


def pytest_generate_tests(metafunc):
    if "grouped_case" in metafunc.fixturenames:
        cases = metafunc.config.find_golden_cases(MEGATRON_KEYS)
        cases = [case for case in cases if not case.config["multi_latent_attention"]]
        metafunc.parametrize("grouped_case", cases, ids=[case.id for case in cases])


def read_folder(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, bytes]]:
    weights = {}
    for path in folder.glob("*.safetensors"):
        weights.update(load_file(path))
    return weights, {path.name: path.read_bytes() for path in folder.glob("*.json")}


@pytest.mark.parametrize(
    "ranks, impl",
    [
        ((1, 1, 1), "local"),
        ((1, 1, 1), "transformer_engine"),
        ((2, 2, 1), "transformer_engine"),
        ((2, 2, 2), "local"),
        ((1, 1, 2), "transformer_engine"),
    ],
)
def test_there_and_back_is_bit_identical(grouped_case, ranks, impl, tmp_path):
    config = grouped_case.config
    if ranks[2] > 1 and not config["num_experts"]:
        pytest.skip("no experts to spread")
    if config["num_layers"] % ranks[1]:
        pytest.skip("the layers do not divide")
    plain = grouped_case.folder / "tp1_pp1"
    ours = convert_megatron(plain, tmp_path / "ours")
    theirs = convert_to_megatron(ours, tmp_path / "theirs", *ranks, transformer_impl=impl)
    again = convert_megatron(theirs, tmp_path / "again")
    weights, files = read_folder(ours)
    weights_again, files_again = read_folder(again)
    assert weights.keys() == weights_again.keys()
    assert all(torch.equal(weights[name], weights_again[name]) for name in weights)
    assert files == files_again

    if config["apply_layernorm_1p"]:
        return  # written with plain norms
    first = LegacyCheckpoint(plain / "iter_0000100")
    second = LegacyCheckpoint(theirs / "release")
    active = {f"decoder.layers.{layer - 1}.gengram." for layer in config["gengram_layer_ids"] or []}
    left = {
        name
        for name in first.names - second.names
        if not name.startswith("mtp.") and not (".gengram." in name and not name.startswith(tuple(active)))
    }
    copies = {"output_layer.weight"} if not config["untie_embeddings_and_output_weights"] else set()
    assert not left - copies and second.names <= first.names | copies
    assert all(torch.equal(first.read(name), second.read(name)) for name in second.names & first.names)


# Arguments whose values differ though the model is the same: how it was saved, and what it does not use.
FREE = {
    "add_qkv_bias",  # told together with add_bias_linear
    "apply_layernorm_1p",  # written with plain norms
    "bias_gelu_fusion",  # of a gated MLP
    "ffn_hidden_size",  # of a mixture of experts
    "gengram_short_conv_dilation",  # None: the largest size
    "iteration",
    "make_vocab_size_divisible_by",
    "moe_grouped_gemm",
    "num_query_groups",  # without grouped attention
    "transformer_impl",
}


@pytest.mark.parametrize(
    "layout, impl",
    [
        ("tp1_pp1", "local"),
        ("derived_te_names", "transformer_engine"),
        ("derived_te_grouped", "transformer_engine"),
    ],
)
def test_names_and_arguments_are_megatrons(grouped_case, layout, impl, tmp_path):
    """The same names in the file, with the empty states, and the same values of the arguments."""
    folder = grouped_case.folder / layout
    if not folder.is_dir() or (layout == "derived_te_names" and grouped_case.config["num_experts"]):
        pytest.skip(f"no {layout} of this case")
    ours = convert_megatron(folder, tmp_path / "ours")
    theirs = convert_to_megatron(ours, tmp_path / "theirs", transformer_impl=impl)
    rank = "mp_rank_00/model_optim_rng.pt"
    given, made = load_pickle(folder / "iter_0000100" / rank), load_pickle(theirs / "release" / rank)
    active = [layer - 1 for layer in grouped_case.config["gengram_layer_ids"] or []]
    wanted = {
        name
        for name in given["model"]
        if not name.startswith("mtp.") and (".gengram." not in name or int(name.split(".")[2]) in active)
    }
    assert set(made["model"]) == wanted
    reference = vars(given["args"])
    written = {name: value for name, value in vars(made["args"]).items() if name not in FREE}
    assert written == {name: reference.get(name) for name in written}
