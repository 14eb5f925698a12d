"""Recursions over time: tensors in, tensors out; no Pyro, no model."""
