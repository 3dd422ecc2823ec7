"""`gengram convert to-megatron`: a model that was trained here goes back to Megatron.

The way of `megatron.py`, backwards, for dense and mixture-of-experts decoders with multi-head or grouped attention.
What the arguments can tell is decided by reading them back: if `read_config` does not make the same configuration of
them, the field that differs is refused. Weights are read, packed and written one tensor at a time.
"""

import argparse
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.serialization import skip_data
from transformers import PreTrainedConfig

from gengram.conversion.megatron import SAFETENSORS_DTYPES, UnsupportedCheckpoint, make_skeleton, read_config
from gengram.conversion.megatron_files import describe_pickle, find_offset, name_rank, split_tensor
from gengram.errors import InputError
from gengram.files import check_input_files, make_whole
from gengram.gengram.configuration_gengram import GengramConfig
from gengram.loading.configurations import require_config
from gengram.loading.faults import tell_faults
from gengram.loading.folders import read_object
from gengram.loading.models import is_finite, require_model
from gengram.progress import track

_TYPES = ("llama", "qwen3", "mixtral", "qwen3_moe", "megatron_decoder")
# Fields that say nothing about what a causal language model computes, or that Megatron keeps elsewhere.
_BESIDE = {
    "architectures", "attention_dropout", "auto_map", "backbone_config", "bos_token_id", "chunk_size_feed_forward",
    "classifier_dropout", "conv_init", "dtype", "eos_token_id", "id2label", "label2id", "memory_preset",
    "output_attentions", "output_hidden_states", "output_router_logits", "pad_token_id", "pooling", "problem_type",
    "return_dict", "router_jitter_noise", "transformers_version", "use_cache", "window_sums", "_name_or_path",
}  # fmt: skip
# Layers for which Megatron writes an (empty) extra state; loading is strict about names.
_EXTRA_STATE = {
    "local": ("linear_qkv", "linear_proj", "linear_fc1", "linear_fc2"),
    "transformer_engine": ("linear_qkv", "linear_proj", "linear_fc1", "linear_fc2", "layernorm"),
}


@dataclass(frozen=True)
class Part:
    """How one of Megatron's tensors is made of the model's: (name, index along the first axis or None) each, packed."""

    sources: tuple[tuple[str, int | None], ...]
    build: Callable[..., torch.Tensor]


def convert_to_megatron(
    model: str | os.PathLike[str],
    output: str | os.PathLike[str],
    tensor_parallel: int = 1,
    pipeline_parallel: int = 1,
    expert_parallel: int = 1,
    transformer_impl: str = "transformer_engine",
    overwrite: bool = False,
) -> Path:
    """
    Write a saved causal language model as a legacy `torch` checkpoint of Megatron.

    Args:
        model: folder with config.json and safetensors; Gengram or its backbone alone.
        output: folder to make; what is there is replaced when all is written.
        tensor_parallel, pipeline_parallel, expert_parallel: numbers of ranks; Megatron loads the legacy format only
            with the numbers it was saved with.
        transformer_impl: `"transformer_engine"` (grouped experts; as the released models were trained) or `"local"`.
        overwrite: whether a folder that is there is replaced.

    Returns:
        `Path` of the folder: `latest_checkpointed_iteration.txt` ("release", so Megatron looks for no optimizer
        and counts from 0) and `release/mp_rank_*/model_optim_rng.pt`. Memories of layers that do not use one, which
        Megatron keeps in every layer, are not made up: it leaves them as it initialised them.

    Raises:
        UnsupportedCheckpoint: naming the field that Megatron's arguments cannot express.
        `InputError`: no saved model, one that cannot be read, or sizes that the numbers of ranks do not divide.
        FileExistsError: the output exists.
        InputError: something cannot be written.
    """
    output = Path(output)
    if output.exists() and not overwrite:
        raise FileExistsError(f"{output} exists; choose another folder")
    source = SavedModel(Path(model))
    if transformer_impl not in _EXTRA_STATE:
        raise ValueError(f"transformer_impl={transformer_impl!r}: one of {', '.join(_EXTRA_STATE)} is needed")
    with tell_faults(f"{model}: the model cannot be told to Megatron"):
        arguments = make_arguments(source.config)
        arguments |= _describe_training(source, tensor_parallel, pipeline_parallel, expert_parallel, transformer_impl)
        _check_ranks(arguments)
        plan = plan_parts(source, arguments)

    ranks = [
        (tensor, pipeline, expert)
        for tensor in range(tensor_parallel)
        for pipeline in range(pipeline_parallel)
        for expert in range(expert_parallel)
    ]
    states = {rank: list_rank(plan, arguments, rank) for rank in ranks}
    with (
        make_whole(output) as partial,
        track(total=sum(map(len, states.values())), desc="Converting", unit=" tensors") as progress,
    ):
        for rank, state in states.items():
            folder = partial / "release" / name_rank(*rank, pipeline_parallel, expert_parallel)
            folder.mkdir(parents=True)
            _write_rank(folder / "model_optim_rng.pt", arguments, state, rank[0], plan, source, progress)
        (partial / "latest_checkpointed_iteration.txt").write_text("release")
    return output


class SavedModel:
    """
    The tensors of a saved causal language model by the names of its state dict, read one at a time.

    A file in another layout (transformers writes experts of plain Mixtral models one by one) is loaded whole by
    `from_pretrained`.

    Raises:
        `InputError`: no configuration, no weights, some of which are missing, or not those of a causal language model.
    """

    def __init__(self, folder: Path):
        if (folder / "adapter_config.json").is_file():
            raise InputError(
                f"{folder} holds an adapter: merge it into its model first (merge_and_unload), save, and convert that"
            )
        if not (folder / "config.json").is_file():
            raise InputError(f"{folder}: no config.json in it; give the folder of a model saved with save_pretrained")
        self.folder = folder
        self.config = require_config(folder)
        if not any(str(name).endswith("ForCausalLM") for name in self.config.architectures or []):
            raise UnsupportedCheckpoint(
                f"{folder}: architectures={self.config.architectures}: Megatron has a language model only"
            )
        # An architecture that Megatron lacks is told before weights that may be missing.
        with tell_faults(f"{folder}: no model can be made of its configuration"):
            make_arguments(self.config)
            wanted = {name for name, _ in make_skeleton(self.config).named_parameters()}
        self._files: dict[str, Path] = {}
        for path in sorted(folder.glob("*.safetensors")):
            check_input_files(path)
            with tell_faults(f"{path}: cannot be read"), safe_open(path, framework="pt") as file:
                self._files.update(dict.fromkeys(file.keys(), path))
        if not self._files:
            raise InputError(f"{folder}: no safetensors file in it")
        self._whole: dict[str, torch.Tensor] | None = None
        if not wanted <= set(self._files):
            model = require_model(folder, "causal_lm", config=self.config, dtype="auto")
            self._whole = {name: tensor for name, tensor in model.state_dict().items() if name in wanted}
        self.names = wanted

    def describe(self, name: str, index: int | None) -> torch.Tensor:
        """A tensor without data (meta device), of its shape and dtype."""
        if self._whole is not None:
            shape, dtype = tuple(self._whole[name].shape), self._whole[name].dtype
        else:
            path = self._files[name]
            with tell_faults(f"{path}: cannot be read"), safe_open(path, framework="pt") as file:
                tensor = file.get_slice(name)
                shape, code = tuple(tensor.get_shape()), tensor.get_dtype()
            dtypes = {code: dtype for dtype, code in SAFETENSORS_DTYPES.items()}
            if code not in dtypes:
                raise InputError(f"{path}: {name} holds {code}; a model's weights are {', '.join(dtypes)}")
            dtype = dtypes[code]
        return torch.empty(shape if index is None else shape[1:], dtype=dtype, device="meta")

    def read(self, name: str, index: int | None) -> torch.Tensor:
        """A tensor, or one entry of its first axis."""
        if self._whole is not None:
            return self._whole[name] if index is None else self._whole[name][index]
        # Opened for each tensor, so that what was read of the file can be let go.
        path = self._files[name]
        with tell_faults(f"{path}: cannot be read"), safe_open(path, framework="pt") as file:
            tensor = file.get_tensor(name) if index is None else file.get_slice(name)[index]
        if not is_finite(tensor):
            raise InputError(f"{path}: {name} has values that are not finite (NaN or infinite)")
        return tensor


def make_arguments(config: PreTrainedConfig) -> dict[str, Any]:
    """
    Megatron's arguments for an architecture, such that `read_config` makes the same configuration of them.

    Raises:
        UnsupportedCheckpoint: naming the field that the arguments cannot express.
    """
    gengram = isinstance(config, GengramConfig)
    backbone: Any = config.backbone_config if gengram else config
    if backbone.model_type not in _TYPES:
        raise UnsupportedCheckpoint(f"model_type={backbone.model_type!r}: one of {', '.join(_TYPES)} is needed")
    experts = getattr(backbone, "num_local_experts", None) or getattr(backbone, "num_experts", None)
    moe_width = getattr(backbone, "moe_intermediate_size", backbone.intermediate_size)
    own = backbone.model_type == "megatron_decoder"
    theta = backbone.rope_parameters["rope_theta"]
    arguments = {
        "num_layers": backbone.num_hidden_layers,
        "hidden_size": backbone.hidden_size,
        "ffn_hidden_size": backbone.intermediate_size,
        "num_attention_heads": backbone.num_attention_heads,
        "group_query_attention": backbone.num_key_value_heads != backbone.num_attention_heads,
        "num_query_groups": backbone.num_key_value_heads,
        "kv_channels": backbone.head_dim or backbone.hidden_size // backbone.num_attention_heads,
        "padded_vocab_size": backbone.vocab_size,
        "max_position_embeddings": backbone.max_position_embeddings,
        "position_embedding_type": "rope",
        "add_position_embedding": False,
        "rotary_base": int(theta) if theta == int(theta) else theta,
        "rotary_percent": backbone.rope_parameters.get("partial_rotary_factor", 1.0),
        "normalization": "RMSNorm",
        "norm_epsilon": backbone.rms_norm_eps,
        "apply_layernorm_1p": False,
        "swiglu": not own or backbone.gated_mlp,
        "bias_gelu_fusion": backbone.hidden_act == "gelu_pytorch_tanh",
        "add_bias_linear": own and backbone.mlp_bias,
        "add_qkv_bias": own and backbone.attention_bias,
        "attention_output_gate": own and backbone.attention_output_gate,
        "qk_layernorm": backbone.query_key_norm if own else backbone.model_type.startswith("qwen3"),
        "multi_latent_attention": False,
        "untie_embeddings_and_output_weights": not backbone.tie_word_embeddings,
        "init_method_std": backbone.initializer_range,
        "attention_dropout": backbone.attention_dropout,
        "hidden_dropout": 0.0,
        "num_experts": experts,
        "gengram_enabled": gengram and bool(config.memory_layers),
    }
    if experts:
        arguments |= {
            "moe_ffn_hidden_size": moe_width,
            "moe_router_topk": backbone.num_experts_per_tok,
            "moe_router_pre_softmax": False,
            "moe_router_score_function": "softmax",
            "moe_router_load_balancing_type": "aux_loss",
            "moe_aux_loss_coeff": backbone.router_aux_loss_coef,
            "moe_layer_freq": 1,
        }
    if arguments["gengram_enabled"]:
        arguments |= {
            "gengram_layer_ids": [layer + 1 for layer in config.memory_layers],
            "gengram_ngram_sizes": list(config.kmer_sizes),
            "gengram_window_size": config.window_size,
            "gengram_embed_dim_per_ngram": config.memory_dim,
            "gengram_token_ids": list(config.base_token_ids),
            "gengram_use_short_conv": config.mixer == "conv_residual",
            "gengram_short_conv_kernel_size": config.conv_kernel_size,
            "gengram_short_conv_dilation": config.conv_dilation,
        }
    _check_arguments(arguments, config)
    return arguments


def _check_arguments(arguments: dict[str, Any], config: PreTrainedConfig) -> None:
    """Refuse the first field that is lost when the arguments are read again."""
    if arguments["gengram_enabled"] and config.window_size is None:
        raise UnsupportedCheckpoint("window_size=None: Megatron's memory always has a window")
    told = read_config(arguments)
    pairs: list[tuple[Any, Any]] = [(config, told)]
    if isinstance(config, GengramConfig):
        if not isinstance(told, GengramConfig):
            pairs = [(config.backbone_config, told)]
        else:
            pairs.append((config.backbone_config, told.backbone_config))
    for wanted, found in pairs:
        for field in sorted(set(type(wanted).__dataclass_fields__) - _BESIDE):
            if field.startswith("base_model_") or (field == "head_dim" and wanted.head_dim is None):
                continue  # plans of sharding; the width that follows from the others
            if getattr(wanted, field) != getattr(found, field, None):
                raise UnsupportedCheckpoint(
                    f"{field}={getattr(wanted, field)!r} of {type(wanted).__name__}: Megatron has no argument for it "
                    f"(it would be read as {getattr(found, field, None)!r})"
                )


def _describe_training(source: SavedModel, tensor: int, pipeline: int, expert: int, impl: str) -> dict[str, Any]:
    """The arguments that are not the architecture's: ranks, dtype, and the length that the tokenizer states."""
    name = (
        "model.backbone.embed_tokens.weight"
        if isinstance(source.config, GengramConfig)
        else "model.embed_tokens.weight"
    )
    dtype = source.describe(name, None).dtype
    longest = source.config.max_position_embeddings
    tokenizer = source.folder / "tokenizer_config.json"
    stated = read_object(tokenizer).get("model_max_length") if tokenizer.is_file() else None
    if stated is not None and (not isinstance(stated, int) or stated < 1):
        raise InputError(f"{tokenizer}: model_max_length={stated!r} is no number of tokens")
    rows = source.config.vocab_size // max(tensor, 1)
    return {
        "tensor_model_parallel_size": tensor,
        "pipeline_model_parallel_size": pipeline,
        "expert_model_parallel_size": expert,
        "expert_tensor_parallel_size": tensor,
        "transformer_impl": impl,
        "moe_grouped_gemm": impl == "transformer_engine" and expert > 0,
        "ckpt_format": "torch",
        "params_dtype": dtype,
        "bf16": dtype == torch.bfloat16,
        "fp16": dtype == torch.float16,
        "seq_length": stated if stated is not None and stated <= longest else longest,
        "make_vocab_size_divisible_by": min(rows & -rows, 128),
        "iteration": 0,
        "consumed_train_samples": 0,
        "consumed_valid_samples": 0,
    }


def _check_ranks(arguments: dict[str, Any]) -> None:
    """Every rank holds an equal share."""
    tensor, pipeline, expert = (arguments[f"{kind}_model_parallel_size"] for kind in ("tensor", "pipeline", "expert"))
    width = "moe_ffn_hidden_size" if arguments["num_experts"] else "ffn_hidden_size"
    shares = [
        ("num_query_groups", tensor, "tensor"),
        ("padded_vocab_size", tensor, "tensor"),
        (width, tensor, "tensor"),
    ]
    shares += [("num_layers", pipeline, "pipeline"), ("num_experts", expert, "expert")]
    for argument, ranks, kind in shares:
        if ranks < 1 or (arguments[argument] or 1) % ranks:
            raise InputError(f"{ranks} {kind} ranks do not divide {argument}={arguments[argument]}")


def plan_parts(source: SavedModel, arguments: dict[str, Any]) -> dict[str, Part]:
    """How each of Megatron's tensors is made: name as `LegacyCheckpoint` has it (global layers and experts) -> part."""
    gengram = isinstance(source.config, GengramConfig)
    base, head = ("model.backbone.", "head.") if gengram else ("model.", "")

    def copy(name: str, index: int | None = None) -> Part:
        return Part(((name, index),), lambda tensor: tensor)

    plan = {
        "embedding.word_embeddings.weight": copy(f"{base}embed_tokens.weight"),
        "decoder.final_layernorm.weight": copy(f"{base}norm.weight"),
    }
    if arguments["untie_embeddings_and_output_weights"]:
        plan["output_layer.weight"] = copy(f"{head}lm_head.weight")
    elif arguments["pipeline_model_parallel_size"] > 1:  # the last stage has a copy
        plan["output_layer.weight"] = copy(f"{base}embed_tokens.weight")
    for layer in range(arguments["num_layers"]):
        ours, theirs = f"{base}layers.{layer}.", f"decoder.layers.{layer}."
        plan[f"{theirs}input_layernorm.weight"] = copy(f"{ours}input_layernorm.weight")
        plan[f"{theirs}pre_mlp_layernorm.weight"] = copy(f"{ours}post_attention_layernorm.weight")
        kinds = ("q", "gate", "k", "v") if arguments["attention_output_gate"] else ("q", "k", "v")
        for part in ("weight", "bias"):
            if f"{ours}self_attn.q_proj.{part}" in source.names:
                projections = tuple((f"{ours}self_attn.{kind}_proj.{part}", None) for kind in kinds)
                pack = _pack_heads(arguments["num_query_groups"], arguments["kv_channels"])
                plan[f"{theirs}self_attention.linear_qkv.{part}"] = Part(projections, pack)
            if f"{ours}self_attn.o_proj.{part}" in source.names:
                plan[f"{theirs}self_attention.linear_proj.{part}"] = copy(f"{ours}self_attn.o_proj.{part}")
            if f"{ours}mlp.down_proj.{part}" in source.names:
                halves = ("gate_proj", "up_proj") if arguments["swiglu"] else ("up_proj",)
                names = tuple((f"{ours}mlp.{half}.{part}", None) for half in halves)
                plan[f"{theirs}mlp.linear_fc1.{part}"] = Part(names, lambda *parts: torch.cat(parts))
                plan[f"{theirs}mlp.linear_fc2.{part}"] = copy(f"{ours}mlp.down_proj.{part}")
        if arguments["qk_layernorm"]:
            for kind in ("q", "k"):
                plan[f"{theirs}self_attention.{kind}_layernorm.weight"] = copy(f"{ours}self_attn.{kind}_norm.weight")
        if arguments["num_experts"]:
            plan[f"{theirs}mlp.router.weight"] = copy(f"{ours}mlp.gate.weight")
            for expert in range(arguments["num_experts"]):
                to = f"{theirs}mlp.experts.{expert}."
                plan[f"{to}linear_fc1.weight"] = copy(f"{ours}mlp.experts.gate_up_proj", expert)
                plan[f"{to}linear_fc2.weight"] = copy(f"{ours}mlp.experts.down_proj", expert)
        for name in sorted(source.names):
            if name.startswith(f"model.memory.{layer}."):
                plan[f"{theirs}gengram.{name.removeprefix(f'model.memory.{layer}.')}"] = copy(name)
    _check_complete(plan, source)
    return plan


def _check_complete(plan: dict[str, Part], source: SavedModel) -> None:
    used = {name for part in plan.values() for name, _ in part.sources}
    if used != source.names:
        raise UnsupportedCheckpoint(
            f"{type(source.config).__name__}: without a place in Megatron {sorted(source.names - used)[:5]}, "
            f"not in the model {sorted(used - source.names)[:5]}"
        )


def _pack_heads(groups: int, width: int) -> Callable[..., torch.Tensor]:
    """Each key-value group: its query heads, their gates if there are any, a key head, a value head."""

    def pack(*projections: torch.Tensor) -> torch.Tensor:
        rest = projections[0].shape[1:]
        heads = torch.cat([projection.reshape(groups, -1, width, *rest) for projection in projections], dim=1)
        return heads.reshape(-1, *rest)

    return pack


def list_rank(plan: dict[str, Part], arguments: dict[str, Any], rank: tuple[int, int, int]) -> dict[str, str | None]:
    """
    What the file of one rank holds.

    Args:
        rank: tensor, pipeline and expert rank.

    Returns:
        name in the file -> name in the plan; `None` for the empty states that Megatron's loading expects.
    """
    _, pipeline, expert = rank
    pipelines = arguments["pipeline_model_parallel_size"]
    layers = arguments["num_layers"] // pipelines
    experts = (arguments["num_experts"] or 0) // arguments["expert_model_parallel_size"]
    state: dict[str, str | None] = {}
    for name in plan:
        if name.startswith("decoder.layers."):
            _, _, number, rest = name.split(".", 3)
            layer, here = int(number), name
            if layer // layers != pipeline:
                continue
            if rest.startswith("mlp.experts."):
                _, _, number, rest = rest.split(".", 3)
                if int(number) // experts != expert:
                    continue
                rest = _spell_expert(int(number) % experts, rest, arguments["transformer_impl"])
            here = f"decoder.layers.{layer % layers}.{_spell(rest, arguments)}"
        elif pipeline != (0 if name.startswith("embedding.") else pipelines - 1):
            continue
        else:
            here = name
        state[here] = name
        owner, _, kind = here.rpartition(".")
        if kind.startswith("weight") and owner.endswith(_EXTRA_STATE[arguments["transformer_impl"]]):
            state[f"{owner}._extra_state"] = None
            if owner.endswith("linear_qkv") and arguments["transformer_impl"] == "transformer_engine":
                state[owner.replace("linear_qkv", "core_attention._extra_state")] = None
    if pipeline == pipelines - 1:
        state["output_layer._extra_state"] = None  # also where it has no weight of its own
    return state


def _spell_expert(expert: int, rest: str, impl: str) -> str:
    linear, kind = rest.split(".")
    if impl == "transformer_engine":
        return f"mlp.experts.{linear}.{kind}{expert}"
    return f"mlp.experts.local_experts.{expert}.{linear}.{kind}"


def _spell(rest: str, arguments: dict[str, Any]) -> str:
    """Transformer Engine fuses a norm into the layer behind it, but not the one before a mixture of experts."""
    if arguments["transformer_impl"] == "transformer_engine":
        if rest == "input_layernorm.weight":
            return "self_attention.linear_qkv.layer_norm_weight"
        if rest == "pre_mlp_layernorm.weight" and not arguments["num_experts"]:
            return "mlp.linear_fc1.layer_norm_weight"
    return rest


def _write_rank(
    path: Path, arguments: dict[str, Any], state: dict[str, str | None], tensor_rank: int, plan: dict[str, Part],
    source: SavedModel, progress,
) -> None:  # fmt: skip
    """
    One rank's file, one tensor in memory at a time.

    torch.save writes the file without the data (its documented way to fill them in later), the data follow to where
    the file has them.
    """
    ranks = arguments["tensor_model_parallel_size"]

    def build(name: str, read: Callable[..., torch.Tensor]) -> torch.Tensor:
        part = plan[name]
        return split_tensor(name, part.build(*(read(*place) for place in part.sources)), tensor_rank, ranks, arguments)

    model: dict[str, torch.Tensor | None] = {}
    shapes = {name: None if whole is None else build(whole, source.describe) for name, whole in state.items()}
    with FakeTensorMode(), skip_data(materialize_fake_tensors=True):
        for name, like in shapes.items():
            model[name] = None if like is None else torch.empty(like.shape, dtype=like.dtype)
        content = {"args": argparse.Namespace(**arguments), "checkpoint_version": 3.0, "iteration": 0, "model": model}
        torch.save(content, path)
    written = describe_pickle(str(path))["model"]
    with open(path, "r+b") as file:
        for name, whole in _by_place(state, written):
            tensor = build(whole, source.read).contiguous()
            file.seek(find_offset(written[name]))
            file.write(tensor.view(-1).view(torch.uint8).numpy().data)
            progress.update()
    progress.update(sum(whole is None for whole in state.values()))


def _by_place(state: dict[str, str | None], written: dict[str, Any]) -> Iterator[tuple[str, str]]:
    named = [(name, whole) for name, whole in state.items() if whole is not None]
    yield from sorted(named, key=lambda pair: find_offset(written[pair[0]]))


__all__ = ["convert_to_megatron", "make_arguments", "plan_parts"]
