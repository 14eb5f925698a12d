"""Each script of tutorials/models beside the zoo's model: what its functions take, made of the zoo's own parameters."""

import importlib.util
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pgm_rnn.emissions import Emission
from pgm_rnn.models import (
    HMM,
    RNN,
    VRNN,
    AutoregressiveHMM,
    BeliefRNN,
    DeepMarkovModel,
    LinearGaussianSSM,
    MarkovChain,
    MultiParticleRNN,
    NoisyRNN,
    ParticleFilterRNN,
    RecurrentHMM,
)
from pgm_rnn.models.cells import CELLS
from pgm_rnn.sequence_model import SequenceModel
from tests.instances import randomised

FOLDER = Path(__file__).parents[2] / "tutorials" / "models"


def load(name: str) -> ModuleType:
    """The script of that name, imported by its path."""
    spec = importlib.util.spec_from_file_location(f"tutorials_models_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Pair(NamedTuple):
    """A script and a model of the zoo that should be one law.

    Attributes:
        script: the loaded script.
        zoo: the model.
        arguments: what the script's model and guide take after x and lengths; they share no tensor with the zoo's.
        options: of the zoo's programs.
    """

    script: ModuleType
    zoo: SequenceModel
    arguments: tuple[Any, ...]
    options: dict[str, Any] = {}  # noqa: RUF012  (never changed)

    @property
    def family(self) -> Emission:
        """That of the observations."""
        return self.zoo.family


def loaded(net: nn.Module, state: dict[str, Tensor]) -> nn.Module:
    """The script's network with these parameters, every one of its own."""
    net.load_state_dict(state)
    return net


def renamed(state: dict[str, Tensor], names: dict[str, str]) -> dict[str, Tensor]:
    """A state whose names begin otherwise; a name that no prefix fits is kept."""
    found = {}
    for name, value in state.items():
        old = max((prefix for prefix in names if name.startswith(prefix)), key=len, default="")
        found[names.get(old, "") + name.removeprefix(old)] = value
    return found


class Step(nn.Module):
    """A cell of the zoo as the script's `cell`."""

    def __init__(self, zoo: RNN) -> None:
        super().__init__()
        self.zoo_cell = zoo.cell

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return self.zoo_cell.step(x, h)


def rnn_of_torchs_cell(name: str, cell: Callable[[int, int], nn.Module]) -> Pair:
    script, zoo = load("rnn"), randomised(RNN(cell=name, num_symbols=3, hidden_dim=4))
    names = {f"cell.network.{part}_l0": f"cell.{part}" for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
    state = renamed(zoo.state_dict(), names | {"initial_memory": "h_1"})
    return Pair(script, zoo, (loaded(script.RNN(3, 4, cell), state),))


def rnn_of_any_cell(name: str) -> Pair:
    """The zoo's own cell in the script, whose readout sees the whole state; of what is not read the weight is zero."""
    script, zoo = load("rnn"), randomised(RNN(cell=name, num_symbols=3, hidden_dim=4, num_layers=2))
    zoo_cell = RNN(cell=name, num_symbols=3, hidden_dim=4, num_layers=2)
    zoo_cell.load_state_dict(zoo.state_dict())
    net = script.RNN(3, zoo.cell.state_dim)
    net.cell, net.embedding = Step(zoo_cell), zoo_cell.embedding
    weight = nn.functional.pad(zoo.readout.weight, (0, zoo.cell.state_dim - 4))
    net.load_state_dict(
        {"h_1": zoo.initial_memory, "readout.weight": weight, "readout.bias": zoo.readout.bias}, strict=False
    )
    return Pair(script, zoo, (net,))


def network_of(script_name: str, cell: str, **options: Any) -> Pair:
    """Of the scripts on theorems, whose hidden states are sampled."""
    script, zoo = load(script_name), randomised(RNN(cell=cell, num_symbols=3, hidden_dim=4))
    state = renamed(zoo.state_dict(), {"cell.network": "network", "initial_memory": "h_1"})
    return Pair(script, zoo, (loaded(script.RNN(3, 4), state),), {"memory": "sampled", **options})


def markov_chain() -> Pair:
    zoo = randomised(MarkovChain.random(num_symbols=3, seed=0))
    return Pair(load("markov_chain"), zoo, detached(zoo.initial_probs, zoo.transition_probs))


def hmm() -> Pair:
    zoo = randomised(HMM.random(num_states=2, num_symbols=3, seed=0))
    return Pair(load("hmm"), zoo, tables(zoo))


def belief_rnn() -> Pair:
    zoo = BeliefRNN(randomised(HMM.random(num_states=3, num_symbols=3, seed=0)))
    return Pair(load("belief_rnn"), zoo, tables(zoo.hmm))


def particle_filter_rnn() -> Pair:
    hmm = randomised(HMM.random(num_states=3, num_symbols=3, seed=0))
    zoo = ParticleFilterRNN(hmm, num_particles=7, seed=5)
    noise = [zoo.noise(step) for step in range(1, 5)]
    uniforms = torch.stack([torch.stack([u.resampling[:, 0], u.states[:, 0, 0]]) for u in noise])  # (4, 2, 7)
    return Pair(load("particle_filter_rnn"), zoo, (*tables(hmm), uniforms))


def tables(hmm: HMM) -> tuple[Tensor, ...]:
    return detached(hmm.initial_probs, hmm.transition_probs, hmm.emission_probs)


def linear_gaussian() -> Pair:
    zoo = LinearGaussianSSM.random(latent_dim=2, obs_dim=2, seed=0)
    return Pair(load("linear_gaussian"), randomised(zoo, scale=0.1), matrices(zoo))


def noisy_rnn() -> Pair:
    script, zoo = load("noisy_rnn"), NoisyRNN.random(latent_dim=3, obs_dim=2, feedback=True, seed=0)
    randomised(zoo, scale=0.1)
    assert zoo.input_matrix is not None
    return Pair(script, zoo, (script.Parameters(*matrices(zoo), *detached(zoo.input_matrix)),))


def matrices(zoo: LinearGaussianSSM | NoisyRNN) -> tuple[Tensor, ...]:
    parts = zoo.initial_mean, zoo.initial_cov, zoo.transition_matrix, zoo.transition_cov
    return detached(*parts, zoo.emission_matrix, zoo.emission_cov)


def autoregressive_hmm() -> Pair:
    zoo = randomised(AutoregressiveHMM.random(2, order=2, seed=0), scale=0.3)
    laws = zoo.emission_laws(torch.arange(2))
    numbers = zoo.coefficients[..., 0, 0], laws.mean, laws.stddev
    return Pair(load("autoregressive_hmm"), zoo, detached(zoo.initial_probs, zoo.transition_probs, *numbers))


def recurrent_hmm() -> Pair:
    script, zoo = load("recurrent_hmm"), randomised(RecurrentHMM(num_states=2, num_symbols=3, hidden_dim=4))
    names = {f"cell.network.{part}_l0": f"cell.{part}" for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
    names |= {"initial_memory": "h_1", "initial_logits": "a", "initial_weight": "A", "transition_logits": "b"}
    state = renamed(zoo.state_dict(), names | {"transition_weight": "B", "emission_laws.params": "c"})
    return Pair(script, zoo, (loaded(script.RecurrentHMM(2, 3, 4), state),))


def detached(*values: Tensor) -> tuple[Tensor, ...]:
    return tuple(value.detach().clone() for value in values)


def multi_particle_rnn(average: Any) -> Pair:
    script = load("multi_particle_rnn")
    zoo = randomised(MultiParticleRNN(num_particles=3, num_symbols=3, hidden_dim=4, average=average))
    names = {"cell.network.weight_ih_l0": "from_x.weight", "cell.network.bias_ih_l0": "from_x.bias"}
    names |= {"cell.network.weight_hh_l0": "from_h.weight", "cell.network.bias_hh_l0": "from_h.bias"}
    state = renamed(zoo.state_dict(), names | {"initial_states": "h_1"})
    return Pair(script, zoo, (loaded(script.MultiParticleRNN(3, 3, 4), state), average))


def deep_markov() -> Pair:
    script, zoo = load("deep_markov"), randomised(DeepMarkovModel(obs_dim=2, latent_dim=2, hidden_dim=4))
    names = {"gated.gate_hidden": "gate.layers.0", "gated.gate": "gate.layers.1"}
    names |= {"gated.proposed_hidden": "proposed.layers.0", "gated.proposed": "proposed.layers.1"}
    names |= {"gated.linear": "linear", "gated.raw_scale": "scale", "combiner.z_0": "guide_z_0"}
    names |= {"emitter.0.linear": "emitter.layers", "emitter.1": "emitter.layers.2", "combiner.from_z": "from_z"}
    names |= {f"backward_network.{part}_l0": f"reader.{part}" for part in ("weight_ih", "weight_hh")}
    names |= {f"backward_network.{part}_l0": f"reader.{part}" for part in ("bias_ih", "bias_hh")}
    state = renamed(zoo.state_dict(), names)
    for part in ("weight", "bias"):
        halves = state.pop(f"combiner.head.linear.{part}").chunk(2)
        state[f"guide_mean.{part}"], state[f"guide_scale.{part}"] = halves
    return Pair(script, zoo, (loaded(script.DMM(2, 2, 4), state),))


def vrnn() -> Pair:
    """The zoo splits what encoder and cell take from two parts into a product for each."""
    script, zoo = load("vrnn"), randomised(VRNN(obs_dim=2, latent_dim=2, hidden_dim=4))
    names = {"phi_x.linear": "phi_x", "phi_z.linear": "phi_z", "initial_memory": "h_1"}
    names |= {"prior.0.linear": "prior.layers", "prior.1.linear": "prior.layers.1"}
    names |= {"decoder.0.linear": "decoder.layers", "decoder.1": "decoder.layers.1"}
    names |= {"encoder.from_x": "encoder.layers.0", "encoder.head.linear": "encoder.layers.1"}
    names |= {f"hidden.cell.network.{part}_l0": f"hidden.{part}" for part in ("weight_ih", "weight_hh")}
    names |= {f"hidden.cell.network.{part}_l0": f"hidden.{part}" for part in ("bias_ih", "bias_hh")}
    state = renamed(zoo.state_dict(), names)
    for ours, zoos in {"encoder.layers.0.weight": "encoder.from_h", "hidden.weight_ih": "hidden.from_z"}.items():
        state[ours] = torch.cat([state[ours], state.pop(f"{zoos}.weight")], dim=1)
    return Pair(script, zoo, (loaded(script.VRNN(2, 2, 4), state),))


PAIRS: dict[str, Callable[[], Pair]] = {
    "rnn-elman": partial(rnn_of_torchs_cell, "elman", nn.RNNCell),
    "rnn-elman-relu": partial(rnn_of_torchs_cell, "elman-relu", partial(nn.RNNCell, nonlinearity="relu")),
    "rnn-gru": partial(rnn_of_torchs_cell, "gru", nn.GRUCell),
    **{f"rnn-any-{name}": partial(rnn_of_any_cell, name) for name in CELLS},
    "theorem_5": partial(network_of, "theorem_5", "elman", first="condition"),
    "elbo_equivalence": partial(network_of, "elbo_equivalence", "gru"),
    "markov_chain": markov_chain,
    "hmm": hmm,
    "belief_rnn": belief_rnn,
    "particle_filter_rnn": particle_filter_rnn,
    "linear_gaussian": linear_gaussian,
    "noisy_rnn": noisy_rnn,
    "multi_particle_rnn-sequence": partial(multi_particle_rnn, "sequence"),
    "multi_particle_rnn-step": partial(multi_particle_rnn, "step"),
    "deep_markov": deep_markov,
    "vrnn": vrnn,
    "autoregressive_hmm": autoregressive_hmm,
    "recurrent_hmm": recurrent_hmm,
}
"""Of every script with a sequence model; `BidirectionalRNN`, a law of labels, has tests of its own."""
