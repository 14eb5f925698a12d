"""Expectation-maximisation for the linear-Gaussian state-space model.

    E: moments of z_t, z_t z_t' and z_{t+1} z_t' under p(z_{1:T} | x_{1:T}), by the Kalman smoother
    M: two regressions, z_{t+1} on (z_t, u_{t+1}) and x_t on (z_t, u_t), and the moments of z_1

Missing entries of an observation are hidden, too: their moments given z_t and the rest of x_t enter the second
regression. All computations are in float64. The M-step chooses among covariances that exceed, in every direction, a
small fraction of the spread of the observations or of the states, because the likelihood is unbounded at zero. A
singular covariance keeps its range: in the other directions a regression is exact, and its coefficients stay. So does
the mean of a diffuse start along its directions.

Sources: Shumway & Stoffer (1982), eq. (12)-(14); Ghahramani & Hinton (1996), who also estimate C; Vidal (2024),
"Parameter learning via EM algorithm".
"""

from collections.abc import Collection
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from typing_extensions import TypeIs

from pgm_rnn.checks import check_frozen
from pgm_rnn.inference.em import remarks
from pgm_rnn.inference.em.climb import Score
from pgm_rnn.inference.em.gaussian_faults import Faults
from pgm_rnn.inference.em.regression import Bounded, Regression, fraction_of, most_likely_above
from pgm_rnn.inference.kalman.kinds import LinearGaussianModel, is_linear
from pgm_rnn.inference.kalman.problem import checked_gaussian
from pgm_rnn.kernels import gaussian_backward, kalman
from pgm_rnn.kernels.gaussian_chain import per_entry
from pgm_rnn.kernels.singular import generalised_inverse
from pgm_rnn.sequence_model.chains import Chained, check_undetermined, posterior
from pgm_rnn.sequences import Sequences, length_mask

PARTS = (
    "initial_mean",
    "initial_cov",
    "transition_matrix",
    "transition_cov",
    "emission_matrix",
    "emission_cov",
    "input_matrix",
    "feedthrough_matrix",
)
"""The names that `frozen` may have."""
COVS = {"initial_cov": "the first state", "transition_cov": "the states", "emission_cov": "the observations"}
"""The covariances, each with the variables whose noise it describes."""
MIN_SCALE = 1e-5
"""Smallest standard deviation given the state, as a fraction of the spread of a column or of the states."""
_ROOTS = 4
"""The same in square roots of the model's rounding error: the filter takes F_t = C P_t C' + R apart again."""
_LEAST_ROUNDINGS = 1024
"""Rounding errors of a state's variance that it must exceed given the other states."""
_OPERATIONS = 8
"""Rounding errors of a term of the log likelihood, apart from those of F_t."""
_SHARE = 0.3
"""A column belongs to a direction, a unit vector, with at least this coefficient."""


class TrainableLinearModel(LinearGaussianModel, Protocol):
    """A linear-Gaussian model whose parameters can be read and replaced by name."""

    diffuse: Tensor | None

    def chain(self, inputs: Tensor | None = None) -> kalman.GaussianChain:
        """The parameters in the form of the kernels."""

    def centred(self, x: Tensor, inputs: Tensor | None = None) -> Tensor:
        """x_t minus the contribution of the inputs."""

    def moments(self) -> dict[str, Tensor]:
        """The parameters by the names of the constructor's arguments; absent ones are left out."""

    @property
    def ranges(self) -> dict[str, Tensor]:
        """Orthonormal bases of the ranges of the singular covariances, by name."""

    def set_moments(self, moments: dict[str, Tensor]) -> None:
        """Replace parameters in place."""


def is_trainable(model: object) -> TypeIs[TrainableLinearModel]:
    """Whether a linear-Gaussian model can be fitted by EM: whether it has `set_moments`."""
    return is_linear(model) and hasattr(model, "set_moments")


class _Expected(NamedTuple):
    """Posterior moments of the states, and the two regressions made from them."""

    smoothed: gaussian_backward.Smoothed
    transition: Regression
    emission: Regression


class GaussianEm:
    """E and M steps on copies of a model's parameters; the model is left alone until `adopt`.

    Args:
        model: a `LinearGaussianSSM`.
        data: training sequences, NaN where an entry is missing.
        valid: must be None, for there is one start only.
        inputs: (batch, T, U) for a model with inputs.
        frozen: names of `PARTS` that keep the model's values.
        min_scale: the smallest standard deviation given the state, as a fraction of the spread.

    Raises:
        TypeError, ValueError: as `em.fit`.
    """

    def __init__(
        self,
        model: TrainableLinearModel,
        data: Sequences,
        valid: Sequences | None,
        *,
        inputs: Tensor | None,
        frozen: Collection[str],
        min_scale: float = MIN_SCALE,
    ) -> None:
        if valid is not None:
            raise ValueError(
                "expected valid=None for a linear-Gaussian model, which has only one start, got validation data; "
                "leave valid out"
            )
        self._model = model
        given = checked_gaussian(model, data, None, inputs)
        self._given, self._lengths, _, self._given_inputs = given[:4]
        self._observed = None if given.observed is None else per_entry(given.mask, self._given)
        self._x = self._given.double()
        self._inputs = None if self._given_inputs is None else self._given_inputs.double()
        self._mask = length_mask(self._lengths, self._x.shape[1])
        self._moments = {name: value.detach().double().clone() for name, value in model.moments().items()}
        self._ranges = {name: basis.double() for name, basis in model.ranges.items()}
        self._diffuse = None if model.diffuse is None else model.diffuse.double()
        self._frozen = check_frozen(frozen, self._moments)
        self._before, self._resting = self._moments, False
        self._min_scale = max(min_scale, _ROOTS * torch.finfo(self._given.dtype).eps ** 0.5)
        self._faults = Faults(self._x.where(self._seen(), torch.nan).flatten(0, 1), self._moments, self._given.dtype)
        self._spread = self._faults.spread
        self._floors = {"emission_cov": (self._min_scale * self._spread).square().diag()}
        self._held: dict[str, Tensor] = {}

    def _seen(self) -> Tensor:
        """Where an entry was observed, (B, T, M)."""
        seen = self._mask[..., None].expand(self._x.shape)
        return seen if self._observed is None else seen & self._observed

    def expect(self) -> Score:
        """E-step: the score of the present parameters; keeps the expected moments.

        Raises:
            CovarianceError: covariances that cannot be told from singular ones.
        """
        with self._faults.named(self._moments["emission_cov"]):
            return self._expect()

    def _expect(self) -> Score:
        chained = self._chained()
        check_undetermined(chained)
        result = posterior(chained)
        self._check_determined(result)
        moments = result.moments
        self._check_finite(moments.log_normalizers)
        smoothed = result.smooth(self._lengths)
        self._expected = _Expected(smoothed, self._transition_regression(smoothed), self._emission_regression(smoothed))
        if "transition_cov" not in self._floors:
            least = _LEAST_ROUNDINGS * torch.finfo(torch.float64).eps
            least = max(least, _ROOTS**2 * torch.finfo(self._given.dtype).eps)
            spread = fraction_of(self._spread_of_states(smoothed), self._min_scale**2, least)
            self._floors |= {"initial_cov": spread, "transition_cov": spread}
        terms = moments.log_normalizers
        value, num_terms = terms.sum()[None], int(self._mask.sum()) * self._x.shape[-1]
        eps = torch.finfo(terms.dtype).eps
        condition = self._condition(moments.predicted_covs)
        rounding = eps * (_OPERATIONS * terms.abs().sum()[None] + num_terms * (_OPERATIONS + condition))
        return Score(value, value, rounding)

    def _check_determined(self, result: Any) -> None:
        """Raise unless the sequences determine every diffuse direction of the start.

        Raises:
            ValueError: they do not; the sentence says so where EM itself led there.
        """
        try:
            result.check_determined(self._lengths)
        except ValueError as error:
            without = self._without_bound() if hasattr(self, "_expected") else []
            if not without:
                raise
            raise ValueError(f"expected a likelihood with a bound. {without[0]}") from error

    def _condition(self, predicted_covs: Tensor) -> float:
        """Largest ratio of F_t to its smallest part, the smallest eigenvalue of R, in units of the spreads.

        Where R is singular, the smallest eigenvalue of any F_t takes its place.
        """
        R, C = self._moments["emission_cov"], self._moments["emission_matrix"]
        if "emission_cov" in self._ranges:
            bounded = predicted_covs[predicted_covs.isfinite().all(-1).all(-1)]
            R = R + C @ bounded @ C.mT
        R = R / (self._spread[:, None] * self._spread)
        least = torch.linalg.eigvalsh(R)[..., 0]
        return max(1.0, 1 / max(float(least.min()) if len(least.reshape(-1)) else 1.0, torch.finfo(R.dtype).eps))

    def _spread_of_states(self, smoothed: gaussian_backward.Smoothed) -> Tensor:
        """Covariance of the states, pooled over steps and sequences, under the parameters of the start, (D, D)."""
        means = smoothed.means[self._mask]
        centred = means - means.mean(0)
        return (centred.mT @ centred + smoothed.covs[smoothed.rows][self._mask].sum(0)) / len(means)

    def maximise(self) -> None:
        """M-step: replace every parameter that is not frozen by its maximum for the moments of `expect`.

        Shumway & Stoffer (1982), eq. (12) for A, (13) for Q and (14) for R; Ghahramani & Hinton (1996) for C, m and P.

        Raises:
            CovarianceError: covariances that cannot be told from singular ones.
        """
        self._before = self._moments
        if not self._resting:
            with self._faults.named(self._moments["emission_cov"]):
                self._moments = self._maximised()

    def _maximised(self) -> dict[str, Tensor]:
        smoothed, transition, emission = self._expected
        new = self._regressed(transition, "transition_matrix", "input_matrix", "transition_cov")
        new |= self._regressed(emission, "emission_matrix", "feedthrough_matrix", "emission_cov")
        first = smoothed.means[:, 0]
        new["initial_mean"] = self._within("initial_cov", first.mean(0), self._moments["initial_mean"])
        mean = self._moments["initial_mean"] if "initial_mean" in self._frozen else new["initial_mean"]
        spread = (first - mean).mT @ (first - mean) / len(first)
        new["initial_cov"] = spread + smoothed.covs[smoothed.rows, 0].mean(0)
        used = {name: value for name, value in new.items() if name in self._moments and name not in self._frozen}
        for name in used.keys() & COVS:
            used[name], self._held[name] = self._most_likely(name, used[name])
        return self._moments | used

    def _within(self, cov: str, new: Tensor, old: Tensor) -> Tensor:
        """New values (D, ...) in the range of the noise `cov`, and the old ones in the directions beside it."""
        if cov not in self._ranges:
            return new
        basis = self._ranges[cov]
        return old + basis @ (basis.mT @ (new - old))

    def _most_likely(self, name: str, cov: Tensor) -> Bounded:
        """The most likely covariance above the floor, in its range."""
        if name not in self._ranges:
            return most_likely_above(cov, self._floors[name])
        basis = self._ranges[name]
        if not basis.shape[1]:
            return Bounded(torch.zeros_like(cov), basis)
        inner = most_likely_above(basis.mT @ cov @ basis, basis.mT @ self._floors[name] @ basis)
        return Bounded(basis @ inner.cov @ basis.mT, basis @ inner.held)

    def put_back(self, fallen: Tensor) -> None:
        """Restore the parameters before the last `maximise` and stop, if `fallen` (1,) is true."""
        if bool(fallen.any()):
            self._moments, self._resting = self._before, True

    def validate(self) -> None:
        """Returns None: a single start needs no comparison."""

    def adopt(self, start: int) -> None:
        """Write the present parameters into the model, except the frozen ones.

        Raises:
            CovarianceError: after rounding to the model's dtype a covariance is not positive definite, or the
                likelihood is no number.
        """
        with self._faults.named(self._moments["emission_cov"], ValueError):
            self._model.set_moments({name: value for name, value in self._moments.items() if name not in self._frozen})
        chain, x = self._model.chain(self._given_inputs), self._model.centred(self._given, self._given_inputs)
        self._check_finite(posterior(self._with_data(chain, x, self._model.diffuse)).moments.log_normalizers)

    def _check_finite(self, log_normalizers: Tensor) -> None:
        """Raise an error that names a column unless all terms of the log likelihood are numbers."""
        if not bool(log_normalizers.isfinite().all()):
            raise self._faults.error(self._moments["emission_cov"])

    def remarks(self, start: int) -> list[str]:
        """Sentences on covariances held at the smallest that is allowed, and the columns that they affect."""
        held = {name: directions for name, directions in self._held.items() if directions.shape[1]}
        noise = held.get("emission_cov", self._spread[:, None] * 0)
        found = remarks.of_noise([COVS[name] for name in held], (noise.abs() > _SHARE).any(1), self._min_scale)
        return [*found, *self._without_bound()]

    def _without_bound(self) -> list[str]:
        """A sentence if log p(x) of a diffuse start has no bound."""
        if self._diffuse is None:
            return []
        free = self._moments.keys() - self._frozen
        return remarks.of_diffuse_start(self._moments["emission_matrix"], self._diffuse, free)

    def _chained(self) -> Chained:
        return self._with_data(self._chain(), self._centred(), self._diffuse)

    def _with_data(self, chain: kalman.GaussianChain, x: Tensor, directions: Tensor | None) -> Chained:
        """The data with a chain; R is regular unless its range is smaller."""
        return Chained(chain, x, self._lengths, self._observed, directions, "emission_cov" not in self._ranges)

    def _chain(self) -> kalman.GaussianChain:
        offset, parts = None, self._moments
        if self._inputs is not None and "input_matrix" in parts:
            offset = self._inputs[:, 1:] @ parts["input_matrix"].mT
        mean, *rest = (parts[name] for name in PARTS[:6])
        P, A, Q, C, R = rest
        return kalman.GaussianChain(mean, P, A, Q, C, R, offset)

    def _centred(self) -> Tensor:
        return self._x - self._added()

    def _added(self) -> Tensor:
        """The contribution of the inputs to the observations, (B, T, M)."""
        if self._inputs is None or "feedthrough_matrix" not in self._moments:
            return torch.zeros_like(self._x)
        return self._inputs @ self._moments["feedthrough_matrix"].mT

    def _transition_regression(self, smoothed: gaussian_backward.Smoothed) -> Regression:
        """z_{t+1} on (z_t, u_{t+1}), over all t with a next step."""
        inside = self._mask[:, 1:]
        means, later = _selected(smoothed.means[:, :-1], inside), _selected(smoothed.means[:, 1:], inside)
        drivers = None if self._inputs is None else _selected(self._inputs[:, 1:], inside)
        w = means if drivers is None else torch.cat([means, drivers], -1)
        count = torch.bincount(smoothed.rows, minlength=len(smoothed.covs)).double()
        last = self._lengths.new_zeros(len(smoothed.covs)).scatter(0, smoothed.rows, self._lengths) - 1
        has_next = length_mask(last, smoothed.covs.shape[1])[:, :-1]  # (S, T - 1)
        weights = count[:, None] * has_next
        yy, yw, ww = later.mT @ later, later.mT @ w, w.mT @ w
        dim = means.shape[-1]
        yy += _summed(smoothed.covs[:, 1:], weights)
        yw[:, :dim] += _summed(smoothed.pairwise, weights).mT
        ww[:dim, :dim] += _summed(smoothed.covs[:, :-1], weights)
        return Regression(yy, yw, ww, len(w))

    def _emission_regression(self, smoothed: gaussian_backward.Smoothed) -> Regression:
        """x_t on (z_t, u_t), over all t; missing entries enter by their moments given z_t and the rest of x_t."""
        x, means = _selected(self._x, self._mask), _selected(smoothed.means, self._mask)
        covs = smoothed.covs[smoothed.rows][self._mask].double()
        drivers = None if self._inputs is None else _selected(self._inputs, self._mask)
        w = means if drivers is None else torch.cat([means, drivers], -1)
        completed, slope, left = self._completed(x, means)
        yy, yw, ww = completed.mT @ completed, completed.mT @ w, w.mT @ w
        dim, total = means.shape[-1], covs.sum(0)
        ww[:dim, :dim] += total
        if slope is not None:
            yy += (slope @ covs @ slope.mT).sum(0) + left
            yw[:, :dim] += (slope @ covs).sum(0)
        return Regression(yy, yw, ww, len(w))

    def _completed(self, x: Tensor, means: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        """E(x_t) (n, M), its slope in z_t (n, M, D), and the sum of Cov(x_t | z_t, observed entries), (M, M)."""
        R = self._moments["emission_cov"].double()
        if self._observed is None:
            return x, None, torch.zeros_like(R)
        seen = self._observed[self._mask]  # (n, M)
        both, unit = seen[:, :, None] & seen[:, None, :], torch.eye(len(R), dtype=R.dtype, device=R.device)
        known = R.where(both, unit.where(~seen[..., None], 0.0))  # R of the observed entries, unit rows elsewhere
        columns = R * seen[:, None, :]
        gain = self._solved(known, columns.mT).mT  # from residuals of observed entries to all, (n, M, M)
        rest = unit - gain
        slope = rest @ self._moments["emission_matrix"].double()
        added = _selected(self._added(), self._mask)
        constant = (gain @ x[..., None] + rest @ added[..., None])[..., 0]
        completed = constant + (slope @ means[..., None])[..., 0]
        return completed, slope, (R - gain @ columns.mT).sum(0)

    def _solved(self, known: Tensor, right: Tensor) -> Tensor:
        """known^{-1} right for covariances (n, M, M), a generalised inverse where R is singular."""
        if "emission_cov" not in self._ranges:
            return torch.linalg.solve(known, right)
        return generalised_inverse(known, known.diagonal(dim1=-2, dim2=-1).clamp(min=0).sqrt()) @ right

    def _regressed(self, statistics: Regression, matrix: str, driven: str, cov: str) -> dict[str, Tensor]:
        """The most likely matrices and covariance of one regression: W = (yw)(ww)^{-1}, S = (yy - W (yw)') / n."""
        names = [name for name in (matrix, driven) if name in self._moments]
        given = [self._moments[name].double() for name in names]
        widths = [value.shape[1] for value in given]
        unused = statistics.ww.shape[0] - sum(widths)  # inputs that this regression does not have
        used = slice(0, widths[0]) if unused else slice(None)
        statistics = statistics._replace(yw=statistics.yw[:, used], ww=statistics.ww[used, used])
        free = torch.cat([torch.full((n,), name not in self._frozen) for name, n in zip(names, widths, strict=True)])
        old, nearest = torch.cat(given, -1), bool(self._ranges) or self._diffuse is not None
        coefficients = statistics.coefficients(old, free.to(self._x.device), nearest=nearest)
        coefficients = self._within(cov, coefficients, old)
        found = dict(zip(names, coefficients.split(widths, -1), strict=True))
        return found | ({cov: statistics.residual_cov(coefficients)} if statistics.num_pairs else {})


def _selected(values: Tensor, mask: Tensor) -> Tensor:
    """Entries (n, D) of values (B, T, D) where `mask` (B, T) is true, in float64."""
    return values[mask].double()


def _summed(matrices: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum of matrices (S, T, D, D) by weights (S, T)."""
    return torch.einsum("st,stij->ij", weights, matrices.double())
