"""Embeddings: of every family and layer what the model says to each sequence alone; pooling, windows, the pipeline."""

import numpy as np
import pytest
import torch
from fake_device import FakeDevice, SmallMemory
from transformers import (
    BertConfig,
    BertModel,
    BigBirdConfig,
    EsmConfig,
    LlamaConfig,
    MixtralConfig,
    ModernBertConfig,
    PreTrainedModel,
    pipeline,
)
from transformers.models.auto import AutoModel

import gengram.pipelines
from gengram import GenaBertConfig, GengramConfig, NTv3Config, NucleotideTransformerConfig, RmtConfig
from gengram.pipelines import budget, embed
from gengram.pipelines.embed import (
    Embedder,
    LargeSequenceError,
    LongSequenceError,
    NotFiniteError,
    SequenceError,
    embed_sequences,
)
from gengram.tokenization import build_kmer_tokenizer, build_ntv3_tokenizer, build_nucleotide_tokenizer

TOKENIZER = build_nucleotide_tokenizer(template="cls_sep", model_max_length=64)
KMERS = build_kmer_tokenizer()
SMALL = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 128,
    "pad_token_id": 0,
    "max_position_embeddings": 66,
}
MEMORY = {"memory_layers": [0], "memory_dim": 8, "kmer_sizes": [1, 2, 3], "window_size": 3}
KMER_SIZE = {
    **SMALL,
    "vocab_size": len(KMERS),
    "pad_token_id": KMERS.pad_token_id,
    "mask_token_id": KMERS.mask_token_id,
}
NAMED = {"cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
CONFIGS = {
    "bert": (BertConfig(**SMALL), TOKENIZER),
    "big_bird": (BigBirdConfig(**SMALL, block_size=4, num_random_blocks=1), TOKENIZER),
    "esm": (EsmConfig(**SMALL, mask_token_id=4, position_embedding_type="rotary"), TOKENIZER),
    "gena_bert": (GenaBertConfig(**SMALL), TOKENIZER),
    "gengram": (GengramConfig(backbone_config=LlamaConfig(**SMALL), **MEMORY), TOKENIZER),
    "mixtral": (MixtralConfig(**SMALL, num_key_value_heads=2, num_local_experts=2), TOKENIZER),
    "modernbert": (ModernBertConfig(**SMALL, **NAMED), TOKENIZER),
    "nt_v1": (NucleotideTransformerConfig(**KMER_SIZE, position_embedding_type="absolute", token_dropout=True), KMERS),
    "nt_v2": (NucleotideTransformerConfig(**KMER_SIZE), KMERS),
}
SEQUENCES = ["ACGTNACGTTGCA", "ACGT", "GATTACA" * 5, "GGCATNNACGTACGTTTAGCATCGATTACAGATTACA", "T", "acgtacgttgcaggg"]


def build(config) -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModel.from_config(config).eval()


def ask(model: PreTrainedModel, tokenizer, sequence: str, layer: int = -1) -> tuple[np.ndarray, np.ndarray]:
    """Hidden states of one sequence alone, and which of its tokens are special."""
    encoded = tokenizer(sequence, return_tensors="pt", return_special_tokens_mask=True)
    special = encoded.pop("special_tokens_mask")[0].bool().numpy()
    encoded.pop("token_type_ids", None)
    if hasattr(model, "set_attention_type"):  # BigBird: full attention stays once it was needed
        model.set_attention_type(model.config.attention_type)
    with torch.no_grad():
        return model(**encoded, output_hidden_states=True).hidden_states[layer][0][: len(special)].numpy(), special


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize("layer", [-1, 1])
def test_every_family_and_layer_gives_the_mean_of_each_sequence_alone(family, layer):
    config, tokenizer = CONFIGS[family]
    model = build(config)
    expected = np.stack([ask(model, tokenizer, one, layer)[0].mean(0) for one in SEQUENCES])
    found = embed_sequences(model, tokenizer, SEQUENCES, layer=layer, batch_tokens=80)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize("pool", ["mean", "max", "last"])
def test_several_layers_of_one_pass_are_what_each_is_alone(family, pool):
    config, tokenizer = CONFIGS[family]
    model, passes = build(config), []
    model.register_forward_hook(lambda *_: passes.append(1))
    long = [*SEQUENCES, "GATTACA" * 12]
    options = {"pool": pool, "exclude_special": True, "too_long": "window", "max_length": 40, "batch_tokens": 80}
    found = embed_sequences(model, tokenizer, long, layer=[-1, 0, 1], **options)
    assert found.shape == (7, 3, 16) and found.dtype == np.float32
    once = len(passes)
    for place, layer in enumerate((-1, 0, 1)):
        np.testing.assert_array_equal(found[:, place], embed_sequences(model, tokenizer, long, layer=layer, **options))
    assert len(passes) == 4 * once


@pytest.mark.parametrize("family", ["bert", "nt_v2", "gengram"])
def test_pools_with_and_without_special_tokens(family):
    config, tokenizer = CONFIGS[family]
    model = build(config)
    for row, sequence in enumerate(SEQUENCES):
        hidden, special = ask(model, tokenizer, sequence)
        bases = hidden[~special]
        for options, expected in (
            ({"pool": "mean", "exclude_special": True}, bases.mean(0)),
            ({"pool": "max"}, hidden.max(0)),
            ({"pool": "max", "exclude_special": True}, bases.max(0)),
            ({"pool": "cls"}, hidden[0]),
            ({"pool": "none"}, hidden),
            ({"pool": "none", "exclude_special": True}, bases),
        ):
            np.testing.assert_allclose(
                embed_sequences(model, tokenizer, SEQUENCES, **options)[row], expected, atol=1e-5
            )


def test_a_recurrent_memory_gives_vectors_to_bases_of_sequences_of_any_length():
    config = RmtConfig(backbone_config=BertConfig(**SMALL, **NAMED), num_memory_tokens=2, segment_length=16)
    model, long = build(config), "ACGTTGCA" * 20
    with torch.no_grad():
        hidden = model(**TOKENIZER(long, return_tensors="pt", return_token_type_ids=False)).last_hidden_state[0]
    found = embed_sequences(model, TOKENIZER, [*SEQUENCES, long])
    np.testing.assert_allclose(found[-1], hidden[1:-1].mean(0).numpy(), atol=1e-5)
    with pytest.raises(ValueError, match="special tokens no vector"):
        Embedder(model, TOKENIZER, pool="cls")
    with pytest.raises(ValueError, match="last layer only"):
        Embedder(model, TOKENIZER, layer=0)


def test_big_bird_forgets_a_short_batch():
    config, tokenizer = CONFIGS["big_bird"]
    long = "ACGTTGCAAC" * 6
    fresh = embed_sequences(build(config), tokenizer, [long])
    model = build(config)
    embed_sequences(model, tokenizer, ["ACGT"])  # turns sparse attention off in transformers' class
    np.testing.assert_array_equal(embed_sequences(model, tokenizer, [long]), fresh)


@pytest.mark.parametrize("options", [{}, {"pool": "none"}, {"max_length": 50}])
@pytest.mark.parametrize("halvings", [2, 6])
def test_ntv3_reads_each_sequence_filled_up_to_its_multiple(options, halvings):
    config = NTv3Config(
        token_embed_dim=6,
        conv_init_embed_dim=9,
        embed_dim=14,
        ffn_embed_dim=10,
        num_layers=1,
        attention_heads=2,
        key_size=4,
        num_downsamples=halvings,
    )
    model, tokenizer = build(config), build_ntv3_tokenizer()
    sequences = [*SEQUENCES, "ACGTTGCAGT" * 5]
    alone = []
    for sequence in sequences:
        filled = tokenizer(sequence, padding=True, pad_to_multiple_of=2**halvings, return_tensors="pt")
        with torch.no_grad():
            bases = model(filled["input_ids"]).last_hidden_state[0, : len(sequence)].numpy()
        alone.append(bases if options.get("pool") == "none" else bases.mean(0))
    together = embed_sequences(model, tokenizer, sequences, **options)
    ask_pipeline = pipeline("dna-embedding", model=model, tokenizer=tokenizer, **options)
    for expected, found, piped in zip(alone, together, ask_pipeline(sequences), strict=True):
        np.testing.assert_allclose(found, expected, atol=5e-5)
        np.testing.assert_allclose(piped, expected, atol=5e-5)
    with pytest.raises(ValueError, match="gives its last layer only"):
        Embedder(model, tokenizer, layer=0)


def test_vectors_of_bases_are_those_of_their_tokens():
    model = build(CONFIGS["nt_v2"][0])
    sequence = "ACGTGTACNTGCACGG"  # tokens ACGTGT A C N TGCACG G
    tokens, bases = (
        embed_sequences(model, KMERS, [sequence], pool="none", exclude_special=True, per_base=per_base)[0]
        for per_base in (False, True)
    )
    np.testing.assert_array_equal(bases, tokens[np.repeat(np.arange(6), [6, 1, 1, 1, 6, 1])])
    one = Embedder(model, KMERS, pool="none")([sequence])[0]
    assert one.intervals.tolist() == [[-1, -1], [0, 6], [6, 7], [7, 8], [8, 9], [9, 15], [15, 16]]
    cut = embed_sequences(model, KMERS, [sequence], pool="none", per_base=True, max_length=3, too_long="truncate")[0]
    assert cut.shape == (16, 16) and not np.isnan(cut[:7]).any() and np.isnan(cut[7:]).all()


@pytest.mark.parametrize("pool", ["mean", "max", "cls", "none"])
def test_windows_together_are_the_sequence(pool):
    model = build(CONFIGS["bert"][0])
    sequence = "ACGTTGCAGT" * 9
    parts = [sequence[:30], sequence[30:60], sequence[60:]]
    alone = [ask(model, TOKENIZER, part)[0] for part in parts]
    expected = {
        "mean": np.concatenate(alone).mean(0),
        "max": np.concatenate(alone).max(0),
        "cls": np.mean([one[0] for one in alone], axis=0),
        "none": np.concatenate(alone),
    }[pool]
    found = embed_sequences(model, TOKENIZER, ["ACG", sequence], pool=pool, too_long="window", max_length=34)[1]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_too_long_and_impossible_wishes_are_refused():
    model = build(CONFIGS["bert"][0])
    with pytest.raises(LongSequenceError, match=r"sequence 1 .* 80 bp is 82 tokens, but the limit is 64 tokens"):
        embed_sequences(model, TOKENIZER, ["ACGT", "A" * 80])
    for options, message in (
        ({"layer": 3}, "2 layers"),
        ({"layer": -4}, "2 layers"),
        ({"layer": [0, 3]}, "2 layers"),
        ({"layer": []}, "one at least"),
        ({"layer": [0, 1], "pool": "none"}, "are pooled"),
        ({"pool": "median"}, "choose one of mean"),
        ({"per_base": True}, "pool='none'"),
        ({"max_length": 65}, "1 to 64 tokens"),
        ({"batch_tokens": 0}, "1 or more"),
        ({"too_long": "drop", "max_length": 4}, "choose error, truncate"),
    ):
        with pytest.raises(ValueError, match=message):
            embed_sequences(model, TOKENIZER, ["ACGTACGT"], **options)
    with pytest.raises(ValueError, match="no special token in front"):
        embed_sequences(model, build_nucleotide_tokenizer(), ["ACGT"], pool="cls")


def test_half_precision_is_near_and_batches_do_not_matter():
    model = build(CONFIGS["nt_v2"][0])
    whole = embed_sequences(model, KMERS, SEQUENCES)
    np.testing.assert_allclose(embed_sequences(model, KMERS, SEQUENCES, batch_tokens=1), whole, atol=1e-6)
    half = embed_sequences(model.to(torch.bfloat16), KMERS, SEQUENCES)
    assert half.dtype == np.float32
    assert np.linalg.norm(half - whole) < 0.03 * np.linalg.norm(whole)


@pytest.mark.parametrize("options", [{}, {"pool": "none", "exclude_special": True}, {"pool": "max", "layer": 1}])
def test_the_pipeline_says_the_same(options):
    model = build(CONFIGS["bert"][0])
    sequences = [*SEQUENCES, "ACGTTGCAGT" * 9]
    expected = embed_sequences(model, TOKENIZER, sequences, too_long="window", **options)
    ask_pipeline = pipeline("dna-embedding", model=model, tokenizer=TOKENIZER, too_long="window", **options)
    assert isinstance(ask_pipeline, gengram.pipelines.EmbeddingPipeline)
    for batch_size in (1, 3):
        for found, one in zip(ask_pipeline(sequences, batch_size=batch_size), expected, strict=True):
            np.testing.assert_allclose(found, one, atol=1e-5)
    np.testing.assert_allclose(ask_pipeline(sequences[0]), expected[0], atol=1e-5)
    with pytest.raises(ValueError, match="pooling"):
        ask_pipeline("ACGT", pooling="mean")


def test_a_model_as_trainer_leaves_it_gives_the_vectors_of_evaluation():
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=16, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64, pad_token_id=0, hidden_dropout_prob=0.5,
    )  # fmt: skip
    model, tokenizer = BertModel(config).eval(), build_nucleotide_tokenizer(template="cls_sep")
    expected = embed_sequences(model, tokenizer, ["ACGTACGT", "TTT"])
    np.testing.assert_array_equal(embed_sequences(model.train(), tokenizer, ["ACGTACGT", "TTT"]), expected)
    assert model.training


@pytest.mark.parametrize(
    ("sequences", "told"), [("ACGT", "a list of sequences"), (["A", ""], "sequence 1 .* is empty")]
)
def test_what_is_no_list_of_sequences(sequences, told):
    model = BertModel(BertConfig(vocab_size=16, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)).eval()
    with pytest.raises(ValueError, match=told):
        embed_sequences(model, build_nucleotide_tokenizer(template="cls_sep", model_max_length=64), sequences)


def use_device(monkeypatch, running: int = 2) -> list[FakeDevice]:
    """Let models be fed as an accelerator is; returns the devices that were."""
    made: list[FakeDevice] = []
    monkeypatch.setattr(embed, "find_feeding", lambda device: made.append(FakeDevice(running)) or made[-1])
    return made


@pytest.mark.parametrize("options", [{}, {"pool": "none", "exclude_special": True}, {"pool": "cls", "layer": 1}])
def test_fed_or_not_fed_the_vectors_are_the_same(options, monkeypatch):
    model = build(CONFIGS["nt_v2"][0])
    sequences = SEQUENCES * 20
    expected = embed_sequences(model, KMERS, sequences, batch_tokens=300, **options)
    made = use_device(monkeypatch)
    for found, one in zip(embed_sequences(model, KMERS, sequences, batch_tokens=300, **options), expected, strict=True):
        np.testing.assert_array_equal(found, one)
    assert len(made[0].events) > 10


def test_blocks_come_in_their_order_also_those_without_sequences(monkeypatch):
    model = build(CONFIGS["bert"][0])
    use_device(monkeypatch)
    blocks = [("a", SEQUENCES[:2]), ("b", []), ("c", SEQUENCES[2:]), ("d", [])]
    found = list(Embedder(model, TOKENIZER).stream(blocks))
    assert [(key, len(block)) for key, block in found] == [("a", 2), ("b", 0), ("c", 4), ("d", 0)]
    vectors = [one.vectors for _, block in found for one in block]
    np.testing.assert_allclose(vectors, embed_sequences(model, TOKENIZER, SEQUENCES), atol=1e-6)


@pytest.mark.parametrize("running", [0, 2])
def test_a_fault_is_of_the_sequence_with_its_number(running, monkeypatch):
    use_device(monkeypatch, running)
    model = build(CONFIGS["bert"][0])
    for wrong, error in (("A" * 80, LongSequenceError), ("", SequenceError)):
        with pytest.raises(error, match="sequence 1500 "):
            embed_sequences(model, TOKENIZER, ["A"] * 1500 + [wrong])
    with torch.no_grad():
        model.embeddings.word_embeddings.weight[TOKENIZER.convert_tokens_to_ids("G")] = torch.inf
    with pytest.raises(NotFiniteError, match="sequence 1500 "):
        embed_sequences(model, TOKENIZER, ["A"] * 1500 + ["G"])


@pytest.mark.parametrize("running", [0, 2])
def test_memory_that_runs_out_gives_smaller_batches_and_the_same_vectors(running, monkeypatch, capsys):
    made = use_device(monkeypatch, running)
    model = build(CONFIGS["bert"][0])
    expected = embed_sequences(model, TOKENIZER, SEQUENCES * 10)
    memory = SmallMemory(model, most=200)
    np.testing.assert_allclose(embed_sequences(model, TOKENIZER, SEQUENCES * 10), expected, atol=1e-6)
    assert memory.largest <= 200 and made[-1].freed and "memory ran out at a batch of" in capsys.readouterr().err
    memory.most = 30
    with pytest.raises(LargeSequenceError, match=r"sequence 2 \(counted from 0\) of 35 bp is 37 tokens, and alone"):
        embed_sequences(model, TOKENIZER, SEQUENCES[:3])


class Memory:
    """Has so many bytes, of which each token takes some."""

    def __init__(self, free: int, each: int):
        self.free, self.each, self.tokens = free, each, []

    def read_free(self):
        return self.free

    def measure(self, work):
        work()
        return self.each * self.tokens[-1]


@pytest.mark.parametrize(
    ("free", "each", "expected"),
    [(1 << 40, 1000, budget.MOST_TOKENS), (10_000_000, 1000, 4096), (13_000_000, 1000, 4096), (100, 1000, 1)],
)
def test_batches_are_as_large_as_free_memory_allows(free, each, expected, monkeypatch):
    model, memory = build(CONFIGS["bert"][0]), Memory(free, each)
    monkeypatch.setattr(embed, "find_memory", lambda device: memory)
    memory.tokens = SmallMemory(model, most=1 << 40).tokens
    made = Embedder(model, TOKENIZER)
    assert made.batch_tokens == made.batch_tokens == expected and len(memory.tokens) == 2
    assert set(memory.tokens) == {4096} and Embedder(model, TOKENIZER, batch_tokens=7).batch_tokens == 7


def test_a_first_batch_that_does_not_fit_halves_the_room(monkeypatch):
    model = build(CONFIGS["bert"][0])
    monkeypatch.setattr(embed, "find_memory", lambda device: Memory(1 << 40, 1))
    SmallMemory(model, most=4000)
    assert Embedder(model, TOKENIZER).batch_tokens == 2048


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("family", CONFIGS)
def test_a_gpu_gives_the_vectors_of_the_cpu(family):
    config, tokenizer = CONFIGS[family]
    model = build(config)
    expected = embed_sequences(model, tokenizer, SEQUENCES * 50)
    made = Embedder(model.cuda(), tokenizer)
    np.testing.assert_allclose(np.stack([one.vectors for one in made(SEQUENCES * 50)]), expected, atol=1e-3)
    assert 1024 <= made.batch_tokens <= budget.MOST_TOKENS
