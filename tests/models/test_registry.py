import pytest
import torch

from pgm_rnn.emissions import Gaussian
from pgm_rnn.models.cells import CELLS
from pgm_rnn.models.hmm import HMM
from pgm_rnn.models.registry import get_model, list_models, model_info
from pgm_rnn.models.rnn import RNN
from tests.instances import assert_same, every_model, every_model_of_vectors, make_model


def test_every_cell_and_the_hmm_are_listed_once() -> None:
    names = list_models()
    assert len(set(names)) == len(names)
    assert {f"rnn-{cell}" for cell in CELLS} | {"hmm"} <= set(names)


def test_the_list_can_be_narrowed() -> None:
    assert list_models("elman") == ["rnn-elman", "rnn-elman-relu", "rnn-elman-sigmoid", "rnn-elman-linear"]
    assert list_models("hmm") == ["hmm", "factorial-hmm", "autoregressive-hmm", "input-hmm", "recurrent-hmm"]
    assert list_models("quaternion") == []


@every_model_of_vectors
def test_an_entry_says_what_the_model_is(name: str) -> None:
    info, model = model_info(name), make_model(name, Gaussian(2))
    assert info.name == name
    assert info.source
    assert (info.memory == "-") == (model.initial_memory is None)
    assert (info.latent == "-") == (not model.has_latent)


def test_a_model_is_made_with_the_options_that_were_given() -> None:
    rnn = get_model("rnn-lstm", num_symbols=5, hidden_dim=7, num_layers=2, first="condition")
    assert isinstance(rnn, RNN)
    assert (rnn.cell.hidden_dim, rnn.cell.state_dim, rnn.first) == (7, 28, "condition")
    hmm = get_model("hmm", num_states=4, num_symbols=5)
    assert isinstance(hmm, HMM)
    assert hmm.emission_probs.shape == (4, 5)


@pytest.mark.parametrize("options", [{"name": "rnn-gru", "hidden_dim": 3}, {"name": "hmm", "num_states": 3}])
def test_a_seed_makes_the_parameters_reproducible(options: dict[str, str]) -> None:
    before = torch.get_rng_state()
    states = [get_model(seed=seed, num_symbols=3, **options).state_dict() for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), before)
    assert_same(states[0], states[1])
    assert any(not torch.equal(a, b) for a, b in zip(states[0].values(), states[2].values(), strict=True))


def test_without_a_seed_the_global_state_is_used() -> None:
    torch.manual_seed(5)
    first, second = (get_model("rnn-gru", num_symbols=3).state_dict() for _ in range(2))
    torch.manual_seed(5)
    assert_same(first, get_model("rnn-gru", num_symbols=3).state_dict())
    assert not torch.equal(first["readout.weight"], second["readout.weight"])


@pytest.mark.parametrize(("name", "hint"), [("rnn-ltsm", "rnn-lstm"), ("HMM", "hmm"), ("rnn-grus", "rnn-gru")])
def test_an_unknown_name_is_an_error_with_a_hint(name: str, hint: str) -> None:
    with pytest.raises(ValueError, match=f"expected model to be one of .*, got '{name}'; did you mean '{hint}'"):
        get_model(name)
    with pytest.raises(ValueError, match=f"got '{name}'; did you mean '{hint}'"):
        model_info(name)


@every_model
def test_an_unknown_option_is_an_error(name: str) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'hiden_dim'"):
        get_model(name, num_symbols=3, hiden_dim=4)
