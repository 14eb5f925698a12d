"""Vineet (2019), Variational Recurrent Neural Networks, a note on Chung et al. (2015).

Their h_{t-1}, which has seen x_{<t} and z_{<t}, is the memory h_t of our programs.
"""

PAPER = "Vineet (2019)"
