"""EM with missing observations: the M-step's expected statistics, the rising likelihood, and starts from gappy data."""

import copy
import math
import warnings
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from pgm_rnn.emissions import Bernoulli, Emission, EmissionTable, FullGaussian, Gaussian, Joint, Pen, Poisson
from pgm_rnn.inference import em
from pgm_rnn.inference.em.full_moments import loc_and_factor
from pgm_rnn.inference.em.weighted_estimates import estimate
from pgm_rnn.models import HMM, LinearGaussianSSM
from pgm_rnn.sequences import Sequences
from tests.instances import draw, every_estimated_family, make_hmm, make_model
from tests.missing import chain_log_prob

NUM_STATES = 2
DEPENDENT = (FullGaussian, Pen)


def rows_with_gaps(family: Emission, num: int = 60, *, rate: float = 0.3) -> tuple[Tensor, Tensor, Tensor]:
    """Observations, weights and a mask by entry, in which some observations are missing as a whole."""
    x, weights = draw(family, 1, num)[0], torch.rand(num, NUM_STATES)
    return x, weights, torch.rand(x.shape) > rate


def observed_log_likelihood(table: EmissionTable, x: Tensor, weights: Tensor, observed: Tensor) -> Tensor:
    return (weights * table.log_probs(x, observed)).sum()


def gradient_size(table: EmissionTable, *data: Tensor) -> float:
    (gradient,) = torch.autograd.grad(observed_log_likelihood(table, *data), table.params)
    return float(gradient.abs().max())


@every_estimated_family
def test_estimates_are_where_the_likelihood_of_what_was_observed_is_stationary(family: Emission) -> None:
    """At once for independent entries; after many steps for dependent ones, each from the laws before."""
    x, weights, observed = rows_with_gaps(family)
    table = estimate(family, x, weights, 0.0, observed=observed)
    families = family.families if isinstance(family, Joint) else [family]
    for _ in range(100 if any(isinstance(each, DEPENDENT) for each in families) else 0):
        table = estimate(family, x, weights, 0.0, observed=observed, before=table)
    assert gradient_size(table, x, weights, observed) < 1e-6
    assert gradient_size(estimate(family, x, weights, 0.0), x, weights, observed) > 1e-2


@pytest.mark.parametrize("family", [FullGaussian(3), Pen(1)], ids=str)
def test_a_step_of_dependent_entries_has_the_textbooks_expected_moments(family: Any) -> None:
    """E(x) and E(x x') of each observation given its observed entries, by matrix inverses, one after the other."""
    x, weights, observed = rows_with_gaps(family)
    before = estimate(family, x, weights, 0.0)
    new = estimate(family, x, weights, 0.0, observed=observed, before=before)
    size = 2 if isinstance(family, Pen) else 3
    means, factors = (part.detach() for part in loc_and_factor(family, before.params))
    for k, (mean, cov) in enumerate(zip(means, factors @ factors.mT, strict=True)):
        total, first, second = torch.zeros(()), torch.zeros(size), torch.zeros(size, size)
        for x_n, w, seen in zip(x[:, :size], weights[:, k], observed[:, :size], strict=True):
            if not bool(seen.any()):
                continue
            e, spread = x_n.where(seen, 0.0), torch.zeros(size, size)
            gain = cov[~seen][:, seen] @ torch.linalg.inv(cov[seen][:, seen])
            e[~seen] = mean[~seen] + gain @ (x_n[seen] - mean[seen])
            block = cov[~seen][:, ~seen] - gain @ cov[seen][:, ~seen]
            spread[(~seen).nonzero(), (~seen).nonzero()[:, 0]] = block
            total, first, second = total + w, first + w * e, second + w * (torch.outer(e, e) + spread)
        wanted = first / total
        found, factor = (part[k].detach() for part in loc_and_factor(family, new.params))
        torch.testing.assert_close(found, wanted)
        torch.testing.assert_close(factor @ factor.mT, second / total - torch.outer(wanted, wanted))


@every_estimated_family
def test_a_state_or_an_entry_without_observations_gets_a_law_all_the_same(family: Emission) -> None:
    x, weights, observed = rows_with_gaps(family, 20)
    weights[:, 1] = 0
    if family.event_shape:
        observed[:, 0] = False
    table = estimate(family, x, weights, 0.0, observed=observed)
    assert table.log_probs(x, observed).isfinite().all()
    assert table.params.isfinite().all()


def sequences_with_gaps(family: Emission, *, by_entry: bool = True, garbage: int = 0) -> Sequences:
    """Four sequences of a chain whose second state is apart, 25 % of the entries missing."""
    generator, lengths = torch.Generator().manual_seed(0), torch.tensor([30, 20, 25, 30])
    x, other = draw(family, 4, 30), draw(family, 4, 30, seed=1 + garbage)
    if isinstance(family, Gaussian | FullGaussian):
        x = x + 4.0 * (torch.arange(30) // 10 % 2).reshape(30, *(1 for _ in family.event_shape))
    shape = x.shape if by_entry else x.shape[:2]
    mask = torch.rand(shape, generator=generator) > 0.25
    return Sequences(
        x.where(mask if by_entry else mask.reshape(*shape, *(1 for _ in family.event_shape)), other), lengths, mask=mask
    )


def fitted(family: Emission, data: Sequences, **options: Any) -> tuple[HMM, em.EmFit]:
    model = make_hmm(family)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*min_scale=|Almost none", em.EmWarning)  # a fall would be an error
        return model, em.fit(model, data, progress=False, **options)


@every_estimated_family
@pytest.mark.parametrize("by_entry", [False, True], ids=["step", "entry"])
def test_the_likelihood_of_what_was_observed_never_falls(family: Emission, by_entry: bool) -> None:
    data = sequences_with_gaps(family, by_entry=by_entry)
    start = float(make_hmm(family).log_prob(data).sum().detach())
    model, fit = fitted(family, data, num_iterations=15, tolerance=0.0, start="model")
    assert float(fit.log_likelihoods[0]) == pytest.approx(start, rel=1e-9)
    assert fit.stopped_by == "num_iterations"
    assert bool((fit.log_likelihoods.diff() > -1e-8).all())
    assert float(fit.log_likelihoods[-1]) == pytest.approx(float(model.log_prob(data).sum().detach()), rel=1e-9)
    assert float(fit.log_likelihoods[-1]) > start + 1


@every_estimated_family
def test_fits_and_their_starts_read_nothing_of_a_gap(family: Emission) -> None:
    options: dict[str, Any] = {"num_iterations": 3, "num_restarts": 2, "start": "data", "pseudo_observations": 0.5}
    found: list[list[Any]] = []
    for garbage in (0, 1):
        data = sequences_with_gaps(family, garbage=garbage)
        model, fit = fitted(family, data, valid=data.select(slice(0, 2)), **options)
        found.append([fit.log_likelihoods, fit.restarts.valid_log_likelihoods, *model.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    data = sequences_with_gaps(family)
    whole, _ = fitted(family, Sequences(data.x, data.lengths), **options)
    assert not torch.allclose(whole.emission_table.params, found[0][-1])


@pytest.mark.parametrize("family", [Gaussian(2), FullGaussian(2), Pen(1)], ids=str)
def test_the_zero_and_the_unit_of_x_do_not_matter(family: Emission) -> None:
    """log p(a x + b) = log p(x) - log a for each entry that was observed."""
    data = sequences_with_gaps(family)
    a, b = torch.ones(data.x.shape[-1]), torch.zeros(data.x.shape[-1])
    a[:2], b[:2] = torch.tensor([1000.0, 0.01]), torch.tensor([5.0, -300.0])
    options: dict[str, Any] = {"num_iterations": 5, "start": "data", "tolerance": 0.0}
    one, other = (fitted(family, data._replace(x=x), **options)[1] for x in (data.x, a * data.x + b))
    seen = data.mask.sum((0, 1)).double()
    torch.testing.assert_close(other.log_likelihoods, one.log_likelihoods - float(seen @ a.log()))


@pytest.mark.parametrize("family", [Gaussian(2), FullGaussian(2), Bernoulli(4), Poisson(2)], ids=str)
def test_two_states_are_found_again_behind_the_gaps(family: Emission) -> None:
    """Data of a chain with laws far apart, a third of the entries missing: EM from the data gives the laws back."""
    n = family.event_shape.numel()
    apart = {
        Gaussian: lambda: Gaussian(2).table(torch.tensor([[-3.0, 0.0], [3.0, 2.0]]), torch.ones(2, 2)),
        FullGaussian: lambda: FullGaussian(2).table(
            torch.tensor([[-3.0, 0.0], [3.0, 2.0]]), torch.tensor([[[1.0, 0.8], [0.8, 1.0]]] * 2)
        ),
        Bernoulli: lambda: Bernoulli(4).table(torch.tensor([[0.1] * n, [0.9] * n])),
        Poisson: lambda: Poisson(2).table(torch.tensor([[1.0, 2.0], [9.0, 12.0]])),
    }
    truth = HMM(torch.tensor([0.5, 0.5]), torch.tensor([[0.9, 0.1], [0.2, 0.8]]), apart[type(family)]())
    x = truth.sample(20, 60, seed=0).x
    mask = torch.rand(x.shape) > 0.33
    model = HMM.random(2, emission=family, seed=3).double()
    em.fit(model, x, mask=mask, num_iterations=50, progress=False)
    order = means_of(model).reshape(2, -1)[:, 0].argsort()
    found, wanted = means_of(model)[order], means_of(truth)
    assert float(((found - wanted) / (1 + wanted.abs())).abs().max()) < 0.2
    if isinstance(family, FullGaussian):
        law: Any = model.emission(order, None)
        cov = law.covariance_matrix.detach()
        assert float((cov[:, 0, 1] / (cov[:, 0, 0] * cov[:, 1, 1]).sqrt()).min()) > 0.6
    zeros = HMM.random(2, emission=family, seed=3).double()
    em.fit(zeros, x.where(mask, 0), num_iterations=50, progress=False)
    gain = model.log_prob(x, mask=mask).sum() - zeros.log_prob(x, mask=mask).sum()
    assert float(gain.detach()) > 50  # zeros in the gaps count as observations there


def means_of(hmm: HMM) -> Tensor:
    """Mean of each state's law, (2, *event)."""
    law: Any = hmm.emission(torch.arange(2), None)
    return law.mean.detach()


def test_one_iteration_has_the_expected_counts_of_all_paths() -> None:
    """Transitions after an iteration are the posterior expectations of moves, missing steps included."""
    model = make_hmm(Gaussian(2))
    data = Sequences(draw(Gaussian(2), 2, 4), torch.tensor([4, 3]), mask=torch.rand(2, 4, 2) > 0.5)
    moves, before = torch.zeros(2, 2), copy.deepcopy(model)
    for i, length in enumerate([4, 3]):
        one, paths = data.select(torch.tensor([i])), torch.cartesian_prod(*[torch.arange(2)] * length)
        weights = before.log_prob(one.repeated(len(paths)), paths).detach().softmax(0)
        for path, weight in zip(paths.tolist(), weights, strict=True):
            for a, b in pairwise(path):
                moves[a, b] += weight
    em.fit(model, data, num_iterations=1, progress=False, frozen=["emission"])
    torch.testing.assert_close(model.transition_probs.detach(), moves / moves.sum(1, keepdim=True))


def test_a_linear_system_takes_a_mask_or_nan_alike() -> None:
    model = make_model("lgssm", Gaussian(2))
    assert isinstance(model, LinearGaussianSSM)
    data, twin = sequences_with_gaps(Gaussian(2)), copy.deepcopy(model)
    by_mask = em.fit(model, data.x, data.lengths, mask=data.mask, num_iterations=3, progress=False)
    by_nan = em.fit(twin, data.x.where(data.mask, torch.nan), data.lengths, num_iterations=3, progress=False)
    torch.testing.assert_close(by_mask.log_likelihoods, by_nan.log_likelihoods)
    assert bool((by_mask.log_likelihoods.diff() > 0).all())


def test_nan_and_a_mask_are_alike_and_nothing_observed_is_an_error() -> None:
    data = sequences_with_gaps(Gaussian(2))
    one, other = make_hmm(Gaussian(2)), make_hmm(Gaussian(2))
    em.fit(one, data, num_iterations=2, progress=False)
    em.fit(other, data.x.where(data.mask, math.nan), data.lengths, num_iterations=2, progress=False)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    with pytest.raises(ValueError, match=r"expected at least one observation for em.fit, got a mask that is False"):
        em.fit(one, data.x, data.lengths, mask=torch.zeros(4, 30, dtype=torch.bool), progress=False)


def test_the_score_is_the_sum_over_all_paths() -> None:
    data = Sequences(draw(FullGaussian(2), 3, 5), torch.tensor([5, 3, 4]), mask=torch.rand(3, 5, 2) > 0.4)
    model, fit = fitted(FullGaussian(2), data, num_iterations=2, start="model", min_scale=0.1)
    assert float(fit.log_likelihood) == pytest.approx(float(chain_log_prob(model, data).sum()), abs=1e-6)
