"""The forward algorithm as a recurrent network: the hidden state is the belief about an HMM's state.

    h_1 = p(z_1),   h_{t+1} = p(z_{t+1} | x_{1:t}) = A' (b_t * h_t) / (b_t . h_t),   b_t(k) = p(x_t | z_t = k)
    x_t ~ sum_k h_t(k) p(x_t | z_t = k)

Choe, Shin & Spencer (2017), Proposition 6: the HMM's law of the observations, and a Delta law of every hidden state.

Differences from the paper: their hidden unit is p(z_t | x_{1:t}); ours is the belief before x_t, so that x_t is an
emission from h_t. With units="log-odds" the hidden state is log h(k) / h(0), k = 1..K - 1: one unit for two states.

A probability below the smallest float (1e-38 in float32) becomes zero; in chains that cannot enter a state again, such
a state is lost for good. Log-odds have no such limit, but need a state 0 that is always possible. The HMM itself has
neither limit, and `log_prob` reports where the network's value differs from the HMM's.
"""

import warnings
from typing import Literal

import torch
import torch.nn.functional as F
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from pgm_rnn.checks import check_choice
from pgm_rnn.emissions import Emission
from pgm_rnn.emissions.mixing import log_weights, mixture
from pgm_rnn.models.hmm import HMM
from pgm_rnn.models.info import NUM_STATES, GradientFit, ModelInfo
from pgm_rnn.sequence_model import First, SequenceModel
from pgm_rnn.sequence_model.observations import chosen_first
from pgm_rnn.sequences import Data

Units = Literal["probs", "log-odds"]


class BeliefRNN(SequenceModel):
    """A recurrent network with the law and the parameters of an HMM.

    Args:
        hmm: the HMM; training the network changes its parameters.
        units: "probs", K hidden units, or "log-odds", K - 1, which need positive beliefs.
        first: "model" for p(x_{1:T}), "condition" for p(x_{2:T} | x_1).

    Raises:
        TypeError: a model that is no HMM.
        ValueError: unknown units, or log-odds of a single state.

    Example:
        >>> hmm = HMM.random(num_states=2, num_symbols=3, seed=0)
        >>> rnn, x = BeliefRNN(hmm, units="log-odds"), hmm.sample(4, 8, seed=1).x
        >>> rnn.initial_memory.shape, bool(torch.allclose(rnn.log_prob(x), hmm.log_prob(x)))
        (torch.Size([1]), True)
    """

    def __init__(self, hmm: HMM, *, units: Units = "probs", first: First | None = None) -> None:
        if not isinstance(hmm, HMM):
            raise TypeError(f"expected an HMM, got {type(hmm).__name__}")
        check_choice("units", units, ("probs", "log-odds"))
        if units == "log-odds" and hmm.num_states == 1:
            raise ValueError("expected at least two states for units='log-odds', got one; use units='probs'")
        super().__init__(hmm.family, first or hmm.first)
        self.hmm, self.units = hmm, units

    @staticmethod
    def random(
        num_states: int,
        num_symbols: int | None = None,
        *,
        emission: Emission | None = None,
        units: Units = "probs",
        seed: int | None = None,
        first: First = "model",
    ) -> "BeliefRNN":
        """The network of a random HMM; arguments as for `HMM.random`."""
        hmm = HMM.random(num_states, num_symbols, emission=emission, seed=seed, first=first)
        return BeliefRNN(hmm, units=units)

    @property
    def recipe(self) -> tuple[str, dict[str, object]]:
        """Name and options that make a model of this shape."""
        return "belief-rnn", {"num_states": self.hmm.num_states, "units": self.units}

    @property
    def initial_memory(self) -> Tensor:  # type: ignore[override]
        """h_1, (K,) or (K - 1,)."""
        return self._as_units(self.hmm.initial_probs)

    def belief(self, h: Tensor) -> Tensor:
        """p(z_t | x_{1:t-1}), (..., K), of hidden states (..., K) or (..., K - 1)."""
        return h if self.units == "probs" else F.pad(h, (1, 0)).softmax(-1)

    def recurrence(self, h: Tensor, z: None, x: Tensor) -> Tensor:
        """One step of the forward algorithm: weigh by x_{t-1}, normalise, move."""
        log_emission = self.hmm.emission_log_probs(x)
        return self._next_probs(h, log_emission) if self.units == "probs" else self._next_odds(h, log_emission)

    def _next_probs(self, belief: Tensor, log_emission: Tensor) -> Tensor:
        largest = log_emission.masked_fill(belief <= 0, -torch.inf).amax(-1, keepdim=True)
        largest = largest.where(largest.isfinite(), 0.0)
        joint = belief * (log_emission - largest).clamp(max=80.0).exp()  # unreachable states may fit better
        total = joint.sum(-1, keepdim=True)
        filtered = (joint / total.where(total > 0, 1.0)).where(total > 0, belief)
        return filtered @ self.hmm.transition_probs

    def _next_odds(self, h: Tensor, log_emission: Tensor) -> Tensor:
        """One step in logarithms, where no belief underflows."""
        log_belief, log_transition = F.pad(h, (1, 0)).log_softmax(-1), self.hmm.transition_logits.log_softmax(-1)
        joint = log_belief + log_emission
        possible = (joint > -torch.inf).any(-1, keepdim=True)
        moved = _logsumexp(joint.where(possible, log_belief)[..., None] + log_transition)
        return self._odds(moved)

    def emission(self, z: None, h: Tensor) -> TorchDistribution:
        """The mixture of the states' laws, weighted by the belief; its batch shape is that of h."""
        if self.units == "probs":
            return self.hmm.emission_table.mixture(h)
        laws = self.hmm.emission(torch.arange(self.hmm.num_states, device=h.device), None)
        return mixture(laws, F.pad(h, (1, 0)).log_softmax(-1))

    def _as_units(self, probs: Tensor) -> Tensor:
        return probs if self.units == "probs" else self._odds(log_weights(probs))

    def _odds(self, logs: Tensor) -> Tensor:
        """Log-odds of log probabilities, (..., K); zeros without meaning where state 0 is impossible."""
        possible = logs[..., :1] > -torch.inf
        return (logs[..., 1:] - logs[..., :1].where(possible, 0.0)).where(possible, 0.0)

    def log_prob(
        self,
        x: Data,
        z: Tensor | None = None,
        lengths: Tensor | None = None,
        *,
        first: First | None = None,
        inputs: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """`SequenceModel.log_prob`, with a check that the network's value is the HMM's.

        Raises:
            ValueError: for log-odds, observations that make state 0 impossible.

        Warns:
            UserWarning: for probabilities, a belief underflows, and later observations make its state likely again.
        """
        value = super().log_prob(x, z, lengths, first=first, inputs=inputs, mask=mask)
        with torch.no_grad():
            exact = self.hmm.log_prob(x, lengths=lengths, first=chosen_first(self, first))
        if not torch.allclose(value.detach(), exact, rtol=1e-3, atol=1e-3, equal_nan=True):
            self._complain(value.detach(), exact)
        return value

    def _complain(self, value: Tensor, exact: Tensor) -> None:
        index = int((value - exact).abs().nan_to_num(torch.inf).where(value != exact, 0.0).argmax())
        values = f"log p = {float(value[index]):.6g} in place of the HMM's {float(exact[index]):.6g}"
        got = f"got {values} for sequence {index}"
        if self.units == "log-odds":
            raise ValueError(
                f"expected state 0, the reference of the log-odds, to be possible at every step, {got}; "
                "use units='probs', or give another state the number 0"
            )
        warnings.warn(
            f"expected beliefs in the range of {value.dtype}, {got}; use units='log-odds', double() or the HMM itself",
            stacklevel=3,
        )


def _logsumexp(logs: Tensor) -> Tensor:
    """log sum_i exp(logs[..., i, j]); -inf with a gradient of zero where all terms are -inf."""
    largest = logs.detach().amax(-2, keepdim=True)
    largest = largest.where(largest > -torch.inf, 0.0)
    return log_weights((logs - largest).exp().sum(-2)) + largest[..., 0, :]


INFO = ModelInfo(
    "belief-rnn",
    BeliefRNN.random,
    "the HMM's belief state",
    "-",
    "Choe et al., Proposition 6",
    {"num_states": 2, "num_symbols": 2},
    title='`BeliefRNN(hmm)`, `units="log-odds"` for one hidden unit less',
    fit=GradientFit(
        "The forward algorithm of an HMM as a recurrent network, by gradient steps.", {"num_states": NUM_STATES}
    ),
    small={"num_states": 2},
)
