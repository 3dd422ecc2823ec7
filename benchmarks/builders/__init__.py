"""Builders of tasks that nobody publishes as a file: one file a task."""
