"""EM of a family that starts at the data and never falls."""

import warnings

import torch

from pgm_rnn.inference import em
from pgm_rnn.models import HMM
from pgm_rnn.sequences import Sequences


def climbed(model: HMM, batch: Sequences, num_iterations: int) -> em.EmFit:
    """The fit, without a warning, whose likelihood falls in no iteration by more than rounding."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", em.EmWarning)
        found = em.fit(model, batch, num_iterations=num_iterations, tolerance=0.0, progress=False)
    eps = torch.finfo(model.initial_logits.dtype).eps
    rounding = 64 * eps * float(found.log_likelihoods.abs().max())
    assert float(found.log_likelihoods.diff().min()) > -rounding
    return found
