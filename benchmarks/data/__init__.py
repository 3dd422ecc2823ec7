"""The rows of a task: from a folder, the cache or the Hub, in one schema, checked."""
