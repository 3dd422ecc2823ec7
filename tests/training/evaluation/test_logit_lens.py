"""What the head reads of each layer: 0 at the last one, and by hand for a Llama; the model comes back as it was."""

import pytest
import torch
from transformers import (
    AutoModelForMaskedLM,
    BertConfig,
    BertForMaskedLM,
    EsmConfig,
    EsmForMaskedLM,
    MixtralConfig,
    MixtralForCausalLM,
)

from gengram import GengramConfig, GengramForCausalLM
from gengram.training.evaluation import measure_logit_lens

SIZE = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2}
IDS = torch.randint(5, 9, (2, 20), generator=torch.Generator().manual_seed(0))


def count_changes(model):
    """Hooks, and methods that an object has of its own."""
    return sum(len(module._forward_hooks) + ("forward" in vars(module)) for module in model.modules())


def read_by_hand(model, batch, last_norm=True):
    """KL of each layer of a Llama, by the recorded hidden states (the last of which is behind the norm)."""
    with torch.no_grad():
        outputs = model(**batch, output_hidden_states=True)
        said = outputs.logits.double().log_softmax(-1)
        found = []
        for state in outputs.hidden_states[1:-1]:
            state = model.model.norm(state) if last_norm else state
            read = model.lm_head(state).double().log_softmax(-1)
            found.append((said.exp() * (said - read)).sum(-1))
    return found


@pytest.mark.parametrize("final_norm", [True, False])
def test_a_llama_by_hand(llama, final_norm):
    batch = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}
    batch["attention_mask"][1, 15:] = 0
    by_hand = read_by_hand(llama.eval(), batch, final_norm)
    before = count_changes(llama)
    found = measure_logit_lens(llama, [batch], final_norm=final_norm)
    assert count_changes(llama) == before
    real = batch["attention_mask"].bool()
    for layer, expected in enumerate(by_hand, start=1):
        assert found[f"logit_lens/layer_{layer}/kl"] == pytest.approx(float(expected[real].mean()), rel=1e-4)
    assert (found["logit_lens/layer_3/kl"] == 0) == final_norm


def test_rows_that_are_no_tokens_can_be_left_out(llama):
    whole = measure_logit_lens(llama.eval(), [{"input_ids": IDS}])
    some = measure_logit_lens(llama, [{"input_ids": IDS}], vocabulary=16)
    assert whole["logit_lens/layer_1/kl"] != some["logit_lens/layer_1/kl"] and some["logit_lens/layer_3/kl"] == 0


def build_gengram():
    backbone = MixtralConfig(**SIZE, num_key_value_heads=2, num_local_experts=4, pad_token_id=0)
    return GengramForCausalLM(GengramConfig(backbone_config=backbone, memory_layers=[0, 2], memory_dim=8))


def build_gena():
    from gengram.gena.configuration_gena import GenaBertConfig

    return AutoModelForMaskedLM.from_config(GenaBertConfig(**SIZE))


def build_nucleotide_transformer():
    from gengram.nucleotide_transformer.configuration_nucleotide_transformer import NucleotideTransformerConfig

    return AutoModelForMaskedLM.from_config(NucleotideTransformerConfig(**SIZE, pad_token_id=1, mask_token_id=2))


FAMILIES = {
    "gengram": build_gengram,
    "gena_bert": build_gena,
    "nucleotide_transformer": build_nucleotide_transformer,
    "mixtral": lambda: MixtralForCausalLM(MixtralConfig(**SIZE, num_key_value_heads=2, num_local_experts=4)),
    "bert": lambda: BertForMaskedLM(BertConfig(**SIZE)),
    "esm": lambda: EsmForMaskedLM(EsmConfig(**SIZE, pad_token_id=1, mask_token_id=2)),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_last_layer_of_every_family_says_what_the_model_says(family):
    torch.manual_seed(0)
    model = FAMILIES[family]().eval()
    with torch.no_grad():
        before = model(IDS).logits
    found = measure_logit_lens(model, [{"input_ids": IDS}, {"input_ids": IDS[:, :7]}])
    assert list(found) == [f"logit_lens/layer_{layer}/kl" for layer in (1, 2, 3)]
    assert found["logit_lens/layer_3/kl"] == 0
    assert min(found["logit_lens/layer_1/kl"], found["logit_lens/layer_2/kl"]) > 0
    with torch.no_grad():
        assert torch.equal(model(IDS).logits, before)


def test_a_failure_leaves_the_model_whole(llama):
    before = count_changes(llama)
    norm, llama.model.norm = llama.model.norm, torch.nn.Linear(5, 5)  # fails behind the layers
    try:
        with pytest.raises(RuntimeError):
            measure_logit_lens(llama, [{"input_ids": IDS}])
    finally:
        llama.model.norm = norm
    assert count_changes(llama) == before
