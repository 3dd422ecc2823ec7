"""Evaluate models on tasks, compare them, and collect their scores."""
