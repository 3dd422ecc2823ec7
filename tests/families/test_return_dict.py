"""A class answers with a tuple where the configuration or the call asks for one: the values of the named answer."""

import numpy as np
import pytest
import torch
from small_models import build_model, draw_inputs, list_pairs
from transformers.utils import ModelOutput

from gengram.pipelines.embed import embed_sequences
from gengram.pipelines.logits import compute_logits
from gengram.tokenization.nucleotide import build_nucleotide_tokenizer


def _flatten(values) -> list:
    """All tensors of an answer in order; a cache is what it is, an object."""
    if isinstance(values, torch.Tensor):
        return [values]
    if isinstance(values, (tuple, list)):
        return [tensor for value in values for tensor in _flatten(value)]
    return [type(values)]


def _compare(plain, named: ModelOutput):
    assert type(plain) is tuple
    assert len(plain) == len(named.to_tuple())
    for one, other in zip(_flatten(plain), _flatten(named.to_tuple()), strict=True):
        assert torch.equal(one, other) if isinstance(other, torch.Tensor) else one is other


@pytest.mark.parametrize(("variant", "name"), list(list_pairs()))
def test_a_tuple_is_the_values_of_the_named_answer(variant, name):
    model = build_model(variant, name)
    inputs = draw_inputs(model.config, name)
    if not name.startswith("Rmt"):
        inputs["output_hidden_states"] = True
        if not variant.startswith("ntv3"):
            model.set_attn_implementation("eager")
            inputs["output_attentions"] = True
    with torch.no_grad():
        named = model(**inputs)
        assert isinstance(named, ModelOutput)
        if "labels" in inputs:
            assert named.loss is not None
        _compare(model(**inputs, return_dict=False), named)
        model.config.return_dict = False
        _compare(model(**inputs), named)
        assert type(model(**inputs, return_dict=True)) is type(named)


def test_our_readers_ask_for_names():
    """A checkpoint whose configuration says `return_dict: false` is read like any other."""
    tokenizer = build_nucleotide_tokenizer()
    sequences = ["ACGTACGT", "GGGTTTAA"]
    encoded = tokenizer(sequences)["input_ids"]
    vectors, logits = [], []
    for return_dict in (True, False):
        base = build_model("gengram-modernbert", "GengramModel", return_dict=return_dict)
        vectors.append(embed_sequences(base, tokenizer, sequences))
        head = build_model("gengram-modernbert", "GengramForSequenceClassification", return_dict=return_dict)
        logits.append(compute_logits(head, tokenizer, encoded, batch_size=2))
    np.testing.assert_array_equal(*vectors)
    np.testing.assert_array_equal(*logits)


@pytest.mark.parametrize("flag", ["output_hidden_states", "output_attentions"])
@pytest.mark.parametrize(("variant", "name"), [pair for pair in list_pairs() if "rotary" not in pair[0]])
def test_a_configuration_asks_as_a_call_does(variant, name, flag):
    """For all hidden states or attentions; a recurrent memory, which has none to give, refuses both."""
    model = build_model(variant, name)
    inputs = draw_inputs(model.config, name, labelled=False)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        plain = model(**inputs)
        expected = None if name.startswith("Rmt") else model(**inputs, **{flag: True})
        setattr(model.config, flag, True)
        if expected is None:
            for asked in ({}, {flag: True}):
                with pytest.raises(TypeError, match=flag):
                    model(**inputs, **asked)
        else:
            _compare(model(**inputs).to_tuple(), expected)
        assert model(**inputs, **{flag: False}).keys() == plain.keys()
