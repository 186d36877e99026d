"""Initialisations: how the weights of a finished network are drawn or set."""
