"""Paired differences and the line of advice, from numbers that can be added in one's head."""

import math

import pytest
import torch

from pgm_rnn.report.comparison.ranking import groups_of, ranked
from pgm_rnn.report.comparison.scores import Scores


def of(*nats: float, label: str = "exact", steps: float = 2.0, k: torch.Tensor | None = None) -> Scores:
    return Scores(label, torch.tensor(nats), torch.full((len(nats),), steps), "sequences", k)


def test_differences_are_paired() -> None:
    hard = torch.tensor([1.0, 9.0, 5.0])  # nats that both models need for each sequence
    extra = torch.tensor([0.2, 0.4, 0.3])
    group = ranked("data", {"worse": of(*(hard + extra).tolist()), "better": of(*hard.tolist())})
    best, second = group.standings
    assert (best.model, best.behind, second.model) == ("better", 0, "worse")
    assert second.behind == pytest.approx(0.9 / 6)
    paired = math.sqrt((0.01 + 0.01) / 2 / 3) / 2  # standard deviation of extra, 0.1, over sqrt(3), per step
    assert second.behind_error == pytest.approx(paired)
    assert second.standard_error > 20 * second.behind_error  # which a difference of two scores would inherit


def test_the_advice_says_how_many_standard_errors() -> None:
    group = ranked("data", {"A": of(1, 9, 5), "B": of(1.2, 9.4, 5.3)})
    assert group.advice == "A is ahead of B by 0.150 ± 0.029 nats per step: 5.2 standard errors, a clear difference"
    close = ranked("data", {"A": of(1, 9, 5), "B": of(1.4, 8.8, 5.1)})
    assert close.advice.endswith("0.6 standard errors, too close to call")


def test_one_unit_has_no_standard_error_and_the_advice_says_so() -> None:
    assert "the standard error is not known from 1 sequence" in ranked("data", {"A": of(1), "B": of(2)}).advice


def test_impossible_data_are_named() -> None:
    group = ranked("data", {"A": of(1, 2), "B": of(1, math.inf)})
    assert group.advice == "A is ahead of B, which gives some of the data probability zero"
    assert ranked("data", {"A": of(math.inf), "B": of(math.inf)}).advice.startswith("each of these models")
    assert ranked("data", {"A": of(1, 2), "B": of(1, 2)}).advice == "A and B have the same score"


def test_bounds_and_likelihoods_are_in_groups_of_their_own() -> None:
    groups = groups_of("data", {"bound": of(1, label="FIVO_8"), "b": of(3), "a": of(2), "other": of(0, label="ELBO")})
    assert [(g.label, [one.model for one in g.standings]) for g in groups] == [
        ("exact", ["a", "b"]),
        ("ELBO", ["other"]),
        ("FIVO_8", ["bound"]),
    ]


def test_models_that_score_other_steps_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"expected models that score the same steps, got .* use the same first="):
        ranked("data", {"A": of(1, 2), "B": of(1, 2, steps=1)})


def test_refitted_terms_do_not_count_as_unreliable() -> None:
    k = torch.tensor([0.2, 0.9, torch.nan])
    [one] = ranked("data", {"A": of(1, 2, 3, k=k)}).standings
    assert one.num_unreliable == 1
    assert one.worst_k == pytest.approx(0.9)
