"""A graph cannot look at its tokens: its steps are those of a full input, and answers and losses are the same."""

import pytest
import torch
from transformers import BertConfig

from gengram import RmtConfig, RmtForMaskedLM, RmtForSequenceClassification, RmtForTokenClassification, RmtModel
from gengram.rmt.segments import plan_steps

SIZE = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 3,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
TOKENS = {"cls_token_id": 1, "sep_token_id": 2, "pad_token_id": 3}
COUNTS = (35, 9, 0, 17)


def build(model_class, **fields):
    torch.manual_seed(0)
    given = {"segment_length": 14, "num_memory_tokens": 3, **TOKENS}
    return model_class(RmtConfig(backbone_config=BertConfig(**SIZE), **{**given, **fields})).double()


def make_batch() -> dict[str, torch.Tensor]:
    """Sequences of 35, 9, 0 and 17 tokens with special tokens around them."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.full((len(COUNTS), 37), 3)
    for row, count in enumerate(COUNTS):
        ids[row, 0], ids[row, count + 1] = 1, 2
        ids[row, 1 : count + 1] = torch.randint(5, 40, (count,), generator=generator)
    return {"input_ids": ids, "attention_mask": (ids != 3).long()}


@pytest.fixture
def trace(monkeypatch):
    """Run a function as if its graph were being traced, and see its numbers."""

    def run(function):
        with monkeypatch.context() as patch:
            patch.setattr(torch.compiler, "is_compiling", lambda: True)
            return function()

    return run


@pytest.mark.parametrize("alignment", ["right", "left", "balanced"])
@pytest.mark.parametrize("limit", [None, 1, 2])
@pytest.mark.parametrize("length", [1, 4, 40])
def test_a_traced_plan_holds_the_same_segments(trace, alignment, limit, length):
    ids = make_batch()["input_ids"]
    plain = plan_steps(ids, None, [1, 2, 3], length, limit, alignment)
    traced = trace(lambda: plan_steps(ids, None, [1, 2, 3], length, limit, alignment))
    # As many steps as 37 tokens need, and every sequence in each.
    assert [step.distance for step in traced] == list(range(min(-(-37 // length), limit or 37), 0, -1))
    assert all(len(step.rows) == len(COUNTS) for step in traced)
    for row in range(len(COUNTS)):
        parts = [step.places[row][step.places[row] >= 0].tolist() for step in traced if step.begun[row]]
        places = [step.places[step.rows == row].flatten() for step in plain if row in step.rows]
        assert parts == [part[part >= 0].tolist() for part in places]
        assert all((step.places[row] < 0).all() for step in traced if not step.begun[row])


@pytest.mark.parametrize("alignment", ["right", "balanced"])
@pytest.mark.parametrize(
    "model_class", [RmtModel, RmtForMaskedLM, RmtForSequenceClassification, RmtForTokenClassification]
)
def test_a_traced_model_answers_the_same(trace, model_class, alignment):
    model, batch = build(model_class, segment_alignment=alignment).eval(), make_batch()
    with torch.no_grad():
        plain, traced = model(**batch), trace(lambda: model(**batch))
    assert plain.keys() == traced.keys()
    for name in plain:
        torch.testing.assert_close(traced[name], plain[name])


@pytest.mark.parametrize("compat", [None, "rmt", "gena"])
@pytest.mark.parametrize("losses", ["last", "all"])
@pytest.mark.parametrize("model_class", [RmtForSequenceClassification, RmtForTokenClassification])
def test_traced_losses_and_gradients_are_the_same(trace, model_class, losses, compat):
    model = build(model_class, segment_losses=losses, compat=compat, bptt_depth=1, max_segments=3).train()
    batch = make_batch()
    shape = batch["input_ids"].shape[: 1 if model_class is RmtForSequenceClassification else 2]
    batch["labels"] = torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(1))

    def differentiate():
        loss = model(**batch).loss
        weights = dict(model.named_parameters())
        return loss, torch.autograd.grad(loss, list(weights.values()), allow_unused=True)

    plain, traced = differentiate(), trace(differentiate)
    torch.testing.assert_close(traced[0], plain[0])
    for expected, found in zip(plain[1], traced[1]):
        if expected is not None:
            torch.testing.assert_close(found, expected)


def test_a_graph_of_one_length_reads_shorter_sequences(trace):
    """What is exported at T tokens takes sequences of fewer, filled up with padding."""
    model, batch = build(RmtForTokenClassification).eval(), make_batch()
    short = {name: value[1:2, :11] for name, value in batch.items()}
    with torch.no_grad():
        alone = model(**short).logits
        filled = trace(lambda: model(**{name: value[1:2] for name, value in batch.items()})).logits
    torch.testing.assert_close(filled[:, :11], alone)
    assert not filled[:, 11:].any()
