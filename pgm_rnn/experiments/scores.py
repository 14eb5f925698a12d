"""Scores of predicted states: accuracy, agreement with the forward algorithm, and KL divergence.

    accuracy            mean 1[zhat_t = z_t]                  zhat_t = argmax_z q(z | x_{1:t})
    agreement           mean 1[zhat_t = zstar_t]              zstar_t = argmax_z p(z | x_{1:t}), the forward algorithm
    expected accuracy   mean p(zhat_t | x_{1:t})              accuracy without the noise of the drawn states
    KL                  mean KL(p(z_t | x_{1:t}) || q(z_t | x_{1:t}))        nats per step

    near ties           mean 1[the two most probable states are nearly tied]
    ... among different mean 1[zhat_t is nearly tied with zstar_t], where they differ; 0 where they never do

Choe, Shin & Spencer (2017), sec. 4.1. The first two are measured on the paper's hundred test sequences, and ("_all") on
all test sequences, which are ten times as many. No predictor has a larger expected accuracy than the forward algorithm.
"""

import torch
from torch import Tensor

from pgm_rnn.experiments.experiment import Row
from pgm_rnn.experiments.problem import Problem
from pgm_rnn.experiments.settings import PAPER_TEST

NEAR_TIE = 0.1
"""Log-odds in nats below which two states are nearly tied."""


def state_scores(problem: Problem, probs: Tensor) -> Row:
    """All scores of predicted distributions of the states, (num_test, T, m)."""
    states, beliefs = problem.test.z, problem.beliefs
    assert states is not None  # it was sampled with them
    predicted, optimal = probs.argmax(-1), beliefs.argmax(-1)
    hits, same, optimal_hits = predicted == states, predicted == optimal, optimal == states
    top = beliefs.topk(2, dim=-1).values
    near_tie = top[..., 0].log() - top[..., 1].log() < NEAR_TIE
    nearly_best = top[..., 0].log() - beliefs.gather(-1, predicted[..., None])[..., 0].log() < NEAR_TIE
    return {
        "accuracy": _mean(hits[:PAPER_TEST]),
        "forward_accuracy": _mean(optimal_hits[:PAPER_TEST]),
        "agreement": _mean(same[:PAPER_TEST]),
        "different": int((~same[:PAPER_TEST]).sum()),
        "accuracy_all": _mean(hits),
        "forward_accuracy_all": _mean(optimal_hits),
        "agreement_all": _mean(same),
        "expected_accuracy": _mean(beliefs.gather(-1, predicted[..., None])),
        "forward_expected_accuracy": _mean(top[..., 0]),
        "chance": 1 / problem.hmm.num_states,
        "chance_agreement": chance_agreement(predicted, optimal, problem.hmm.num_states),
        "near_ties": _mean(near_tie),
        "near_ties_among_different": _mean(nearly_best[~same]) if bool((~same).any()) else 0.0,
        "kl": _mean(divergence(beliefs, probs.log())),
    }


def divergence(p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p || q) over the last axis, nats; 0 log 0 is 0."""
    terms: Tensor = torch.special.xlogy(p, p) - p * log_q
    return terms.where(p > 0, 0.0).sum(-1)


def chance_agreement(a: Tensor, b: Tensor, num_states: int) -> float:
    """How often two predictors with these predictions would agree if they were independent: sum_k f_a(k) f_b(k)."""
    shares = [torch.bincount(value.flatten(), minlength=num_states).double() / value.numel() for value in (a, b)]
    return float(shares[0] @ shares[1])


def _mean(values: Tensor) -> float:
    return float(values.double().mean())
