"""Particle filters of finite chains as trainable networks: a learned proposal, soft resampling, an unbiased gradient.

    a_t^n ~ V_{t-1},  V = s W + (1 - s) / M                       soft resampling, s the share
    z_t^n ~ q(z_t | z_{t-1}^{a_n}, x_t) = softmax(log p(z_t | z_{t-1}) + delta[x_t, z_{t-1}, z_t])
    w_t^n = W_{t-1}^{a_n} / (M V^{a_n}) p(z_t^n | z_{t-1}^{a_n}) p(x_t | z_t^n) / q(z_t^n | ...)
    c_t = sum_n w_t^n,  W_t = w_t / c_t,  log Z = sum_t log c_t

The hidden state is that of `ParticleFilterRNN`, M particles and their weights; with delta = 0 and s = 1 the network is
the bootstrap filter. States are read in two ways: from the particles, o_t(k) = sum_n W_t^n C[z_t^n, k], where C is the
identity unless it is trained, and one exact step ahead of them, r_t(k) = sum_n W_{t-1}^n p(k | z_{t-1}^n) p(x_t | k),
normalised.

The draws are discrete, so the gradient of an expected loss E[L] has two parts,

    grad E[L] = E[grad L + sum_t (G_t - baseline) grad log P(draws of step t | past)]

where G_t is the part of L that the draws of step t can change, and the baseline is the mean of G_t over other runs of
the filter on the same sequence. Without the second part a proposal learns nothing of use: with one particle
E[grad log Z] = -E[grad log q] = 0, and with many grad log Z tends to -E_{p(z | x)}[grad log q], which leads away from
the posterior. Sources: Karkus, Hsu & Lee (2018) for soft resampling; Maddison et al. (2017) for log Z as an objective
and its gradient; Mnih & Rezende (2016) for the baseline; Scibior & Wood (2021) for the gradient of W / V.
"""

import copy
import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pgm_rnn.checks import check_choice, check_counts
from pgm_rnn.kernels.resampling import draw_ancestors
from pgm_rnn.models import HMM

Gradient = Literal["full", "states", "weights"]
"""The draws that the gradient accounts for: states and ancestors, states alone, or none."""
Objective = Literal["likelihood", "ahead", "particles"]
"""-log Z, or the cross-entropy of the true states, under r_t or under o_t."""


class Tables(NamedTuple):
    """Log probabilities of H filters.

    Attributes:
        initial: log p(z_1), (H, K).
        transition: log p(z_t | z_{t-1}), (H, K, K).
        emission: log p(x_t | z_t), (H, K, S).
        first_proposal: log q(z_1 | x_1), (H, S, K).
        proposal: log q(z_t | z_{t-1}, x_t), (H, S, K, K), indexed by x_t, z_{t-1}, z_t.
    """

    initial: Tensor
    transition: Tensor
    emission: Tensor
    first_proposal: Tensor
    proposal: Tensor


class Trace(NamedTuple):
    """Results of H filters on their sequences, with R runs each; time is the first axis.

    Attributes:
        log_normalizers: log c_t, (T, R, H, B), nats.
        particles: o_t, (T, R, H, B, K).
        ahead: r_t, (T, R, H, B, K).
        log_draws: log P(draws of step t | past), (T, R, H, B); 0 for draws that the gradient does not see.
    """

    log_normalizers: Tensor
    particles: Tensor
    ahead: Tensor
    log_draws: Tensor


class ParticleNetworks(nn.Module):
    """H particle filters of finite chains, side by side, each with its own parameters.

    Args:
        initial_logits: (H, K).
        transition_logits: (H, K, K).
        emission_logits: (H, K, S).
        share: s, of the weights in the law of the ancestors, in (0, 1].
        readout_logits: logits of C, (H, K, K), None for the identity.
        learn_model: whether all these logits are trained; otherwise only the proposal's delta, which begins at zero.

    Raises:
        ValueError: shapes that do not fit, or a share outside (0, 1].

    Example:
        >>> networks = ParticleNetworks.of([HMM.random(2, 3, seed=0)])
        >>> x, uniforms = torch.tensor([[[0, 2, 1]]]), torch.rand(3, 2, 10, 4, 1, 1)
        >>> networks.run(x, uniforms).log_normalizers.shape  # 3 steps, 4 runs, of 10 particles each
        torch.Size([3, 4, 1, 1])
    """

    def __init__(
        self,
        initial_logits: Tensor,
        transition_logits: Tensor,
        emission_logits: Tensor,
        readout_logits: Tensor | None = None,
        *,
        share: float = 0.5,
        learn_model: bool = False,
    ) -> None:
        super().__init__()
        (num, num_states), num_symbols = initial_logits.shape, emission_logits.shape[-1]
        expected = ((num, num_states, num_states), (num, num_states, num_symbols))
        got = (tuple(transition_logits.shape), tuple(emission_logits.shape))
        if got != expected:
            raise ValueError(f"expected transition and emission logits of shapes {expected}, got {got}")
        if not 0 < share <= 1:
            raise ValueError(f"expected share in (0, 1], got {share}")
        self.share, self.num_states = share, num_states
        logits = [value.detach().clone() for value in (initial_logits, transition_logits, emission_logits)]
        self.initial, self.transition, self.emission = (nn.Parameter(value, learn_model) for value in logits)
        self.readout = None if readout_logits is None else nn.Parameter(readout_logits.detach().clone(), learn_model)
        self.first_delta = nn.Parameter(initial_logits.new_zeros(num, num_symbols, num_states))
        self.delta = nn.Parameter(initial_logits.new_zeros(num, num_symbols, num_states, num_states))

    @staticmethod
    def of(hmms: Sequence[HMM], *, share: float = 0.5) -> "ParticleNetworks":
        """Filters of known HMMs over the same numbers of states and symbols, whose proposals begin at the prior.

        Raises:
            ValueError: a probability is zero, which logits that are trained cannot have.
        """
        tables = [[hmm.initial_logits, hmm.transition_logits, hmm.emission_table.params] for hmm in hmms]
        stacked = [torch.stack(parts) for parts in zip(*tables, strict=True)]
        if not all(bool(logits.isfinite().all()) for logits in stacked):
            raise ValueError("expected HMMs of positive probabilities, got one that is zero; use another HMM")
        initial, transition, emission = stacked
        return ParticleNetworks(initial, transition, emission, share=share)

    @staticmethod
    def blank(
        num_states: int, num_symbols: int, generators: Sequence[torch.Generator], *, share: float = 0.5
    ) -> "ParticleNetworks":
        """Filters that also learn their model and C: the logits begin at N(0, 0.1^2), those of C at 2 I.

        Raises:
            ValueError: a size is not a positive number.
        """
        check_counts(num_states=num_states, num_symbols=num_symbols)
        shapes = ((num_states,), (num_states, num_states), (num_states, num_symbols))
        drawn = [[0.1 * torch.randn(shape, generator=one) for shape in shapes] for one in generators]
        initial, transition, emission = (torch.stack(parts) for parts in zip(*drawn, strict=True))
        readout = 2 * torch.eye(num_states).expand(len(drawn), -1, -1)
        return ParticleNetworks(initial, transition, emission, readout, share=share, learn_model=True)

    @torch.no_grad()
    def set_optimal_proposal(self) -> None:
        """delta = log p(x_t | z_t): the proposal p(z_t | z_{t-1}, x_t), whose weights vary least one step on."""
        log_emission = self.emission.log_softmax(-1).mT  # (H, S, K)
        self.first_delta.copy_(log_emission)
        self.delta.copy_(log_emission[:, :, None].expand_as(self.delta))

    def only(self, number: int) -> "ParticleNetworks":
        """A copy of one of the filters."""
        copied = copy.deepcopy(self)
        for parameter in copied.parameters():
            parameter.data = parameter.data[number : number + 1]
        return copied

    def tables(self) -> Tables:
        """The log probabilities."""
        initial, transition, emission = (p.log_softmax(-1) for p in (self.initial, self.transition, self.emission))
        first_proposal = (self.initial[:, None] + self.first_delta).log_softmax(-1)
        return Tables(
            initial, transition, emission, first_proposal, (self.transition[:, None] + self.delta).log_softmax(-1)
        )

    def run(self, x: Tensor, uniforms: Tensor, gradient: Gradient = "full") -> Trace:
        """R runs of each filter on its sequences.

        Args:
            x: symbols, (H, B, T).
            uniforms: in [0, 1), (T, 2, M, R, H, B): for states and for ancestors.
            gradient: the draws whose log probabilities the trace contains. With "full" V has its gradient, in the
                weights and in `log_draws`; otherwise V is a constant, as in Scibior & Wood.

        Raises:
            ValueError: an unknown gradient.
        """
        check_choice("gradient", gradient, ("full", "states", "weights"))
        trace = _Recursion(self.tables(), self.share, gradient).over(x, uniforms)
        return trace if self.readout is None else trace._replace(particles=trace.particles @ self.readout.softmax(-1))


class _Recursion:
    """The filter's steps with given tables. p(z, x) / q of a step is a table too, so a particle costs one look-up."""

    def __init__(self, tables: Tables, share: float, gradient: Gradient) -> None:
        self.tables, self.share, self.gradient = tables, share, gradient
        self.row = torch.arange(len(tables.initial))[:, None]  # (H, 1)
        self.first_cdf, self.cdf = _cdf(tables.first_proposal), _cdf(tables.proposal)
        log_emission = tables.emission.mT  # (H, S, K)
        self.first_ratio = tables.initial[:, None] + log_emission - tables.first_proposal  # (H, S, K)
        self.ratio = tables.transition[:, None] + log_emission[:, :, None] - tables.proposal  # (H, S, K, K)

    def over(self, x: Tensor, uniforms: Tensor) -> Trace:
        steps = []
        z: Tensor | None = None
        belief: Tensor | None = None
        log_drawn: Tensor | float = 0.0
        log_weights = uniforms.new_empty(0)
        for x_t, (u_states, u_ancestors) in zip(x.unbind(-1), uniforms.unbind(0), strict=True):
            ahead = self.read_ahead(belief, x_t, u_states.shape[1])
            if z is None:
                log_left = u_states.new_full(u_states.shape, -math.log(len(u_states)))
            else:
                z, log_left, log_drawn = self.resample(z, log_weights, u_ancestors)
            z, log_ratio, log_proposed = self.move(z, x_t, u_states)
            joint = log_left + log_ratio
            log_normalizer = joint.logsumexp(0)
            log_weights = joint - log_normalizer
            belief = self.by_state(log_weights, z)
            seen = log_drawn if self.gradient == "weights" else log_drawn + log_proposed.sum(0)
            steps.append((log_normalizer, belief, ahead, torch.as_tensor(seen).expand(log_normalizer.shape)))
        return Trace(*(torch.stack(parts) for parts in zip(*steps, strict=True)))

    def read_ahead(self, belief: Tensor | None, x: Tensor, num_runs: int) -> Tensor:
        """r_t from the particles' weights by state before it (R, H, B, K), None at the first step: (R, H, B, K)."""
        if belief is None:
            moved = self.tables.initial.exp()[:, None].expand(num_runs, -1, x.shape[-1], -1)
        else:
            moved = belief @ self.tables.transition.exp()  # (R, H, B, K)
        joint = moved * _rows(self.tables.emission.mT, _flat(self.tables.emission.mT, self.row, x)).exp()
        return joint / joint.sum(-1, keepdim=True)

    def resample(self, z: Tensor, log_weights: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor, Tensor | float]:
        """Ancestors' states, their log W / (M V), and log P(ancestors)."""
        num = len(z)
        drawn_by = (self.share * log_weights.exp() + (1 - self.share) / num).clamp(min=0.0)
        if self.gradient != "full":
            drawn_by = drawn_by.detach()
        flat = drawn_by.detach().reshape(num, -1).double()
        ancestors = draw_ancestors(flat, "multinomial", uniforms.reshape(num, -1).double()).reshape(z.shape)
        log_drawn = drawn_by.gather(0, ancestors).log()
        left = log_weights.gather(0, ancestors) - log_drawn - math.log(num)
        return z.gather(0, ancestors), left, log_drawn.sum(0) if self.gradient == "full" else 0.0

    def move(self, z_before: Tensor | None, x: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """z_t (M, R, H, B), log p(z_t, x_t | z_{t-1}) / q(z_t | z_{t-1}, x_t), and log q."""
        cdf, ratio, proposal = self.first_cdf, self.first_ratio, self.tables.first_proposal
        found = _flat(cdf, self.row, x)
        if z_before is not None:
            cdf, ratio, proposal = self.cdf, self.ratio, self.tables.proposal
            found = _flat(cdf, self.row, x, z_before)
        z = _inverse(_rows(cdf, found), uniforms)
        found = found * cdf.shape[-1] + z
        return z, _entries(ratio, found), _entries(proposal, found)

    def by_state(self, log_weights: Tensor, z: Tensor) -> Tensor:
        """The weight of each state, (R, H, B, K)."""
        empty = log_weights.new_zeros(self.tables.initial.shape[-1], *z.shape[1:])
        return empty.scatter_add(0, z, log_weights.exp()).movedim(0, -1)


def surrogate(trace: Trace, objective: Objective, z: Tensor | None = None) -> Tensor:
    """A surrogate whose gradient estimates that of the expected loss: nats, mean over runs and sequences, sum over H.

    It is the loss plus terms that are zero, but have the gradient of the draws' log probabilities.

    Args:
        trace: a trace of at least two runs, unless it has no log probabilities of draws.
        objective: the loss.
        z: true states, (H, B, T), unless the loss is -log Z.

    Raises:
        ValueError: the objective needs true states, and `z` is None.
    """
    losses = step_losses(trace, objective, z)
    to_go = losses.detach().flip(0).cumsum(0).flip(0)
    if objective == "ahead":  # r_t is made of the particles before step t's draws
        to_go = to_go - losses.detach()
    num = to_go.shape[1]
    advantage = to_go if num == 1 else (to_go - to_go.mean(1, keepdim=True)) * (num / (num - 1))
    whole = losses + advantage * (trace.log_draws - trace.log_draws.detach())
    return whole.sum(0).mean((0, 2)).sum()


def step_losses(trace: Trace, objective: Objective, z: Tensor | None = None) -> Tensor:
    """-log c_t, or -log r_t, -log o_t of the true states z (H, B, T): (T, R, H, B), nats.

    Raises:
        ValueError: the objective needs true states, and `z` is None.
    """
    if objective == "likelihood":
        return -trace.log_normalizers
    if z is None:
        raise ValueError(f"expected true states for the objective {objective!r}, got none; give z")
    law = trace.ahead if objective == "ahead" else trace.particles
    index = z.movedim(-1, 0)[:, None, ..., None].expand(*law.shape[:-1], 1)  # (T, R, H, B, 1)
    return -law.gather(-1, index).squeeze(-1).log()


def _flat(table: Tensor, *index: Tensor) -> Tensor:
    """Flat places of the entries or rows table[index], when the table's first axes are merged into one."""
    flat = index[0]
    for size, part in zip(table.shape[1:], index[1:], strict=False):
        flat = flat * size + part
    return flat


def _entries(table: Tensor, flat: Tensor) -> Tensor:
    """Numbers of a table by their flat places; of the ways to index it, the one whose gradient costs least."""
    return table.reshape(-1).gather(0, flat.reshape(-1)).view(flat.shape)


def _rows(table: Tensor, flat: Tensor) -> Tensor:
    """Last axes of a table by the flat places of the others, (..., K)."""
    return F.embedding(flat, table.reshape(-1, table.shape[-1]))


def _cdf(log_probs: Tensor) -> Tensor:
    """Distribution functions (..., K), infinite from the last state of positive probability on."""
    probs = log_probs.detach().exp()
    beyond = probs.flip(-1).cumsum(-1).flip(-1) - probs  # what comes after k
    return probs.cumsum(-1).masked_fill(beyond <= 0, torch.inf)


def _inverse(cdf: Tensor, uniforms: Tensor) -> Tensor:
    """The first state at which the distribution function (..., K) exceeds u (...)."""
    return (cdf <= uniforms[..., None]).sum(-1)
