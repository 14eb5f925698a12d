"""Finitely many states behind a memory of the observations: sec. 3.2 with laws that read h_t besides z.

    h_t = f(h_{t-1}, x_{t-1}),   z_t ~ p(z_t | z_{t-1}, h_t),   x_t ~ p(x_t | z_t, h_t)
    p(x_{1:T}) = sum over all paths z_{1:T} of prod_t p(z_t | z_{t-1}, h_t) p(x_t | z_t, h_t)

Given x the memory is known, so the laws are tables of states, which differ by step, and the forward algorithm is exact.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from typing_extensions import override

from pgm_rnn.claims.choe_2017 import PAPER
from pgm_rnn.claims.claim import Claim, largest, rounding
from pgm_rnn.claims.tables import all_sequences
from pgm_rnn.emissions import Gaussian
from pgm_rnn.inference import forward_backward
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.states import FiniteStates

MEMORY_DIM, NUM_STEPS = 2, 5

Case = tuple[int, bool]
"""Number of states, and whether the model has an input besides its memory."""


class Switching(SequenceModel):
    """Laws that are nonlinear in their memory, and a memory that is nonlinear in x and, if it is told to, in z.

    h_t = tanh(U h_{t-1} + 2 sin(w x_{t-1}) + v[z_{t-1}]),   logits of z_t = c[z_{t-1}] + 2 sin(d h_t)
    x_t ~ N(sum_i cos(a[z_t] h_t)_i, exp(b[z_t] h_t)^2)
    """

    def __init__(self, num_states: int, has_input: bool, seed: int) -> None:
        super().__init__(Gaussian())
        generator = torch.Generator().manual_seed(seed % 2**63)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        self.states = FiniteStates(num_states)
        self.input_dim = 1 if has_input else None
        width = MEMORY_DIM + int(has_input)
        self.initial_memory = draw(MEMORY_DIM)
        self.mixing, self.reading, self.shift = draw(MEMORY_DIM, width), draw(MEMORY_DIM), draw(num_states, MEMORY_DIM)
        self.start, self.moves, self.drive = draw(num_states), draw(num_states, num_states), draw(num_states, width)
        self.waves, self.spread = 2 * draw(num_states, width), 0.5 * draw(num_states, width)

    def recurrence(self, h: Tensor, z: Tensor | None, x: Tensor) -> Tensor:
        """The new memory; without z if the model does not say that it reads z."""
        total = h @ self.mixing.mT + 2 * torch.sin(x[..., None] * self.reading)
        return torch.tanh(total if z is None else total + self.shift[z])

    def initial(self, h: Tensor) -> TorchDistribution:
        """Law of z_1."""
        return dist.Categorical(logits=self.start + 2 * torch.sin(h @ self.drive.mT))

    def transition(self, z: Tensor, h: Tensor) -> TorchDistribution:
        """Law of z_t."""
        return dist.Categorical(logits=self.moves[z] + 2 * torch.sin(h @ self.drive.mT))

    def emission(self, z: Tensor, h: Tensor) -> TorchDistribution:
        """Law of x_t."""
        return dist.Normal(torch.cos(self.waves[z] * h).sum(-1), (self.spread[z] * h).sum(-1).exp())


class Remembering(Switching):
    """The same with a memory that reads the states, so that no table of K states exists."""

    memory_reads_state = True


class Posterior(NamedTuple):
    """What the sum over paths says of one sequence.

    Attributes:
        log_likelihood: log p(x_{1:T}), ().
        smoothed: p(z_t = k | x_{1:T}), (T, K).
        pairs: p(z_t = i, z_{t+1} = j | x_{1:T}), (T - 1, K, K).
        best: the largest log p(x_{1:T}, z_{1:T}), ().
    """

    log_likelihood: Tensor
    smoothed: Tensor
    pairs: Tensor
    best: Tensor


def by_paths(model: SequenceModel, x: Tensor, u: Tensor | None) -> Posterior:
    """Every path of states, each with its own memory, step by step: x (T,) and inputs (T, 1) or None."""
    assert isinstance(model.states, FiniteStates)
    assert model.initial_memory is not None
    num_states = model.states.num_states
    paths = all_sequences(num_states, len(x))  # (K^T, T)
    own, total = model.initial_memory.expand(len(paths), -1), torch.zeros(len(paths), dtype=x.dtype)
    for t in range(len(x)):
        h = own if u is None else torch.cat([own, u[t].expand(len(paths), -1)], -1)
        law = model.initial(h) if t == 0 else model.transition(paths[:, t - 1], h)
        total = total + law.log_prob(paths[:, t]) + model.emission(paths[:, t], h).log_prob(x[t])
        own = model.recurrence(h, paths[:, t] if model.memory_reads_state else None, x[t].expand(len(paths)))
    states = torch.nn.functional.one_hot(paths, num_states).to(x.dtype)  # (K^T, T, K)
    weights = total.softmax(0)
    pairs = torch.einsum("n,nti,ntj->tij", weights, states[:, :-1], states[:, 1:])
    return Posterior(total.logsumexp(0), torch.einsum("n,ntk->tk", weights, states), pairs, total.max())


def by_engines(model: SequenceModel, x: Tensor, u: Tensor | None) -> Posterior:
    """The same by the forward-backward and Viterbi algorithms."""
    options: dict[str, Any] = {} if u is None else {"inputs": u[None]}
    smoothed = forward_backward.smooth(model, x[None], **options)
    best = forward_backward.most_likely_states(model, x[None], **options)
    value = model.log_marginal_likelihood(x[None], **options)
    return Posterior(value[0], smoothed.smoothed_probs[0], smoothed.pairwise_probs[0], best.log_prob[0])


def difference(found: Posterior, expected: Posterior) -> float:
    """The largest difference of an entry."""
    return largest(float((a - b).abs().max()) for a, b in zip(found, expected, strict=True))


class FiniteStatesAreExact(Claim):
    """The exact engines on laws that are evaluated at all states, against every path."""

    id = "finite-states-are-exact"
    source = f"{PAPER}, sec. 3.2, with a memory"
    statement = "the forward algorithm is exact, however nonlinear the laws are in x, if the memory does not read z"
    quotation = (
        "Note that D_x and V are well-defined because emission and transition probabilities do not depend on time t "
        "in the HMM."
    )
    meaning = (
        "The forward algorithm does not need the same tables at every step. A memory of the past observations, even a "
        "recurrent network, only chooses the tables of the next step, and the sums over states stay exact. If the "
        "memory also reads the state, each path of states has a memory of its own, and no recursion over K numbers is "
        "exact."
    )
    hypotheses = "finitely many states; h_t is a function of x_{1:t-1} and of inputs alone"
    routes = (
        "log p(x), p(z_t | x), p(z_t, z_{t+1} | x) and the best path's log p(x, z) by the engines, "
        "against the sum over all paths of states, each with its own memory"
    )
    control = "a memory that reads z, and the recursion on the tables of a memory that does not; the engines refuse it"
    proof = (
        "Given x_{1:t-1} and the inputs, h_t is one number, the same for all paths of states. So p(z_t | z_{1:t-1}, "
        "x_{1:t-1}) = p(z_t | z_{t-1}, h_t) is a K by K table A_t and p(x_t | z_{1:t}, x_{1:t-1}) = p(x_t | z_t, h_t) "
        "a vector b_t, and P(z_t = k, x_{1:t}) = b_t(k) sum_j P(z_{t-1} = j, x_{1:t-1}) A_t(j, k) as in a hidden "
        "Markov model: x enters through A_t and b_t only, however nonlinearly. Where h_t reads z, the law of z_t "
        "depends on all of z_{1:t-1}."
    )

    @override
    def cases(self) -> Sequence[Case]:
        return [(num_states, has_input) for num_states in (2, 3, 4) for has_input in (False, True)]

    @property
    @override
    def tolerance(self) -> float:
        return rounding(NUM_STEPS, width=4)

    @torch.no_grad()
    @override
    def residual(self, case: Case, seed: int) -> float:
        model, (x, u) = Switching(*case, seed=seed), self._data(case, seed)
        return difference(by_engines(model, x, u), by_paths(model, x, u))

    @torch.no_grad()
    @override
    def control_residual(self, case: Case, seed: int) -> float:
        model, (x, u) = Remembering(*case, seed=seed), self._data(case, seed)
        if model.exact or not _refuses(model, x, u):
            return 0.0
        without_z = Switching(*case, seed=seed)
        return difference(by_engines(without_z, x, u), by_paths(model, x, u))

    def _data(self, case: Case, seed: int) -> tuple[Tensor, Tensor | None]:
        generator = torch.Generator().manual_seed((seed + 1) % 2**63)
        x = torch.randn(NUM_STEPS, generator=generator, dtype=torch.float64)
        return x, torch.randn(NUM_STEPS, 1, generator=generator, dtype=torch.float64) if case[1] else None


def _refuses(model: SequenceModel, x: Tensor, u: Tensor | None) -> bool:
    try:
        by_engines(model, x, u)
    except TypeError:
        return True
    return False
