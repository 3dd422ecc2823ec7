"""What a push looks at in a checkpoint's files."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForMaskedLM

from gengram.errors import InputError
from gengram.loading.inspection import inspect_checkpoint
from gengram.tokenization import build_nucleotide_tokenizer
from gengram.training.publishing.model import prepare_upload


@pytest.fixture
def folder(small, tmp_path):
    BertForMaskedLM(BertConfig(vocab_size=16, **small)).save_pretrained(tmp_path / "model", max_shard_size="4KB")
    build_nucleotide_tokenizer().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_good_one(folder):
    inspect_checkpoint(folder)
    assert "README.md" in prepare_upload(folder, "lab/model").files


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(value, folder):
    file = sorted(folder.glob("*.safetensors"))[-1]
    weights = load_file(file)
    name = sorted(weights)[-1]
    weights[name].view(-1)[-1] = value
    save_file(weights, file, {"format": "pt"})
    for refuse in (inspect_checkpoint, lambda each: prepare_upload(each, "lab/model")):
        with pytest.raises(InputError) as told:
            refuse(folder)
        assert f"{file}: 1 tensors have values that are not finite (NaN or infinite), e.g. {name}" in str(told.value)


def test_weights_that_cannot_be_read(folder):
    file = sorted(folder.glob("*.safetensors"))[0]
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(InputError, match=f"{file.name}: no weights can be read here"):
        inspect_checkpoint(folder)


@pytest.mark.parametrize("fields", [{"vocab_size": 9}, {"pad_token_id": 5}])
def test_a_tokenizer_of_another_model(fields, folder, small):
    BertConfig(**{"vocab_size": 16, **small, **fields}).save_pretrained(folder)
    with pytest.raises(InputError, match=r"[Tt]hey do not belong together"):
        inspect_checkpoint(folder)


def test_an_adapter_has_a_tokenizer_and_weights(folder, tmp_path):
    (tmp_path / "adapter").mkdir()
    build_nucleotide_tokenizer().save_pretrained(tmp_path / "adapter")
    save_file({"a": torch.full((2,), float("nan"))}, tmp_path / "adapter/adapter_model.safetensors")
    with pytest.raises(InputError, match=r"adapter_model\.safetensors: 1 tensors"):
        inspect_checkpoint(tmp_path / "adapter")
