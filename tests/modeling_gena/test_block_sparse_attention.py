"""Fast block-sparse attention: against transformers' own, in values and gradients, call by call."""

import numpy as np
import pytest
import torch
from torch.nn.attention.flex_attention import flex_attention
from transformers import BertConfig, BertModel, BigBirdConfig, BigBirdForMaskedLM, BigBirdModel

from gengram.gena import block_sparse_attention
from gengram.gena.block_sparse_attention import attend_sparsely, use_fast_attention

SIZE = {
    "vocab_size": 40,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "block_size": 8,
    "num_random_blocks": 2,
    "pad_token_id": 3,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}  # sparse beyond (5 + 2 * 2) * 8 = 72 tokens


def build_pair(random_blocks: str = "none", **fields) -> tuple[BigBirdModel, BigBirdModel]:
    """Transformers' own model, and one with the same weights and fast attention."""
    torch.manual_seed(0)
    stock = BigBirdModel(BigBirdConfig(**{**SIZE, **fields})).double()
    fast = BigBirdModel(BigBirdConfig(**{**SIZE, **fields})).double()
    fast.load_state_dict(stock.state_dict())
    return stock.eval(), use_fast_attention(fast.eval(), random_blocks)


def make_batch(T: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    mask = torch.ones(2, T, dtype=torch.long)
    mask[1, T - 11 :] = 0
    return {"input_ids": torch.randint(5, 40, (2, T)).masked_fill(mask == 0, 3), "attention_mask": mask}


@pytest.mark.parametrize("T", [73, 80, 128, 201])
@pytest.mark.parametrize("gradients", [False, True])
def test_same_as_transformers(T, gradients):
    stock, fast = build_pair()
    batch = make_batch(T)
    with torch.set_grad_enabled(gradients):
        expected, ours = (model(**batch).last_hidden_state for model in (stock, fast))
    assert torch.allclose(ours[batch["attention_mask"].bool()], expected[batch["attention_mask"].bool()], atol=1e-9)


@pytest.mark.parametrize("T", [40, 104])
def test_attention_maps_are_those_of_transformers(T):
    """Of a short input, with full attention, and of a long one; by call and by configuration."""
    stock, fast = build_pair("training", attention_type="original_full" if T == 40 else "block_sparse")
    batch = make_batch(T)
    with torch.no_grad():
        expected = stock(**batch, output_attentions=True)
        np.random.seed(5)
        before = np.random.get_state()[1].copy()
        ours = fast(**batch, output_attentions=True)
        assert (np.random.get_state()[1] == before).all()
    assert len(ours.attentions) == SIZE["num_hidden_layers"]
    for one, other in zip(ours.attentions, expected.attentions, strict=True):
        assert torch.allclose(one, other, atol=1e-9)
    real = batch["attention_mask"].bool()
    with torch.no_grad():
        plain = fast(**batch)
        assert plain.attentions is None
        assert torch.allclose(ours.last_hidden_state[real], plain.last_hidden_state[real], atol=1e-9)
        fast.config.output_attentions = True
        assert len(fast(**batch).attentions) == SIZE["num_hidden_layers"]


@pytest.mark.parametrize("random_blocks", ["none", "always"])
def test_maps_of_other_random_blocks_are_refused(random_blocks):
    _, fast = build_pair(random_blocks)
    fast.train(random_blocks == "none")
    with pytest.raises(ValueError, match="use random_blocks='training'"):
        fast(**make_batch(104), output_attentions=True)


@pytest.mark.parametrize("random_blocks", ["none", "training"])
def test_same_gradients_as_transformers(random_blocks):
    stock, fast = build_pair(random_blocks)
    if random_blocks == "training":
        stock.train(), fast.train()
    batch = make_batch(104)
    real = batch["attention_mask"].bool()
    for model in (stock, fast):
        model(**batch).last_hidden_state[real].square().sum().backward()
    theirs = dict(stock.named_parameters())
    for name, parameter in fast.named_parameters():
        if theirs[name].grad is not None:
            assert torch.allclose(parameter.grad, theirs[name].grad, atol=1e-8), name


@pytest.mark.parametrize("T", [96, 1024])
def test_random_blocks_of_training_are_those_of_transformers(T):
    stock, fast = build_pair("training", max_position_embeddings=1024)
    stock.train(), fast.train()
    batch = {"input_ids": torch.randint(5, 40, (1, T))}
    with torch.no_grad():
        assert torch.allclose(stock(**batch).last_hidden_state, fast(**batch).last_hidden_state, atol=1e-9)


def test_numpy_generator_is_left_alone():
    _, fast = build_pair("always")
    np.random.seed(5)
    expected = np.random.rand()
    np.random.seed(5)
    fast(**make_batch(120))
    assert np.random.rand() == expected


def test_short_input_does_not_change_what_follows():
    stock, fast = build_pair()
    long, short = make_batch(104), make_batch(40)
    expected = stock(**long).last_hidden_state
    assert torch.allclose(fast(**long).last_hidden_state, expected, atol=1e-9)
    full = fast(**short).last_hidden_state[0]
    assert torch.allclose(fast(**long).last_hidden_state, expected, atol=1e-9)
    assert torch.allclose(full, stock(**short).last_hidden_state[0], atol=1e-9)
    assert not torch.allclose(stock(**long).last_hidden_state, expected, atol=1e-3)  # transformers' own has changed


def test_gradient_checkpointing_and_word_vectors():
    _, fast = build_pair()
    batch = make_batch(104)
    expected = fast(**batch).last_hidden_state
    fast.train().gradient_checkpointing_enable()
    vectors = fast.get_input_embeddings()(batch["input_ids"])
    again = fast(inputs_embeds=vectors, attention_mask=batch["attention_mask"]).last_hidden_state
    assert torch.allclose(again, expected, atol=1e-9)
    again.sum().backward()
    assert fast.encoder.layer[0].attention.self.query.weight.grad.abs().max() > 0


def test_saved_model_is_a_big_bird(tmp_path):
    model = use_fast_attention(BigBirdForMaskedLM(BigBirdConfig(**SIZE)).eval())
    model.save_pretrained(tmp_path)
    stock, found = BigBirdForMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not found["missing_keys"] and not found["unexpected_keys"]
    batch = make_batch(104)
    with torch.no_grad():
        ours, theirs = model(**batch).logits, stock.eval()(**batch).logits
    assert torch.allclose(ours[batch["attention_mask"].bool()], theirs[batch["attention_mask"].bool()], atol=1e-4)


def find_largest_saved(parts: list[torch.Tensor], mask: torch.Tensor) -> int:
    sizes = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        attend_sparsely(*parts, mask, 8, 2)
    return max(sizes)


def test_memory_does_not_grow_with_the_square():
    """The largest tensor that autograd keeps is a multiple of T, whatever T is."""
    largest = []
    for T in (256, 1024):
        parts = [torch.randn(1, T, 2, 8, requires_grad=True) for _ in range(3)]
        largest.append(find_largest_saved(parts, torch.ones(1, T)))
    assert largest[1] <= 4.3 * largest[0]


@pytest.fixture
def eager_flex(monkeypatch):
    """flex_attention without its compiler, which takes a while, and with the gradients that a CPU is not to take."""
    monkeypatch.setattr(block_sparse_attention, "_compile_flex", lambda: flex_attention)
    monkeypatch.setattr(torch.nn.attention.flex_attention, "_validate_device", lambda *parts: None)
    monkeypatch.setattr(block_sparse_attention, "_COMPILED", set())
    torch._dynamo.reset()  # or shapes that were seen before count as shapes that change


def make_parts(B: int, T: int, dtype=torch.float64) -> list[torch.Tensor]:
    torch.manual_seed(T)
    return [torch.randn(B, T, 2, 16, dtype=dtype, requires_grad=True) for _ in range(3)]


def draw(n: int, r: int) -> torch.Tensor:
    """Random blocks of two heads, also such as are seen anyhow: int64 [2, n - 2, r]."""
    return torch.randint(0, n, (2, n - 2, r), generator=torch.Generator().manual_seed(n))


@pytest.mark.parametrize("drawn", [False, True], ids=["none", "random"])
@pytest.mark.parametrize("S, n", [(8, 12), (16, 8), (16, 41), (48, 9), (64, 13), (64, 8), (100, 7), (128, 7), (256, 5)])
def test_flex_attention_gives_the_same(eager_flex, S, n, drawn):
    """For every size of a block, also such as tiles are not cut by, and for lengths that are no number of tiles."""
    parts, plan = make_parts(2, S * n), draw(n, 2) if drawn else None
    mask = torch.ones(2, S * n, dtype=torch.float64)
    mask[0, -S // 2 :] = mask[1, S + 3 :] = 0
    gathered, flexed = (attend_sparsely(*parts, mask, S, 2, plan, flex=flex) for flex in (False, True))
    cotangent = torch.randn_like(gathered) * mask[..., None, None]
    real = mask.bool()
    assert torch.allclose(gathered[real], flexed[real], atol=1e-9)
    for ours, theirs in zip(*(torch.autograd.grad(x, parts, cotangent) for x in (flexed, gathered)), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-9)


@pytest.mark.parametrize("S, n", [(8, 40), (48, 9), (64, 13), (128, 9), (256, 8)])
@pytest.mark.parametrize("drawn", [False, True])
def test_tiles_hold_what_is_seen_and_no_more(S, n, drawn):
    """Of a size that the kernels of every GPU divide, and none is visited in which nothing is seen."""
    T = S * n
    plan = block_sparse_attention.plan_flex(torch.ones(1, T), S, 2, draw(n, 2) if drawn else None).tiles
    assert plan.BLOCK_SIZE == (128, 128) and plan.seq_lengths == (T, T)
    heads = 2 if drawn else 1
    place = torch.arange(T)
    seen = torch.stack([plan.mask_mod(0, h, place[:, None], place) for h in range(heads)])
    tiles = -(-T // 128)
    padded = torch.nn.functional.pad(seen, (0, tiles * 128 - T, 0, tiles * 128 - T))
    expected = padded.view(heads, tiles, 128, tiles, 128).any(4).any(2)
    assert torch.equal(plan.to_dense()[0].bool(), expected)


def test_layers_share_what_flex_needs_to_know(eager_flex, monkeypatch):
    made = []
    make = block_sparse_attention.plan_flex
    monkeypatch.setattr(block_sparse_attention, "plan_flex", lambda *a: made.append(1) or make(*a))
    stock, fast = build_pair()
    for layer in fast.encoder.layer:
        layer.attention.self.flex = True
    for T in (104, 128):
        batch = make_batch(T)
        real = batch["attention_mask"].bool()
        with torch.no_grad():
            assert torch.allclose(
                fast(**batch).last_hidden_state[real], stock(**batch).last_hidden_state[real], atol=1e-6
            )
    assert len(made) == 2
    assert all(layer.attention.self.plans is None for layer in fast.encoder.layer)


@pytest.mark.slow
def test_compiled_flex_attention_gives_the_same():
    """By inductor, whose lowering on a CPU is of another kind than a GPU's."""
    parts = [part.detach().float() for part in make_parts(1, 832)]
    mask = torch.ones(1, 832)
    mask[0, 800:] = 0
    for plan in (None, draw(13, 2)):
        with torch.no_grad():
            gathered, flexed = (attend_sparsely(*parts, mask, 64, 2, plan, flex=flex) for flex in (False, True))
        assert torch.allclose(gathered[:, :800], flexed[:, :800], atol=1e-5)


def test_other_models_are_refused():
    config = BertConfig(num_hidden_layers=1, hidden_size=16, num_attention_heads=2, intermediate_size=8, vocab_size=9)
    with pytest.raises(ValueError, match="BertModel is no BigBird"):
        use_fast_attention(BertModel(config))


def test_more_shapes_than_dynamo_compiles_are_gathered_and_that_is_said_once(monkeypatch):
    compiled, said = [], set()
    monkeypatch.setattr(block_sparse_attention.logger, "warning_once", said.add)

    def record(*parts, **options):
        compiled.append(parts[0].shape[2])
        return flex_attention(*parts, **options)

    monkeypatch.setattr(block_sparse_attention, "_compile_flex", lambda: record)
    monkeypatch.setattr(block_sparse_attention, "_COMPILED", set())
    limit = torch._dynamo.config.recompile_limit
    lengths = [16 * blocks for blocks in range(8, 8 + limit + 2)]
    for T in [*lengths, lengths[0]]:
        torch.manual_seed(T)
        query, key, value = torch.randn(3, 1, T, 2, 16)
        flexed, gathered = (attend_sparsely(query, key, value, torch.ones(1, T), 16, 3, flex=f) for f in (True, False))
        assert torch.allclose(flexed, gathered, atol=1e-5)
    assert compiled == [*lengths[:limit], lengths[0]]
    assert len(said) == 1 and f"{limit} shapes" in said.pop()
