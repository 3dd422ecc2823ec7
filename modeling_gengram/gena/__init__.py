"""GENA-LM's BERT encoders."""
