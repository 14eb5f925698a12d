"""Trained models: `load_pretrained(name)`, one of `list_pretrained()`.

NAME/config.json          what the model is made from, and how it was trained
NAME/model.safetensors    its numbers, and those of its guide
NAME/README.md            the model card
NAME/reference.json       log marginal likelihoods of a few sequences, or of their labels, to test engines against
manifest.json             the SHA-256 of each of these files
"""

from pgm_rnn.zoo.entries import list_pretrained, load_pretrained, reference
from pgm_rnn.zoo.label_references import LabelReference
from pgm_rnn.zoo.references import Reference

__all__ = ["LabelReference", "Reference", "list_pretrained", "load_pretrained", "reference"]
