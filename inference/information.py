"""Standard errors of parameters by the observed information, where log p(x) is exact.

    I = -d^2 log p(x) / d theta d theta',   Var g(theta) = dg I^+ dg'        theta: the unconstrained parameters

I is exact, by autograd, where log p(x) has second derivatives and the data are few enough. Elsewhere, for laws whose
kernels have first derivatives only, it is the difference of exact gradients at theta + h and theta - h, entry by entry,
with h a thousandth of 1 / sqrt(I_ii), so that units do not matter.

In a row of logits one number is redundant, and so is the scale of a latent state: I is singular. I^+ inverts it on the
parameters that the data determine; g is one of them if dg has no part among the other directions (Rothenberg, 1971).
Sources: Efron & Hinkley (1978) for the observed information, Rao (1973), sec. 6a.2 for the delta method.
"""

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.parameters import call_with, current_parameters
from pgm_rnn.sequences import Sequences

MAX_PARAMETERS = 500
"""Largest number of unconstrained parameters whose information is computed: it takes four gradients for each."""
MAX_EXACT = 2**18
"""Largest number of steps times parameters whose second derivatives are exact: autograd keeps each step of the data."""
_AGREE = 0.01
"""Largest difference of exact second derivatives from those of gradients along one direction, where I_ii is one."""
_STEP = 1e-3
_NO_EFFECT = 1e-6
"""Change of sqrt(2 log p) below which a parameter that moves by its own size, or by one, has no effect."""
_LEAST = 1e-4
"""Smallest eigenvalue, in units of the largest one, of a direction that the data determine."""
_TOLERANCE = 1e-3
"""Largest part of a gradient among the other directions that counts as rounding."""


class Information(NamedTuple):
    """The observed information of the free parameters, in units in which its diagonal is one.

    Attributes:
        values: eigenvalues, ascending, (n,).
        vectors: eigenvectors, (n, n).
        unit: what one unit of each free parameter is, (n,); 0 for one without effect.
        determined: directions that the data determine, (n,), bool.
        score: the gradient of log p(x), in these units and coordinates, (n,).
        log_likelihood: log p(x) of all sequences, nats.
        start_is_known: whether the parameters of p(z_1) count as known, because few sequences leave them at a boundary
            where log p(x) has no maximum inside.
    """

    values: Tensor
    vectors: Tensor
    unit: Tensor
    determined: Tensor
    score: Tensor
    log_likelihood: float
    start_is_known: bool = False

    @property
    def at_maximum(self) -> bool:
        """Whether no direction curves upwards."""
        return bool((self.values > -_TOLERANCE * self.values.abs().max()).all())

    @property
    def possible_gain(self) -> float:
        """What one step of Newton's method would add to log p(x), nats."""
        kept = self.determined
        return float(0.5 * (self.score[kept].square() / self.values[kept]).sum())


class Free:
    """The free parameters of a model as one vector: finite entries of those that require a gradient, or of all.

    Args:
        model: a model in float64.
        frozen: first letters of the names of parameters that are known constants, too.

    Attributes:
        start: their present values, (n,).
        of_first_state: those whose name begins with "initial", (n,), bool.

    Raises:
        TypeError: `frozen` is one text.
        ValueError: no parameter has such a name.
    """

    def __init__(self, model: nn.Module, frozen: Collection[str] = ()) -> None:
        if isinstance(frozen, str):
            raise TypeError(f"expected frozen as a collection of names, got {frozen!r}; use frozen=[{frozen!r}]")
        self.model, present = model, current_parameters(model)
        for part in frozen:
            if not any(name.startswith(part) for name in present):
                raise ValueError(
                    f"expected frozen parts among the parameters {', '.join(present)}, got {part!r}; name one of them, "
                    "or the beginning of several"
                )
        learnt = {name for name, value in present.items() if value.requires_grad} or set(present)
        learnt = {name for name in learnt if not name.startswith(tuple(frozen))}
        self._present = {name: value.detach().clone() for name, value in present.items()}
        self._free = {name: self._present[name].isfinite() for name in self._present if name in learnt}
        values = [self._present[name][free] for name, free in self._free.items()]
        begins = [name.startswith("initial") for name in self._free]
        none = torch.zeros(0, dtype=torch.float64)
        self.start = torch.cat([none, *values])
        self.of_first_state = torch.cat([none, *map(torch.full_like, values, begins)]).bool()

    def call(self, function: Callable[[], Tensor], theta: Tensor) -> Tensor:
        """`function()` while the free parameters are `theta` (n,), with gradients to it."""
        values, parts = dict(self._present), theta.split([int(free.sum()) for free in self._free.values()])
        for (name, free), part in zip(self._free.items(), parts, strict=True):
            values[name] = values[name].masked_scatter(free, part)
        return call_with(self.model, values, function)

    def gradient(self, function: Callable[[], Tensor], theta: Tensor) -> Tensor:
        """d function() / d theta, (n,), of a function with one value; zero where it does not depend on theta."""
        theta = theta.clone().requires_grad_()
        with torch.enable_grad():
            value = self.call(function, theta)
            found = torch.autograd.grad(value, theta, allow_unused=True)[0] if value.requires_grad else None
        return torch.zeros_like(theta) if found is None else found

    def hessian(self, function: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
        """The gradient (n,) and the second derivatives (n, n) of a function with one value, by autograd.

        Raises:
            RuntimeError: a part of the function has first derivatives only.
        """
        theta = self.start.clone().requires_grad_()
        with torch.enable_grad():
            found = torch.autograd.grad(self.call(function, theta), theta, create_graph=True)[0]
        each = torch.eye(len(theta), dtype=theta.dtype, device=theta.device)
        rows = torch.autograd.grad(found, theta, each, is_grads_batched=True, materialize_grads=True)[0]
        return found.detach(), rows.detach()

    def jacobian(self, function: Callable[[], Tensor]) -> Tensor:
        """d function() / d theta at the present parameters, (*shape, n)."""
        theta = self.start.clone().requires_grad_()
        with torch.enable_grad():
            value = self.call(function, theta)
            entries = value.reshape(-1)
            if not value.requires_grad:
                return theta.new_zeros(*value.shape, len(theta))
            rows = [torch.autograd.grad(v, theta, retain_graph=True, allow_unused=True)[0] for v in entries]
        filled = [torch.zeros_like(theta) if row is None else row for row in rows]
        return torch.stack(filled).reshape(*value.shape, -1)


def observed_information(
    model: SequenceModel, data: Sequences, frozen: Collection[str] = ()
) -> tuple[Free, Information]:
    """The observed information of a model with an exact likelihood, and the parameters that it belongs to.

    Args:
        model: a model in float64; parameters with `requires_grad=False` are known constants, unless all are.
        data: observations, in float64 where they are real.
        frozen: parameters that are known as well: their names, or how these begin, such as "transition".

    Raises:
        ValueError: a model without an exact likelihood, without free parameters or with more than `MAX_PARAMETERS`, or
            an unknown name of a frozen part.
    """
    if not model.exact:
        raise ValueError(f"expected a model with an exact likelihood for standard errors, got {type(model).__name__}")
    free = Free(model, frozen)
    if not 0 < len(free.start) <= MAX_PARAMETERS:
        raise ValueError(
            f"expected 1 to {MAX_PARAMETERS} parameters for standard errors, got {len(free.start):,}; "
            "set requires_grad=False where a parameter is known"
        )

    def total() -> Tensor:
        return model.log_marginal_likelihood(data).sum()

    size = free.start.abs().clamp(min=1.0)
    exact = _exact(free, total, size) if data.num_steps * len(free.start) <= MAX_EXACT else None
    matrix, score, found = exact if exact is not None else _by_differences(free, total, size)
    with torch.no_grad():
        log_likelihood = float(total())
    whole = _decomposed(matrix, score, found, log_likelihood)
    if whole.at_maximum or not bool((found & free.of_first_state).any()):
        return free, whole
    later = _decomposed(matrix, score, found & ~free.of_first_state, log_likelihood)
    return free, later._replace(start_is_known=True) if later.at_maximum else whole


def _exact(free: Free, total: Callable[[], Tensor], size: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
    """Information, score and which parameters have an effect, by autograd; None where that is not possible or wrong.

    A part of one's own model may cut the graph without a word, so one direction is compared with a difference.
    """
    try:
        score, hessian = free.hessian(total)
    except (RuntimeError, NotImplementedError):  # first derivatives only
        return None
    if not bool(hessian.isfinite().all()):
        return None
    curved = hessian.diagonal().abs().sqrt()
    found = curved * size > _NO_EFFECT
    unit = torch.where(found, curved.reciprocal().minimum(10 * size), 0.0)  # where the diagonal is one
    signs = torch.ones_like(size)
    signs[1::2] = -1
    ahead, behind = (free.gradient(total, free.start + step * signs * unit) for step in (_STEP, -_STEP))
    wrong = unit * (hessian @ (signs * unit) - (ahead - behind) / (2 * _STEP))
    if not float(wrong.norm()) <= _AGREE * float(found.sum()) ** 0.5:
        return None
    return -hessian, score, found


def _by_differences(free: Free, total: Callable[[], Tensor], size: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same by differences of gradients."""
    first = -_differences(free, total, _STEP * size)
    curved = first.diagonal().abs().sqrt()
    found = curved * size > _NO_EFFECT
    step = _STEP * torch.where(found, curved.reciprocal().minimum(10 * size), size)
    return -_differences(free, total, step), free.gradient(total, free.start), found


def _decomposed(matrix: Tensor, score: Tensor, found: Tensor, log_likelihood: float) -> Information:
    """Eigenvalues of the information of the parameters that are `found` (n,), the others known."""
    diagonal = matrix.diagonal().abs()
    unit = diagonal.rsqrt().where(found & (diagonal > 0), 0.0)
    values, vectors = torch.linalg.eigh(unit[:, None] * (matrix + matrix.mT) / 2 * unit)
    determined = values > _LEAST * values.abs().max()
    return Information(values, vectors, unit, determined, vectors.mT @ (unit * score), log_likelihood)


def standard_errors(
    free: Free, information: Information, quantities: Mapping[str, Callable[[], Tensor]]
) -> dict[str, Tensor]:
    """Standard errors of functions of the parameters by the delta method, NaN where the data do not determine them.

    Args:
        free: the free parameters.
        information: their observed information.
        quantities: functions without arguments of the model's present parameters, each with a tensor.

    Returns:
        A standard error for each entry, in the shape of the quantity; 0 where it is a constant.
    """
    return {name: _errors(information, free.jacobian(value)) for name, value in quantities.items()}


def _errors(information: Information, jacobian: Tensor) -> Tensor:
    """Standard errors from derivatives (..., n)."""
    kept, moved = information.determined, (jacobian * information.unit) @ information.vectors  # (..., n)
    variance = (moved[..., kept].square() / information.values[kept]).sum(-1)
    lost = moved[..., ~kept].square().sum(-1).sqrt() > _TOLERANCE * moved.square().sum(-1).sqrt()
    ineffective = (jacobian[..., information.unit == 0].abs() > _TOLERANCE * jacobian.abs().amax(-1, True)).any(-1)
    return variance.sqrt().where(~(lost | ineffective), torch.nan)


def _differences(free: Free, function: Callable[[], Tensor], step: Tensor) -> Tensor:
    """Second derivatives of a function, (n, n): row i by central differences over step[i]."""
    rows = []
    for i, h in enumerate(step.tolist()):
        offset = torch.zeros_like(step)
        offset[i] = h
        ends = [free.gradient(function, free.start + sign * offset) for sign in (1, -1)]
        rows.append((ends[0] - ends[1]) / (2 * h))
    return torch.stack(rows)
