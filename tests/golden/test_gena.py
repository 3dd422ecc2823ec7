"""GENA-LM's encoders against the original classes.

A case is a folder as in test_gengram.py; `architectures` in its config.json names the original class, and the file
loads by `from_pretrained`, as a user's would.
"""

import pytest
import torch

import gengram
from gengram.gena.modeling_gena import GenaBertPreTrainedModel

CLASSES = {
    "BertForMaskedLM": "GenaBertForMaskedLM",
    "BertForPreTraining": "GenaBertForPreTraining",
    "BertForSequenceClassification": "GenaBertForSequenceClassification",
    "BertForTokenClassification": "GenaBertForTokenClassification",
    "BertForEnformer": "GenaBertForBinnedRegression",
}
TOLERANCE = 1e-5  # of the tensor's scale


def pytest_generate_tests(metafunc):
    if "case" in metafunc.fixturenames:
        cases = [
            case
            for case in metafunc.config.find_golden_cases({"architectures", "position_embedding_type"})
            if case.config.get("model_type") == "bert" and case.config["architectures"][0] in CLASSES
        ]
        metafunc.parametrize("case", [pytest.param(case, id=case.id) for case in cases])


def load_model(case, **kwargs) -> GenaBertPreTrainedModel:
    return getattr(gengram, CLASSES[case.config["architectures"][0]]).from_pretrained(case.folder, **kwargs).eval()


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_outputs(case, attention):
    model = load_model(case, attn_implementation=attention)
    reference = case.load("outputs")
    with torch.no_grad():
        outputs = model(**case.load("inputs"), output_hidden_states=True)
        body = {"last_hidden_state": outputs.hidden_states[-1]}
        if "pooler_output" in reference:
            body["pooler_output"] = model.bert.pooler(outputs.hidden_states[-1])
    attended = case.load("inputs")["attention_mask"].bool()
    for name, expected in reference.items():
        kind, _, index = name.partition(".")
        ours = body[kind] if kind in body else outputs[kind][int(index)] if index else outputs[kind]
        if ours.shape[:2] == attended.shape:  # what stands at padding is nobody's
            ours, expected = ours[attended], expected[attended]
        error = float((ours - expected).abs().max() / expected.abs().max())
        assert error <= TOLERANCE, f"{name}: {error:.2e} of its scale"


def test_gradients(case):
    """Float32 gradients of the loss, by SDPA, against float64 ones, by plain attention."""
    gradients = []
    for dtype, attention in ((torch.float64, "eager"), (torch.float32, "sdpa")):
        model = load_model(case, dtype=dtype, attn_implementation=attention)
        model(**case.load("inputs")).loss.backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    # One scale for all: some gradients, the key biases', are zero but for rounding.
    scale = max(float(gradient.abs().max()) for gradient in gradients[0].values() if gradient is not None)
    for name, expected in gradients[0].items():
        if expected is None:
            assert gradients[1][name] is None
        else:
            error = float((gradients[1][name] - expected).abs().max()) / scale
            assert error <= TOLERANCE, f"{name}: {error:.2e} of the gradients' scale"
