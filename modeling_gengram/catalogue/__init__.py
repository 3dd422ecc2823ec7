"""Which DNA language models are published, and what is known of each? Rows of data, every fact with its source."""

from gengram.catalogue.licences import allows_commercial_use, describe_licence
from gengram.catalogue.rows import ModelRow, find_model_row, list_families, list_models

__all__ = ["ModelRow", "allows_commercial_use", "describe_licence", "find_model_row", "list_families", "list_models"]
