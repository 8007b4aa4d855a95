"""One readable file per family."""
