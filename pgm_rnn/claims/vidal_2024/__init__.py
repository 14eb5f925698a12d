"""Vidal (2024), Deep Generative Models: Recurrent Neural Networks, lecture slides.

His outputs y_t are our observations x_t, his inputs x_t our u_t; his first state z_0 does not emit, ours does.
"""

PAPER = "Vidal (2024)"
