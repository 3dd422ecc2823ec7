"""NTv3, pre- and post-trained, against the original classes.

A case is a folder as in test_gengram.py, in the published layout; its config.json says which of the two it is, and it
loads by `from_pretrained`, as a user's checkpoint would.
"""

import pytest
import torch

from gengram import NTv3ForMaskedLM, NTv3PostTrainedModel

KEYS = {"alphabet_size", "conv_init_embed_dim", "deconv_upsample_type", "num_downsamples"}
CLASSES = {"ntv3": NTv3ForMaskedLM, "ntv3_posttrained": NTv3PostTrainedModel}
NAMES = {"last_hidden_state": "embedding"}  # ours -> the original's
TOLERANCE = 5e-5
NUMBERED = ("hidden_states", "attentions")


def pytest_generate_tests(metafunc):
    if "case" in metafunc.fixturenames:
        cases = [case for case in metafunc.config.find_golden_cases(KEYS) if case.config["model_type"] in CLASSES]
        metafunc.parametrize("case", [pytest.param(case, id=case.id) for case in cases])


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_outputs(case, attention):
    model = CLASSES[case.config["model_type"]].from_pretrained(case.folder, attn_implementation=attention).eval()
    inputs, reference = case.load("inputs"), case.load("outputs")
    with torch.no_grad():
        outputs = model(**inputs, output_hidden_states=True, output_attentions=attention == "eager")
    ours = {NAMES.get(name, name): value for name, value in outputs.items() if name not in NUMBERED}
    for name in NUMBERED:
        ours |= {f"{name}.{index}": value for index, value in enumerate(outputs.get(name) or ())}
    if "loss" in ours:
        ours["loss"] = ours["loss"][None]
    left = {name for name in reference if attention == "eager" or not name.startswith("attentions")} - ours.keys()
    assert not left, f"not compared: {left}"
    for name in reference.keys() & ours.keys():
        torch.testing.assert_close(
            ours[name], reference[name], rtol=0, atol=TOLERANCE, msg=lambda m, name=name: f"{name}: {m}"
        )


def test_every_weight_is_used_or_known(case):
    """Nothing is missing, and what is left in the file are the buffers of the rotation."""
    model, found = CLASSES[case.config["model_type"]].from_pretrained(case.folder, output_loading_info=True)
    assert not found["missing_keys"] and not found["unexpected_keys"] and not found["mismatched_keys"]
    left = case.load("model").keys() - model.state_dict().keys()
    assert {name.rsplit(".", 1)[-1] for name in left} <= {"inv_freq", "cos_cached", "sin_cached"}
