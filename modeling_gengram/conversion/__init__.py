"""From foreign checkpoint layouts to ours, one file a layout."""
