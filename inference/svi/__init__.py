"""Stochastic variational inference: fit a model by gradient steps on a bound, and evaluate it.

    loss = -ELBO = E_q [log q(h, z | x) - log p(x, h, z)]

For a model whose hidden states are Delta distributed, or whose latent states are summed out exactly, the ELBO is the
log likelihood (Sohl-Dickstein & Kingma, 2015, eq. (9)-(15)), and the same code is maximum likelihood: objective "mle".
Other models have a guide, and objectives "elbo", "iwae" and "fivo" (`pgm_rnn.inference.svi.objectives`).

Pyro's ELBO runs as a module under torch.optim with parameters local to the model, so that nothing stays behind in
Pyro's global parameter store. The run itself is in `training`, the bounds in `bounds`, their report in `evaluation`.
"""

from pgm_rnn.inference.at_limits import FitWarning
from pgm_rnn.inference.svi.checkpoints import CheckpointError
from pgm_rnn.inference.svi.engine import fit
from pgm_rnn.inference.svi.evaluation import Evaluation, evaluate, ratio_error
from pgm_rnn.inference.svi.plan import Epoch, minibatches
from pgm_rnn.inference.svi.processes import ProcessLostError
from pgm_rnn.inference.svi.session import checked_device
from pgm_rnn.inference.svi.training import Fit
from pgm_rnn.inference.svi.unfinished import UnfinishedWarning

__all__ = [
    "CheckpointError",
    "Epoch",
    "Evaluation",
    "Fit",
    "FitWarning",
    "ProcessLostError",
    "UnfinishedWarning",
    "checked_device",
    "evaluate",
    "fit",
    "minibatches",
    "ratio_error",
]
