"""What holds for every registered model of inputs, with every family; the inputs are given, and no law is of them."""

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pgm_rnn import load_model, save_model
from pgm_rnn.emissions import Categorical, Emission
from pgm_rnn.graph import read_graph
from pgm_rnn.models.registry import made_by
from pgm_rnn.registries import OWN
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequences import Sequences
from tests.cases import Cases, every
from tests.definitions import all_words
from tests.instances import LENGTHS, draw, every_first, gradients, make_model, of_sequences, ragged

every_driven_law = every("driven law")
every_driven_model = pytest.mark.parametrize("name", list(Cases(OWN).driven))


def driven(name: str, family: Emission, batch: int = 3, num_steps: int = 4, **options: Any) -> tuple[Any, Tensor]:
    """A small model, and inputs for it."""
    model = make_model(name, family, **options)
    assert model.input_dim is not None
    return model, torch.randn(batch, num_steps, model.input_dim, dtype=torch.float64)


@every_driven_law
def test_the_registry_makes_a_model_of_inputs(name: str, family: Emission) -> None:
    info = OWN.models[name]
    model = made_by(info, seed=0, emission=family, **info.small)
    assert isinstance(model, SequenceModel)
    assert model.family == family
    assert (info.memory == "-") == (model.initial_memory is None)
    with pytest.raises(ValueError, match="expected inputs"):
        model.log_prob(draw(family, 1, 2))


@every_first
@every_driven_law
def test_the_likelihood_is_one_finite_number_a_sequence(name: str, family: Emission, first: Any) -> None:
    model, u = driven(name, family)
    x = ragged(family)
    value = model.log_prob(x, lengths=LENGTHS, inputs=u, first=first)
    assert value.shape == (3,)
    assert bool(value.isfinite().all())
    other = model.log_prob(x, lengths=LENGTHS, inputs=u + 1, first=first)
    assert float((other - value).detach()[[0, 2]].abs().min()) > 1e-6  # the inputs count


@pytest.mark.parametrize("num_steps", [1, 2, 4])
@every_driven_model
def test_the_law_over_all_sequences_sums_to_one_given_any_inputs(name: str, num_steps: int) -> None:
    words = all_words(3, num_steps)
    model, u = driven(name, Categorical(3), 1, num_steps)
    given = u.expand(len(words), -1, -1)
    assert float(model.log_prob(words, inputs=given).detach().exp().sum()) == pytest.approx(1, abs=1e-12)
    conditional = model.log_prob(words, inputs=given, first="condition").detach().exp()
    torch.testing.assert_close(conditional.reshape(3, -1).sum(1), torch.ones(3))


@every_driven_law
def test_an_observation_depends_on_past_observations_and_inputs_only(name: str, family: Emission) -> None:
    x, other, lengths = draw(family, 2, 5), draw(family, 2, 5, seed=1), torch.tensor([3, 3])
    model, u = driven(name, family, 2, 5)
    changed, later = torch.cat([x[:, :3], other[:, 3:]], 1), torch.cat([u[:, :3], -u[:, 3:]], 1)
    expected = model.log_prob(x[:, :3], inputs=u[:, :3])
    torch.testing.assert_close(model.log_prob(changed, lengths=lengths, inputs=later), expected)


@every_driven_law
def test_every_parameter_has_a_finite_gradient(name: str, family: Emission) -> None:
    model, u = driven(name, family, 8, 5)
    for parameter, gradient in gradients(model.log_prob(draw(family, 8, 5), inputs=u).sum(), model).items():
        assert bool(gradient.isfinite().all()), parameter
        assert bool(gradient.any()), parameter


@every_driven_law
def test_a_saved_model_a_copy_and_a_pickled_one_have_the_same_law(name: str, family: Emission, tmp_path: Path) -> None:
    model, u = driven(name, family)
    x = ragged(family)
    save_model(model, tmp_path / "saved")
    for twin in (of_sequences(load_model(tmp_path / "saved")), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin.log_prob(x, inputs=u), model.log_prob(x, inputs=u))


@every_driven_model
def test_the_graph_has_inputs_that_nothing_drives(name: str) -> None:
    graph = read_graph(driven(name, Categorical(3))[0], 3)
    for t in range(1, 4):
        assert set(graph.predecessors(f"x_{t}")) <= {f"h_{t}", f"z_{t}", f"u_{t}"}
        assert not list(graph.predecessors(f"u_{t}"))
        assert list(graph.successors(f"u_{t}"))


@pytest.mark.filterwarnings("ignore:Almost none of the data")
@pytest.mark.parametrize("engine", list(OWN.engines))
@every_driven_model
def test_every_engine_runs_on_a_ragged_batch_with_inputs_or_says_why_not(name: str, engine: str) -> None:
    family = Cases(OWN).alone["reals"]
    model, u = driven(name, family)
    data, entry = Sequences(ragged(family), LENGTHS, inputs=u), OWN.engines[engine]
    if not entry.takes(model):
        with pytest.raises(TypeError, match=rf"(needs|expected) a model with .*, {type(model).__name__} has"):
            entry.example(model, data)
        return
    entry.example(model, data)
    assert all(bool(p.isfinite().all()) for p in model.parameters())
