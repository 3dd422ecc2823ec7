"""How wide is a prompt for a model of two parts? As its backbone, whose configuration PEFT does not look into."""

from functools import wraps
from types import ModuleType
from typing import Any

_NAME = "_prepare_prompt_learning_config"


def read_sizes(peft_model: ModuleType, model_types: list[str]) -> None:
    """
    Let prompts and prefixes of PEFT do without `token_dim` and `num_attention_heads` for these models.

    PEFT looks for some names in the configuration as a dict, of whose parts it knows `text_config` alone. A PEFT that
    does so elsewhere goes on asking for the sizes.

    Args:
        peft_model: PEFT's module of that name.
        model_types: of the models here.
    """
    prepare = getattr(peft_model, _NAME, None)
    if prepare is None or hasattr(prepare, "__wrapped__"):
        return

    @wraps(prepare)
    def prepare_from_backbone(peft_config: Any, model_config: Any) -> Any:
        if getattr(model_config, "model_type", None) in model_types:
            model_config = model_config.get_text_config()
            if peft_config.token_dim is None:
                # NTv3's embeddings are narrower than its layers, and prompts stand among embeddings.
                peft_config.token_dim = getattr(model_config, "token_embed_dim", model_config.hidden_size)
            if peft_config.num_attention_heads is None:
                peft_config.num_attention_heads = model_config.num_attention_heads
        return prepare(peft_config, model_config)

    setattr(peft_model, _NAME, prepare_from_backbone)


__all__ = ["read_sizes"]
