"""The registry of benchmark tasks: what each is, where its rows are, and what was published about it."""
