"""What a trained model says of sequences: one file a question."""
