"""What holds for every registered model with every family of observations; a new model is covered once it is listed."""

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

from pgm_rnn.emissions import Bernoulli, Categorical, Emission, Gaussian
from pgm_rnn.graph import read_graph
from pgm_rnn.models.lagged import Lagged
from pgm_rnn.models.registry import made_by
from pgm_rnn.registries import OWN
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequences import Sequences
from tests import instances
from tests.cases import every
from tests.definitions import all_words
from tests.instances import (
    LENGTHS,
    draw,
    every_bounded_model,
    every_exact_law,
    every_exact_model_of_vectors,
    every_first,
    every_law,
    every_model_of_symbols,
    every_model_of_vectors,
    gradients,
    make_model,
    ragged,
)


@every_law
def test_the_registry_makes_a_sequence_model(name: str, family: Emission) -> None:
    info = instances.REGISTRIES.models[name]
    model = made_by(info, seed=0, emission=family, **info.small)
    assert isinstance(model, SequenceModel)
    assert model.family == family
    assert model.first == "model"
    assert any(p.requires_grad for p in model.parameters())


# The law.


@every_first
@every_exact_law
def test_the_likelihood_is_one_finite_number_a_sequence(name: str, family: Emission, first: Any) -> None:
    model, x = make_model(name, family), ragged(family)
    value = model.log_marginal_likelihood(x, LENGTHS, first=first)
    assert value.shape == (3,)
    assert value.dtype == torch.float64
    assert value.isfinite().all()
    assert torch.equal(value, model.log_prob(x, lengths=LENGTHS, first=first))


@pytest.mark.parametrize("num_steps", [1, 2, 4])
@every_model_of_symbols
def test_the_law_over_all_sequences_sums_to_one(name: str, num_steps: int) -> None:
    model, words = make_model(name, Categorical(3)), all_words(3, num_steps)
    assert float(model.log_prob(words).detach().exp().sum()) == pytest.approx(1, abs=1e-12)
    conditional = model.log_prob(words, first="condition").detach().exp()
    torch.testing.assert_close(conditional.reshape(3, -1).sum(1), torch.ones(3))


@every_model_of_symbols
def test_the_law_over_all_bits_sums_to_one(name: str) -> None:
    model, words = make_model(name, Bernoulli(2)), all_words(2, 6).reshape(-1, 3, 2).double()
    assert float(model.log_prob(words).detach().exp().sum()) == pytest.approx(1, abs=1e-12)
    conditional = model.log_prob(words, first="condition").detach().exp()
    torch.testing.assert_close(conditional.reshape(4, -1).sum(1), torch.ones(4))


@every_bounded_model
def test_the_density_of_two_reals_integrates_to_one(name: str) -> None:
    model, grid = make_model(name, Gaussian()), torch.linspace(-25, 25, 501)
    pairs = torch.cartesian_prod(grid, grid)
    density = model.log_prob(pairs).detach().exp().reshape(501, 501)
    assert float(torch.trapezoid(torch.trapezoid(density, grid), grid)) == pytest.approx(1, abs=1e-6)


@every_exact_law
def test_the_conditional_law_is_the_joint_over_the_first_observation(name: str, family: Emission) -> None:
    model, x = make_model(name, family), ragged(family)
    expected = model.log_prob(x, lengths=LENGTHS) - model.log_prob(x[:, :1])
    torch.testing.assert_close(model.log_prob(x, lengths=LENGTHS, first="condition"), expected)
    conditioned = make_model(name, family, first="condition")
    if isinstance(conditioned, Lagged):  # given observations say nothing of the states; it has tests of its own
        return
    torch.testing.assert_close(conditioned.log_prob(x, lengths=LENGTHS), expected)
    torch.testing.assert_close(
        conditioned.log_prob(x, lengths=LENGTHS, first="model"), model.log_prob(x, lengths=LENGTHS)
    )


@every_exact_law
def test_the_joint_with_the_states_sums_to_the_marginal(name: str, family: Emission) -> None:
    model, x = make_model(name, family), draw(family, 1, 4)
    if not OWN.engines["forward_backward"].takes(model):
        assert torch.equal(model.log_prob(x), model.log_marginal_likelihood(x))
        return
    paths = all_words(getattr(model.states, "num_states", 2), 4)
    for first in ("model", "condition"):
        joint = model.log_prob(x.expand(len(paths), *x.shape[1:]), paths, first=first)
        torch.testing.assert_close(joint.logsumexp(0), model.log_marginal_likelihood(x, first=first)[0])


@every_exact_law
def test_an_observation_depends_on_the_past_only(name: str, family: Emission) -> None:
    model, x, other = make_model(name, family), draw(family, 2, 5), draw(family, 2, 5, seed=1)
    lengths = torch.tensor([3, 3])
    changed = torch.cat([x[:, :3], other[:, 3:]], 1)
    expected = model.log_prob(x[:, :3])
    torch.testing.assert_close(model.log_prob(changed, lengths=lengths), expected)


@every_exact_law
def test_every_parameter_has_a_finite_gradient(name: str, family: Emission) -> None:
    model = make_model(name, family)
    stepped = instances.REGISTRIES.models[name].stepped_parameters
    found = gradients(model.log_prob(draw(family, 8, 5)).sum(), model)
    for parameter, gradient in found.items():
        assert gradient.isfinite().all(), parameter
        assert bool(gradient.any()) != (parameter in stepped), parameter


@every_model_of_symbols
def test_the_gradient_is_the_slope_of_the_likelihood(name: str) -> None:
    model, x, size = make_model(name, Categorical(3)), draw(Categorical(3), 4, 5), 1e-5
    found = gradients(model.log_prob(x).sum(), model)
    directions = [torch.randn_like(p) for p in model.parameters()]
    expected = sum(float((g * d).sum()) for g, d in zip(found.values(), directions, strict=True))

    def moved(by: float) -> float:
        twin = copy.deepcopy(model)
        with torch.no_grad():
            for p, direction in zip(twin.parameters(), directions, strict=True):
                p.add_(by * direction)
            return float(twin.log_prob(x).sum())

    assert (moved(size) - moved(-size)) / (2 * size) == pytest.approx(expected, rel=1e-5, abs=1e-6)


# The module.


@every_exact_model_of_vectors
def test_parameters_can_be_saved_and_loaded(name: str) -> None:
    model, other, x = make_model(name, Gaussian(2)), make_model(name, Gaussian(2), seed=1), ragged(Gaussian(2))
    other.load_state_dict(model.state_dict())
    assert torch.equal(model.log_prob(x), other.log_prob(x))


@every_exact_model_of_vectors
def test_a_copy_has_the_same_law_and_its_own_parameters(name: str) -> None:
    model, x = make_model(name, Gaussian(2)), ragged(Gaussian(2))
    twin = copy.deepcopy(model)
    assert torch.equal(model.log_prob(x), twin.log_prob(x))
    assert twin.site_prefix != model.site_prefix
    with torch.no_grad():
        for p in twin.parameters():
            p.zero_()
    assert not torch.equal(model.log_prob(x), twin.log_prob(x))


@every_exact_model_of_vectors
def test_a_model_can_be_sent_to_another_process(name: str) -> None:
    model, x = make_model(name, Gaussian(2)), ragged(Gaussian(2))
    assert torch.equal(pickle.loads(pickle.dumps(model)).log_prob(x), model.log_prob(x))


@every_exact_model_of_vectors
def test_the_dtype_follows_the_parameters(name: str) -> None:
    model, x = make_model(name, Gaussian(2)), ragged(Gaussian(2))
    exact = model.log_prob(x, lengths=LENGTHS)
    single = model.float().log_prob(x.float(), lengths=LENGTHS)
    assert single.dtype == model.sample(1, 2).x.dtype == torch.float32
    torch.testing.assert_close(single.double(), exact, rtol=1e-5, atol=1e-5)
    assert torch.equal(model.log_prob(x, lengths=LENGTHS), single)


@every_model_of_vectors
def test_the_graph_is_acyclic_and_an_observation_has_the_present_as_parents(name: str) -> None:
    graph = read_graph(make_model(name, Gaussian(2)), 3)
    for t in range(1, 4):
        assert set(graph.predecessors(f"x_{t}")) <= {f"h_{t}", f"z_{t}"}
    order = {node: int(node.split("_")[1]) for node in graph}
    assert all(order[a] <= order[b] for a, b in graph.edges)


# The batch is so small that a state of an autoregression predicts some of it exactly, which EM says.
@pytest.mark.filterwarnings("ignore:.*of the spread of the observations")
@pytest.mark.filterwarnings("ignore:Almost none of the data")  # nine steps are few for the states of some models
@every("engine on an exact model of vectors")
def test_every_engine_runs_on_a_ragged_batch_or_says_why_not(engine: str, name: str) -> None:
    model, data = make_model(name, Gaussian(2)), Sequences(ragged(Gaussian(2)), LENGTHS)
    entry = instances.REGISTRIES.engines[engine]
    if not entry.takes(model):
        with pytest.raises(
            TypeError,
            match=rf"(needs|expected) a .*models? with .*, (got )?{type(model).__name__}(, whose| has) [A-Za-z_ -]+; ",
        ):
            entry.example(model, data)
        return
    entry.example(model, data)
    assert all(p.isfinite().all() for p in model.parameters())


@every_exact_model_of_vectors
def test_a_single_sequence_of_one_step_is_enough(name: str) -> None:
    model, x = make_model(name, Gaussian(2)), draw(Gaussian(2), 1, 1)
    both: list[Tensor] = [model.log_prob(x), model.log_prob(x, first="condition")]
    assert [value.shape for value in both] == [(1,), (1,)]
    assert float(both[1].detach()) == 0
