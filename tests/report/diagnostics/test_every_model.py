"""Every registered model with every family has one-step laws whose distribution functions are in order."""

from typing import Any

import torch

from pgm_rnn.report.diagnostics.one_step import one_step
from pgm_rnn.sequence_model.observations import checked
from pgm_rnn.sequences import Sequences
from tests.instances import every_law, make_model


@every_law
def test_distribution_functions_are_between_zero_and_one_and_in_order(name: str, family: Any) -> None:
    model = make_model(name, family)
    x = model.sample(2, 4, seed=0).x
    found = one_step(model, checked(model, Sequences(x, torch.tensor([4, 2]))), num_particles=20)
    width = max(1, family.event_shape.numel())
    assert found.upto.shape == found.residuals.shape == (2, 4, width)
    there = found.upto.isfinite()
    assert there[..., 0].tolist() == [[True] * 4, [True, True, False, False]]
    assert bool((found.below[there] >= -1e-12).all())
    assert bool((found.below <= found.upto)[there].all())
    assert bool((found.upto[there] <= 1 + 1e-6).all())
