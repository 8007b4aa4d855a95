"""The transformer, knowing nothing of any task, family, file or image format."""
