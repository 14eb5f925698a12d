"""Deliberate damage to the models, and the claims that detect it: `python -m tools.damages` measures the matrix.

A damage replaces one attribute of the package temporarily. A claim detects it if its residual exceeds the tolerance on
one of a few instances. `NOTICED_BY` has the measured results, for `docs/claims.md` and for the tests.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from pyro import poutine
from torch import Tensor

from pgm_rnn import graph
from pgm_rnn.claims.claim import Claim, chosen_cases
from pgm_rnn.inference.kalman import linearised_filter
from pgm_rnn.inference.mixture_kalman import collapsing, regime_model
from pgm_rnn.kernels import diagonal
from pgm_rnn.models import cells
from pgm_rnn.models.bidirectional_rnn import BidirectionalRNN
from pgm_rnn.models.cells import StackedCell
from pgm_rnn.models.hmm import HMM
from pgm_rnn.models.linear_cells import MinGRU
from pgm_rnn.models.linear_gaussian import LinearGaussianSSM
from pgm_rnn.models.multi_particle_rnn import MultiParticleRNN
from pgm_rnn.models.rnn import RNN
from pgm_rnn.models.vrnn import VRNN
from pgm_rnn.particles import steps
from pgm_rnn.particles.noise import SeededNoise
from pgm_rnn.sequence_model import programs
from pgm_rnn.sequence_model.state_laws import StateLaws

Function = Callable[..., Any]


class Damage(NamedTuple):
    """One attribute of the package, and a function that damages it.

    Attributes:
        name: description of the damage.
        owner: the class or module of the attribute.
        attribute: name of the attribute, a function.
        damaged: maps the sound function to the damaged one.
    """

    name: str
    owner: Any
    attribute: str
    damaged: Callable[[Function], Function]

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The package with this damage, within a block."""
        sound, inherited = getattr(self.owner, self.attribute), self.attribute not in vars(self.owner)
        setattr(self.owner, self.attribute, self.damaged(sound))
        try:
            yield
        finally:
            if inherited:
                delattr(self.owner, self.attribute)
            else:
                setattr(self.owner, self.attribute, sound)


def _transposed_rows(sound: Function) -> Function:
    def init(self: HMM, initial: Tensor, transition: Tensor, *rest: Any, **options: Any) -> None:
        sound(self, initial, transition.T / transition.T.sum(-1, keepdim=True), *rest, **options)

    return init


def _transposed_matrix(sound: Function) -> Function:
    def init(self: LinearGaussianSSM, m: Tensor, P: Tensor, A: Tensor, *rest: Any, **options: Any) -> None:
        sound(self, m, P, A.T, *rest, **options)

    return init


def _late_inputs(sound: Function) -> Function:
    return lambda self, x, h: sound(self, x.roll(1, dims=0), h)


def _late_observations(sound: Function) -> Function:
    return lambda self, x: sound(self, x.roll(1, dims=1))


def _no_padding(sound: Function) -> Function:
    return lambda lengths, num_steps: torch.ones_like(sound(lengths, num_steps))


def _negative_state(sound: Function) -> Function:
    return lambda self, z, h: sound(self, z, -h)


def _negative_weights(sound: Function) -> Function:
    return lambda self, states, x: -sound(self, states, x)


def _scaled_program(sound: Function) -> Function:
    return poutine.scale(sound, scale=1.1)


def _heavy_emission(sound: Function) -> Function:
    return lambda self, x: sound(self, x) + 0.01


def _averaged_at_each_step(sound: Function) -> Function:
    def init(self: MultiParticleRNN, *args: Any, **options: Any) -> None:
        sound(self, *args, **options | {"average": "step"})

    return init


def _same_uniforms(sound: Function) -> Function:
    return lambda self, step: sound(self, 1)


def _no_parents(sound: Function) -> Function:
    def relations(*args: Any, **options: Any) -> Any:
        found = sound(*args, **options)
        return found | {"sample_sample": {node: [] for node in found["sample_sample"]}}

    return relations


def _transposed_chain(sound: Function) -> Function:
    def chain(self: LinearGaussianSSM, *args: Any) -> Any:
        made = sound(self, *args)
        return made._replace(transition_matrix=made.transition_matrix.mT)

    return chain


def _transposed_tables(sound: Function) -> Function:
    return lambda self, rows: sound(self, rows).mT


def _negative_mean(sound: Function) -> Function:
    def update(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
        log_normalizer, mean, cov = sound(*args)
        return log_normalizer, -mean, cov

    return update


def _forgotten_state(sound: Function) -> Function:
    return lambda self, h, z, read: sound(self, h, torch.zeros_like(z), read)


def _exchanged_gates(sound: Function) -> Function:
    def lstm(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        i, f, g, o = gates.chunk(4, dim=-1)
        return sound(torch.cat([f, i, g, o], dim=-1), c)

    return lstm


def _exchanged_order(sound: Function) -> Function:
    return lambda earlier, later: sound(later, earlier)


def _exchanged_shares(sound: Function) -> Function:
    def coefficients(self: MinGRU, projected: Tensor) -> tuple[Tensor, Tensor]:
        gate, candidate = projected.chunk(2, dim=-1)
        return sound(self, torch.cat([-gate, candidate], dim=-1))

    return coefficients


def _no_proposal(sound: Function) -> Function:
    return lambda *args: (sound(*args)[0], None)


def _no_spread(sound: Function) -> Function:
    def collapsed(weights: Tensor, means: Tensor, covs: Tensor) -> tuple[Tensor, Tensor]:
        return sound(weights, means, covs)[0], sound(weights, torch.zeros_like(means), covs)[1]

    return collapsed


def _no_future(sound: Function) -> Function:
    def hidden(self: BidirectionalRNN, x: Tensor, lengths: Tensor) -> Tensor:
        past, future = sound(self, x, lengths).chunk(2, dim=-1)
        return torch.cat([past, torch.zeros_like(future)], dim=-1)

    return hidden


DAMAGES: tuple[Damage, ...] = (
    Damage("transposed transition of the HMM", HMM, "__init__", _transposed_rows),
    Damage("transposed transition of the linear system", LinearGaussianSSM, "__init__", _transposed_matrix),
    Damage("shifted time in the network", StackedCell, "unroll", _late_inputs),
    Damage("shifted time in the HMM", HMM, "emission_log_probs", _late_observations),
    Damage("dropped mask of the padding", programs, "length_mask", _no_padding),
    Damage("wrong sign of the hidden state", RNN, "emission", _negative_state),
    Damage("wrong sign of the particles' weights", MultiParticleRNN, "_log_emission", _negative_weights),
    Damage("wrong normaliser of the program", RNN, "model", _scaled_program),
    Damage("wrong normaliser of the HMM's emission", HMM, "emission_log_probs", _heavy_emission),
    Damage("wrong average of the particles", MultiParticleRNN, "__init__", _averaged_at_each_step),
    Damage("wrong seed: one step's uniforms for all", SeededNoise, "__call__", _same_uniforms),
    Damage("wrong graph: no arcs", graph, "get_model_relations", _no_parents),
    Damage("transposed transition of the Kalman filter", LinearGaussianSSM, "chain", _transposed_chain),
    Damage("transposed transition of evaluated laws", StateLaws, "transition", _transposed_tables),
    Damage("wrong sign of the extended filter's mean", linearised_filter, "_update", _negative_mean),
    Damage("dropped state in the VRNN's memory", VRNN, "advance", _forgotten_state),
    Damage("wrong gates: input and forget exchanged", cells, "lstm", _exchanged_gates),
    Damage("wrong order of a scan's products", diagonal, "_composed", _exchanged_order),
    Damage("wrong gates: what a minGRU keeps and takes exchanged", MinGRU, "coefficients", _exchanged_shares),
    Damage("dropped density of the particles' proposal", steps, "_propose", _no_proposal),
    Damage("wrong sign of the mean in filters along regimes", regime_model, "updated", _negative_mean),
    Damage("dropped spread of merged means", collapsing, "_collapsed", _no_spread),
    Damage("dropped future of the bidirectional network", BidirectionalRNN, "hidden", _no_future),
)
"""The damages of the matrix, by kind."""

NOTICED_BY: dict[str, tuple[str, ...]] = {
    "transposed transition of the HMM": (
        "forward-is-linear",
        "proposition-6",
        "proposition-6-slope",
        "particle-filter-is-an-rnn",
        "particle-filter-rate",
        "stochastic-bound",
    ),
    "transposed transition of the linear system": (
        "stochastic-bound",
        "noise-free-dynamics",
    ),
    "shifted time in the network": (
        "theorem-5",
        "elbo-equivalence",
        "multi-particle",
        "multi-particle-bound",
        "parameter-tying",
    ),
    "shifted time in the HMM": (
        "forward-is-linear",
        "proposition-6",
        "proposition-6-slope",
        "stochastic-bound",
    ),
    "dropped mask of the padding": ("elbo-equivalence",),
    "wrong sign of the hidden state": (
        "theorem-5",
        "elbo-equivalence",
        "linear-rnn-limit",
        "parameter-tying",
    ),
    "wrong sign of the particles' weights": (
        "multi-particle",
        "multi-particle-bound",
    ),
    "wrong normaliser of the program": (
        "remark-1",
        "theorem-5",
        "elbo-equivalence",
    ),
    "wrong normaliser of the HMM's emission": (
        "forward-is-linear",
        "stochastic-bound",
    ),
    "wrong average of the particles": ("multi-particle",),
    "wrong seed: one step's uniforms for all": ("particle-filter-unbiased",),
    "wrong graph: no arcs": (
        "markov-properties",
        "proposition-4",
        "figure-4-is-figure-3",
    ),
    "transposed transition of the Kalman filter": (
        "stochastic-bound",
        "noise-free-dynamics",
        "kalman-is-exact",
        "kalman-gate",
    ),
    "transposed transition of evaluated laws": ("finite-states-are-exact",),
    "wrong sign of the extended filter's mean": (
        "extended-kalman",
        "extended-kalman-curvature",
        "extended-kalman-jacobians",
        "extended-kalman-offset",
    ),
    "dropped state in the VRNN's memory": (
        "vrnn-factorisation",
        "vrnn-objective",
        "vrnn-limits",
        "vrnn-linear-limit",
    ),
    "wrong gates: input and forget exchanged": (
        "vrnn-factorisation",
        "vrnn-objective",
        "vrnn-limits",
        "gate-equations",
        "lstm-highway",
    ),
    "wrong order of a scan's products": ("scan-is-recursion",),
    "wrong gates: what a minGRU keeps and takes exchanged": (
        "elbo-equivalence",
        "kalman-gate",
    ),
    "dropped density of the particles' proposal": ("mixture-filter-unbiased",),
    "wrong sign of the mean in filters along regimes": (
        "rao-blackwell",
        "mixture-filter-unbiased",
        "switching-mixture",
    ),
    "dropped spread of merged means": ("switching-mixture",),
    "dropped future of the bidirectional network": ("bidirectional-is-smoothing",),
}
"""Ids of the claims that detect each damage, as measured by the command."""


def notices(claim: Claim) -> bool:
    """Whether a claim's residual exceeds its tolerance, or its measurement is an error, on one of a few instances.

    These are the instances of a quick check, or the first instance of a claim that draws many samples.
    """
    cases = chosen_cases(claim, quick=True)
    for number, case in cases if claim.unit == "difference" else cases[:1]:
        try:
            within = claim.residual(case, seed=number) <= claim.tolerance
        except (ArithmeticError, LookupError, RuntimeError, ValueError):
            return True
        if not within:
            return True
    return False


def measured(claims: Sequence[Claim]) -> dict[str, tuple[str, ...]]:
    """The claims that detect each damage, by the damage's name."""
    matrix = {}
    for damage in DAMAGES:
        with damage.applied():
            matrix[damage.name] = tuple(claim.id for claim in claims if notices(claim))
    return matrix


def main() -> None:
    """Print the matrix in the form in which it stands in this file."""
    from pgm_rnn.claims import CLAIMS

    for name, ids in measured(list(CLAIMS.values())).items():
        print(f'    "{name}": (')
        for claim_id in ids:
            print(f'        "{claim_id}",')
        print("    ),")


if __name__ == "__main__":
    main()
