"""What a trained model says of sequences: one file a question."""

from .embedding import EmbeddingPipeline, embed_sequences

__all__ = ["EmbeddingPipeline", "embed_sequences"]
