"""A memory a piece at a time gives what it gives at once: every form, history, documents, padding, caches."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from transformers import DynamicCache

from gengram import MotifMemory
from gengram.gengram import motif_memory
from gengram.gengram.kmer_index import KmerContext
from gengram.gengram.memory_chunks import run_in_chunks, slice_context
from gengram.gengram.prefix_sums import pool_by_prefix_sums

FORMS = {
    "released": {},
    "paper": {"memory_preset": "paper"},
    "no-window": {"window_size": None},
    "centred": {"center_window": True},
    "conv-norm": {"conv_norm": True},
    "tied": {"tie_reverse_complement": True},
}


@pytest.fixture
def make_memory(make_config, make_backbone):
    def make(**fields) -> MotifMemory:
        torch.manual_seed(0)
        memory = MotifMemory(make_config(make_backbone("llama-mha"), **fields)).double().eval()
        return memory

    return make


def make_input(T: int, H: int = 0) -> tuple[torch.Tensor, KmerContext]:
    generator = torch.Generator().manual_seed(1)
    letters = torch.randint(-1, 5, (2, H + T), generator=generator)
    return torch.randn(2, T, 32, dtype=torch.float64, generator=generator), KmerContext(letters, history=H)


@pytest.mark.parametrize("fields", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("chunk", [1, 7, 40, 100])
@pytest.mark.parametrize("extra", ["nothing", "history", "documents", "padding"])
def test_pieces_equal_the_whole(make_memory, fields, chunk, extra):
    memory = make_memory(**fields)
    hidden, context = make_input(97, H=5 if extra == "history" else 0)
    if extra == "documents":
        context = KmerContext(context.letters, documents=(torch.arange(97) // 23).expand(2, 97))
    if extra == "padding":
        real = torch.arange(97).expand(2, 97) >= torch.tensor([[11], [0]])
        context = KmerContext(context.letters.masked_fill(~real, -1), real=real)
    reach = memory.short_conv.history if memory.short_conv is not None else 0
    with torch.no_grad():
        whole = memory._write(hidden, context)
        pieces = run_in_chunks(memory._write, hidden, context, memory.window, reach, chunk)
    torch.testing.assert_close(pieces, whole, rtol=0, atol=1e-12)


def test_a_piece_takes_the_history_that_its_window_needs(make_memory):
    window = make_memory().window  # 9 bases
    _, context = make_input(50, H=3)
    assert slice_context(context, window, 0, 10).history == 3
    piece = slice_context(context, window, 20, 30)
    assert piece.history == 8 and torch.equal(piece.letters, context.letters[:, 15:33])


def test_models_evaluate_long_sequences_in_pieces(make_model, causal_config, make_ids, monkeypatch):
    """With and without a cache, and going on from it; training stays whole."""
    model = make_model(causal_config)
    ids = make_ids(1, 90)
    with torch.no_grad():
        whole = model(ids, use_cache=False).logits
    lengths = []
    original = MotifMemory._write
    monkeypatch.setattr(MotifMemory, "_write", lambda self, *x: lengths.append(x[0].shape[1]) or original(self, *x))
    monkeypatch.setattr(motif_memory, "CHUNK", 32)
    monkeypatch.setattr(motif_memory.run_in_chunks, "__defaults__", (32,))
    with torch.no_grad():
        torch.testing.assert_close(model(ids, use_cache=False).logits, whole, rtol=0, atol=1e-10)
        assert max(lengths) < 50
        cache = DynamicCache(config=model.config.backbone_config)
        first = model(ids[:, :70], past_key_values=cache).logits
        rest = model(ids[:, 70:], past_key_values=cache).logits
    torch.testing.assert_close(torch.cat([first, rest], dim=1), whole, rtol=0, atol=1e-10)
    lengths.clear()
    model.train()(ids, labels=ids, use_cache=False).loss.backward()
    assert set(lengths) == {90}


def test_prefix_sums_are_the_same_means_until_they_are_rounded(make_memory):
    exact, prefix = make_memory(), make_memory(window_sums="prefix")
    hidden, context = make_input(60)
    torch.testing.assert_close(prefix(hidden, context), exact(hidden, context), rtol=0, atol=1e-10)
    generator = torch.Generator().manual_seed(0)
    letters = torch.randint(0, 4, (1, 8192), generator=generator)
    tables = [table.weight.detach().float() for table in exact.embeddings]
    truth = pool_by_prefix_sums([table.double() for table in tables], letters, exact.window)
    error = (pool_by_prefix_sums([t.bfloat16() for t in tables], letters, exact.window).double() - truth).norm(dim=-1)
    assert error[0, -1024:].mean() > 5 * error[0, :256].mean(), "it grows along the sequence"


def test_prefix_sums_refuse_what_the_released_code_does_not_have(make_memory, make_model, make_backbone, make_ids):
    for name in ("paper", "no-window", "centred", "tied"):
        with pytest.raises(StrictDataclassClassValidationError, match="released window only"):
            make_memory(window_sums="prefix", **FORMS[name])
    model = make_model(make_backbone("llama-mha"), window_sums="prefix")
    assert model(make_ids(1, 20)).logits.isfinite().all()
    with pytest.raises(ValueError, match="use_cache=False"):
        model.generate(make_ids(1, 20), min_new_tokens=2, max_new_tokens=2)
    again = model.generate(make_ids(1, 20), min_new_tokens=2, max_new_tokens=2, use_cache=False)
    assert again.shape == (1, 22)
    with pytest.raises(ValueError, match="no packed documents"):
        model(make_ids(1, 20), seq_idx=torch.arange(20)[None] // 10, use_cache=False)
