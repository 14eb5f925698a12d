"""Choe, Shin & Spencer (2017), Probabilistic Interpretations of Recurrent Neural Networks.

Their hidden state H_t, which has seen x_1..x_t, is the site h_{t+1} of our programs; their f and g are the recurrence
and the emission, and their h_0 = 0 is any constant h_1.
"""

PAPER = "Choe, Shin & Spencer (2017)"
