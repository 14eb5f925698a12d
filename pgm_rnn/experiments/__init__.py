"""The figures of Choe, Shin & Spencer (2017), sec. 4, as experiments, and the questions that they leave open."""
