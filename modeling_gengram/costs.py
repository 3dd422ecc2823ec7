"""How many operations and bytes is it? The arithmetic, in one place: of models, of motif memories, of one operator.

`gengram finetune --plan` and `gengram bench` both count with it. A multiplication and an addition are two operations.
Only matrix products and convolutions count, as in PyTorch's `FlopCounterMode`: lookups in embeddings, norms, gates,
softmax and window sums are bound by bytes, and of models as a whole they are below a hundredth.

Letters: B rows, T tokens, N = B T, D hidden size, F width of the MLP, H heads of width d, L layers, V vocabulary, C
labels, E `memory_dim`, K sizes k of k-mers, W window, S tokens of a block.
"""

import dataclasses
import itertools
import math
from typing import Any, Literal

import torch
from torch.utils.flop_counter import flop_registry
from transformers import PreTrainedConfig

Head = Literal["none", "language", "sequence", "token"]
_ATEN = torch.ops.aten

# ---------------------------------------------------------------- models

_DECODERS = {"llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen3_moe", "deepseek_v3", "megatron_decoder"}
_WITH_POOLER = {"bert", "gena_bert", "big_bird", "esm"}  # as base models
_ENCODERS = {*_WITH_POOLER, "nucleotide_transformer", "segment_nt", "modernbert"}
_CONVOLUTIONAL = {"ntv3", "ntv3_posttrained"}
_GATED = {*_DECODERS, "modernbert"} - {"megatron_decoder"}
_BLOCK = 64  # positions of a block of the memory's banded products


@dataclasses.dataclass(frozen=True)
class Operations:
    """Operations of a forward pass of a batch, by part.

    Attributes:
        attention: projections of queries, keys, values and outputs.
        scores: queries times keys, and weights times values, of every pair of tokens whether or not a mask closes it.
        mlp: of experts those that tokens are sent to, and the router.
        convolutions: of U-Nets.
        memory: of all motif memories.
        head: of the task.
    """

    attention: int = 0
    scores: int = 0
    mlp: int = 0
    convolutions: int = 0
    memory: int = 0
    head: int = 0

    def __add__(self, other: "Operations") -> "Operations":
        return Operations(*(a + b for a, b in zip(dataclasses.astuple(self), dataclasses.astuple(other))))

    @property
    def forward(self) -> int:
        """All parts."""
        return sum(dataclasses.astuple(self))

    def count_step(self, *, checkpoints: bool = False, causal: bool = False) -> int:
        """
        Forward and backward pass: a product has two more in its backward pass, one for each factor.

        Args:
            checkpoints: layers are computed once more in the backward pass (gradient checkpointing). PyTorch stops
                where nothing more is needed, before the last product of a layer, which is counted here all the same.
            causal: count the scores of the pairs that a causal mask leaves, half of them, as kernels do that skip the
                others, and as model FLOPs are defined (Chowdhery et al. 2022, appendix B, counts all).
        """
        layers = self.forward - self.head - (self.scores // 2 if causal else 0)
        return (4 if checkpoints else 3) * layers + 3 * self.head


def count_operations(
    config: PreTrainedConfig,
    rows: int,
    tokens: int,
    head: Head = "language",
    *,
    memory: str = "projected",
    training: bool = False,
) -> Operations | None:
    """
    Operations of a forward pass of `rows` x `tokens`, no padding.

    Args:
        config: of any model of this package, or of transformers' Llama, Mistral, Qwen 2 and 3, Mixtral, DeepSeek-V3,
            BERT, BigBird, ESM, ModernBERT.
        head: of which task; `none` is the base model.
        memory: form of motif memories, see `count_memory`.
        training: what differs from evaluation: tables of a memory are projected in each call, and the attention of a
            BigBird has its random blocks.

    Returns:
        `Operations`; None for a configuration of another kind.
    """
    config = config if config.model_type in ("gengram", "rmt") else config.get_text_config()
    kind, B, T = config.model_type, rows, tokens
    if kind == "rmt":
        return _count_segments(config, B, T, head, memory, training)
    if kind == "gengram":
        inner = config.backbone_config
        found = count_operations(inner, B, T, "language", training=training)
        if found is None:
            return None
        if head != "language":  # its own heads read a pooled vector, or each token
            places = {"none": 0, "sequence": B, "token": B * T}[head]
            found = dataclasses.replace(found, head=2 * places * inner.hidden_size * config.num_labels)
        of_memories = len(config.memory_layers) * count_memory(config, B, T, memory, training=training)
        return found + Operations(memory=of_memories)
    if kind in _CONVOLUTIONAL:
        return _count_unet(config, B, T, head)
    if kind not in _DECODERS | _ENCODERS:
        return None
    layers = _count_layers(config, B, T, training)
    if kind == "segment_nt" and head == "token":
        return layers + _count_segmentation(config, B, T - 1)
    return layers + Operations(head=_count_head(config, B, T, head))


def _count_layers(config: Any, B: int, T: int, training: bool) -> Operations:
    D, L, H = config.hidden_size, config.num_hidden_layers, config.num_attention_heads
    N = B * T
    if config.model_type == "deepseek_v3":  # latent attention: keys and values of all heads from one short vector
        turned, plain, value = config.qk_rope_head_dim, config.qk_nope_head_dim, config.v_head_dim
        short = config.q_lora_rank
        query = D * short + short * H * (plain + turned) if short else D * H * (plain + turned)
        latent = D * (config.kv_lora_rank + turned) + config.kv_lora_rank * H * (plain + value)
        attention, width = 2 * N * (query + latent + H * value * D), (plain + turned + value) / 2
    else:
        width = getattr(config, "head_dim", None) or D // H
        shared = getattr(config, "num_key_value_heads", None) or H
        of_queries = 3 if getattr(config, "attention_output_gate", False) else 2
        attention = 2 * N * D * width * (of_queries * H + 2 * shared)
    scores = int(4 * B * H * width * _count_pairs(config, T, training))
    return Operations(attention=L * attention, scores=L * scores, mlp=_count_mlps(config, N))


def _count_pairs(config: Any, T: int, training: bool) -> int:
    """Pairs of a query and a key of one head and sequence. BigBird's first and last block see all tokens, the others
    five blocks, and in training the random ones (`gengram.gena.block_sparse_attention`)."""
    if config.model_type == "big_bird" and config.attention_type == "block_sparse":
        S, random = config.block_size, config.num_random_blocks
        if S * (5 + 2 * random) < T:
            blocks = -(-T // S)
            return S * S * (2 * blocks + (blocks - 2) * (5 + (random if training else 0)))
    return T * T


def _count_mlps(config: Any, N: int) -> int:
    """Of all layers; of a mixture of experts the router, the chosen experts, and those that all tokens share."""
    D, F, L, kind = config.hidden_size, config.intermediate_size, config.num_hidden_layers, config.model_type
    matrices = 3 if kind in _GATED or getattr(config, "gated_mlp", False) else 2
    dense = 2 * N * D * F * matrices
    names = ("num_local_experts", "num_experts", "n_routed_experts")
    experts = next((count for name in names if (count := getattr(config, name, None))), None)
    if not experts:
        return L * dense
    width = getattr(config, "moe_intermediate_size", None) or F
    active = config.num_experts_per_tok + (getattr(config, "n_shared_experts", None) or 0)
    sparse = 2 * N * D * (experts + active * width * matrices)
    if kind == "deepseek_v3":
        plain = min(config.first_k_dense_replace, L)
    elif kind == "qwen3_moe":
        every = config.decoder_sparse_step
        plain = sum(layer in config.mlp_only_layers or (layer + 1) % every > 0 for layer in range(L))
    else:
        plain = 0
    return plain * dense + (L - plain) * sparse


def _count_head(config: Any, B: int, T: int, head: Head) -> int:
    D, N, kind = config.hidden_size, B * T, config.model_type
    encoder = kind in _ENCODERS
    if head == "none":
        return 2 * B * D * D if kind in _WITH_POOLER else 0
    more = 2 * B * D * D if kind == "big_bird" else 0  # its pooler, which no head reads
    if head == "language":
        return 2 * N * D * (config.vocab_size + (D if encoder else 0)) + more
    if head == "token":
        return 2 * N * D * (config.num_labels + (D if kind == "modernbert" else 0)) + more
    if not encoder:  # a score of every token, of which one is taken
        return 2 * N * D * config.num_labels
    return 2 * B * D * (D + config.num_labels) + more


def _count_segmentation(config: Any, B: int, n: int) -> Operations:
    """SegmentNT's U-Net over n k-mers, and its projection: a block is two convolutions of three positions."""
    D, depth = config.hidden_size, config.num_layers_head
    widths = [D * 2**level for level in range(depth)]
    down = zip([D, *widths], widths, range(depth))
    up = zip([widths[-1], *widths[::-1]], widths[::-1], range(depth, 0, -1))
    out = D // 2 * 2
    blocks = [*down, *up, (D, out, 0)]
    found = sum(2 * B * (n >> level) * 3 * after * (before + after) for before, after, level in blocks)
    head = 2 * B * n * out * config.kmer_size * 2 * config.num_labels
    return Operations(convolutions=found, head=head)


def _count_unet(config: Any, B: int, T: int, head: Head) -> Operations:
    """NTv3: each block down or up has a convolution of five positions and one of single ones."""
    D, width, A, given = config.embed_dim, config.conv_init_embed_dim, config.alphabet_size, T
    T = -(-T // config.length_multiple) * config.length_multiple
    widths, conditions = config.widths, len(config.condition_sizes)
    found = 2 * B * T * 15 * config.token_embed_dim * widths[0]
    modulated = 0
    for level, (before, after) in enumerate(itertools.pairwise(widths)):
        found += 2 * B * (T >> level) * (5 * before * after + after * after)
        found += 2 * B * (T >> level) * (5 * after * before + before * before)
        modulated += 2 * (before + after) + 3 * (before + after)
    n = T >> config.num_downsamples
    inner = config.attention_heads * config.key_size
    modulated += config.num_layers * 5 * D
    mlp = config.num_layers * 2 * B * n * 3 * D * config.ffn_embed_dim
    mlp += 2 * B * config.token_embed_dim * modulated * conditions
    language = 2 * B * given * width * (config.num_hidden_layers_head * width + A)
    answer = {
        "none": language if conditions else 0,
        "language": language,
        "sequence": 2 * B * width * config.num_labels,
        "token": 2 * B * given * width * config.num_labels,
    }[head]
    if conditions:  # post-trained: all heads at once, and the tracks of the species that has most
        start, end = config.locate_center(given)
        tracks = max((len(names) for names in config.bigwigs_per_species.values()), default=0)
        answer += 2 * B * (end - start) * width * (2 * len(config.bed_elements_names) + tracks)
        answer += 2 * B * D * config.condition_sizes[0]
    return Operations(
        attention=config.num_layers * 8 * B * n * D * inner,
        scores=config.num_layers * 4 * B * inner * n * n,
        mlp=mlp,
        convolutions=found,
        head=answer,
    )


def _count_segments(config: Any, B: int, T: int, head: Head, memory: str, training: bool) -> Operations | None:
    """A recurrent memory reads T tokens of content in segments, each with its special and memory tokens."""
    content, extra = config.content_length, config.segment_length - config.content_length
    left = T if config.max_segments is None else min(T, content * config.max_segments)
    found = Operations()
    while left > 0:
        segment = count_operations(
            config.backbone_config, B, min(left, content) + extra, head, memory=memory, training=training
        )
        if segment is None:
            return None
        found, left = found + segment, left - content
    return found


# ---------------------------------------------------------------- motif memories


def count_memory(config: Any, rows: int, tokens: int, form: str = "projected", *, training: bool = True) -> int:
    """
    Operations of one motif memory's forward pass.

    Args:
        config: a `GengramConfig`.
        rows, tokens: B and T.
        form: as `MotifMemory.path` has it:
            - `projected`, `definition`, `prefix`, `triton_pooled`: the means of each position are projected, 4 N K E D;
            - `lifetime`: the same, and the means as products of bands, 2 (64 + W - k) E a position and size;
            - `merged`, `fused`: the rows in use are projected, at most 4**k of each size, 4 E D a row;
            - `triton`: all 5**k are;
            - `none`: there is no memory.
        training: evaluation keeps projected tables, and has no product then.

    Raises:
        ValueError: a form that is not there.
    """
    B, T, E, D = rows, tokens, config.memory_dim, config.hidden_size
    by_position = 4 * B * T * len(config.kmer_sizes) * E * D
    if form == "none":
        return 0
    if form in ("projected", "definition", "prefix", "triton_pooled"):
        return by_position
    if form == "lifetime":
        block = min(_BLOCK, T)
        window = 0 if config.window_size is None else config.window_size
        places = sum(max(window - k + 1, 1) + block - 1 for k in config.kmer_sizes)
        return by_position + 2 * B * -(-T // block) * block * places * E
    if form in ("merged", "fused"):
        return 4 * sum(min(B * T, 4**k) for k in config.kmer_sizes) * E * D if training else 0
    if form == "triton":
        return 4 * sum(5**k for k in config.kmer_sizes) * E * D if training else 0
    raise ValueError(f"form={form!r}: there is no such form of the memory")


def count_memory_step(config: Any, rows: int, tokens: int, form: str = "projected") -> int:
    """Forward and backward pass of one motif memory: three times the forward pass; bands have no gradient."""
    forward = count_memory(config, rows, tokens, form)
    bands = forward - count_memory(config, rows, tokens) if form == "lifetime" else 0
    return 3 * forward - bands


def bound_released(D: int, E: int, T: int, itemsize: int = 4) -> dict[str, float]:
    """What the released algorithm (k = 1..6, W = 21) needs for T tokens: bytes held for a backward pass, and
    operations of the forward pass."""
    return {"bytes": T * (5 * 6 * E + 6 * E + 6 * D) * itemsize, "flop": 4 * T * 6 * E * D}


def bound_merged(D: int, E: int, T: int, mode: str, itemsize: int = 4) -> dict[str, float]:
    """
    What merged tables of the released form must move and compute at least, in bytes and operations.

    Here additions count as well: of `forward` (tables kept) they are all there is. Forward: hidden states in, residual
    out, one new row of Q and one of R (2D numbers each) a position; 17 rows are added up. `train`: rows in use are
    projected, and their gradients twice more; forward and backward read the rows again, backward takes two gradients
    in and gives one; the weights' gradients are written.
    """
    sizes = range(1, 7)
    rows = sum(min(T, 4**k) for k in sizes)
    if mode == "forward":
        return {"bytes": T * (2 + 4) * D * itemsize, "flop": T * 17 * 2 * D}
    weights = sum(5**k for k in sizes) * E + 2 * D * 6 * E
    moved = T * (6 + 4) * D + T * 4 * D + 4 * rows * 2 * D + 2 * weights
    return {"bytes": moved * itemsize, "flop": 3 * 2 * rows * E * 2 * D + 3 * T * 17 * 2 * D}


# ---------------------------------------------------------------- operators

# Matrix products of an attention that the CPU computes in one kernel, which torch's own counter does not know.
_ATTENTION = {
    _ATEN._scaled_dot_product_flash_attention_for_cpu: (2, 0),
    _ATEN._scaled_dot_product_flash_attention_for_cpu_backward: (5, 1),
}
# Of experts: PyTorch's, and what transformers calls where that cannot run.
_GROUPED = {
    "aten::_grouped_mm": 1,
    "transformers::grouped_mm_fallback": 1,
    "transformers::grouped_mm_fallback_backward": 2,
}


def count_operator(function: Any, args: tuple, kwargs: dict[str, Any], answer: Any) -> int:
    """Operations of one call of an operator that a dispatch mode sees.

    A backward pass of fused attention has five products where plain attention has four: it computes the scores again.
    """
    packet = function._overloadpacket
    if products := _GROUPED.get(function._schema.name):
        # Each row of a meets one expert's columns of b, in either direction.
        return products * 2 * args[0].numel() * args[1].shape[-1]
    if packet in _ATTENTION:
        products, first = _ATTENTION[packet]
        *batch, queries, width = args[first].shape
        return products * 2 * math.prod(batch) * queries * args[first + 1].shape[-2] * width
    counted = flop_registry.get(packet)
    return 0 if counted is None else int(counted(*args, **kwargs, out_val=answer))


# ---------------------------------------------------------------- bytes


def estimate_operations(config: PreTrainedConfig, active: int, tokens: int, length: int) -> int:
    """Operations of a training step of any transformer: 6 a parameter and token, and 12 L D T a token for attention
    (Korthikanti et al. 2022, appendix A; Chowdhery et al. 2022, appendix B).

    Args:
        config: of a model that `count_operations` does not know.
        active: parameters that a token meets.
        tokens: N, of all rows.
        length: T.
    """
    inner: Any = config.get_text_config()
    inner = getattr(inner, "backbone_config", None) or inner
    return tokens * (6 * active + 12 * inner.num_hidden_layers * inner.hidden_size * length)


def count_token_operations(config: PreTrainedConfig, active: int, length: int, *, causal: bool) -> float:
    """Model FLOPs of a token in a training step: 6 N + 12 L D T, of which a causal mask leaves half of the second.

    12 L D T is thrice (forward, and two products backward) what `count_operations` has for the scores; where it knows
    the model, heads of another width and blocks that do not see each other count as they are. Of convolutional models,
    whose weights do not meet every token, all is by part.

    Args:
        config: of the model.
        active: N, parameters that a token meets.
        length: T, tokens of a block.
        causal: whether a token sees only those before it.
    """
    found = count_operations(config, 1, length, training=True)
    if found is None:
        inner: Any = config.get_text_config()
        scores = 12.0 * inner.num_hidden_layers * inner.hidden_size * length
    elif config.model_type in _CONVOLUTIONAL:
        return found.count_step(causal=causal) / length
    else:
        scores = 3 * found.scores / length
    return 6 * active + (scores / 2 if causal else scores)


def estimate_activations(
    config: PreTrainedConfig, rows: int, tokens: int, *, value_bytes: int = 4, checkpoints: bool = False
) -> int:
    """Return about how many bytes a transformer keeps for its backward pass, by a formula.

    Korthikanti et al. 2022 (Reducing Activation Recomputation in Large Transformer Models, equations 1 and 2): a layer
    with a feed-forward width of 4 D keeps 34 B T D bytes in 16 bits and the scores of its attention, which fused
    kernels do not keep. Of the 34, 16 D are of the feed-forward layers (input, and twice the width), and 4 D are masks
    of dropout and copies that these models do not have: (14 D + 4 F) for plain and (18 D + 6 F) for gated layers.
    With gradient checkpointing a layer keeps its input, 2 D, and one layer at a time is there as a whole.

    Used where a model cannot take a dry step (`gengram.training.dry_step`), which counts exactly.

    Args:
        config: of the model.
        rows, tokens: B and T of a batch.
        value_bytes: 4 in float32, 2 in mixed precision.
        checkpoints: whether gradient checkpointing is on.
    """
    inner: Any = config.get_text_config()
    inner = getattr(inner, "backbone_config", None) or inner
    width, layers = inner.hidden_size, inner.num_hidden_layers
    forward = getattr(inner, "intermediate_size", None) or 4 * width
    if chosen := getattr(inner, "num_experts_per_tok", None):  # a token has the values of each expert that it meets
        forward = (getattr(inner, "moe_intermediate_size", None) or forward) * chosen
    gated = str(getattr(inner, "hidden_act", "")) in ("silu", "swish") or getattr(inner, "gated_mlp", False)
    layer = rows * tokens * (18 * width + 6 * forward if gated else 14 * width + 4 * forward) * value_bytes // 2
    kept = rows * tokens * width * value_bytes
    return layers * kept + layer if checkpoints else layers * layer


def estimate_memory_activations(config: PreTrainedConfig, rows: int, tokens: int) -> int:
    """Return about how many bytes all motif memories of a model keep for their backward pass; 0 without any.

    In the form that long batches of a training take, in mixed precision as in float32: projected rows in use, at most
    4**k of each size, key and value in float32 (8 D bytes a row), and 4 D bytes a position. A dry step
    (`gengram.training.dry_step`) counts up to a quarter more. A memory lies outside of the layers that gradient
    checkpointing computes again.

    Args:
        config: of the model.
        rows, tokens: B and T of a batch.
    """
    inner: Any = config
    while getattr(inner, "memory_layers", None) is None:
        inner = getattr(inner, "backbone_config", None)
        if inner is None:
            return 0
    N, D = rows * tokens, inner.hidden_size
    used = sum(min(N, 4**k) for k in inner.kmer_sizes)
    return len(inner.memory_layers) * D * (8 * used + 4 * N)


__all__ = [
    "Operations",
    "bound_merged",
    "bound_released",
    "count_memory",
    "count_memory_step",
    "count_operations",
    "count_operator",
    "count_token_operations",
    "estimate_activations",
    "estimate_memory_activations",
    "estimate_operations",
]
