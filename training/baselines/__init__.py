"""What simple models make of the same rows."""
