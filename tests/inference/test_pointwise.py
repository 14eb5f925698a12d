import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from pgm_rnn.emissions import Categorical, Gaussian
from pgm_rnn.inference.pointwise import log_likelihoods, one_step_log_likelihoods
from pgm_rnn.models import VRNN
from pgm_rnn.sequence_model import First, SequenceModel
from pgm_rnn.sequence_model.priors import WithPriors
from pgm_rnn.sequences import Sequences
from tests.instances import LENGTHS, make_model, ragged

MODELS = ("hmm", "rnn-gru", "multi-particle-rnn", "lgssm", "markov-chain")


def made(name: str, first: First = "model") -> tuple[SequenceModel, Sequences]:
    family = Gaussian(2) if name == "lgssm" else Categorical(3)
    return make_model(name, family, first=first), Sequences(ragged(family), LENGTHS)


def by_definition(model: SequenceModel, data: Sequences) -> Tensor:
    """log p(x_{1:t}) - log p(x_{1:t-1}) of each sequence on its own, (batch, T)."""
    terms = torch.zeros(data.x.shape[:2])
    for row, length in enumerate(data.lengths.tolist()):
        totals = [float(model.log_prob(data.x[row : row + 1, :t]).detach()) for t in range(1, length + 1)]
        terms[row, :length] = torch.tensor([0.0, *totals]).diff()
    return terms


@pytest.mark.parametrize("first", ["model", "condition"])
@pytest.mark.parametrize("name", MODELS)
def test_one_step_terms_are_differences_of_the_likelihoods_of_prefixes(name: str, first: First) -> None:
    model, data = made(name, first)
    terms = one_step_log_likelihoods(model, data)
    torch.testing.assert_close(terms, by_definition(model, data), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(terms.sum(-1), log_likelihoods(model, data))


@pytest.mark.parametrize(("name", "parameter"), [("hmm", "transition_probs"), ("lgssm", "emission_scale")])
def test_each_draw_has_the_likelihood_of_the_model_that_it_makes(name: str, parameter: str) -> None:
    model, data = made(name)
    law = dist.Dirichlet(torch.ones(2, 2)) if name == "hmm" else dist.Uniform(torch.full((2,), 0.5), 2.0)
    samples = {parameter: law.sample(torch.Size([5]))}
    program = WithPriors(model, {parameter: law})
    twins = [program.model_at({parameter: value}) for value in samples[parameter]]
    expected = torch.stack([twin.log_prob(data).detach() for twin in twins])
    assert float(expected[:, 0].std()) > 0
    torch.testing.assert_close(log_likelihoods(model, data, samples), expected)
    terms = one_step_log_likelihoods(model, data, samples)
    torch.testing.assert_close(terms, torch.stack([by_definition(twin, data) for twin in twins]))


def test_a_missing_step_has_the_term_zero() -> None:
    model, data = made("hmm")
    mask = torch.ones(data.x.shape, dtype=torch.bool)
    mask[0, 1] = False
    gapped = Sequences(data.x, data.lengths, mask=mask)
    terms = one_step_log_likelihoods(model, gapped)
    assert float(terms[0, 1]) == 0
    torch.testing.assert_close(terms.sum(-1), model.log_prob(gapped).detach())


def test_a_model_without_an_exact_likelihood_is_an_error() -> None:
    model = VRNN(obs_dim=2, latent_dim=2, hidden_dim=2)
    with pytest.raises(ValueError, match=r"expected a model with an exact likelihood, got VRNN; smc.filter estimates"):
        log_likelihoods(model, torch.zeros(1, 3, 2))
