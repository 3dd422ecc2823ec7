"""From a folder, a run or a Hub id to configuration, tokenizer, model and adapter; no remote code, no pickle."""

from typing import TYPE_CHECKING

from gengram.lazy import attach

if TYPE_CHECKING:
    from gengram.loading.adapters import is_adapter, load_adapter
    from gengram.loading.configurations import load_config, measure_capacity
    from gengram.loading.models import auto
    from gengram.loading.tokenizers import load_tokenizer

_DEFINED_IN = {
    "auto": "gengram.loading.models",
    "is_adapter": "gengram.loading.adapters",
    "load_adapter": "gengram.loading.adapters",
    "load_config": "gengram.loading.configurations",
    "load_tokenizer": "gengram.loading.tokenizers",
    "measure_capacity": "gengram.loading.configurations",
}
__getattr__, __dir__ = attach(__name__, _DEFINED_IN)

__all__ = ["auto", "is_adapter", "load_adapter", "load_config", "load_tokenizer", "measure_capacity"]
