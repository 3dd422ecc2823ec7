"""What a trained model says of sequences: one file a question."""

from typing import TYPE_CHECKING

from gengram.lazy import attach

if TYPE_CHECKING:
    from gengram.pipelines.embed import EmbeddingPipeline, embed_sequences

_DEFINED_IN = {"EmbeddingPipeline": "gengram.pipelines.embed", "embed_sequences": "gengram.pipelines.embed"}
__getattr__, __dir__ = attach(__name__, _DEFINED_IN)

__all__ = ["EmbeddingPipeline", "embed_sequences"]
