"""How fast the memory is, and how exact, beside the released algorithm in the same run."""
