"""Checks of what a finite Markov chain is given and what follows from it: logits, and beliefs about a last state."""

from torch import Tensor


def check_logits(name: str, logits: Tensor) -> None:
    """Raise a ValueError that names the first wrong row unless each row of logits (..., K) gives probabilities."""
    largest = logits.detach().amax(-1)  # NaN where one is
    wrong = ~largest.isfinite()
    if bool(wrong.any()):
        index = wrong.nonzero()[0].tolist()
        value = float(largest[tuple(index)])
        found = "NaN" if value != value else "plus infinity" if value > 0 else "minus infinity for every state"
        raise ValueError(
            f"expected {name} as log weights, at least one finite in each row and none NaN or plus infinity, got "
            f"{found}{_place('in row', index)}"
        )


def check_belief(last: Tensor) -> None:
    """Raise a ValueError that names the first wrong chain unless beliefs (*batch, K) are probabilities."""
    totals = last.detach().sum(-1)
    wrong = ~(totals > 0)
    if bool(wrong.any()):
        index = wrong.nonzero()[0].tolist()
        if bool(totals[tuple(index)].isnan()):
            raise ValueError(
                f"expected finite densities of observation_dist, got NaN or infinity{_place('for sequence', index)}; "
                "look for a parameter of observation_dist that is NaN, or a density that overflows"
            )
        raise ValueError(
            f"expected a value of positive probability, got one of probability zero{_place('for sequence', index)}, "
            "whose last state has no law; leave out sequences whose log_prob is minus infinity"
        )


def _place(what: str, index: list[int]) -> str:
    """`what` and the index, for an error; empty if there is only one."""
    return "" if not index else f" {what} {index[0] if len(index) == 1 else tuple(index)}"
