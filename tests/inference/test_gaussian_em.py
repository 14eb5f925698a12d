import math
import warnings
from collections.abc import Collection
from typing import Any

import pytest
import torch
from torch import Tensor

from pgm_rnn.inference import em, kalman
from pgm_rnn.inference.em import gaussian_em
from pgm_rnn.inference.em.regression import most_likely_above
from pgm_rnn.models.linear_gaussian import LinearGaussianSSM
from pgm_rnn.models.linear_start import linear_start
from pgm_rnn.sequence_model import chains
from pgm_rnn.sequence_model.chains import Chained, Posterior
from pgm_rnn.sequences import Sequences
from tests.definitions import joint_normal
from tools.published.data import NILE
from tools.published.series import NILE_VARIANCES

DIM, OBS_DIM, INPUT_DIM = 2, 3, 2
LENGTHS = torch.tensor([4, 1, 3, 4])


def make(inputs: bool = False, seed: int = 0) -> LinearGaussianSSM:
    """A stable system."""
    model = LinearGaussianSSM.random(DIM, OBS_DIM, input_dim=INPUT_DIM if inputs else None, seed=seed)
    model.set_moments({"initial_mean": torch.tensor([0.5, -1.0])})
    return model


def data(inputs: bool, missing: bool) -> tuple[Tensor, Tensor | None]:
    u = torch.randn(len(LENGTHS), 4, INPUT_DIM) if inputs else None
    x = make(inputs).sample(len(LENGTHS), 4, seed=1, inputs=u).x
    return (x.where(torch.rand(x.shape) > 0.3, torch.nan) if missing else x), u


def expected_products(model: LinearGaussianSSM, x: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """E of y_t = (z_t, x_t), (T, D + M), and of all products y_s y_t', (T, D + M, T, D + M), given what was seen."""
    length, A, C = len(x), model.transition_matrix, model.emission_matrix
    B, D = model.input_matrix, model.feedthrough_matrix
    moves = [(A, torch.zeros(DIM) if B is None else B @ u_t, model.transition_cov) for u_t in u[1:]]
    law = joint_normal((model.initial_mean, model.initial_cov), list(moves), [(C, model.emission_cov)] * length)
    added = torch.zeros(length * OBS_DIM) if D is None else (u @ D.T).flatten()
    mean = torch.cat([law.mean, law.matrix @ law.mean + added])
    cross = law.cov @ law.matrix.T
    cov = torch.cat([torch.cat([law.cov, cross], 1), torch.cat([cross.T, law.matrix @ cross + law.noise], 1)], 0)
    seen = torch.cat([torch.zeros(length * DIM), (~x.isnan()).flatten().double()]) > 0
    values = torch.cat([torch.zeros(length * DIM), x.flatten()])
    gain = torch.linalg.solve(cov[seen][:, seen], cov[seen]).T
    posterior = mean + gain @ (values[seen] - mean[seen])
    products = cov - gain @ cov[seen] + torch.outer(posterior, posterior)
    states = torch.arange(length * DIM).reshape(length, DIM)
    steps = torch.cat([states, length * DIM + torch.arange(length * OBS_DIM).reshape(length, OBS_DIM)], 1)
    return posterior[steps].detach(), products[steps][..., steps].detach()


def m_step(model: LinearGaussianSSM, x: Tensor, u: Tensor) -> dict[str, Tensor]:
    """Every parameter after one iteration, from the products of the big joint normal law."""
    inputs = model.input_matrix is not None
    width = DIM + (INPUT_DIM if inputs else 0)
    tables = {
        part: [torch.zeros(*shape) for shape in ((size, size), (size, width), (width, width))]
        for part, size in (("z", DIM), ("x", OBS_DIM))
    }
    counts, firsts, squares = {"z": 0, "x": 0}, [], []
    for b, length in enumerate(LENGTHS.tolist()):
        mean, products = expected_products(model, x[b, :length], u[b, :length])
        firsts.append(mean[0, :DIM])
        squares.append(products[0, :DIM, 0, :DIM])
        for t in range(length):
            for part, ok, own, at in (("z", t > 0, slice(0, DIM), t - 1), ("x", True, slice(DIM, None), t)):
                if ok:
                    yy, yw, ww = tables[part]
                    yy += products[t, own, t, own]
                    yw[:, :DIM] += products[t, own, at, :DIM]
                    ww[:DIM, :DIM] += products[at, :DIM, at, :DIM]
                    if inputs:
                        yw[:, DIM:] += torch.outer(mean[t, own], u[b, t])
                        ww[:DIM, DIM:] += torch.outer(mean[at, :DIM], u[b, t])
                        ww[DIM:, :DIM] += torch.outer(u[b, t], mean[at, :DIM])
                        ww[DIM:, DIM:] += torch.outer(u[b, t], u[b, t])
                    counts[part] += 1
    found: dict[str, Tensor] = {}
    for part, matrix, driven, cov in (
        ("z", "transition_matrix", "input_matrix", "transition_cov"),
        ("x", "emission_matrix", "feedthrough_matrix", "emission_cov"),
    ):
        yy, yw, ww = tables[part]
        W = yw @ torch.linalg.inv(ww)
        found |= {matrix: W[:, :DIM], cov: (yy - W @ yw.T) / counts[part]}
        if inputs:
            found[driven] = W[:, DIM:]
    mean = torch.stack(firsts).mean(0)
    return found | {"initial_mean": mean, "initial_cov": torch.stack(squares).mean(0) - torch.outer(mean, mean)}


@pytest.mark.parametrize("inputs", [False, True])
@pytest.mark.parametrize("missing", [False, True])
def test_an_iteration_is_regression_on_moments_of_the_big_joint_normal_law(inputs: bool, missing: bool) -> None:
    model, (x, u) = make(inputs, seed=3), data(inputs, missing)
    expected = m_step(model, x, torch.zeros(4, 4, INPUT_DIM) if u is None else u)
    em.fit(model, x, LENGTHS, inputs=u, num_iterations=1, progress=False)
    found = model.moments()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name].detach(), value, rtol=1e-7, atol=1e-8, msg=name)


@pytest.mark.parametrize("inputs", [False, True])
@pytest.mark.parametrize("missing", [False, True])
def test_the_likelihood_never_decreases(inputs: bool, missing: bool) -> None:
    u = torch.randn(20, 12, INPUT_DIM) if inputs else None
    x, lengths = make(inputs).sample(20, 12, seed=1, inputs=u).x, torch.arange(20) % 12 + 1
    x = x.where(torch.rand(x.shape) > 0.3, torch.nan) if missing else x
    model = make(inputs, seed=3)
    result = em.fit(model, Sequences(x, lengths), inputs=u, num_iterations=30, tolerance=0.0, progress=False)
    rounding = 1e-10 * float(result.log_likelihoods.abs().max())
    assert float(result.log_likelihoods.diff().min()) > -rounding
    assert float(result.log_likelihoods.diff()[0]) > 1
    clean, mask = x.nan_to_num(), ~x.isnan()
    final = model.log_marginal_likelihood(clean, lengths, inputs=u, mask=mask).sum().detach()
    torch.testing.assert_close(result.log_likelihoods[-1], final)


FROZEN: list[Collection[str]] = [
    ("transition_matrix",), ("input_matrix", "feedthrough_matrix"), ("emission_matrix", "initial_mean"),
    ("transition_cov", "emission_cov"), ("initial_mean", "initial_cov", "transition_matrix", "emission_matrix"),
]  # fmt: skip


@pytest.mark.parametrize("frozen", FROZEN, ids="+".join)
def test_frozen_parts_stay_and_the_rest_is_most_likely(frozen: Collection[str]) -> None:
    model, (x, u) = make(inputs=True, seed=3), data(inputs=True, missing=True)
    before = {name: value.detach().clone() for name, value in model.moments().items()}
    result = em.fit(model, x, LENGTHS, inputs=u, frozen=frozen, num_iterations=6, tolerance=0.0, progress=False)
    assert float(result.log_likelihoods.diff().min()) > -1e-9
    for name, value in model.moments().items():
        assert torch.equal(value, before[name]) == (name in frozen), name


def local_level() -> LinearGaussianSSM:
    one = torch.eye(1)
    return LinearGaussianSSM(torch.zeros(1), 1e7 * one, one, 1000 * one, one, 10_000 * one)


def test_the_nile_has_its_published_variances_and_likelihood() -> None:
    # Durbin & Koopman (2012), sec. 2.10; the likelihood is that of a start of variance 1e7
    model, x = local_level(), torch.tensor(NILE).double()[None, :, None]
    fixed = ("initial_mean", "initial_cov", "transition_matrix", "emission_matrix")
    result = em.fit(model, x, frozen=fixed, num_iterations=2000, tolerance=1e-14, progress=False)
    assert float(result.log_likelihoods[-1]) == pytest.approx(-641.5856, abs=5e-5)
    assert float(model.emission_cov.detach()) == pytest.approx(NILE_VARIANCES["irregular_variance"], abs=1)
    assert float(model.transition_cov.detach()) == pytest.approx(NILE_VARIANCES["level_variance"], abs=1)
    without_level = em.fit(local_level(), x, frozen=(*fixed, "transition_cov"), num_iterations=200, progress=False)
    assert float(without_level.log_likelihoods[-1]) < -641.59


def test_a_system_is_found_again_and_one_without_memory_is_not_enough() -> None:
    true, limit = LinearGaussianSSM.random(1, 2, seed=0).double(), 0.1
    x = true.sample(300, 30, seed=1).x
    model = LinearGaussianSSM.random(1, 2, seed=4).double()
    fitted = em.fit(model, x, num_iterations=200, progress=False).log_likelihoods[-1]
    best = float(true.log_marginal_likelihood(x).sum().detach())
    num_parameters = 9
    assert best - 1 < float(fitted) < best + 5 * num_parameters  # twice the gain is chi-square with as many degrees
    assert float((model.transition_matrix - true.transition_matrix).abs().max().detach()) < limit
    still = LinearGaussianSSM.random(1, 2, seed=4).double()
    with torch.no_grad():
        still.transition_matrix.zero_()
    without = em.fit(still, x, frozen=["transition_matrix"], num_iterations=200, progress=False).log_likelihoods[-1]
    assert float(without) < best - 100


def test_single_precision_gives_the_same_iterations() -> None:
    x = make().sample(20, 12, seed=1).x
    double = em.fit(make(seed=3), x, num_iterations=5, progress=False).log_likelihoods
    single = em.fit(make(seed=3).float(), x.float(), num_iterations=5, progress=False).log_likelihoods
    torch.testing.assert_close(single, double, rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_restarts": 2}, ValueError, "expected num_restarts=1 and no pseudo-counts for a linear-Gaussian model"),
        ({"pseudo_count": 1.0}, ValueError, "expected num_restarts=1 and no pseudo-counts for a linear-Gaussian model"),
        ({"valid": torch.zeros(1, 2, OBS_DIM)}, ValueError, "expected valid=None for a linear-Gaussian model"),
        ({"frozen": ["transition"]}, ValueError, "did you mean 'transition_cov'|expected frozen to be one of initial_"),
        ({"frozen": "initial_mean"}, TypeError, "expected frozen as a collection of names"),
        ({"frozen": ["input_matrix"]}, ValueError, "expected frozen to be one of initial_mean, .*got 'input_matrix'"),
        ({"inputs": torch.zeros(4, 4, 1)}, ValueError, "expected no inputs"),
    ],
)
def test_options_that_do_not_fit_are_errors(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        em.fit(make(), data(False, False)[0], LENGTHS, progress=False, **options)


def test_everything_frozen_is_an_error() -> None:
    model = make()
    with pytest.raises(ValueError, match="expected at least one part left to fit"):
        em.fit(model, data(False, False)[0], LENGTHS, frozen=list(model.moments()), progress=False)


def test_a_variance_that_vanishes_is_held_and_its_column_named() -> None:
    one = torch.eye(1)
    model = LinearGaussianSSM(torch.zeros(1), one, one, one, one, one)
    with pytest.warns(em.EmWarning, match=r"noise of .*the observations is held at min_scale=1e-05, in column 0"):
        result = em.fit(model, torch.zeros(1, 1, 1), num_iterations=50, tolerance=0.0, progress=False)
    assert float(result.log_likelihoods.diff().min()) > -1e-9
    assert bool(model.log_marginal_likelihood(torch.zeros(1, 1, 1)).isfinite().all())


WALK = torch.randn(6, 20, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64).cumsum(1)
LINE = torch.arange(20.0, dtype=torch.float64)[None, :, None].expand(6, -1, -1)
DEGENERATE = {
    "constant": torch.cat([WALK, torch.full_like(LINE, 7.0)], -1),
    "zero": torch.cat([WALK, torch.zeros_like(LINE)], -1),
    "collinear": torch.cat([WALK, 2 * WALK[..., :1]], -1),
    "straight lines": torch.cat([LINE, 2 * LINE + 5], -1),
    "partly missing": torch.cat([WALK, 2 * WALK[..., :1]], -1).where(torch.arange(20)[:, None] % 7 > 0, torch.nan),
}
NAMED = {"zero": "column 2", "collinear": "columns 0, 2", "straight lines": "columns 0, 1"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", DEGENERATE)
def test_columns_without_noise_end_with_a_usable_model_and_never_fall(name: str, dtype: torch.dtype) -> None:
    x = DEGENERATE[name].to(dtype)
    model = linear_start(x, latent_dim=2).to(dtype)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", em.EmWarning)
        result = em.fit(model, x, num_iterations=150, progress=False)
    assert float(result.log_likelihoods.diff().min()) > -1e-6 * float(result.log_likelihoods.abs().max())
    assert not any("lowered" in str(warning.message) for warning in said)
    seen = kalman.filter(model, x).log_marginal_likelihood.double().sum()
    assert float(seen) == pytest.approx(float(result.log_likelihoods[-1]), abs=0.05 * x.numel())
    assert bool(kalman.smooth(model, x).smoothed_means.isfinite().all())
    if name in NAMED:
        assert any(f"in {NAMED[name]} (counted from 0)" in str(warning.message) for warning in said)


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_a_fit_in_other_units_is_the_same_fit(factor: float) -> None:
    x, model = make().sample(10, 12, seed=1).x, make(seed=3)
    other = make(seed=3)
    moments = other.moments()
    other.set_moments(
        {
            "emission_matrix": factor * moments["emission_matrix"],
            "emission_cov": factor**2 * moments["emission_cov"],
        }
    )
    first = em.fit(model, x, num_iterations=10, progress=False)
    second = em.fit(other, factor * x, num_iterations=10, progress=False)
    shift = x.numel() * math.log(factor)
    torch.testing.assert_close(second.log_likelihoods + shift, first.log_likelihoods, rtol=1e-9, atol=1e-7)
    torch.testing.assert_close(other.transition_cov, model.transition_cov)


def test_the_most_likely_covariance_above_a_floor_is_better_than_others_above_it() -> None:
    floor = torch.tensor([[2.0, 0.5], [0.5, 1.0]])
    cov = torch.tensor([[9.0, 0.2], [0.2, 0.1]])
    found, held = most_likely_above(cov, floor)

    def value(S: Tensor) -> float:
        return float(-torch.logdet(S) - torch.trace(torch.linalg.solve(S, cov)))

    assert held.shape == (2, 1)
    assert float(torch.linalg.eigvalsh(found - floor)[0]) > -1e-12
    for _ in range(200):
        root = 0.5 * torch.randn(2, 2)
        assert value(found + 1e-3 * root @ root.mT) < value(found)
        assert value(floor + root @ root.mT) <= value(found)
    assert value(cov) > value(found)  # the floor costs something
    assert torch.equal(most_likely_above(floor + cov, floor).cov, floor + cov)


def test_covariances_that_one_of_is_no_covariance_are_not_set_at_all() -> None:
    model = make()
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(ValueError, match="expected emission_cov to be positive definite"):
        model.set_moments({"initial_mean": torch.ones(DIM), "emission_cov": torch.zeros(OBS_DIM, OBS_DIM)})
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_a_fit_that_fails_at_its_end_leaves_the_model_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = make().float(), make().sample(4, 6, seed=1).x.float()
    before = [p.detach().clone() for p in model.parameters()]
    whole = chains.posterior

    def only_double(chained: Chained) -> Posterior:
        result = whole(chained)
        if chained.x.dtype == torch.float64:
            return result
        return result._replace(
            moments=result.moments._replace(log_normalizers=result.moments.log_normalizers * torch.nan)
        )

    monkeypatch.setattr(gaussian_em, "posterior", only_double)
    with pytest.raises(ValueError, match=r"in torch\.float32.*the least noise is that of column \d \(counted from 0\)"):
        em.fit(model, x, num_iterations=2, progress=False)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
