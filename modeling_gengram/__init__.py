"""gengram: genomic language models as ordinary citizens of Hugging Face Transformers."""

from ._version import __version__

__all__ = ["__version__"]
