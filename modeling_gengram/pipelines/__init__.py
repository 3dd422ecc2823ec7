"""What a trained model says of sequences: one file a question."""

from typing import TYPE_CHECKING

from gengram.lazy import attach

if TYPE_CHECKING:
    from gengram.pipelines.bases import BaseFillMaskPipeline, limit_to_bases
    from gengram.pipelines.embed import EmbeddingPipeline, embed_sequences

_DEFINED_IN = {
    "BaseFillMaskPipeline": "gengram.pipelines.bases",
    "EmbeddingPipeline": "gengram.pipelines.embed",
    "embed_sequences": "gengram.pipelines.embed",
    "limit_to_bases": "gengram.pipelines.bases",
}
__getattr__, __dir__ = attach(__name__, _DEFINED_IN)

__all__ = ["BaseFillMaskPipeline", "EmbeddingPipeline", "embed_sequences", "limit_to_bases"]
