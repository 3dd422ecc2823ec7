"""`gengram convert megatron`: a Megatron checkpoint of Gengram or Genos becomes one that `from_pretrained` loads.

The stored arguments decide the architecture. What transformers has a class for uses it as the backbone: Llama and
Mixtral (MHA, GQA), Qwen3 and Qwen3-MoE (with query and key norms), DeepSeek-V3 (latent attention). Dense decoders with
an output gate, a partial rotation, biases or a plain MLP use this package's `MegatronDecoderModel`. What is left is
refused, with the argument that says so. Weights are read, renamed and written one tensor at a time.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from transformers import (
    AutoModelForCausalLM,
    DeepseekV3Config,
    LlamaConfig,
    MixtralConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen3Config,
    Qwen3MoeConfig,
)
from transformers.dynamic_module_utils import custom_object_save

from gengram.conversion.megatron_files import DistributedCheckpoint, LegacyCheckpoint, find_iteration, open_checkpoint
from gengram.errors import InputError
from gengram.files import Numbers, keep_finished, name_partial, open_safetensors, replace_folder, tell_write_faults
from gengram.gengram.configuration_gengram import GengramConfig
from gengram.gengram.modeling_gengram import GengramForCausalLM
from gengram.loading.faults import tell_faults
from gengram.megatron_decoder.configuration_megatron_decoder import MegatronDecoderConfig
from gengram.model_cards.card import render_card
from gengram.pipelines.bases import limit_to_bases
from gengram.progress import track
from gengram.tokenization import NUCLEOTIDE_VOCABULARY, build_nucleotide_tokenizer

Checkpoint = LegacyCheckpoint | DistributedCheckpoint

# safetensors' names of dtypes
SAFETENSORS_DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.float64: "F64"}


@dataclass(frozen=True)
class Recipe:
    """How one tensor of ours is made: which of the checkpoint's tensors it needs, and what is done with them."""

    sources: tuple[str, ...]
    build: Callable[..., torch.Tensor]

    def make(self, checkpoint: Checkpoint) -> torch.Tensor:
        try:
            with tell_faults(f"{checkpoint.folder}: {self.sources[0]} cannot be read"):
                return self.build(*(checkpoint.read(name) for name in self.sources))
        except InputError as error:
            raise DamagedCheckpoint(str(error)) from error


class DamagedCheckpoint(InputError):
    """A tensor of the checkpoint cannot be read, or is of another shape than the arguments say."""


class UnsupportedCheckpoint(InputError):
    """No model class expresses the checkpoint's architecture."""


def convert_megatron(
    checkpoint: str | os.PathLike[str],
    output: str | os.PathLike[str],
    max_shard_size: int | str = "5GB",
    overwrite: bool = False,
) -> Path:
    """
    Convert the newest iteration of a checkpoint.

    Args:
        checkpoint: folder with `latest_checkpointed_iteration.txt`, or an iteration's folder; `torch` with any tensor,
            pipeline and expert parallelism, or `torch_dist`.
        output: folder to make. Until all is written, the work is in `<output>.partial`; the same call goes on from
            there.
        max_shard_size: of the safetensors files.
        overwrite: whether a folder that is there is replaced, when all is written.

    Returns:
        `Path` of the folder: config.json, safetensors, the model's code, and, if the ids are Gengram's, the tokenizer
        and a card, which says what the checkpoint tells and claims nothing else.

    Raises:
        UnsupportedCheckpoint: naming the argument that no class can express.
        `InputError`: no checkpoint, an incomplete one, an unsafe pickle, tensors missing or of another shape; something
            cannot be written.
        FileExistsError: the output exists.
    """
    output = Path(output)
    if output.exists() and not overwrite:
        raise FileExistsError(f"{output} exists; choose another folder")
    source = open_checkpoint(Path(checkpoint))
    model, recipes = plan_model(source)
    dtype = recipes[next(name for name in recipes if name.endswith("embed_tokens.weight"))].make(source).dtype
    if dtype not in SAFETENSORS_DTYPES:
        raise InputError(f"{checkpoint}: weights of {dtype}; those of a model are floating-point numbers")

    partial = name_partial(output)
    model.config.dtype = dtype
    plan = split_torch_state_dict_into_shards(
        {name: tensor.to(dtype) for name, tensor in model.state_dict().items() if name in recipes},
        max_shard_size=max_shard_size,
        filename_pattern="model{suffix}.safetensors",
    )
    folder = find_iteration(Path(checkpoint)).resolve()
    files = sorted((file.name, stat.st_size, stat.st_mtime_ns) for file in folder.rglob("*") if (stat := file.stat()))
    fingerprint = hashlib.sha256(repr((folder, files, plan.filename_to_tensors)).encode()).hexdigest()
    with (
        keep_finished(partial, "*.safetensors"),
        tell_write_faults(output, partial),
        track(total=len(recipes), desc="Converting", unit=" tensors") as progress,
    ):
        _begin_or_resume(partial, fingerprint)
        for filename, names in plan.filename_to_tensors.items():
            if not (partial / filename).exists():
                shapes = {name: tuple(model.state_dict()[name].shape) for name in names}
                try:
                    _write_safetensors(
                        partial / filename, shapes, dtype, lambda name: recipes[name].make(source), progress
                    )
                except DamagedCheckpoint:
                    shutil.rmtree(partial)  # There is nothing to go on with.
                    raise
            else:
                progress.update(len(names))
        if plan.is_sharded:
            index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
            (partial / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))
        _write_companions(model, partial, source.arguments, output.name)
        (partial / _FINGERPRINT).unlink()
        replace_folder(partial, output)
    return output


def plan_model(source: Checkpoint) -> tuple[PreTrainedModel, dict[str, Recipe]]:
    """
    Return the model that a checkpoint describes, without memory for weights, and how each of its weights is made.

    Raises:
        `InputError`: arguments that describe no model, or one that the tensors are not of.
    """
    _check_layers(source)
    # Arguments are of the checkpoint's choosing: missing ones, numbers that are texts or below 0.
    with tell_faults(f"{source.folder}: the arguments that are stored in it describe no model"):
        config = read_config(source.arguments)
        model = make_skeleton(config)
        recipes = plan_weights(config, source)
        _check_plan(model, recipes, source)
    return model, recipes


def read_config(arguments: dict[str, Any]) -> PreTrainedConfig:
    """
    The configuration that stored Megatron arguments describe: `GengramConfig`, or the backbone's own without a memory.

    Raises:
        UnsupportedCheckpoint: naming the argument that cannot be expressed.
    """
    get: Any = arguments.get
    _refuse_unless(arguments)
    heads = get("num_attention_heads")
    grouped = get("group_query_attention") and get("num_query_groups")
    fields: dict[str, Any] = {
        "vocab_size": get("padded_vocab_size"),
        "hidden_size": get("hidden_size"),
        "num_hidden_layers": get("num_layers"),
        "num_attention_heads": heads,
        "num_key_value_heads": get("num_query_groups") if grouped else heads,
        "intermediate_size": get("ffn_hidden_size"),
        "max_position_embeddings": get("max_position_embeddings") or get("seq_length"),
        "rms_norm_eps": get("norm_epsilon", 1e-5),
        "rope_theta": float(get("rotary_base") or 10000),
        "tie_word_embeddings": not get("untie_embeddings_and_output_weights"),
        "initializer_range": get("init_method_std", 0.02),
        "pad_token_id": 0,
        "bos_token_id": None,
        "eos_token_id": 12,
    }
    head_dim = {"head_dim": get("kv_channels") or get("hidden_size") // heads}
    experts = {
        "num_experts_per_tok": get("moe_router_topk"),
        "router_aux_loss_coef": get("moe_aux_loss_coeff") or 0.0,
    }
    moe_width = get("moe_ffn_hidden_size") or get("ffn_hidden_size")
    backbone: PreTrainedConfig
    if get("multi_latent_attention"):
        backbone = DeepseekV3Config(
            **{**fields, "num_key_value_heads": heads},
            q_lora_rank=get("q_lora_rank"),
            kv_lora_rank=get("kv_lora_rank"),
            qk_nope_head_dim=get("qk_head_dim"),
            qk_rope_head_dim=get("qk_pos_emb_head_dim"),
            v_head_dim=get("v_head_dim"),
            first_k_dense_replace=get("num_layers"),
        )
    elif get("num_experts") and get("qk_layernorm"):
        backbone = Qwen3MoeConfig(
            **fields, **head_dim, **experts, num_experts=get("num_experts"), moe_intermediate_size=moe_width,
            norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[],
        )  # fmt: skip
    elif get("num_experts"):
        fields["intermediate_size"] = moe_width
        backbone = MixtralConfig(**fields, **head_dim, **experts, num_local_experts=get("num_experts"))
    elif _needs_own_decoder(arguments):
        theta = fields.pop("rope_theta")
        factor = get("rotary_percent", 1.0)
        backbone = MegatronDecoderConfig(
            **fields,
            **head_dim,
            rope_parameters={"rope_type": "default", "rope_theta": theta, "partial_rotary_factor": factor},
            hidden_act="silu" if get("swiglu") else "gelu_pytorch_tanh" if get("bias_gelu_fusion") else "gelu",
            attention_bias=bool(get("add_bias_linear") or get("add_qkv_bias")),
            output_bias=bool(get("add_bias_linear")),
            mlp_bias=bool(get("add_bias_linear")),
            attention_output_gate=bool(get("attention_output_gate")),
            query_key_norm=bool(get("qk_layernorm")),
            gated_mlp=bool(get("swiglu")),
        )
    elif get("qk_layernorm"):
        backbone = Qwen3Config(**fields, **head_dim)
    else:
        backbone = LlamaConfig(**fields, **head_dim)
    if not get("gengram_enabled"):
        return backbone
    layers = get("gengram_layer_ids") or range(1, get("num_layers") + 1)  # from 1; none given: all
    return GengramConfig(
        backbone_config=backbone,
        memory_layers=[layer - 1 for layer in layers],
        kmer_sizes=list(get("gengram_ngram_sizes")),
        memory_dim=get("gengram_embed_dim_per_ngram"),
        window_size=get("gengram_window_size"),
        mixer="conv_residual" if get("gengram_use_short_conv") else "none",
        conv_kernel_size=get("gengram_short_conv_kernel_size"),
        conv_dilation=get("gengram_short_conv_dilation"),
        base_token_ids=list(get("gengram_token_ids")),
    )


def _needs_own_decoder(arguments: dict[str, Any]) -> bool:
    """Whether a dense decoder with heads of equal width is beyond Llama and Qwen3."""
    get: Any = arguments.get
    return (
        not get("swiglu")
        or bool(get("add_bias_linear") or get("add_qkv_bias") or get("attention_output_gate"))
        or get("rotary_percent", 1.0) != 1.0
    )


def _refuse_unless(arguments: dict[str, Any]) -> None:
    """Stop at the first argument that the classes used here cannot express."""
    get: Any = arguments.get
    latent, experts = get("multi_latent_attention"), get("num_experts")
    dense = not (latent or experts)  # the package's own decoder has these options
    for argument, fine in {
        "normalization": get("normalization", "RMSNorm") == "RMSNorm",
        "swiglu": dense or bool(get("swiglu")),
        "add_bias_linear": dense or not get("add_bias_linear"),
        "add_qkv_bias": dense or not get("add_qkv_bias"),
        "attention_output_gate": dense or not get("attention_output_gate"),
        "position_embedding_type": get("position_embedding_type", "rope") == "rope",
        "rotary_percent": dense or get("rotary_percent", 1.0) == 1.0,
        "squared_relu": not get("squared_relu"),
        "quick_geglu": not get("quick_geglu"),
        "openai_gelu": not get("openai_gelu"),
        "rotary_interleaved": not get("rotary_interleaved"),
        "use_rope_scaling": not get("use_rope_scaling"),
        "rope_type": not latent or get("rope_type") == "rope",
        "qk_layernorm": not latent or bool(get("qk_layernorm")),
        "num_experts": not (latent and experts),
        "moe_layer_freq": not experts or get("moe_layer_freq", 1) == 1,
        "moe_shared_expert_intermediate_size": not get("moe_shared_expert_intermediate_size"),
        "moe_router_pre_softmax": not experts or not get("moe_router_pre_softmax"),
        "moe_router_score_function": not experts or get("moe_router_score_function", "softmax") == "softmax",
        "moe_router_enable_expert_bias": not get("moe_router_enable_expert_bias"),
        "moe_router_topk_scaling_factor": not get("moe_router_topk_scaling_factor"),
        "window_size": get("window_size") is None,
    }.items():
        if not fine:
            raise UnsupportedCheckpoint(
                f"{argument}={get(argument)!r}: none of the model classes that this converter uses can express it"
            )


def make_skeleton(config: PreTrainedConfig) -> PreTrainedModel:
    """The causal language model of a configuration without memory for weights (meta device)."""
    with torch.device("meta"):
        if isinstance(config, GengramConfig):
            return GengramForCausalLM(config)
        return AutoModelForCausalLM.from_config(config)


def plan_weights(config: PreTrainedConfig, source: Checkpoint) -> dict[str, Recipe]:
    """
    How each tensor of the model is made from the checkpoint.

    Returns:
        name in our state dict -> recipe. Copies of the memory in layers that do not use it, and
        multi-token prediction, are not planned, so they are left behind.
    """
    gengram = isinstance(config, GengramConfig)
    backbone = config.backbone_config if gengram else config
    base, head = ("model.backbone.", "head.") if gengram else ("model.", "")
    arguments = source.arguments
    # With zero-centred norms the stored weight is what is added to 1; the memory's norms are plain (specification 9).
    shift = 1.0 if arguments.get("apply_layernorm_1p") else 0.0

    def copy(name: str) -> Recipe:
        return Recipe((name,), lambda tensor: tensor)

    def norm(name: str) -> Recipe:
        return Recipe((name,), lambda tensor: tensor + shift)

    plan: dict[str, Recipe] = {
        f"{base}embed_tokens.weight": copy("embedding.word_embeddings.weight"),
        f"{base}norm.weight": norm("decoder.final_layernorm.weight"),
    }
    if not backbone.tie_word_embeddings:
        plan[f"{head}lm_head.weight"] = copy("output_layer.weight")
    parts = ["weight", "bias"] if arguments.get("add_bias_linear") or arguments.get("add_qkv_bias") else ["weight"]
    everywhere = ["weight", "bias"] if arguments.get("add_bias_linear") else ["weight"]
    for layer in range(backbone.num_hidden_layers):
        ours, theirs = f"{base}layers.{layer}.", f"decoder.layers.{layer}."
        plan[f"{ours}input_layernorm.weight"] = norm(f"{theirs}input_layernorm.weight")
        plan[f"{ours}post_attention_layernorm.weight"] = norm(f"{theirs}pre_mlp_layernorm.weight")
        attention = f"{theirs}self_attention."
        for part in everywhere:
            plan[f"{ours}self_attn.o_proj.{part}"] = copy(f"{attention}linear_proj.{part}")
        if arguments.get("multi_latent_attention"):
            if arguments.get("q_lora_rank"):
                plan[f"{ours}self_attn.q_a_proj.weight"] = copy(f"{attention}linear_q_down_proj.weight")
                plan[f"{ours}self_attn.q_a_layernorm.weight"] = norm(_name_latent_norm(attention, "q", source))
                plan[f"{ours}self_attn.q_b_proj.weight"] = copy(f"{attention}linear_q_up_proj.weight")
            else:
                plan[f"{ours}self_attn.q_proj.weight"] = copy(f"{attention}linear_q_proj.weight")
            plan[f"{ours}self_attn.kv_a_proj_with_mqa.weight"] = copy(f"{attention}linear_kv_down_proj.weight")
            plan[f"{ours}self_attn.kv_a_layernorm.weight"] = norm(_name_latent_norm(attention, "kv", source))
            plan[f"{ours}self_attn.kv_b_proj.weight"] = copy(f"{attention}linear_kv_up_proj.weight")
        else:
            gated = bool(arguments.get("attention_output_gate"))
            for part in parts:
                for which in ("q", "gate", "k", "v") if gated else ("q", "k", "v"):
                    packed = f"{attention}linear_qkv.{part}"
                    plan[f"{ours}self_attn.{which}_proj.{part}"] = _take_heads(packed, which, gated, backbone)
            if arguments.get("qk_layernorm"):
                for which in ("q", "k"):
                    plan[f"{ours}self_attn.{which}_norm.weight"] = norm(f"{attention}{which}_layernorm.weight")
        if arguments.get("num_experts"):
            plan[f"{ours}mlp.gate.weight"] = copy(f"{theirs}mlp.router.weight")
            for part, linear in (("gate_up_proj", "linear_fc1"), ("down_proj", "linear_fc2")):
                names = [f"{theirs}mlp.experts.{e}.{linear}.weight" for e in range(arguments["num_experts"])]
                plan[f"{ours}mlp.experts.{part}"] = Recipe(tuple(names), lambda *parts: torch.stack(parts))
        else:
            for part in everywhere:
                if arguments.get("swiglu"):
                    for half, name in enumerate(("gate_proj", "up_proj")):
                        plan[f"{ours}mlp.{name}.{part}"] = _take_half(f"{theirs}mlp.linear_fc1.{part}", half)
                else:
                    plan[f"{ours}mlp.up_proj.{part}"] = copy(f"{theirs}mlp.linear_fc1.{part}")
                plan[f"{ours}mlp.down_proj.{part}"] = copy(f"{theirs}mlp.linear_fc2.{part}")
        if gengram and layer in config.memory_layers:
            prefix = f"{theirs}gengram."
            for name in source.names:
                if name.startswith(prefix):
                    plan[f"model.memory.{layer}.{name.removeprefix(prefix)}"] = copy(name)
    return plan


def _name_latent_norm(attention: str, which: str, source: Checkpoint) -> str:
    """Its own tensor, or fused into the up projection by Transformer Engine."""
    fused = f"{attention}linear_{which}_up_proj.layer_norm_weight"
    return fused if fused in source.names else f"{attention}{which}_layernorm.weight"


def _take_heads(name: str, which: str, gated: bool, backbone: PreTrainedConfig) -> Recipe:
    """Megatron packs each key-value group: its query heads, their gates if there are any, a key head, a value head."""
    groups, width = backbone.num_key_value_heads, backbone.head_dim
    queries = backbone.num_attention_heads // groups
    order = ["q"] * queries + ["gate"] * (queries if gated else 0) + ["k", "v"]
    place = slice(order.index(which), order.index(which) + order.count(which))

    def take(packed: torch.Tensor) -> torch.Tensor:
        heads = packed.view(groups, len(order), width, *packed.shape[1:])
        return heads[:, place].reshape(-1, *packed.shape[1:])

    return Recipe((name,), take)


def _take_half(name: str, half: int) -> Recipe:
    return Recipe((name,), lambda packed: packed.chunk(2)[half])


def _check_layers(source: Checkpoint) -> None:
    """Refuse another number of layers than there are: layers would be left out, or models of any size be made."""
    found = len({name.split(".")[2] for name in source.names if name.startswith("decoder.layers.")})
    stated = source.arguments.get("num_layers")
    if stated != found:
        raise InputError(f"{source.folder}: there are tensors of {found} layers, but the arguments say {stated!r}")


def _check_plan(model: PreTrainedModel, recipes: dict[str, Recipe], source: Checkpoint) -> None:
    wanted = {name for name, _ in model.named_parameters()}
    if wanted != set(recipes):
        raise InputError(
            f"the checkpoint and {type(model).__name__} differ: without a source {sorted(wanted - set(recipes))[:5]}, "
            f"without a place {sorted(set(recipes) - wanted)[:5]}"
        )
    needed = {name for recipe in recipes.values() for name in recipe.sources}
    if missing := sorted(needed - source.names):
        raise InputError(f"the checkpoint lacks {len(missing)} tensors, e.g. {missing[0]}")


_FINGERPRINT = "conversion.sha256"


def _begin_or_resume(partial: Path, fingerprint: str) -> None:
    mark = partial / _FINGERPRINT
    if partial.exists() and (not mark.is_file() or mark.read_text() != fingerprint):
        shutil.rmtree(partial)  # of another checkpoint or another plan
    partial.mkdir(parents=True, exist_ok=True)
    mark.write_text(fingerprint)


def _write_safetensors(
    path: Path,
    shapes: dict[str, tuple[int, ...]],
    dtype: torch.dtype,
    make: Callable[[str], torch.Tensor],
    progress: Any,
) -> None:
    """One safetensors file, one tensor in memory at a time."""
    numbers = {name: Numbers(SAFETENSORS_DTYPES[dtype], shape, dtype.itemsize) for name, shape in shapes.items()}
    with open_safetensors(path, numbers, {"format": "pt"}) as file:
        for name, shape in shapes.items():
            tensor = make(name).to(dtype)
            if tuple(tensor.shape) != shape:
                raise DamagedCheckpoint(
                    f"{name}: the checkpoint has shape {tuple(tensor.shape)}, the arguments say {shape}"
                )
            file.write(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
            del tensor  # before the next one is made
            progress.update()


def _write_companions(model: PreTrainedModel, folder: Path, arguments: dict[str, Any], name: str) -> None:
    """Everything beside the weights: configuration, the model's code, generation defaults, tokenizer and card."""
    config = model.config
    if isinstance(config, GengramConfig):
        config.auto_map = dict(config.auto_classes)
        custom_object_save(model, folder)
    config.architectures = [type(model).__name__]
    config.save_pretrained(folder)
    bases = [NUCLEOTIDE_VOCABULARY[base] for base in "ACGTN"]
    known = list(arguments.get("gengram_token_ids") or bases) == bases
    if known:
        length = int(arguments.get("seq_length") or arguments["max_position_embeddings"])
        tokenizer = build_nucleotide_tokenizer(model_max_length=length)
        tokenizer.save_pretrained(folder)
        limit_to_bases(model, tokenizer)
    model.generation_config.save_pretrained(folder)
    if known:
        trained = arguments.get("consumed_train_samples")
        origin = "Converted from a Megatron checkpoint" + (
            f" that had seen {trained:,} sequences of {arguments['seq_length']:,} tokens." if trained else "."
        )
        origin += " The checkpoint does not tell what it was trained on."
        content = json.loads((folder / "config.json").read_text())
        (folder / "README.md").write_text(str(render_card(folder, content, repo_id=name, origin=origin)))


__all__ = [
    "SAFETENSORS_DTYPES",
    "UnsupportedCheckpoint",
    "convert_megatron",
    "make_skeleton",
    "plan_model",
    "plan_weights",
    "read_config",
]
