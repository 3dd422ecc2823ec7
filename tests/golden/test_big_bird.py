"""BigBird with fast block-sparse attention against transformers', in evaluation today and as of 4.17."""

import pytest
import torch
import transformers

from gengram.gena.block_sparse_attention import use_fast_attention

TOLERANCE = 1e-5  # of the tensor's scale
SEMANTICS = {"none": "outputs", "always": "outputs_tf417"}


def pytest_generate_tests(metafunc):
    if "case" in metafunc.fixturenames:
        cases = [
            case
            for case in metafunc.config.find_golden_cases({"architectures", "block_size"})
            if case.config["model_type"] == "big_bird"
        ]
        metafunc.parametrize("case", [pytest.param(case, id=case.id) for case in cases])


@pytest.mark.parametrize("random_blocks", SEMANTICS)
@pytest.mark.parametrize("gradients", [False, True], ids=["inference", "with gradients"])
def test_outputs(case, random_blocks, gradients):
    model_class = getattr(transformers, case.config["architectures"][0])
    model = use_fast_attention(model_class.from_pretrained(case.folder).eval(), random_blocks)
    inputs, reference = case.load("inputs"), case.load(SEMANTICS[random_blocks])
    with torch.set_grad_enabled(gradients):
        outputs = model(**inputs, output_hidden_states=True)
    attended = inputs["attention_mask"].bool()
    for name, expected in reference.items():
        kind, _, index = name.partition(".")
        if kind in ("hidden_states", "last_hidden_state"):
            ours = outputs.hidden_states[int(index or -1)]
            ours, expected = (each[:, : attended.shape[1]][attended] for each in (ours, expected))
        else:
            ours = outputs[kind]
            if ours.shape[:2] == attended.shape:
                ours, expected = ours[attended], expected[attended]
        error = float((ours.detach() - expected).abs().max() / expected.abs().max())
        assert error <= TOLERANCE, f"{name}: {error:.2e} of its scale"


def test_full_attention(case):
    model_class = getattr(transformers, case.config["architectures"][0])
    model = model_class.from_pretrained(case.folder, attention_type="original_full").eval()
    inputs, expected = case.load("inputs"), case.load("outputs_full")["logits"]
    with torch.no_grad():
        logits = use_fast_attention(model)(**inputs).logits
    if logits.shape[:2] == inputs["attention_mask"].shape:
        logits, expected = (each[inputs["attention_mask"].bool()] for each in (logits, expected))
    assert float((logits - expected).abs().max() / expected.abs().max()) <= TOLERANCE
