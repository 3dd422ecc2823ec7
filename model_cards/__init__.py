"""Model cards, and the templates from which they are rendered."""
