"""Nucleotide Transformer: encoders over k-mers (v1, AgroNT, v2, Codon-NT)."""
