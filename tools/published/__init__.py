"""`docs/published.md`: the zoo's models beside published numbers and beside what other packages compute.

python -m tools.published                       writes the page from what was measured
python -m tools.published measure [NAME ...]    first computes our numbers, and those of installed packages

`problems.PROBLEMS` is the one list of comparisons at given parameters and of fits to a series; what is published of the
trained zoo comes from `pgm_rnn.zoo.comparisons` and from the leaderboard.
"""
