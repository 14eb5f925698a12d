"""Columns of different kinds: their law, EM on them, gaps, names, storage and errors."""

import math
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy import stats
from torch import Tensor

from pgm_rnn import load_model, save_model
from pgm_rnn.distributions.observed import observed_log_prob
from pgm_rnn.emissions import Bernoulli, Categorical, Emission, FullGaussian, Gaussian, Joint, NadeBits, Pen, Poisson
from pgm_rnn.inference import em, mcmc
from pgm_rnn.legend import Column, Legend
from pgm_rnn.models import HMM, RNN
from pgm_rnn.sequence_model.naturals import listed, natural_parameters
from pgm_rnn.sequence_model.priors import WithPriors
from pgm_rnn.sequences import Sequences
from tests.instances import draw, randomised

FAMILY = Joint([Gaussian(), Categorical(3), Poisson()])
LOC, SCALE, RATE = torch.tensor([-2.0, 1.0]), torch.tensor([1.0, 0.5]), torch.tensor([1.0, 6.0])
PROBS = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])
START, MOVES = torch.tensor([0.6, 0.4]), torch.tensor([[0.8, 0.2], [0.3, 0.7]])


def hmm(family: Joint = FAMILY) -> HMM:
    """Two states; real numbers, symbols and counts in the order of the family."""
    tables = {
        Gaussian: lambda: Gaussian().table(LOC.double(), SCALE.double()),
        Categorical: lambda: Categorical(3).table(PROBS.double()),
        Poisson: lambda: Poisson().table(RATE.double()),
    }
    return HMM(START.double(), MOVES.double(), family.table(*(tables[type(each)]() for each in family.families)))


def densities(x: Tensor) -> np.ndarray:
    """p(x_m | z = k) of each column of rows (N, 3) by scipy, (N, 2, 3)."""
    real, symbol, count = (column.numpy()[:, None] for column in x.unbind(-1))
    columns = [
        stats.norm.pdf(real, LOC.numpy(), SCALE.numpy()),
        PROBS.double().numpy()[:, symbol[:, 0].astype(int)].T,
        stats.poisson.pmf(count, RATE.numpy()),
    ]
    return np.stack(columns, axis=-1)


# The law.


def test_the_density_is_the_product_of_the_columns_densities_in_their_order() -> None:
    x = draw(FAMILY, 50)
    expected = torch.from_numpy(np.log(densities(x)).sum(-1))
    torch.testing.assert_close(hmm().emission_table.log_probs(x), expected)
    law = hmm().emission(torch.arange(2), None)
    torch.testing.assert_close(law.log_prob(x[:, None]), expected)
    same = Joint([Gaussian(), Gaussian()]).distribution(torch.randn(4))
    assert not torch.allclose(same.log_prob(x[:, [0, 2]]), same.log_prob(x[:, [2, 0]]))  # shuffled columns


def test_draws_have_the_columns_laws() -> None:
    num = 20_000
    law: Any = hmm().emission(torch.ones(num, dtype=torch.long), None)
    x = law.sample()
    assert x.dtype == torch.float64
    values = torch.stack([x[:, 0], (x[:, 0] - 1).square(), *(x[:, 1] == torch.arange(3)[:, None]).double(), x[:, 2]], 1)
    wanted = torch.tensor([1.0, 0.25, *PROBS[1].tolist(), 6.0])
    scores = (values.mean(0) - wanted) / (values.std(0) / num**0.5)
    assert float(scores.abs().max()) < 5
    others = torch.tensor([-2.0, 1.0, *PROBS[0].tolist(), 1.0])  # of the other state
    assert bool((((values.mean(0) - others) / (values.std(0) / num**0.5)).abs() > 5).all())
    torch.testing.assert_close(law.mean[0, [0, 2]], torch.tensor([1.0, 6.0]))
    torch.testing.assert_close(law.variance[0, [0, 2]], torch.tensor([0.25, 6.0]))
    assert bool(law.mean[:, 1].isnan().all())  # symbols have no mean


def test_the_support_of_the_law_is_that_of_its_columns() -> None:
    law: Any = hmm().emission(torch.tensor(0), None)
    x = torch.tensor([[0.5, 2.0, 3.0], [math.nan, 2.0, 3.0], [0.5, 3.0, 3.0], [0.5, 2.0, -1.0]])
    assert law.support.check(x).tolist() == [True, False, False, False]
    assert not law.support.is_discrete
    bits: Any = Joint([Bernoulli(), Poisson()]).distribution(torch.zeros(2))
    assert bits.support.is_discrete


def test_a_family_of_vectors_takes_several_columns() -> None:
    family = Joint([Bernoulli(), FullGaussian(2), Categorical(2)])
    table, x = family.random_table(3), draw(family, 6)
    assert [part.columns for part in family.parts] == [slice(0, 1), slice(1, 3), slice(3, 4)]
    bit, reals, symbol = (table.params[:, part.params] for part in family.parts)
    expected = (
        Bernoulli().log_probs(bit, x[:, 0])
        + FullGaussian(2).log_probs(reals, x[:, 1:3])
        + Categorical(2).log_probs(symbol, x[:, 3].long())
    )
    torch.testing.assert_close(table.log_probs(x), expected)


def test_a_joint_among_the_families_counts_as_its_own_families() -> None:
    assert Joint([Gaussian(), Joint((Categorical(3), Poisson()))]) == FAMILY
    assert hash(Joint([Gaussian(), Categorical(3), Poisson()])) == hash(FAMILY)
    assert Joint([Gaussian(), Poisson(), Categorical(3)]) != FAMILY


def test_a_recurrence_reads_values_one_hot_symbols_and_logs_of_counts() -> None:
    x = torch.tensor([[0.5, 2.0, 7.0]])
    torch.testing.assert_close(FAMILY.as_input(x), torch.tensor([[0.5, 0.0, 0.0, 1.0, math.log(8)]]))


# Gaps.


def test_missing_entries_of_each_column_are_summed_or_integrated_out() -> None:
    law: Any = hmm().emission(torch.arange(2), None)
    grid = torch.linspace(-15, 15, 601, dtype=torch.float64)
    values, spacing = (grid, torch.arange(3).double(), torch.arange(60).double()), (0.05, 1.0, 1.0)
    x = torch.tensor([0.3, 2.0, 4.0], dtype=torch.float64)
    for seen in product([True, False], repeat=3):
        rows = torch.cartesian_prod(*(x[m : m + 1] if seen[m] else values[m] for m in range(3)))
        cell = math.prod(step for step, there in zip(spacing, seen, strict=True) if not there)
        expected = law.log_prob(rows[:, None]).logsumexp(0) + math.log(cell)
        torch.testing.assert_close(observed_log_prob(law, x, torch.tensor(seen)), expected)


def test_nan_in_a_column_is_a_gap_of_that_column_alone() -> None:
    model, x = hmm(), draw(FAMILY, 3, 5)
    mask = torch.rand(x.shape) > 0.4
    by_nan = model.log_prob(x.where(mask, torch.nan))
    assert torch.equal(by_nan, model.log_prob(x, mask=mask))
    whole = mask.all(-1)
    assert not torch.allclose(by_nan, model.log_prob(x, mask=whole))  # rows with a gap still say something


# EM.


def textbook_iteration(x: Tensor, seen: Tensor, lengths: list[int]) -> dict[str, np.ndarray]:
    """Baum-Welch by a sum over all paths: each column's estimate is a mean over where it was observed."""
    gamma, first, moves = np.zeros((*x.shape[:2], 2)), np.zeros(2), np.zeros((2, 2))
    for i, length in enumerate(lengths):
        terms = np.where(seen[i].numpy()[:, None], densities(x[i]), 1.0).prod(-1)  # (T, 2)
        paths = list(product(range(2), repeat=length))
        weights = np.array(
            [
                float(START[path[0]])
                * np.prod([terms[t, z] for t, z in enumerate(path)])
                * np.prod([float(MOVES[a, b]) for a, b in pairwise(path)])
                for path in paths
            ]
        )
        for path, weight in zip(paths, weights / weights.sum(), strict=True):
            first[path[0]] += weight
            for t, z in enumerate(path):
                gamma[i, t, z] += weight
            for a, b in pairwise(path):
                moves[a, b] += weight
    w = gamma[..., None] * seen.numpy()[:, :, None]  # (B, T, 2, 3)
    real, symbol, count = (column.numpy()[..., None] for column in x.unbind(-1))
    loc = (w[..., 0] * real).sum((0, 1)) / w[..., 0].sum((0, 1))
    variance = (w[..., 0] * (real - loc) ** 2).sum((0, 1)) / w[..., 0].sum((0, 1))
    probs = np.stack([(w[..., 1] * (symbol == j)).sum((0, 1)) for j in range(3)], -1)
    return {
        "initial_probs": first / first.sum(),
        "transition_probs": moves / moves.sum(1, keepdims=True),
        "column_0_loc": loc,
        "column_0_scale": variance**0.5,
        "column_1_probs": probs / probs.sum(1, keepdims=True),
        "column_2_rate": (w[..., 2] * count).sum((0, 1)) / w[..., 2].sum((0, 1)),
    }


@pytest.mark.parametrize("rate", [0.0, 0.3], ids=["whole", "gaps"])
def test_an_iteration_of_em_is_the_textbooks(rate: float) -> None:
    lengths, x = [6, 4, 5], hmm().sample(3, 6, seed=1).x
    seen = torch.rand(x.shape) >= rate
    seen &= torch.arange(6)[:, None] < torch.tensor(lengths)[:, None, None]
    model = hmm()
    em.fit(model, x, torch.tensor(lengths), mask=seen, num_iterations=1, start="model", progress=False)
    after, before = parameters_of(model), parameters_of(hmm())
    for name, wanted in textbook_iteration(x, seen, lengths).items():
        torch.testing.assert_close(after[name], torch.from_numpy(wanted))
        assert not torch.allclose(before[name], after[name])


def parameters_of(model: HMM) -> dict[str, Tensor]:
    """Natural parameters by their short names."""
    naturals, raw = natural_parameters(model), dict(model.named_parameters())
    return {name: natural.read(raw[natural.raw]).detach() for name, natural in naturals.items()}


def test_columns_of_one_kind_are_fitted_as_vectors_are() -> None:
    x = torch.cat([torch.randn(4, 20, 2), 3 + torch.randn(4, 20, 2)], 1)
    fits = []
    for family in (Gaussian(2), Joint([Gaussian(), Gaussian()])):
        model = HMM.random(2, emission=family, seed=0).double()
        fits.append(em.fit(model, x, num_iterations=5, tolerance=0.0, start="data", progress=False).log_likelihoods)
    torch.testing.assert_close(*fits)


def test_the_zero_and_the_unit_of_a_real_column_do_not_matter() -> None:
    """log p(a x + b) = log p(x) - log a for each entry of that column that was observed."""
    family = Joint([Poisson(), Gaussian(), Categorical(3)])
    x = hmm(family).sample(4, 30, seed=2).x
    mask = torch.rand(x.shape) > 0.25
    a, b = torch.tensor([1.0, 1000.0, 1.0]), torch.tensor([0.0, -5e4, 0.0])
    options: dict[str, Any] = {"num_iterations": 5, "start": "data", "tolerance": 0.0, "progress": False}
    one, other = (
        em.fit(HMM.random(2, emission=family, seed=0).double(), y, mask=mask, **options).log_likelihoods
        for y in (x, a * x + b)
    )
    torch.testing.assert_close(other, one - math.log(1000) * float(mask[..., 1].sum()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_two_states_are_found_from_the_data_behind_the_gaps(dtype: torch.dtype) -> None:
    truth = hmm()
    x = truth.sample(20, 60, seed=0).x.to(dtype)
    mask = torch.rand(x.shape) > 0.33
    model = HMM.random(2, emission=FAMILY, seed=3).to(dtype)
    em.fit(model, x, mask=mask, num_iterations=50, start="data", progress=False)
    found = parameters_of(model)
    order = found["column_0_loc"].argsort()
    torch.testing.assert_close(found["column_0_loc"][order], LOC.to(dtype), atol=0.2, rtol=0)
    torch.testing.assert_close(found["column_1_probs"][order], PROBS.to(dtype), atol=0.1, rtol=0)
    torch.testing.assert_close(found["column_2_rate"][order], RATE.to(dtype), atol=0.5, rtol=0)


def test_columns_of_symbols_alone_start_from_random_posteriors() -> None:
    family = Joint([Categorical(3), Categorical(2)])
    model = HMM.random(2, emission=family, seed=0).double()
    x = model.sample(5, 20, seed=0).x
    fit = em.fit(model, x, num_iterations=10, start="data", progress=False)
    assert bool((fit.log_likelihoods.diff() > -1e-8).all())


def test_the_warning_of_a_smallest_scale_names_the_column() -> None:
    family = Joint([Poisson(), Gaussian()])
    x = torch.stack([torch.arange(40.0) % 3, torch.tensor([2.0] * 20 + [5.0, 6.0] * 10)], -1).double()
    with pytest.warns(em.EmWarning, match=r"held at min_scale=.* in state \d, column 1 \(counted from 0\)"):
        em.fit(HMM.random(2, emission=family, seed=0).double(), x[None], start="data", progress=False)


def test_a_part_without_closed_form_says_what_to_do() -> None:
    model = HMM.random(2, emission=Joint([Poisson(), Pen(2)]), seed=0)
    with pytest.raises(TypeError, match=r"closed form, got Pen\(num_components=2\); fit it by svi\.fit"):
        em.fit(model, torch.zeros(2, 4, 4), progress=False)


# Names and storage.


def test_each_columns_parameters_have_their_own_names() -> None:
    assert {"column_0_loc", "column_0_scale", "column_1_probs", "column_2_rate"} <= set(listed(hmm()))


def test_nuts_takes_priors_of_single_columns() -> None:
    priors: dict[str, Any] = {
        "column_0_loc": dist.Normal(torch.zeros(2), 2.0),
        "column_2_rate": dist.Gamma(2 * torch.ones(2), 1.0),
    }
    program = WithPriors(hmm(), priors)
    x = hmm().sample(3, 5, seed=0).x
    result = mcmc.run(program, x, num_samples=4, num_warmup=4, progress=False)
    assert result.samples.keys() == priors.keys()
    kept: Any = program.model_at(result.draw(3))
    torch.testing.assert_close(parameters_of(kept)["column_1_probs"], PROBS.double())


@pytest.mark.parametrize("family", [FAMILY, Joint([Bernoulli(), FullGaussian(2)])], ids=["scalars", "vectors"])
def test_a_saved_model_comes_back_with_its_columns(family: Joint, tmp_path: Path) -> None:
    x = draw(family, 3, 5)
    made = (HMM.random(2, emission=family, seed=0).double(), RNN("gru", emission=family, hidden_dim=3).double())
    for number, model in enumerate(map(randomised, made)):
        save_model(model, tmp_path / str(number))
        loaded: Any = load_model(tmp_path / str(number))
        assert loaded.family == family
        assert torch.equal(loaded.log_prob(x), model.log_prob(x))


# Errors.


def test_an_invalid_entry_is_named_by_its_column() -> None:
    model = hmm()
    x = draw(FAMILY, 2, 4)
    for column, value, message in (
        (0, math.inf, "finite real numbers, got inf in sequence 1 at step 3, column 0"),
        (1, 3.0, r"symbols in 0\.\.2, got 3\.0 in sequence 1 at step 3, column 1"),
        (1, 0.5, r"symbols in 0\.\.2, got 0\.5 in sequence 1 at step 3, column 1"),
        (2, -1.0, r"counts 0, 1, 2, \.\.\., got -1\.0 in sequence 1 at step 3, column 2"),
    ):
        wrong = x.clone()
        wrong[1, 2, column] = value
        with pytest.raises(ValueError, match=rf"expected {message} \(counted from 0\)"):
            model.log_prob(wrong)
    legend = Legend((Column("flow"), Column("weather", "symbol"), Column("calls", "count")))
    with pytest.raises(ValueError, match=r"got -1\.0 in sequence 1 at step 3, column calls$"):
        model.log_prob(Sequences(wrong, torch.tensor([4, 4]), legend=legend))


@pytest.mark.parametrize(
    ("families", "error", "message"),
    [
        ([], ValueError, r"expected at least one family, such as \[Gaussian\(\), Poisson\(\)\], got none"),
        (Gaussian(), TypeError, "expected a list of families, one for each column, .*, got Gaussian"),
        ([Gaussian(), 3], TypeError, r"expected families such as Gaussian\(\) and Poisson\(\), got int"),
        ([NadeBits(2, 3)], TypeError, r"expected families whose laws share no weights, got NadeBits\(.*\); use one"),
    ],
)
def test_families_that_are_none_are_an_error(families: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Joint(families)


def test_a_table_that_does_not_fit_is_an_error() -> None:
    family = Joint([Gaussian(), Poisson()])
    reals, counts = Gaussian().random_table(2), Poisson().random_table(2)
    with pytest.raises(ValueError, match="expected one table for each of the 2 families, got 1"):
        family.table(reals)
    with pytest.raises(ValueError, match=r"expected a table of Gaussian\(size=None\) for column 0, got one of Poisson"):
        family.table(counts, reals)
    with pytest.raises(ValueError, match="expected 2 states in each table, as in the first one, got 3 for column 1"):
        family.table(reals, Poisson().random_table(3))


class Matrices(Gaussian):
    """Observations that are matrices."""

    @property
    def event_shape(self) -> torch.Size:
        return torch.Size([2, 2])


def test_matrices_are_no_columns() -> None:
    family: Emission = Matrices()
    with pytest.raises(ValueError, match=r"expected families of scalars or vectors, got .* of \(2, 2\)"):
        Joint([family])
