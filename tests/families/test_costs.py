"""Operations by formula are those that PyTorch counts, for every family, head and form of the memory."""

import pytest
import torch
from small_models import VARIANTS, build_model, draw_inputs, find_class, list_pairs
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import BigBirdConfig, BigBirdForMaskedLM, DeepseekV3Config, GPT2Config, LlamaConfig, Qwen3MoeConfig

from gengram import GengramConfig, GengramForCausalLM
from gengram.benchmarks.speed.released import run_released
from gengram.costs import Operations, count_memory, count_memory_step, count_operations, estimate_operations
from gengram.gena.published import speed_up
from gengram.gengram.kmer_index import KmerContext
from gengram.gengram.motif_memory import MotifMemory
from gengram.training.memory_estimate import count_parameters

_HEADS = {"MaskedLM": "language", "CausalLM": "language", "SequenceClassification": "sequence"}
_HEADS |= {"TokenClassification": "token"}
# Heads of their own, which `count_operations` does not know: of two sequences, of bins.
_OTHERS = ("GenaBertForPreTraining", "GenaBertForBinnedRegression")
PAIRS = [pair for pair in list_pairs() if pair[1] not in _OTHERS]


def find_head(class_name: str) -> str:
    return next((head for end, head in _HEADS.items() if class_name.endswith(end)), "none")


def prepare(model, form: str = "lifetime"):
    """Plain products: eager attention and experts, one form of the memory."""
    model.set_attn_implementation("eager")
    if any("experts" in name for name, _ in model.named_modules()):
        model.set_experts_implementation("eager")
    for module in model.modules():
        if isinstance(module, MotifMemory):
            module.path = form
    return model


def count_batched(a, b, out_shape=None, **_) -> int:
    """Of [B, M, K] and [B, K, N]; with K = 1 it is how transformers 5.17 makes the angles of a rotation: left out."""
    return 0 if a[-1] == 1 else 2 * a[0] * a[1] * a[2] * b[2]


def count(call) -> int:
    with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.bmm: count_batched}) as counter:
        call()
    return counter.get_total_flops()


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("variant", "class_name"), PAIRS)
def test_a_forward_pass(variant, class_name):
    model = prepare(build_model(variant, class_name))
    inputs = draw_inputs(model.config, class_name, labelled=False)
    if "species_ids" in inputs:  # Rows of one species: each goes through the tracks of its own.
        inputs["species_ids"] = torch.tensor([6, 6])
    B, T = inputs["input_ids"].shape
    told = count_operations(model.config, B, T, find_head(class_name), memory="lifetime")
    assert told.forward == count(lambda: model(**inputs))


@pytest.mark.parametrize("variant", [name for name in VARIANTS if not name.startswith(("rmt", "ntv3_posttrained"))])
def test_a_training_step_is_three_forward_passes(variant):
    class_name = "LM" if variant != "segment_nt" else "TokenClassification"
    class_name = next(name for one, name in PAIRS if one == variant and name.endswith(class_name))
    model = prepare(build_model(variant, class_name).train(), "definition")
    inputs = draw_inputs(model.config, class_name)
    B, T = inputs["input_ids"].shape
    told = count_operations(model.config, B, T, find_head(class_name))
    assert told.count_step() == count(lambda: model(**inputs).loss.backward())


def test_checkpointing_computes_all_layers_but_their_last_products_again():
    model = prepare(build_model("nucleotide_transformer", "NucleotideTransformerForMaskedLM").train())
    model.gradient_checkpointing_enable({"use_reentrant": False})
    inputs = draw_inputs(model.config, "NucleotideTransformerForMaskedLM")
    B, T = inputs["input_ids"].shape
    told = count_operations(model.config, B, T).count_step(checkpoints=True)
    config = model.config
    last = config.num_hidden_layers * 2 * B * T * config.intermediate_size * config.hidden_size
    assert told - last == count(lambda: model(**inputs).loss.backward())


_SIZE = {"vocab_size": 32, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
_EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 16, "pad_token_id": 0}


@pytest.mark.parametrize(
    "backbone",
    [
        DeepseekV3Config(
            **_SIZE, **_EXPERTS, num_key_value_heads=4, q_lora_rank=rank, kv_lora_rank=16, qk_nope_head_dim=8,
            qk_rope_head_dim=4, v_head_dim=6, n_routed_experts=4, n_shared_experts=1, n_group=1, topk_group=1,
            first_k_dense_replace=1,
        )
        for rank in (None, 12)
    ]
    + [
        Qwen3MoeConfig(
            **_SIZE, **_EXPERTS, num_key_value_heads=2, head_dim=16, num_experts=4, mlp_only_layers=[1],
            decoder_sparse_step=1,
        )
    ],
    ids=["latent", "latent-low-rank", "qwen3-moe"],
)  # fmt: skip
def test_experts_and_latent_attention(backbone):
    model = prepare(GengramForCausalLM(GengramConfig(backbone_config=backbone, memory_layers=[1], memory_dim=8)))
    model.eval()
    ids = torch.randint(5, 10, (2, 24))
    told = count_operations(model.config, 2, 24, memory="lifetime")
    assert told.forward == count(lambda: model(ids))


@pytest.mark.parametrize("training", [False, True])
def test_sparse_attention(training):
    torch.manual_seed(0)
    config = BigBirdConfig(
        **{**_SIZE, "num_hidden_layers": 1}, block_size=4, num_random_blocks=1, max_position_embeddings=64,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    model = BigBirdForMaskedLM(config)
    speed_up(model)
    model.train(training)
    ids = torch.randint(5, 30, (2, 48))
    with sdpa_kernel(SDPBackend.MATH):
        seen = count(lambda: model(ids, attention_mask=torch.ones_like(ids)))
    told = count_operations(config, 2, 48, training=training)
    assert told.forward == seen
    dense = count_operations(BigBirdConfig(**{**config.to_dict(), "attention_type": "original_full"}), 2, 48)
    assert told.scores < dense.scores and told.attention == dense.attention


@pytest.mark.parametrize("form", ["definition", "prefix", "lifetime", "released"])
@pytest.mark.parametrize("T", [7, 64, 100])
def test_each_form_of_the_memory(form, T):
    backbone = LlamaConfig(**_SIZE)
    config = GengramConfig(backbone_config=backbone, memory_layers=[0], memory_dim=12, kmer_sizes=[1, 2, 3, 4, 5, 6])
    memory = MotifMemory(config)
    letters, hidden = torch.randint(0, 4, (2, T)), torch.randn(2, T, 32, requires_grad=True)
    if form == "released":
        convolution = 2 * 2 * T * 32 * 4  # 4 taps of each of D channels, as one operator
        seen = count(lambda: run_released(memory, hidden, letters))
        assert count_memory(config, 2, T, "projected") == seen - convolution
        return
    memory.path = form
    assert count_memory(config, 2, T, form) == count(lambda: memory(hidden, KmerContext(letters)))
    step = count(lambda: memory(hidden, KmerContext(letters)).sum().backward())
    assert count_memory_step(config, 2, T, form) == step


def test_projected_tables_count_rows_and_nothing_once_they_are_kept():
    config = GengramConfig(backbone_config=LlamaConfig(**_SIZE), memory_layers=[0], memory_dim=12)
    of_a_row = 4 * 12 * 32
    assert count_memory(config, 1, 10**6, "merged") == of_a_row * sum(4**k for k in range(1, 7))
    assert count_memory(config, 1, 100, "fused") == of_a_row * (4 + 16 + 64 + 3 * 100)
    assert count_memory(config, 1, 100, "triton") == of_a_row * sum(5**k for k in range(1, 7))
    assert count_memory(config, 1, 100, "merged", training=False) == count_memory(config, 1, 100, "none") == 0
    with pytest.raises(ValueError, match="no such form"):
        count_memory(config, 1, 100, "fastest")


def test_a_causal_mask_leaves_half_of_the_scores():
    found = Operations(attention=10, scores=8, mlp=20, head=5)
    assert found.count_step() - found.count_step(causal=True) == 3 * 4
    assert found.count_step(checkpoints=True) == 4 * 38 + 3 * 5


def test_an_unknown_architecture_is_told_so_and_estimated():
    config = GPT2Config(vocab_size=32, n_embd=32, n_layer=2, n_head=4)
    assert count_operations(config, 2, 24) is None
    assert estimate_operations(config, 1000, 48, 24) == 48 * (6000 + 12 * 2 * 32 * 24)


@pytest.mark.parametrize("size", ["0.3b-dense-mha", "0.3b-dense-mla", "1.2b-moe-gqa", "1.2b-moe-mla"])
def test_the_papers_sizes_are_near_six_a_parameter_and_token(size):
    config = GengramConfig.from_size(size, memory_layers=[])
    with torch.device("meta"):
        model = GengramForCausalLM(config)
    told = count_operations(config, 1, 1000)
    scores, embedding = told.scores, config.vocab_size * config.hidden_size
    per_token = (told.count_step() - 3 * scores) / 1000
    assert per_token == pytest.approx(6 * (count_parameters(model).active - embedding), rel=1e-3)


def test_every_class_of_the_table_is_tested_or_named():
    assert {name for _, name in list_pairs()} - {name for _, name in PAIRS} == set(_OTHERS)
    assert find_class(VARIANTS["segment_nt"](), "SegmentNTModel")
