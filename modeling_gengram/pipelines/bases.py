"""Which tokens does a language model propose? Bases, where its vocabulary is of DNA: `generate` and `fill-mask`."""

from typing import Any

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.pipelines.fill_mask import FillMaskPipeline

from gengram.genome.alphabet import ANY_BASE
from gengram.tokenization.base_tokens import is_of_dna, list_base_tokens


def limit_to_bases(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Let a model's `generate`, and `pipeline("text-generation")`, write bases and the end of a sequence only.

    Special tokens, `N` and ids that the vocabulary has no token for become `suppress_tokens` of the model's generation
    configuration. It is saved with the model as `generation_config.json`, so it holds wherever the model is loaded.
    The end and the padding are those of the tokenizer, if it has them. `generate(suppress_tokens=[])` lifts the limit.

    Args:
        model: a causal language model; its generation configuration is changed.
        tokenizer: of the model: one-base tokens, k-mers or BPE.

    Returns:
        The suppressed ids, in ascending order.

    Raises:
        `ValueError`: the model cannot generate, or the vocabulary has no token of bases.

    Example:
        >>> from gengram.tokenization import build_nucleotide_tokenizer
        >>> from transformers import LlamaConfig, LlamaForCausalLM

        >>> sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
        >>> model = LlamaForCausalLM(LlamaConfig(vocab_size=20, **sizes))
        >>> limit_to_bases(model, build_nucleotide_tokenizer())
        [0, 1, 2, 3, 4, 9, 10, 11, 13, 14, 15, 16, 17, 18, 19]
    """
    if not model.can_generate():
        raise ValueError(f"{type(model).__name__} does not generate: give a causal language model")
    bases = tokenizer.convert_tokens_to_ids(list_base_tokens(tokenizer))
    if not bases:
        raise ValueError("the tokenizer has no token that is made of the bases A, C, G and T")
    settings: Any = model.generation_config
    for kind in ("eos", "pad"):
        token = getattr(tokenizer, f"{kind}_token_id")
        if token is not None:
            setattr(settings, f"{kind}_token_id", token)
    ends = np.atleast_1d([] if settings.eos_token_id is None else settings.eos_token_id)
    embeddings: Any = model.get_input_embeddings()
    settings.suppress_tokens = np.setdiff1d(np.arange(len(embeddings.weight)), np.concatenate([bases, ends])).tolist()
    return settings.suppress_tokens


class BaseFillMaskPipeline(FillMaskPipeline):
    """transformers' `fill-mask`, which proposes bases where the tokenizer is of DNA and no `targets` are given.

    The mask's name is read as the mask, also by a tokenizer that takes such names for letters (`split_special_tokens`).
    `score` is, as ever, the probability among all tokens. With any other tokenizer it is transformers' own pipeline.
    Where `N` fills up batches, as NTv3 has it, the `N` of a sequence stay in `sequence`; transformers leaves them out.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        tokenizer: Any = self.tokenizer
        self._is_of_dna = is_of_dna(tokenizer)
        if "target_ids" not in self._postprocess_params and self._is_of_dna:
            self._postprocess_params["target_ids"] = self.get_target_ids(list_base_tokens(tokenizer))

    def preprocess(  # type: ignore[override]
        self, inputs: Any, return_tensors: Any = None, tokenizer_kwargs: dict[str, Any] | None = None, **options: Any
    ) -> Any:
        if self._is_of_dna:
            tokenizer_kwargs = {"split_special_tokens": False, **(tokenizer_kwargs or {})}
        return super().preprocess(inputs, return_tensors, tokenizer_kwargs, **options)

    def _forward(self, model_inputs: Any) -> Any:  # type: ignore[override]
        outputs: Any = super()._forward(model_inputs)
        if "attention_mask" in model_inputs:
            outputs["attention_mask"] = model_inputs["attention_mask"]
        return outputs

    def postprocess(self, model_outputs: Any, *args: Any, **options: Any) -> Any:  # type: ignore[override]
        result = super().postprocess(model_outputs, *args, **options)
        tokenizer: Any = self.tokenizer
        if tokenizer.pad_token == ANY_BASE:
            ids = model_outputs["input_ids"][0]
            is_read = model_outputs["attention_mask"][0] > 0 if "attention_mask" in model_outputs else ids >= 0
            places = (ids == tokenizer.mask_token_id).nonzero()[:, 0].tolist()
            hidden = set(tokenizer.all_special_ids) - {tokenizer.pad_token_id} if len(places) == 1 else set()
            for place, proposed in zip(places, [result] if len(places) == 1 else result):
                for one in proposed:
                    filled = ids.clone()
                    filled[place] = one["token"]
                    kept = [each for each in filled[is_read].tolist() if each not in hidden]
                    one["sequence"] = tokenizer.decode(kept)
        return result


__all__ = ["BaseFillMaskPipeline", "limit_to_bases"]
