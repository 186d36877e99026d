"""Surgery: what is changed in a network of any family once it is built, before its weights are initialised.

The keys of a plain network stay in its state: what is added gets new ones, and nothing is renamed.
"""
