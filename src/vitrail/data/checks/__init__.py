"""One file per format, and one for the pictures that all of them hold."""
