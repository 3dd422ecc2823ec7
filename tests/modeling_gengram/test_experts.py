"""How experts are computed is the backbone's: its implementations agree, and a backbone without experts has none."""

import pytest
import torch

from gengram import GengramForMaskedLM, GengramModel

IMPLEMENTATIONS = ("eager", "batched_mm", "grouped_mm")


@pytest.mark.parametrize("backbone", ["mixtral", "deepseek-v3"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_implementations_agree(make_backbone, make_config, make_ids, backbone, dtype):
    torch.manual_seed(0)
    model = GengramModel(make_config(make_backbone(backbone))).eval().to(dtype)
    ids, states = make_ids(2, 24), {}
    for name in IMPLEMENTATIONS:
        model.set_experts_implementation(name)
        assert model.config._experts_implementation == model.config.backbone_config._experts_implementation == name
        with torch.no_grad():
            states[name] = model(ids).last_hidden_state
    # Sums in another order: some rounding steps of the states' size.
    bound = 8 * torch.finfo(dtype).eps * states["eager"].abs().max().item()
    for name in IMPLEMENTATIONS[1:]:
        assert (states[name] - states["eager"]).abs().max().item() < bound


def test_a_backbone_without_experts_takes_the_setting_and_computes_the_same(make_backbone, make_config, make_ids):
    """One class is around dense backbones and mixtures of experts, so that it cannot refuse what one of them has."""
    torch.manual_seed(0)
    model, ids = GengramForMaskedLM(make_config(make_backbone("bert"))).eval(), make_ids(2, 12)
    with torch.no_grad():
        before = model(ids).logits
        model.set_experts_implementation("batched_mm")
        assert torch.equal(model(ids).logits, before)
