"""The decoder of Megatron checkpoints that no transformers class can express."""
