"""A recurrent memory around any encoder: sequences of any length, a segment at a time."""
