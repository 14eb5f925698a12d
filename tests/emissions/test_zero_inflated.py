"""Zero-inflated counts: probabilities by a written-out sum, draws, EM steps, errors, and models fitted and saved."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import optimize, stats
from torch import Tensor

from pgm_rnn.distributions.entry_laws import of_entries
from pgm_rnn.emissions import Emission, EmissionTable, Gaussian, Joint, NegativeBinomial, Poisson, ZeroInflated
from pgm_rnn.inference import em, svi
from pgm_rnn.inference.em.weighted_estimates import estimate
from pgm_rnn.models import HMM, RNN
from pgm_rnn.report.description import describe
from pgm_rnn.storage import load_model, save_model
from tests.emissions.climbing import climbed

GATE, RATE, DISPERSION = torch.tensor([[0.1, 0.7, 1e-9], [0.3, 4.0, 50.0], [2.0, 0.5, 1e-3]], dtype=torch.float64)
EITHER = pytest.mark.parametrize("dispersed", [False, True], ids=["poisson", "negative-binomial"])


def table_of(dispersed: bool) -> EmissionTable:
    counts = NegativeBinomial().table(RATE, DISPERSION) if dispersed else Poisson().table(RATE)
    return ZeroInflated(counts.family).table(GATE, counts)


def scipys(k: int, dispersed: bool) -> Any:
    if dispersed:
        return stats.nbinom(1 / float(DISPERSION[k]), 1 / (1 + float(DISPERSION[k] * RATE[k])))
    return stats.poisson(float(RATE[k]))


def natural(table: EmissionTable, name: str) -> Tensor:
    return table.natural_parameters[name].read(table.params.detach())


@EITHER
def test_probabilities_are_the_written_out_sum_and_not_those_without_gates(dispersed: bool) -> None:
    x = torch.arange(100.0)
    found = table_of(dispersed).log_probs(x).detach().exp()
    for k, gate in enumerate(GATE.tolist()):
        plain = scipys(k, dispersed).pmf(x)
        np.testing.assert_allclose(found[:, k], gate * (x == 0).numpy() + (1 - gate) * plain, rtol=1e-7, atol=1e-300)
        assert np.allclose(found[:, k], plain, rtol=1e-7) == (gate < 1e-7)
    torch.testing.assert_close(found[:, :2].sum(0), torch.ones(2), rtol=1e-4, atol=0)


@EITHER
def test_draws_and_moments_and_distribution_functions_are_those_of_the_probabilities(dispersed: bool) -> None:
    num, law = 20_000, table_of(dispersed)(torch.arange(2))
    support = torch.arange(400.0)
    probs = law.log_prob(support[:, None]).detach().exp()  # (values, 2)
    mean = (probs * support[:, None]).sum(0)
    torch.testing.assert_close(law.mean, mean)
    torch.testing.assert_close(law.variance, (probs * support[:, None].square()).sum(0) - mean**2)
    x = law.sample((num,))
    error = 5 / (2 * num**0.5)  # five standard errors of a frequency
    for value in (0, 1, 3):
        frequency = (x <= value).double().mean(0)
        assert float((frequency - probs[: value + 1].sum(0)).abs().max()) < error
        found = of_entries(law, torch.full((2,), float(value)))
        torch.testing.assert_close(found.upto.detach(), probs[: value + 1].sum(0))
        torch.testing.assert_close(found.below.detach(), probs[:value].sum(0))
    assert float(((x == 0).double().mean(0) - (1 - GATE[:2]) * probs[0]).abs().max()) > error


def test_a_table_has_the_given_parameters() -> None:
    table = table_of(dispersed=True)
    for name, values in (("gate", GATE), ("mean", RATE), ("dispersion", DISPERSION)):
        torch.testing.assert_close(natural(table, name), values)


COUNTS = Poisson().table(RATE)


@pytest.mark.parametrize(
    ("gate", "counts", "message"),
    [
        (GATE[:2], COUNTS, r"table of Poisson\(size=None\) with 2 states, as gate has, got one of .* with 3"),
        (GATE, NegativeBinomial().table(RATE, DISPERSION), r"expected counts as a table of Poisson.* got one of Neg"),
        (GATE + 0.5, COUNTS, "expected gate strictly between 0 and 1"),
        (0 * GATE, COUNTS, "expected gate strictly between 0 and 1"),
        (GATE[None], COUNTS, r"expected gate of shape \(num_states\), got \(1, 3\)"),
    ],
)
def test_parameters_of_no_law_are_an_error(gate: Tensor, counts: EmissionTable, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ZeroInflated(Poisson()).table(gate, counts)


@pytest.mark.parametrize("family", [Gaussian(), ZeroInflated(Poisson()), Joint([Poisson()]), 3])
def test_only_families_of_counts_are_inflated(family: Any) -> None:
    with pytest.raises(TypeError, match=r"expected a family of counts, Poisson\(size\) or NegativeBinomial\(size\), g"):
        ZeroInflated(family)


@pytest.mark.parametrize("value", [-1.0, 0.5, torch.inf])
def test_numbers_that_are_no_counts_are_no_observations(value: float) -> None:
    model = HMM.random(2, emission=ZeroInflated(Poisson()), seed=0).double()
    with pytest.raises(ValueError, match=r"expected counts 0, 1, 2, \.\.\."):
        model.log_prob(torch.tensor([[0.0, value]]))


# The M-step.


@pytest.mark.parametrize("family", [ZeroInflated(Poisson(2)), ZeroInflated(NegativeBinomial(2))], ids=["p", "nb"])
@pytest.mark.parametrize("gaps", [False, True], ids=["whole", "gaps"])
def test_steps_never_lower_the_weighted_likelihood_and_end_where_it_is_stationary(family: Emission, gaps: bool) -> None:
    x = torch.as_tensor(stats.nbinom(2.0, 0.4).rvs((200, 2), random_state=0)).double() * (torch.rand(200, 2) > 0.4)
    weights, observed = torch.rand(200, 2), torch.rand(200, 2) > 0.3 if gaps else None
    table = family.random_table(2)
    values = []
    for _ in range(60):
        values.append((weights * table.log_probs(x, observed)).sum().detach())
        table = estimate(family, x, weights, 0.0, observed=observed, before=table)
    assert bool((torch.stack(values).diff() > -1e-9).all())
    (slope,) = torch.autograd.grad((weights * table.log_probs(x, observed)).sum(), table.params)
    assert float(slope.abs().max()) < 1e-4
    first = family.random_table(2)
    for _ in range(2):
        (slope,) = torch.autograd.grad((weights * first.log_probs(x, observed)).sum(), first.params)
        first = estimate(family, x, weights, 0.0, observed=observed, before=first)
    assert float(slope.abs().max()) > 1e-3


def test_the_maximum_is_scipys() -> None:
    generator = np.random.default_rng(0)
    x = torch.as_tensor(stats.poisson(3.0).rvs(400, random_state=0) * (generator.random(400) > 0.3)).double()
    table = estimate(ZeroInflated(Poisson()), x, torch.ones(400, 1), 0.0)
    for _ in range(20):
        table = estimate(ZeroInflated(Poisson()), x, torch.ones(400, 1), 0.0, before=table)

    def loss(at: Any) -> float:
        gate = 1 / (1 + np.exp(-at[0]))
        return -float(np.log(gate * (x == 0).numpy() + (1 - gate) * stats.poisson(np.exp(at[1])).pmf(x)).sum())

    best = optimize.minimize(loss, [0.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-11}).x
    found = [float(natural(table, name)) for name in ("gate", "rate")]
    assert found == pytest.approx([1 / (1 + np.exp(-best[0])), np.exp(best[1])], rel=1e-4)
    assert float(x.mean()) < 0.9 * found[1]  # which Poisson's law without a gate would take for the rate


@pytest.mark.parametrize("family", [ZeroInflated(Poisson()), ZeroInflated(NegativeBinomial())], ids=["p", "nb"])
@pytest.mark.parametrize("constant", [0.0, 7.0])
def test_constants_and_states_without_observations_keep_laws_finite(family: Emission, constant: float) -> None:
    x, weights = torch.full((10,), constant), torch.ones(10, 2)
    weights[:, 1] = 0
    for before in (None, family.random_table(2)):
        assert bool(estimate(family, x, weights, 0.0, before=before).log_probs(x).isfinite().all())


# Models.


def regimes(dtype: torch.dtype = torch.float64) -> tuple[HMM, Any]:
    gate, rate = torch.tensor([[0.6, 0.1], [0.2, 0.5]]), torch.tensor([[3.0, 8.0], [15.0, 2.0]])
    stay = torch.tensor([[0.95, 0.05], [0.05, 0.95]])
    truth = HMM(torch.tensor([0.5, 0.5]), stay, ZeroInflated(Poisson(2)).table(gate, Poisson(2).table(rate))).double()
    batch = truth.sample(8, 60, seed=0)
    return truth, batch._replace(x=batch.x.to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_em_finds_regimes_from_the_data_and_beats_laws_without_gates(dtype: torch.dtype) -> None:
    truth, batch = regimes(dtype)
    model = HMM.random(2, emission=ZeroInflated(Poisson(2)), seed=0).to(dtype)
    found = climbed(model, batch, 40)
    best = float(truth.log_marginal_likelihood(batch.x.double()).detach().sum())
    assert float(found.log_likelihoods[-1]) > best
    plain = HMM.random(2, emission=Poisson(2), seed=0).to(dtype)
    assert float(em.fit(plain, batch, num_iterations=40, progress=False).log_likelihoods[-1]) < best - 100
    gate, rate = (natural(model.emission_table, name).double() for name in ("gate", "rate"))
    order = rate[:, 0].argsort()
    torch.testing.assert_close(gate[order], torch.tensor([[0.6, 0.1], [0.2, 0.5]]), rtol=0, atol=0.1)


@pytest.mark.parametrize("inner", [Poisson(2), NegativeBinomial(2)], ids=["p", "nb"])
def test_the_likelihood_never_falls_with_gaps_and_restarts(inner: Emission) -> None:
    _, batch = regimes()
    mask = torch.rand(batch.x.shape) > 0.2
    model = HMM.random(2, emission=ZeroInflated(inner), seed=3).double()
    found = em.fit(model, batch.x, mask=mask, num_iterations=8, tolerance=0.0, num_restarts=2, progress=False)
    assert found.stopped_by == "num_iterations"
    assert float(found.log_likelihoods.diff().min()) > -1e-8
    again = model.log_marginal_likelihood(batch.x, mask=mask).sum().detach()
    torch.testing.assert_close(found.log_likelihoods[-1], again, rtol=1e-9, atol=0)


def test_columns_of_other_kinds_gradients_and_networks_take_it() -> None:
    _, batch = regimes()
    wide = torch.cat([batch.x, torch.randn(8, 60, 1)], -1)
    model = HMM.random(2, emission=Joint([ZeroInflated(Poisson(2)), Gaussian()]), seed=0).double()
    found = em.fit(model, wide, num_iterations=10, tolerance=0.0, progress=False)
    assert float(found.log_likelihoods.diff().min()) > -1e-8
    alone = HMM.random(2, emission=ZeroInflated(NegativeBinomial(2)), seed=0).double()
    before = float(alone.log_marginal_likelihood(batch.x).detach().sum())
    svi.fit(alone, batch, objective="mle", num_epochs=3, progress=False)
    assert float(alone.log_marginal_likelihood(batch.x).detach().sum()) > before
    rnn = RNN("gru", emission=ZeroInflated(Poisson(2)), hidden_dim=3).double()
    assert rnn.log_prob(batch.x).isfinite().all()


def test_a_saved_model_comes_back_and_is_described_by_its_natural_names(tmp_path: Path) -> None:
    truth, batch = regimes()
    save_model(truth, tmp_path / "saved")
    again = load_model(tmp_path / "saved")
    assert isinstance(again, HMM)
    assert again.family == ZeroInflated(Poisson(2))
    assert torch.equal(again.log_prob(batch.x), truth.log_prob(batch.x))
    found = describe(truth)
    assert torch.tensor(found.table("gate").values).allclose(torch.tensor([[0.6, 0.1], [0.2, 0.5]]))
    assert [(table.name, table.title) for table in found.tables][-2:] == [
        ("rate", "rates"),
        ("gate", "probabilities of further zeros"),
    ]
