"""The command line: one file per verb, each a thin door to one public function."""
