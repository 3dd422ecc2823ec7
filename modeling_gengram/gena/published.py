"""What of GENA-LM's published files do transformers' own classes read wrong or slowly? BigBird, and the tokenizers.

modernGENA needs nothing: ModernBert reads its bases of rotation, 10000 in every layer, as the file has them.
"""

import json

from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

_BIG_BIRD_SEP = 66  # transformers' default, which the published file left; token 66 of the vocabulary is ordinary DNA
_SEP = 2
_SPECIAL = {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "[PAD]": 3, "[MASK]": 4}


def mend_config(config: PreTrainedConfig) -> PreTrainedConfig:
    """Give GENA-LM's BigBird the `sep_token_id` of its tokenizer, in place; any other configuration stays."""
    ids = config.to_dict()
    if (
        config.model_type == "big_bird"
        and ids.get("pad_token_id") == _SPECIAL["[PAD]"]
        and ids.get("eos_token_id") == _SEP
        and ids.get("sep_token_id") == _BIG_BIRD_SEP
    ):
        config.sep_token_id = _SEP
    return config


def speed_up(model: PreTrainedModel) -> PreTrainedModel:
    """Give a BigBird encoder the fast form of its attention, in place, with what transformers computes in evaluation
    and in training; any other model stays."""
    config = model.config.get_text_config()
    if config.model_type == "big_bird" and not config.is_decoder:
        from .block_sparse_attention import use_fast_attention

        use_fast_attention(model, random_blocks="training")
    return model


def has_gena_tokens(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a tokenizer is a BPE of bases with GENA-LM's special tokens: a published one, or one trained here."""
    if not tokenizer.is_fast or any(tokenizer.convert_tokens_to_ids(name) != i for name, i in _SPECIAL.items()):
        return False
    vocabulary = tokenizer.get_vocab()
    letters = {token for token in vocabulary if len(token) == 1 and token.isalnum()}
    if not set("ACGT") <= letters <= set("ABCDGHKMNRSTUVWY"):
        return False
    return json.loads(tokenizer.backend_tokenizer.to_str())["model"]["type"] == "BPE"


__all__ = ["has_gena_tokens", "mend_config", "speed_up"]
