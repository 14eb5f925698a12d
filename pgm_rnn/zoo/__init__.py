"""Trained models: `load_pretrained(name)`, one of `list_pretrained()`.

NAME/config.json          what `get_model` makes the model from, and how it was trained
NAME/model.safetensors    its numbers, and those of its guide
NAME/README.md            the model card
NAME/reference.json       log marginal likelihoods of a few sequences, to test engines against
manifest.json             the SHA-256 of each of these files
"""

from pgm_rnn.zoo.entries import list_pretrained, load_pretrained, reference
from pgm_rnn.zoo.references import Reference

__all__ = ["Reference", "list_pretrained", "load_pretrained", "reference"]
