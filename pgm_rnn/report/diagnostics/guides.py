"""Pareto k of the importance weights of a guide's draws of whole sequences.

    w^j = p(x, z^j) / q(z^j | x),   z^j ~ q(z | x),   j = 1..K

The k of a sequence says whether an importance-weighted likelihood, and a bound from these draws, can be trusted:
Yao, Vehtari, Simpson & Gelman (2018), sec. 3.
"""

from typing import Any

import torch
from torch import Tensor

from pgm_rnn.inference.svi import bounds
from pgm_rnn.inference.svi.evaluation import MAX_STATES
from pgm_rnn.kernels.pareto import RELIABLE, pareto_k
from pgm_rnn.randomness import seeded
from pgm_rnn.report.diagnostics.section import Section
from pgm_rnn.report.diagnostics.wording import names_of_sequences
from pgm_rnn.report.number_tables import Table
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequences import Sequences

COLUMNS = ("steps", "Pareto k", "ESS", "ELBO", "IWAE")


def has_guide(model: Any) -> bool:
    """Whether a model needs a guide, and has one of its own."""
    return not model.exact and model.has_proposal


@torch.no_grad()
def guide(model: SequenceModel, data: Sequences, num_draws: int, seed: int | None) -> Section:
    """The section of a guide.

    Args:
        model: a model that `has_guide`.
        data: checked data.
        num_draws: K.
        seed: makes the draws reproducible.
    """
    log_w = _log_weights(model, data, num_draws, seed).cpu()
    k, ess = pareto_k(log_w), bounds.effective_particles(log_w)
    parts = (data.lengths.cpu(), k, ess, bounds.elbo(log_w), bounds.iwae(log_w))
    rows = tuple(zip(*(part.double().tolist() for part in parts), strict=True))
    table = Table("guide", "importance weights of the guide", "sequence", names_of_sequences(data), COLUMNS, rows)
    note = (
        f"{num_draws:,} draws of the guide for each sequence; ELBO and IWAE in nats. With k up to {RELIABLE} "
        "averages of the weights are reliable"
    )
    order = k.nan_to_num(-torch.inf).argsort(descending=True).tolist()
    return Section(table, note, "importance weights of the guide", _findings(k), tuple(order))


def _findings(k: Tensor) -> tuple[str, ...]:
    bad = int((k > RELIABLE).sum())
    if not bad:
        return ()
    largest = float(k.nan_to_num(-torch.inf).max())
    return (
        f"The guide's draws are too far from the posterior in {bad} of {len(k)} sequences (Pareto k up to "
        f"{largest:.1f}, reliable up to {RELIABLE}): train the guide longer, and score by the bound fivo, not by "
        "importance weights of whole sequences",
    )


def _log_weights(model: SequenceModel, data: Sequences, num_draws: int, seed: int | None) -> Tensor:
    """log w, (K, B), for as many draws at a time as memory has room for."""
    size = max(1, MAX_STATES // data.x.shape[:2].numel())
    with seeded(seed, stream=22):
        parts = [
            bounds.log_weights(model, data, num_particles=min(size, num_draws - done))
            for done in range(0, num_draws, size)
        ]
    return torch.cat(parts)
