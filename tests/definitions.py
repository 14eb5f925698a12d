"""Textbook definitions, written to be read and not to be quick: what the tests compare the package with."""

import math
from itertools import product
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from pgm_rnn.emissions import (
    Bernoulli,
    Beta,
    Categorical,
    Emission,
    FullGaussian,
    Gamma,
    Gaussian,
    Joint,
    Mixture,
    NegativeBinomial,
    Pen,
    Poisson,
    SphericalGaussian,
    StudentT,
    Tied,
    VonMises,
    ZeroInflated,
)
from pgm_rnn.models.cell import Cell
from pgm_rnn.models.rnn import RNN

Layers = list[tuple[Tensor, Tensor]]
"""Hidden vector and memory cell of each layer, from the bottom up."""


def all_words(num_symbols: int, num_steps: int) -> Tensor:
    """Every sequence of symbols, (num_symbols ** num_steps, num_steps)."""
    return torch.tensor(list(product(range(num_symbols), repeat=num_steps)))


def softplus(x: Tensor) -> Tensor:
    return torch.log(1 + torch.exp(x))


def logistic(x: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-x))


# One observation.


def log_density(family: Emission, params: Tensor, x: Tensor) -> Tensor:
    """log p(x | params): (...,) for params (..., num_params) and x (..., *event)."""
    if isinstance(family, Categorical):
        probs = params.exp() / params.exp().sum(-1, keepdim=True)
        return probs.gather(-1, x[..., None]).squeeze(-1).log()
    if isinstance(family, FullGaussian):
        return _full_gaussian_log_density(params, x)
    if isinstance(family, Pen):
        return _pen_log_density(params, x)
    if isinstance(family, Joint):
        return _joint_log_density(family, params, x)
    if isinstance(family, Tied):
        return log_density(family.family, params, x)
    if isinstance(family, SphericalGaussian):
        scale = softplus(params[..., family.size :])
        squares = ((x - params[..., : family.size]) / scale) ** 2
        return (-0.5 * squares - scale.log() - 0.5 * math.log(2 * math.pi)).sum(-1)
    if isinstance(family, Mixture):
        return _mixture_log_density(family, params, x)
    if isinstance(family, ZeroInflated):
        return _zero_inflated_log_density(family, params, x)
    if not family.event_shape:
        x = x[..., None]  # (..., 1)
    if isinstance(family, Bernoulli):
        p = logistic(params)
        per_entry = x * p.log() + (1 - x) * (1 - p).log()
    elif isinstance(family, NegativeBinomial):
        mean, size = softplus(params.chunk(2, -1)[0]), 1 / softplus(params.chunk(2, -1)[1])
        chosen = torch.lgamma(x + size) - torch.lgamma(size) - torch.lgamma(x + 1)
        per_entry = chosen + size * (size / (size + mean)).log() + x * (mean / (size + mean)).log()
    elif isinstance(family, Gamma):
        mean, a = (softplus(part) for part in params.chunk(2, -1))
        per_entry = a * (a / mean).log() - torch.lgamma(a) + (a - 1) * x.log() - a * x / mean
    elif isinstance(family, Beta):
        mean, c = logistic(params.chunk(2, -1)[0]), softplus(params.chunk(2, -1)[1])
        a, b = mean * c, (1 - mean) * c
        constant = torch.lgamma(c) - torch.lgamma(a) - torch.lgamma(b)
        per_entry = constant + (a - 1) * x.log() + (b - 1) * (1 - x).log()
    elif isinstance(family, VonMises):
        loc, k = params.chunk(2, -1)[0], softplus(params.chunk(2, -1)[1])
        per_entry = k * torch.cos(x - loc) - (2 * math.pi * torch.special.i0(k)).log()
    elif isinstance(family, StudentT):
        loc, scale, df = params.chunk(3, -1)
        scale, df = softplus(scale), softplus(df)
        constant = torch.lgamma((df + 1) / 2) - torch.lgamma(df / 2) - 0.5 * (math.pi * df).log() - scale.log()
        per_entry = constant - (df + 1) / 2 * (1 + ((x - loc) / scale) ** 2 / df).log()
    elif isinstance(family, Gaussian):
        loc, scale = params[..., : params.shape[-1] // 2], softplus(params[..., params.shape[-1] // 2 :])
        per_entry = -0.5 * ((x - loc) / scale) ** 2 - scale.log() - 0.5 * math.log(2 * math.pi)
    else:
        rate = softplus(params)
        per_entry = x * rate.log() - rate - torch.lgamma(x + 1)
    return per_entry.sum(-1)


def _joint_log_density(family: Joint, params: Tensor, x: Tensor) -> Tensor:
    """Sum over the families, each of which takes the next parameters and the next entries."""
    total = torch.zeros(())
    for each in family.families:
        width, size = each.event_shape.numel(), each.num_params
        own = x[..., :width] if each.event_shape else x[..., 0]
        total = total + log_density(each, params[..., :size], own.long() if each.needs_integers else own)
        x, params = x[..., width:], params[..., size:]
    return total


def _mixture_log_density(family: Mixture, params: Tensor, x: Tensor) -> Tensor:
    """log of sum_m weights[m] p_m(x), the components' parameters one after the other, by the largest term."""
    M, n = family.num_components, family.family.num_params
    exps = params[..., :M].exp()
    terms = []
    for m in range(M):
        own = params[..., M + m * n : M + (m + 1) * n]
        terms.append((exps[..., m] / exps.sum(-1)).log() + log_density(family.family, own, x))
    largest = torch.stack(terms).amax(0)
    return largest + (torch.stack(terms) - largest).exp().sum(0).log()


def _zero_inflated_log_density(family: ZeroInflated, params: Tensor, x: Tensor) -> Tensor:
    """log of gate [x = 0] + (1 - gate) q(x), entry by entry, summed."""
    scalar, size = type(family.family)(), family.event_shape.numel()
    kinds, x = params.unflatten(-1, (-1, size)), x if family.event_shape else x[..., None]
    total = torch.zeros(())
    for entry in range(size):
        own, gate = kinds[..., :-1, entry], logistic(kinds[..., -1, entry])
        counts = log_density(scalar, own, x[..., entry]).exp()
        total = total + (gate * (x[..., entry] == 0) + (1 - gate) * counts).log()
    return total


def _full_gaussian_log_density(params: Tensor, x: Tensor) -> Tensor:
    """-(x - m)' S^-1 (x - m) / 2 - log det(2 pi S) / 2 with S = L L', L filled entry by entry."""
    dim = x.shape[-1]
    factor, place = torch.zeros(*params.shape[:-1], dim, dim), 2 * dim
    for i in range(dim):
        factor[..., i, i] = softplus(params[..., dim + i])
        for j in range(i):
            factor[..., i, j] = params[..., place]
            place += 1
    cov, error = factor @ factor.mT, x - params[..., :dim]
    distance = (error * torch.linalg.solve(cov, error)).sum(-1)
    return -0.5 * (distance + torch.logdet(2 * math.pi * cov))


def _pen_log_density(params: Tensor, x: Tensor) -> Tensor:
    """log of a sum of bivariate normal densities, each by its covariance matrix, and of the pen's Bernoulli law."""
    pi, mu_x, mu_y, s_x, s_y, rho = params[..., :-1].chunk(6, -1)
    pi, s_x, s_y, rho = pi.exp() / pi.exp().sum(-1, keepdim=True), s_x.exp(), s_y.exp(), torch.tanh(rho)
    cov = torch.stack([torch.stack([s_x**2, rho * s_x * s_y], -1), torch.stack([rho * s_x * s_y, s_y**2], -1)], -2)
    error = x[..., None, :2] - torch.stack([mu_x, mu_y], -1)
    distance = (error * torch.linalg.solve(cov, error)).sum(-1)
    offset = (pi * torch.exp(-distance / 2) / torch.sqrt(torch.det(2 * math.pi * cov))).sum(-1)
    e = logistic(params[..., -1])
    return offset.log() + (x[..., 2] * e + (1 - x[..., 2]) * (1 - e)).log()


def emission_log_probs(family: Emission, params: Tensor, x: Tensor) -> Tensor:
    """log p(x_t | z_t = k) of one sequence x (T, *event) and a table of params (K, num_params): (T, K)."""
    return torch.stack([torch.stack([log_density(family, row, x_t) for row in params]) for x_t in x])


# A Markov chain that is observed through its states: enumeration of all K^T paths.


def path_probs(initial: Tensor, transition: Tensor, emission_probs: Tensor) -> dict[tuple[int, ...], Tensor]:
    """p(z, x) of every path z for p(x_t | z_t = k) given as emission_probs (T, K)."""
    num_steps, num_states = emission_probs.shape
    table = {}
    for path in product(range(num_states), repeat=num_steps):
        prob = initial[path[0]] * emission_probs[0, path[0]]
        for t in range(1, num_steps):
            prob = prob * transition[path[t - 1], path[t]] * emission_probs[t, path[t]]
        table[path] = prob
    return table


def marginal_prob(initial: Tensor, transition: Tensor, emission_probs: Tensor) -> Tensor:
    """p(x_{1:T}), the sum over all paths."""
    return torch.stack(list(path_probs(initial, transition, emission_probs).values())).sum()


def filtered_probs(initial: Tensor, transition: Tensor, emission_probs: Tensor) -> Tensor:
    """p(z_t | x_{1:t}) for every t, (T, K): the paths of x_{1:t} that end in each state."""
    num_steps, num_states = emission_probs.shape
    rows = []
    for t in range(1, num_steps + 1):
        table = path_probs(initial, transition, emission_probs[:t])
        joint = torch.stack([torch.stack([p for z, p in table.items() if z[-1] == k]).sum() for k in range(num_states)])
        rows.append(joint / joint.sum())
    return torch.stack(rows)


# A recurrent network: the equations of each cell, one layer at a time.


def next_layers(name: str, cell: Cell, x: Tensor, layers: Layers) -> Layers:
    """The layers of a cell after input x (batch, input_dim), by its equations."""
    weights = dict(cell.named_parameters())
    if name == "deep-transition":
        return [(_deep_transition(weights, x, layers[0][0]), layers[0][1])]
    if name in ("min-gru", "lru"):
        return _linear_layers(name, weights, x, layers)
    new: Layers = []
    for i, (h, c) in enumerate(layers):
        from_x = x @ weights[f"network.weight_ih_l{i}"].T + weights[f"network.bias_ih_l{i}"]
        from_h = h @ weights[f"network.weight_hh_l{i}"].T + weights[f"network.bias_hh_l{i}"]
        new.append(layer_step(name, from_x, from_h, h, c))
        x = new[-1][0]
    return new


def layer_step(name: str, from_x: Tensor, from_h: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Hidden vector and memory cell after (h, c), given W x + b and U h + c."""
    n = h.shape[-1]
    if name == "gru":
        r = logistic(from_x[..., :n] + from_h[..., :n])
        s = logistic(from_x[..., n : 2 * n] + from_h[..., n : 2 * n])
        candidate = torch.tanh(from_x[..., 2 * n :] + r * from_h[..., 2 * n :])
        return (1 - s) * candidate + s * h, c
    a = from_x + from_h
    if name == "lstm":
        i, f, g, o = (a[..., k * n : (k + 1) * n] for k in range(4))
        c = logistic(f) * c + logistic(i) * torch.tanh(g)
        return logistic(o) * torch.tanh(c), c
    return {
        "elman": torch.tanh,
        "elman-relu": lambda y: y.clamp(min=0),
        "elman-sigmoid": logistic,
        "elman-linear": lambda y: y,
    }[name](a), c


def _linear_layers(name: str, weights: dict[str, nn.Parameter], x: Tensor, layers: Layers) -> Layers:
    """The minGRU by its equations, and the LRU by a rotation and a decay of each pair of real and imaginary part."""
    new: Layers = []
    for i, (h, _) in enumerate(layers):
        own = {key.removeprefix(f"layers.{i}."): value for key, value in weights.items() if f"layers.{i}." in key}
        if name == "min-gru":
            gate, candidate = (x @ own["input.weight"].T + own["input.bias"]).chunk(2, -1)
            s = logistic(gate)
            new.append(((1 - s) * h + s * candidate, h))
        else:
            u = x
            if i > 0:
                y = x @ own["output.weight"].T + own["output.bias"]
                u = y * (1 + torch.erf(y / 2**0.5)) / 2
            new.append((_rotated(own["log_decay"], own["log_angle"], u @ own["input.weight"].T, h), h))
        x = new[-1][0]
    return new


def _rotated(log_decay: Tensor, log_angle: Tensor, u: Tensor, h: Tensor) -> Tensor:
    num_real = len(log_decay)
    after = torch.empty(torch.broadcast_shapes(u.shape, h.shape))
    for k in range(num_real):
        size = torch.exp(-torch.exp(log_decay[k]))
        gamma = torch.sqrt(1 - size**2)
        if k == len(log_angle):  # the real unit of an odd number of entries
            after[..., k] = size * h[..., k] + gamma * u[..., k]
            continue
        real, imaginary, angle = h[..., k], h[..., num_real + k], torch.exp(log_angle[k])
        turned = torch.cos(angle) * real - torch.sin(angle) * imaginary
        after[..., k] = size * turned + gamma * u[..., k]
        turned = torch.sin(angle) * real + torch.cos(angle) * imaginary
        after[..., num_real + k] = size * turned + gamma * u[..., num_real + k]
    return after


def _deep_transition(weights: dict[str, nn.Parameter], x: Tensor, h: Tensor) -> Tensor:
    h = torch.tanh(x @ weights["input.weight"].T + weights["input.bias"] + h @ weights["recurrent.0.weight"].T)
    layer = 1
    while f"recurrent.{layer}.weight" in weights:
        h = torch.tanh(h @ weights[f"recurrent.{layer}.weight"].T + weights[f"recurrent.{layer}.bias"])
        layer += 1
    return h


def to_layers(cell: Cell, state: Tensor) -> Layers:
    """A state (batch, state_dim) as layers: hidden vectors from the top layer down, then memory cells likewise."""
    parts = list(state.split(cell.hidden_dim, dim=-1))
    num_layers = int(getattr(cell, "num_layers", 1))
    hidden, memory = parts[:num_layers][::-1], parts[num_layers:][::-1]
    return list(zip(hidden, memory or hidden, strict=True))


def to_state(name: str, layers: Layers) -> Tensor:
    """The inverse of `to_layers`, (batch, state_dim)."""
    hidden, memory = [h for h, _ in layers[::-1]], [c for _, c in layers[::-1]]
    return torch.cat(hidden + memory if name == "lstm" else hidden, dim=-1)


def rnn_step_log_probs(name: str, rnn: RNN, x: Tensor) -> Tensor:
    """log p(x_t | x_{<t}) of sequences x (batch, T, *event), (batch, T), by the recursion written out."""
    assert rnn.initial_memory is not None
    layers = to_layers(rnn.cell, rnn.initial_memory.expand(len(x), -1))
    steps = []
    for t in range(x.shape[1]):
        params = layers[-1][0] @ rnn.readout.weight.T + rnn.readout.bias
        if isinstance(rnn.family, Tied):
            params = torch.cat([params, cast(Tensor, rnn.readout.shared).expand(len(x), -1)], dim=-1)
        steps.append(log_density(rnn.family, params, x[:, t]))
        layers = next_layers(name, rnn.cell, _rnn_input(rnn, x[:, t]), layers)
    return torch.stack(steps, dim=1)


def _rnn_input(rnn: RNN, x: Tensor) -> Tensor:
    """What stands for x_t (batch, *event) in the recurrence: an embedding, the values, or log(1 + counts).

    For columns of different kinds it is that of each column, with symbols as one-hot vectors.
    """
    if isinstance(rnn.family, Joint):
        columns = zip(x.unbind(-1), rnn.family.families, strict=True)
        return torch.cat([_column_input(column, family) for column, family in columns], dim=-1)
    if isinstance(rnn.family, Categorical):
        assert rnn.embedding is not None
        return torch.stack([rnn.embedding.weight[symbol] for symbol in x.tolist()])
    family = rnn.family.family if isinstance(rnn.family, Mixture) else rnn.family
    if isinstance(family, Poisson | NegativeBinomial | ZeroInflated | Gamma):
        x = (1 + x).log()
    if isinstance(family, VonMises):
        x = torch.cat([part.reshape(len(x), -1) for part in (x.cos(), x.sin())], dim=-1)
    return x.reshape(len(x), -1)


def _column_input(column: Tensor, family: Emission) -> Tensor:
    """One column (batch,) as its part of the input, (batch, width)."""
    if isinstance(family, Categorical):
        return torch.eye(family.num_symbols)[column.long()]
    return ((1 + column).log() if isinstance(family, Poisson) else column)[:, None]


# Statistics.


def largest_z_score(values: Tensor, probs: Tensor) -> float:
    """Largest |frequency - probability| in standard errors, for draws `values` (n,) from a table probs (J,)."""
    frequencies = torch.bincount(values, minlength=len(probs)) / len(values)
    return float(((frequencies - probs).abs() / (probs * (1 - probs) / len(values)).sqrt()).max())


def word_index(words: Tensor, num_symbols: int) -> Tensor:
    """Where each of the words (..., T) stands in `all_words`."""
    weights = num_symbols ** torch.arange(words.shape[-1] - 1, -1, -1)
    return (words * weights).sum(-1)


def conditional_mutual_information(joint: Tensor, a: int, b: int, given: set[int]) -> float:
    """I(A; B | C) in nats for a table with one axis a variable, from the definition."""
    others = [axis for axis in range(joint.dim()) if axis not in {a, b, *given}]
    p_abc = joint.sum(others, keepdim=True) if others else joint
    p_ac, p_bc, p_c = p_abc.sum(b, keepdim=True), p_abc.sum(a, keepdim=True), p_abc.sum((a, b), keepdim=True)
    positive = p_abc > 0
    ratio = (p_abc * p_c / (p_ac * p_bc)).where(positive, 1.0)
    return float((p_abc * ratio.log()).sum())


# A linear-Gaussian chain: the big joint normal law of all states and all observations.


class JointNormal(NamedTuple):
    """Moments of the stacked states (T D,) and of the stacked observations (T M,) given them."""

    mean: Tensor
    cov: Tensor
    matrix: Tensor
    noise: Tensor

    def observations(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and covariance of the observed entries; `seen` is (T M,) of truth values."""
        cov = self.matrix @ self.cov @ self.matrix.T + self.noise
        return (self.matrix @ self.mean)[seen], cov[seen][:, seen]

    def log_prob(self, x: Tensor, seen: Tensor) -> Tensor:
        """log density of the observed entries of x (T M,)."""
        mean, cov = self.observations(seen)
        error = x[seen] - mean
        distance = error @ torch.linalg.solve(cov, error)
        return -0.5 * (distance + torch.logdet(2 * math.pi * cov))

    def states_given(self, x: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (T D,) and covariance (T D, T D) of all states given the observed entries of x."""
        mean, cov = self.observations(seen)
        cross = self.cov @ self.matrix[seen].T
        gain = torch.linalg.solve(cov, cross.T).T
        return self.mean + gain @ (x[seen] - mean), self.cov - gain @ cross.T


def joint_normal(
    initial: tuple[Tensor, Tensor],
    transitions: list[tuple[Tensor, Tensor, Tensor]],
    emissions: list[tuple[Tensor, Tensor]],
) -> JointNormal:
    """From (m, P), the triples (A_t, b_t, Q_t), t = 2..T, and the pairs (C_t, R_t), t = 1..T."""
    mean, cov = initial
    dim = len(mean)
    for A, b, Q in transitions:
        last = cov[-dim:]
        mean = torch.cat([mean, A @ mean[-dim:] + b])
        cross = A @ last
        corner = A @ last[:, -dim:] @ A.T + Q
        cov = torch.cat([torch.cat([cov, cross.T], 1), torch.cat([cross, corner], 1)], 0)
    return JointNormal(
        mean, cov, torch.block_diag(*(C for C, _ in emissions)), torch.block_diag(*(R for _, R in emissions))
    )
