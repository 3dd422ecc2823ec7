"""What a language model learns from blocks of tokens: the next one, masked ones, whether two pieces belong together."""
