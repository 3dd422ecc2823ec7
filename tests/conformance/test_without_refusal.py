"""Checkpoints that lack weights, read without the check that refuses them: transformers says rightly what is missing.

These stand in for transformers' own tests of missing keys, where a family refuses an incomplete checkpoint.
"""

import pytest
import torch
from conformance.testers import TESTERS
from safetensors.torch import save_file
from transformers import PreTrainedModel
from transformers.pytorch_utils import id_tensor_storage


def _is_refusing(model_class: type[PreTrainedModel]) -> bool:
    return model_class.from_pretrained.__func__ is not PreTrainedModel.from_pretrained.__func__


CLASSES = [
    pytest.param(family, model_class, id=f"{family}-{auto_class}")
    for family, tester in {tester.row: (name, tester) for name, tester in reversed(TESTERS.items())}.values()
    for auto_class, model_class in tester.list_classes().items()
    if _is_refusing(model_class)
]


def load_all_the_same(model_class: type[PreTrainedModel], folder) -> tuple[PreTrainedModel, dict]:
    """As `from_pretrained`, but for the family's check."""
    return PreTrainedModel.from_pretrained.__func__(model_class, folder, output_loading_info=True)


@pytest.mark.parametrize("family, model_class", CLASSES)
def test_every_weight_of_an_empty_file_is_missing(family, model_class, tmp_path):
    model = model_class(TESTERS[family].build_configuration())
    model.save_pretrained(tmp_path)
    save_file({"tensor": torch.tensor([1, 2])}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="missing"):
        model_class.from_pretrained(tmp_path)
    read, found = load_all_the_same(model_class, tmp_path)
    weights = read.state_dict()
    # Of tied weights one may be told for all.
    stored = {id_tensor_storage(weights[name]) for name in found["missing_keys"]}
    assert {id_tensor_storage(tensor) for tensor in weights.values()} == stored
    assert found["unexpected_keys"] == {"tensor"}
    assert all(torch.isfinite(weight).all() for weight in read.parameters())


@pytest.mark.parametrize("family, model_class", CLASSES)
def test_of_an_encoder_s_file_the_head_alone_is_missing(family, model_class, tmp_path):
    torch.manual_seed(0)
    model = model_class(TESTERS[family].build_configuration())
    body = {name for name in model.state_dict() if name.startswith(f"{model.base_model_prefix}.")}
    if not body or not model.state_dict().keys() - body:
        pytest.skip("it is the encoder, or the encoder holds the head")
    model.base_model.save_pretrained(tmp_path)
    read, found = load_all_the_same(model_class, tmp_path)
    assert found["missing_keys"] and not found["missing_keys"] & body and not found["unexpected_keys"]
    for name in body:
        torch.testing.assert_close(read.state_dict()[name], model.state_dict()[name])
