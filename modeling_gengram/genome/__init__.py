"""Files of genomics, in and out; no torch."""
