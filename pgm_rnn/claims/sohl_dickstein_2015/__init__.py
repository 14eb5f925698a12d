"""Sohl-Dickstein & Kingma (2015), Equivalence Between RNN Time Series Models and Variational Bayesian Models."""

PAPER = "Sohl-Dickstein & Kingma (2015)"
