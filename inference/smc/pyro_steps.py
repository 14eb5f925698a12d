"""A model as the pair of objects that `pyro.infer.SMCFilter` runs, for one sequence.

    smc = SMCFilter(PyroSteps(model, N), PyroSteps(model, N, guide=True), num_particles=N, max_plate_nesting=0)
    smc.init(x_1), smc.step(x_2), ...

Pyro's filter gives weighted states and no estimate of p(x_{1:T}); `pgm_rnn.inference.smc` gives both.
"""

import pyro
import torch
from pyro.infer.smcfilter import SMCState
from torch import Tensor

from pgm_rnn.checks import check_counts
from pgm_rnn.sequence_model import SequenceModel, memory_of


class PyroSteps:
    """`init` and `step` of a model, or of its guide: sites z_t and x_t, t = 1, 2, ...

    Args:
        model: a model with latent states.
        num_particles: the filter's number of particles.
        guide: whether to draw states from the proposal and leave observations out. Where the proposal reads what an
            encoder makes of the whole sequence, of which Pyro's filter shows one step, the model's own laws take its
            place.

    Raises:
        TypeError: a model without latent states.
    """

    def __init__(self, model: SequenceModel, num_particles: int, *, guide: bool = False) -> None:
        check_counts(num_particles=num_particles)
        if not isinstance(model, SequenceModel) or model.states is None:
            raise TypeError(f"expected a model with latent states, got {type(model).__name__}, which has none")
        self.model, self.num_particles, self.guide = model, num_particles, guide
        self._proposes = guide and type(model).encode is SequenceModel.encode

    @torch.no_grad()
    def init(self, state: SMCState, x: Tensor) -> None:
        """z_1 and x_1 (*event)."""
        self._number = 1
        h = memory_of(self.model).start(self.num_particles)
        law = self.model.proposal(None, h, None) if self._proposes else self.model.initial(h)
        self._finish(state, pyro.sample("z_1", law), h, x)

    @torch.no_grad()
    def step(self, state: SMCState, x: Tensor) -> None:
        """z_t and x_t (*event), given the state after the step before."""
        self._number += 1
        z, x_before = state["z"], self._x.expand(self.num_particles, *self._x.shape)
        memory = memory_of(self.model)
        h = memory.step(state.get("h"), z, memory.read(x_before))
        law = self.model.proposal(z, h, None) if self._proposes else self.model.transition(z, h)
        self._finish(state, pyro.sample(f"z_{self._number}", law), h, x)

    def _finish(self, state: SMCState, z: Tensor, h: Tensor | None, x: Tensor) -> None:
        self._x = x
        if self.guide:
            return
        pyro.sample(f"x_{self._number}", self.model.emission(z, h), obs=x)
        state["z"] = z
        if h is not None:
            state["h"] = h
