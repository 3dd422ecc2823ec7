"""Segments read by one compiled graph: the answers, losses and gradients of segments that are not compiled."""

import copy

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import BertConfig, EsmConfig, ModernBertConfig

from gengram import (
    GenaBertConfig,
    GengramConfig,
    RmtConfig,
    RmtForMaskedLM,
    RmtForSequenceClassification,
    RmtForTokenClassification,
    RmtModel,
)
from gengram.rmt import modeling_rmt

SIZE = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 3,
}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
TOKENS = {"cls_token_id": 1, "sep_token_id": 2}


def _modernbert() -> ModernBertConfig:
    return ModernBertConfig(**SIZE, **TOKENS, bos_token_id=1, eos_token_id=2, local_attention=8)


ENCODERS = {
    "gena": lambda: GenaBertConfig(**SIZE, **NO_DROPOUT),
    "bert": lambda: BertConfig(**SIZE, **NO_DROPOUT),
    "esm": lambda: EsmConfig(**SIZE, **NO_DROPOUT, position_embedding_type="rotary", mask_token_id=4),
    "gengram": lambda: GengramConfig(backbone_config=_modernbert(), memory_layers=[0], memory_dim=8),
}


@pytest.fixture(autouse=True)
def fresh_dynamo():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture
def counted():
    """A backend, and what it has compiled and run: each graph, and the number of runs."""
    graphs, runs = [], []

    def backend(graph, inputs):
        graphs.append(graph)
        run = torch._dynamo.lookup_backend("aot_eager")(graph, inputs)

        def count(*args):
            runs.append(1)
            return run(*args)

        return count

    return backend, graphs, runs


def build(model_class, encoder: str = "gena", **fields):
    torch.manual_seed(0)
    given = {"segment_length": 14, "num_memory_tokens": 3, **TOKENS, "pad_token_id": 3, **fields}
    return model_class(RmtConfig(backbone_config=ENCODERS[encoder](), **given)).double().eval()


def make_batch(counts: tuple[int, ...] = (35, 9, 0, 17)) -> dict[str, torch.Tensor]:
    """Sequences of so many tokens with special tokens around them."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.full((len(counts), max(counts) + 2), 3)
    for row, count in enumerate(counts):
        ids[row, 0], ids[row, count + 1] = 1, 2
        ids[row, 1 : count + 1] = torch.randint(5, 40, (count,), generator=generator)
    return {"input_ids": ids, "attention_mask": (ids != 3).long()}


@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_same_answers_by_one_graph(encoder, counted):
    """Of batches of every length, and of the first, the short and the last segment."""
    backend, graphs, runs = counted
    plain = build(RmtModel, encoder)
    compiled = copy.deepcopy(plain).compile_segments(None, backend)
    for counts in ((35, 9, 0, 17), (60, 60, 60, 60), (3, 1, 2, 0)):
        batch = make_batch(counts)
        with torch.no_grad():
            found, expected = compiled(**batch), plain(**batch)
        for name in ("last_hidden_state", "memory"):
            torch.testing.assert_close(found[name], expected[name], rtol=0, atol=1e-9)
    assert len(graphs) == 1 and len(runs) == 5 + 8 + 1


LABELS = {
    RmtForSequenceClassification: lambda ids: torch.arange(len(ids)) % 2,
    RmtForTokenClassification: lambda ids: torch.where(ids > 4, ids % 2, -100),
    RmtForMaskedLM: lambda ids: torch.where(ids > 20, ids, -100),
}


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("model_class", LABELS)
@pytest.mark.parametrize("fields", [{}, {"bptt_depth": 2}, {"segment_alignment": "balanced", "max_segments": 3}])
def test_the_same_gradients_through_the_segments(model_class, fields, recompute, counted):
    backend, graphs, _ = counted
    plain = build(model_class, recompute_segments=recompute, **fields).train()
    compiled = copy.deepcopy(plain).compile_segments(None, backend)
    batch = make_batch()
    labels = LABELS[model_class](batch["input_ids"])
    losses = [model(**batch, labels=labels).loss for model in (compiled, plain)]
    torch.testing.assert_close(*losses, rtol=1e-9, atol=0)
    for loss in losses:
        loss.backward()
    for (name, ours), theirs in zip(compiled.named_parameters(), plain.parameters(), strict=True):
        assert (ours.grad is None) == (theirs.grad is None), name
        if ours.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-10)
    assert float(plain.memory_tokens.weight.grad.abs().max()) > 0
    assert len(graphs) == 1


def test_a_model_whose_segments_are_compiled_is_copied_and_saved(tmp_path):
    model = build(RmtModel).compile_segments(mode=None, backend="aot_eager")
    batch = make_batch()
    with torch.no_grad():
        expected = model(**batch).memory
        torch.testing.assert_close(copy.deepcopy(model)(**batch).memory, expected)
    model.save_pretrained(tmp_path)
    assert RmtModel.from_pretrained(tmp_path).segment_compiler is None  # a matter of the machine


def test_no_cuda_graphs_in_training(monkeypatch):
    """Their gradients would be written over by the next micro-batch."""
    modes = []

    def compile(function, mode, backend):
        modes.append(mode)
        return function

    monkeypatch.setattr(torch, "compile", compile)
    model = build(RmtForSequenceClassification)
    for number, (mode, training) in enumerate(
        [
            ("reduce-overhead", None),
            ("max-autotune", "max-autotune-no-cudagraphs"),
            (None, None),
            ("default", "default"),
        ]
    ):
        modes.clear()
        model.compile_segments(mode, backend=f"none {number}")  # of its own, not one that was compiled before
        with torch.no_grad():
            model(**make_batch())
        model(**make_batch(), labels=torch.tensor([0, 1, 0, 1])).loss.backward()
        assert modes == ([mode] if mode == training else [mode, training])


class CountedOperators(TorchDispatchMode):
    """Counts operators that are no views, but within a graph, which counts as one (Dynamo runs none under a mode)."""

    def __init__(self):
        super().__init__()
        self.number, self.within = 0, False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.number += not func.is_view and not self.within
        return func(*args, **(kwargs or {}))

    def run_graph(self, model, *inputs):
        self.number, self.within = self.number + 1, True
        outputs = model.read_segment(*inputs)
        self.within = False
        return outputs


def count_operators(model, segments: int, monkeypatch) -> int:
    content = model.config.content_length
    batch = make_batch((content * segments, content * segments))
    with torch.no_grad(), CountedOperators() as counted:
        monkeypatch.setattr(modeling_rmt, "_run_compiled", counted.run_graph)
        model(**batch)
    return counted.number


def test_a_further_segment_costs_a_graph_and_few_operators(monkeypatch):
    """Between the graphs: the state is chosen, and the answer is put where it stands."""
    plain = build(RmtModel)
    compiled = copy.deepcopy(plain).compile_segments()
    plain, compiled = (
        (count_operators(model, 12, monkeypatch) - count_operators(model, 4, monkeypatch)) / 8
        for model in (plain, compiled)
    )
    assert compiled <= 12 and plain >= 70, (plain, compiled)


@pytest.mark.slow
def test_segments_compiled_by_inductor():
    plain = build(RmtForTokenClassification).float()
    compiled = copy.deepcopy(plain).compile_segments()
    batch = make_batch()
    with torch.no_grad():
        torch.testing.assert_close(compiled(**batch).logits, plain(**batch).logits, rtol=1e-4, atol=1e-5)
    labels = LABELS[RmtForTokenClassification](batch["input_ids"])
    for model in (plain.train(), compiled.train()):
        model(**batch, labels=labels).loss.backward()
    for ours, theirs in zip(compiled.parameters(), plain.parameters(), strict=True):
        if theirs.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-5)
