"""The files of runs: written and read back."""
