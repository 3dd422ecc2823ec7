"""Unlabelled genomes for pre-training: stored once as letters, drawn as windows, packed into blocks of tokens."""
