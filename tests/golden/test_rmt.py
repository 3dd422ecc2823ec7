"""Recurrent memory against the original wrappers: every segment's input, answer and memory, losses and gradients.

A case has rmt_config.json beside the files of test_gena.py; `architectures` names the original class.
"""

import json

import pytest
import torch

import gengram
from gengram import GenaBertConfig
from gengram.conversion.rmt import convert_rmt
from gengram.rmt.modeling_rmt import rename_old_weights

CLASSES = {
    "RMTEncoderForSequenceClassification": "RmtForSequenceClassification",
    "RMTEncoderForTokenClassification": "RmtForTokenClassification",
    "RMTEncoderForMaskedLM": "RmtForMaskedLM",
}
TOLERANCE = 1e-5  # of the tensor's scale
WORDS = "model.bert.embeddings.word_embeddings.weight"


def pytest_generate_tests(metafunc):
    if "case" in metafunc.fixturenames:
        cases = [
            case
            for case in metafunc.config.find_golden_cases({"architectures"})
            if (case.config["architectures"] or [""])[0] in CLASSES
        ]
        metafunc.parametrize("case", [pytest.param(case, id=case.id) for case in cases])


@pytest.fixture
def model(case):
    config = GenaBertConfig(**GenaBertConfig.read_published(case.config))
    settings = json.loads((case.folder / "rmt_config.json").read_text())
    model_class = getattr(gengram, CLASSES[case.config["architectures"][0]])
    return convert_rmt(case.load("model"), settings, config, model_class)


def assert_near(name: str, ours: torch.Tensor, expected: torch.Tensor, scale: float | None = None):
    assert ours.shape == expected.shape, name
    error = float((ours.detach() - expected).abs().max()) / (scale or float(expected.abs().max()))
    assert error <= TOLERANCE, f"{name}: {error:.2e} of its scale"


def read(case) -> dict[str, torch.Tensor]:
    inputs = case.load("inputs")
    inputs.pop("token_type_ids")  # zeros: every segment is one sequence
    return inputs


def test_segments(case, model, monkeypatch):
    reference, segments = case.load("outputs"), []
    read_segment, body = model.read_segment, []
    model.model.backbone.register_forward_hook(lambda module, args, outputs: body.append(outputs.last_hidden_state))

    def spy(input_ids, attention_mask, memory):
        answer, leaving = read_segment(input_ids, attention_mask, memory)
        segments.append({"input_ids": input_ids, "attention_mask": attention_mask, "logits": answer, "memory": leaving})
        return answer, leaving

    monkeypatch.setattr(model, "read_segment", spy)
    with torch.no_grad():
        outputs = model(**read(case))
    first = next(index for index in range(99) if f"segment{index}.non_empty" in reference)
    assert len(segments) == sum(name.endswith(".non_empty") for name in reference)
    memory_rows = case.load("model")["mem_token_ids"]
    for index, (segment, hidden) in enumerate(zip(segments, body), start=first):
        expected = reference[f"segment{index}.input_ids"]
        ids = torch.where(torch.isin(expected, memory_rows), segment["input_ids"], expected)
        assert torch.equal(segment["input_ids"], ids)
        assert torch.equal(segment["attention_mask"], reference[f"segment{index}.attention_mask"])
        real = segment["attention_mask"].bool()
        assert_near("hidden", hidden[real], reference[f"segment{index}.last_hidden"][real])
        assert_near("memory", segment["memory"], reference[f"segment{index}.memory"])
        answer, expected = segment["logits"], reference[f"segment{index}.logits"]
        by_token = answer.dim() == 3
        assert_near("logits", answer[real] if by_token else answer, expected[real] if by_token else expected)
    assert_near("loss", outputs.loss, reference["loss"])
    if not by_token:
        assert_near("logits", outputs.logits, reference["logits"])


@pytest.mark.parametrize("recompute", [False, True], ids=["plain", "recomputed"])
def test_gradients(case, model, recompute):
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "attention_probs_dropout_prob"):
            module.attention_probs_dropout_prob = 0.0
    model.config.recompute_segments = recompute
    model.train()
    model(**read(case)).loss.backward()
    reference, parameters = case.load("outputs"), dict(model.named_parameters())
    names = [name for name in reference if name.startswith("grad.")]
    scale = max(float(reference[name].abs().max()) for name in names)
    for name in names:
        renamed = {name.removeprefix("grad."): None}
        rename_old_weights(model, renamed)
        ours = parameters[next(iter(renamed))].grad
        if name == f"grad.{WORDS}" and model.memory_tokens.weight.grad is not None:
            # There the memory tokens are rows of the word embeddings.
            ours = ours.index_add(0, case.load("model")["mem_token_ids"].long(), model.memory_tokens.weight.grad)
        assert_near(name, ours, reference[name], scale)
