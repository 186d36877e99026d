"""Surgeries: changes of a network of any family after it is built and before its weights are initialised.

The state-dict keys of the plain network do not change; new modules add keys of their own.
"""
