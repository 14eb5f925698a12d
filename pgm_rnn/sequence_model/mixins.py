"""Optional methods of a model besides its conditionals: faster computations, and exact sums over states."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from torch import Tensor

from pgm_rnn.kernels.gaussian_chain import GaussianChain
from pgm_rnn.kernels.guides import Guide
from pgm_rnn.kernels.lineages import Lineage
from pgm_rnn.kernels.particle_runs import Run
from pgm_rnn.sequence_model.conditionals import Conditionals, First
from pgm_rnn.sequence_model.drawn import Drawn
from pgm_rnn.sequence_model.memory import Recurrence
from pgm_rnn.sequences import Sequences


class ReadsAhead(Conditionals, ABC):
    """A recurrence in which the part that depends only on x is computed for all steps at once."""

    @abstractmethod
    def read(self, x: Tensor) -> Tensor:
        """Precomputes the part of the recurrence that depends only on x (..., *event), for all steps at once."""

    @abstractmethod
    def advance(self, h: Any, z: Any, read: Tensor) -> Tensor:
        """The recurrence, given the result of `read` for x_{t-1}: (..., memory_dim)."""

    def recurrence(self, h: Any, z: Any, x: Tensor) -> Tensor:
        """h_t from h_{t-1}, z_{t-1} and x_{t-1}: (..., memory_dim)."""
        return self.advance(h, z, self.read(x))

    def _recurrence(self) -> Recurrence:
        return replace(super()._recurrence(), reader=self.read, advance=self.advance)


class UnrollsMemory(Conditionals, ABC):
    """A memory whose steps are all computed in one call, for example by a fused network."""

    @abstractmethod
    def unroll_memory(self, x: Tensor, z: Tensor | None = None, inputs: Tensor | None = None) -> Tensor:
        """The part of h_1, ..., h_T that the emission reads, (batch, T, dim), given observations (batch, T, *event)."""

    def _recurrence(self) -> Recurrence:
        return replace(super()._recurrence(), at_once=self.unroll_memory)


class DrawsGuide(Conditionals, ABC):
    """A guide whose states are drawn by a loop of the model's own, which avoids making a law at every step.

    With `GaussianStates`, all laws of the states have draws that are differentiable, unless `reparametrised` is False.
    """

    @abstractmethod
    def draw_guide(self, x: Tensor, features: Tensor | None) -> Drawn | None:
        """States drawn from the proposal, with their memory and log densities; None to use the general loop."""

    @property
    def redraws(self) -> bool:
        """Whether the model has `redraw_guide`."""
        return False

    def redraw_guide(self, features: Tensor, noise: Tensor, lineage: Lineage | None = None) -> Drawn:
        """States loc + scale * noise of the guide, where all laws are `Normal`, with memory and log densities.

        Args:
            features: those of `encode`, for every row, (R, T, F).
            noise: (R, T, D).
            lineage: the particles that rows continue; None if each continues itself.

        Raises:
            NotImplementedError: a model whose states cannot be drawn from given noise.
        """
        raise NotImplementedError(f"{type(self).__name__} draws its states from no given noise")

    def compiled_guide(self, x: Tensor, features: Tensor) -> Guide | None:
        """The guide in a form in which filters run compiled; None where there is none for this model.

        Args:
            x: observations, (B, T, *event), none of them missing.
            features: those of `encode`, (B, T, F).
        """
        return None


class RunsWhole(Conditionals, ABC):
    """A model whose laws are known as numbers before the first step, so that a bootstrap filter is one function."""

    @abstractmethod
    def whole_run(self, data: Sequences, num_particles: int, threshold: float) -> Run | None:
        """The filter with systematic resampling, compiled (`pgm_rnn.kernels.particle_runs`); None if there is none.

        Args:
            data: checked observations.
            num_particles: N.
            threshold: resample where the effective sample size is at most this number.
        """


class DensityAtOnce(Conditionals, ABC):
    """State laws that are evaluated for all steps, the first included, in one call."""

    @abstractmethod
    def state_log_probs(self, z: Tensor, h: Any) -> Tensor:
        """log p(z_1 | h_1) and log p(z_t | z_{t-1}, h_t), nats, (batch, T)."""


class SumsOutStates(Conditionals, ABC):
    """A model whose latent states are summed out exactly."""

    @property
    def exact(self) -> bool:
        """True."""
        return True

    @abstractmethod
    def sum_out_states(self, data: Sequences, first: First) -> Tensor:
        """log p(x_{1:T}) of checked observations, nats, (batch,)."""

    @abstractmethod
    def last_states(self, data: Sequences, index: Tensor) -> Tensor:
        """A draw of z_L given x_{1:L} for each of the checked sequences at `index` (k,), with repetitions."""


class GivesChain(Conditionals, ABC):
    """A model with linear Gaussian states that gives their chain itself, so that its laws need not be evaluated.

    Attributes:
        diffuse: directions of z_1 with a flat prior besides its law, (D, q), or None.
    """

    diffuse: Tensor | None

    @property
    @abstractmethod
    def emission_is_regular(self) -> bool:
        """Whether Cov(x_t | z_t) is positive definite by its construction."""

    @abstractmethod
    def chain(self, inputs: Tensor | None = None) -> GaussianChain:
        """The parameters in the form of the kernels, for inputs (batch, T, input_dim)."""

    @abstractmethod
    def centred(self, x: Tensor, inputs: Tensor | None = None) -> Tensor:
        """Observations (batch, T, M) minus what the emission adds to C z_t."""


SMALLEST_SCALE = 1e-6
"""The smallest standard deviation that closed M-steps of the zoo set, as a fraction of the data's own."""


class ClosedMStep(Conditionals, ABC):
    """A model with finitely many states whose M-step in EM, or a part of it, has a closed form."""

    @abstractmethod
    def maximise(self, data: Sequences, expected: Any) -> Collection[str]:
        """Set parameters, in place, to those that maximise the expected log density of x and z.

        Parameters that are frozen are put back after the call, and `em.fit` improves by gradient steps those that are
        not among the names returned.

        Args:
            data: checked observations, with their inputs.
            expected: posterior probabilities of the states of these observations, a
                `pgm_rnn.sequence_model.expected.Expected`, or its `ExpectedProduct` for several chains.

        Returns:
            The names, as in `named_parameters()`, of the parameters that were set.
        """


class AdditiveNormal(NamedTuple):
    """x_t ~ N(sum_m loc[m][z_t^m], cov) for the states of several chains: Ghahramani & Jordan (1997), eq. (4a)-(4b).

    Attributes:
        loc: the parts of the mean, (K_m, D) for each chain.
        cov: the covariance, (D, D).
    """

    loc: Sequence[Tensor]
    cov: Tensor


class GivesAdditiveNormal(Conditionals, ABC):
    """A model with several chains (`ProductStates`) whose observations may be additive normal ones.

    Mean field then needs no sum over all values of the states.
    """

    @abstractmethod
    def additive_normal(self) -> AdditiveNormal | None:
        """The law of an observation given the states, with the present parameters; None where it is another one."""


class FitsChains(Conditionals, ABC):
    """A model with several chains that sets its parameters from separate beliefs about them."""

    @abstractmethod
    def maximise_chains(self, data: Sequences, beliefs: Sequence[Tensor], moves: Sequence[Tensor]) -> None:
        """Set the parameters to those that maximise E_q[log p(x, z)] for independent chains q, in place.

        Parameters that do not require a gradient stay.

        Args:
            data: checked observations.
            beliefs: q(z_t^m = k) of each chain, (batch, T, K_m), 0 in the padding.
            moves: expected moves of each chain, (K_m, K_m).

        Raises:
            TypeError: observation laws for which there is no closed form.
            ValueError: a normal vector that is partly missing.
        """
