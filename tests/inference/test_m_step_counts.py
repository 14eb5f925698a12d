"""M-steps from expected counts: the same Q as the sum over all steps, and no pass over the observations."""

from typing import Any

import pyro.distributions as dist
import pytest
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor, nn

from pgm_rnn.emissions import Bernoulli, Categorical, Emission, FullGaussian, Gaussian, Poisson, SphericalGaussian
from pgm_rnn.inference import em
from pgm_rnn.inference.em import gradient_em
from pgm_rnn.models import FactorialHMM
from pgm_rnn.sequence_model import SequenceModel, products, tables
from pgm_rnn.sequence_model.counts import counts_of, expected_log_density_of_counts
from pgm_rnn.sequence_model.expected import expect, expected_log_density
from pgm_rnn.sequence_model.products import has_product, product_of
from pgm_rnn.sequence_model.tables import tables_of
from pgm_rnn.sequences import Sequences
from pgm_rnn.states import FiniteStates
from tests.instances import gradients
from tests.switching import Driven, SwitchingAR

LENGTHS = torch.tensor([6, 1, 4])


class Bits(SequenceModel):
    """A reader's own model of one chain, without a memory."""

    def __init__(self, seed: int) -> None:
        super().__init__(Bernoulli(3))
        torch.manual_seed(seed)
        self.states = FiniteStates(2)
        self.start, self.moves, self.raw = (nn.Parameter(torch.randn(*shape)) for shape in ((2,), (2, 2), (2, 3)))

    def initial(self, h: None) -> TorchDistribution:
        return dist.Categorical(logits=self.start)

    def transition(self, z: Tensor, h: None) -> TorchDistribution:
        return dist.Categorical(logits=self.moves[z])

    def emission(self, z: Tensor, h: None) -> TorchDistribution:
        return dist.Bernoulli(logits=self.raw[z]).to_event(1)


def factorial(family: Emission, effects: str, seed: int) -> SequenceModel:
    return FactorialHMM.random(2, (2, 3), emission=family, effects=effects, seed=seed).double()


KINDS: dict[str, Any] = {
    "own bits": lambda seed: Bits(seed).double(),
    "bits": lambda seed: factorial(Bernoulli(4), "additive", seed),
    "table of bits": lambda seed: factorial(Bernoulli(4), "joint", seed),
    "symbols": lambda seed: factorial(Categorical(3), "additive", seed),
    "table of symbols": lambda seed: factorial(Categorical(3), "joint", seed),
    "reals": lambda seed: factorial(Gaussian(2), "joint", seed),
    "one real": lambda seed: factorial(Gaussian(), "additive", seed),
    "round": lambda seed: factorial(SphericalGaussian(2), "additive", seed),
    "full": lambda seed: factorial(FullGaussian(2), "joint", seed),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def data_of(model: SequenceModel, gaps: bool) -> Sequences:
    x = model.sample(3, 6, seed=1).x
    seen = torch.rand(3, 6, generator=torch.Generator().manual_seed(2)) > 0.3 if gaps else None
    return Sequences(x, LENGTHS, mask=seen)


def expectation(model: SequenceModel, data: Sequences) -> Any:
    made: Any = product_of(model, data) if has_product(model) else tables_of(model, data)
    return expect(made, data.lengths)[1]


def over_all_steps(model: SequenceModel, data: Sequences, expected: Any) -> Tensor:
    """Q as a sum over sequences and steps."""
    made: Any = product_of(model, data) if has_product(model) else tables_of(model, data)
    return expected_log_density(made, expected, "model")


@every_kind
@pytest.mark.parametrize("gaps", [False, True], ids=["whole", "gaps"])
def test_q_from_counts_is_the_sum_over_all_steps_with_its_gradient(kind: str, gaps: bool) -> None:
    model, other = KINDS[kind](0), KINDS[kind](5)
    data = data_of(model, gaps)
    expected = expectation(model, data)
    counts = counts_of(model, data, expected)
    assert counts is not None
    for each in (model, other):
        found, wanted = expected_log_density_of_counts(each, data, counts), over_all_steps(each, data, expected)
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-10)
        theirs = gradients(wanted, each)
        for name, gradient in gradients(found, each).items():
            torch.testing.assert_close(gradient, theirs[name], rtol=1e-9, atol=1e-10)
    wrong = counts_of(model, data, expectation(other, data))
    assert wrong is not None
    apart = expected_log_density_of_counts(other, data, wrong) - over_all_steps(other, data, expected)
    assert float(apart.detach().abs()) > 1e-3


def test_single_entries_that_are_missing_are_left_out() -> None:
    model = KINDS["bits"](0)
    x = model.sample(3, 6, seed=1).x
    data = Sequences(x, LENGTHS, mask=torch.rand(x.shape) > 0.4)
    expected = expectation(model, data)
    counts = counts_of(model, data, expected)
    assert counts is not None
    found, wanted = expected_log_density_of_counts(model, data, counts), over_all_steps(model, data, expected)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-10)
    whole = counts_of(model, data._replace(observed=None), expected)
    assert whole is not None
    assert abs(float((expected_log_density_of_counts(model, data, whole) - wanted).detach())) > 1e-3


@every_kind
def test_a_fit_takes_the_steps_of_the_sum_over_all_steps(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = KINDS[kind](0).sample(5, 20, seed=1)
    fits, models = [], []
    for by_counts in (True, False):
        if not by_counts:
            monkeypatch.setattr(gradient_em, "counts_of", lambda *given: None)
        models.append(KINDS[kind](5))
        fits.append(em.fit(models[-1], data, num_iterations=4, tolerance=0.0, progress=False).log_likelihoods)
    torch.testing.assert_close(fits[0], fits[1], rtol=1e-9, atol=1e-6)  # line searches enlarge rounding errors
    for name, found in models[0].named_parameters():
        torch.testing.assert_close(found, dict(models[1].named_parameters())[name], rtol=1e-4, atol=1e-5)
    assert float(fits[0].diff().min()) > -1e-10 * float(fits[0].abs().max())
    assert float(fits[0][-1] - fits[0][0]) > 1


@pytest.mark.parametrize("kind", ["bits", "own bits"])
def test_an_m_step_evaluates_no_density_of_an_observation(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = KINDS[kind](0).sample(5, 20, seed=1)
    options: Any = {"inputs": None, "frozen": (), "num_restarts": 1, "seed": 0}
    counted, summed = (gradient_em.GradientEm(KINDS[kind](5), data, None, **options) for _ in range(2))
    for steps in (counted, summed):
        steps.expect()
    summed._counts = [None]
    for module in (products, tables):
        monkeypatch.setattr(module, "in_groups", lambda *given: pytest.fail("densities of all steps"))
    counted.maximise()
    with pytest.raises(pytest.fail.Exception, match="densities of all steps"):
        summed.maximise()


def test_other_models_have_no_counts() -> None:
    for model in (factorial(Poisson(2), "additive", 0), SwitchingAR(), Driven()):
        x = model.sample(3, 6, seed=1, inputs=torch.zeros(3, 6, 1) if model.input_dim else None)
        data = Sequences(x.x, LENGTHS, inputs=x.inputs)
        assert counts_of(model, data, expectation(model, data)) is None


def test_given_its_first_observation_a_model_climbs_the_conditional_likelihood() -> None:
    data = KINDS["bits"](0).sample(20, 6, seed=1)._replace(z=None)
    model = FactorialHMM.random(2, (2, 3), emission=Bernoulli(4), seed=5, first="condition").double()
    before = float(model.log_prob(data).sum().detach())
    values = em.fit(model, data, num_iterations=4, tolerance=0.0, progress=False).log_likelihoods
    assert float(values[0]) == pytest.approx(before)
    assert float(values.diff().min()) > 0
