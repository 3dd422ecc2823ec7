"""Does a part of a model help? Models with and without it, trained on the same data, and the report."""
