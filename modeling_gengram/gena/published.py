"""What of GENA-LM's published files do transformers' own classes read wrong or slowly? BigBird.

modernGENA needs nothing: ModernBert reads its bases of rotation, 10000 in every layer, as the file has them.
"""

from transformers import PreTrainedConfig, PreTrainedModel

_BIG_BIRD_SEP = 66  # transformers' default, which the published file left; token 66 of the vocabulary is ordinary DNA
_SEP = 2
_PAD = 3


def mend_config(config: PreTrainedConfig) -> PreTrainedConfig:
    """Give GENA-LM's BigBird the `sep_token_id` of its tokenizer, in place; any other configuration stays."""
    ids = config.to_dict()
    if (
        config.model_type == "big_bird"
        and ids.get("pad_token_id") == _PAD
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


__all__ = ["mend_config", "speed_up"]
