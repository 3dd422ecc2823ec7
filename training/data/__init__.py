"""Labelled rows: where they are from, what their labels are, how they are split, drawn and changed."""
