"""Fine-tuning: labelled tables, seeds, metrics and the report of a run."""
