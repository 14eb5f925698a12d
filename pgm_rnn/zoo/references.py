"""A few sequences with known log marginal likelihoods, in the manner of Stan's posteriordb.

    x^{(i)} ~ the model,   log p(x^{(i)}), i = 1..n, exact, or by R particle filters with N particles:
    log (1/R) sum_r Z_r,   with the delta method's error sqrt(Var Z / R) / mean Z

The filters of switching linear models are Rao-Blackwellised, so that an eighth of the particles is enough.

The sequences are drawn from the model itself, given standard normal inputs if it takes any, so that an entry contains
no real data. Where the model has no proper law of its first observations, because it is given them or starts diffuse,
it continues standard normal numbers. All numbers are computed in float64.
"""

import copy
import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pgm_rnn.inference import mixture_kalman, smc
from pgm_rnn.inference.mixture_kalman.problem import sums_out_vectors
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequences import Sequences, length_mask

LENGTHS = (12, 7, 1)
NUM_RUNS, NUM_PARTICLES, NUM_REGIME_PATHS = 16, 2048, 256
SEED = 0


class Reference(NamedTuple):
    """Sequences with their log marginal likelihoods.

    Attributes:
        data: a padded batch, real numbers in float64.
        log_marginal_likelihoods: (batch,), nats, float64.
        standard_errors: standard errors of these, (batch,); zero if they are exact.
        bound: "exact", "SMC_2048 (16 runs)", or "RBPF_256 (16 runs)" from Rao-Blackwellised particle filters.
        num_given: number of first observations of each sequence that the model is given, which do not count as steps.
    """

    data: Sequences
    log_marginal_likelihoods: Tensor
    standard_errors: Tensor
    bound: str
    num_given: int = 0

    @property
    def nats_per_step(self) -> float:
        """The number on the card: the sum of nats divided by the number of steps."""
        return -float(self.log_marginal_likelihoods.sum()) / self.num_steps

    @property
    def num_steps(self) -> int:
        """Number of steps of all sequences, without those that the model is given."""
        return self.data.num_steps - self.num_given * len(self.data.lengths)


@torch.no_grad()
def made(model: SequenceModel) -> Reference:
    """The reference of a model, a deterministic function of its parameters."""
    model = copy.deepcopy(model).double()
    data = _drawn(model)
    lengths = data.lengths.tolist()
    x = torch.stack([row.where(_inside(row, length), 0) for row, length in zip(data.x, lengths, strict=True)])
    data = data._replace(x=x)
    if model.exact:
        found = model.log_marginal_likelihood(data)
        return Reference(data, found, torch.zeros_like(found), "exact", model.num_given)
    own, name = (NUM_REGIME_PATHS, "RBPF") if sums_out_vectors(model, data) else (NUM_PARTICLES, "SMC")
    estimates = estimated(model, data, num_particles=own)
    return Reference(data, *estimates, f"{name}_{own} ({NUM_RUNS} runs)", model.num_given)


@torch.no_grad()
def estimated(
    model: SequenceModel,
    data: Sequences,
    seed: int = SEED,
    num_runs: int = NUM_RUNS,
    num_particles: int = NUM_PARTICLES,
) -> tuple[Tensor, Tensor]:
    """Log marginal likelihoods by particle filters, and their standard errors, (batch,) each."""
    filtering: Any = mixture_kalman if sums_out_vectors(model, data) else smc
    runs = [
        filtering.log_marginal_likelihood(model, data, num_particles=num_particles, seed=seed * num_runs + i)
        for i in range(num_runs)
    ]
    log_z = torch.stack(runs)
    mean = log_z.logsumexp(0) - math.log(num_runs)
    return mean, (log_z - mean).exp().std(0) / math.sqrt(num_runs)


def as_json(reference: Reference) -> dict[str, Any]:
    """The content of reference.json, from which a float64 is read back to the bit."""
    inputs = reference.data.inputs
    return {
        "x": reference.data.x.tolist(),
        **({} if inputs is None else {"inputs": inputs.tolist()}),
        "dtype": str(reference.data.x.dtype).removeprefix("torch."),
        "lengths": reference.data.lengths.tolist(),
        "log_marginal_likelihoods": reference.log_marginal_likelihoods.tolist(),
        "standard_errors": reference.standard_errors.tolist(),
        "bound": reference.bound,
        "num_given": reference.num_given,
    }


def from_json(content: dict[str, Any]) -> Reference:
    """The reference that `as_json` wrote."""
    x = torch.tensor(content["x"], dtype=getattr(torch, content["dtype"]))
    found, errors = (
        torch.tensor(content[key], dtype=torch.float64) for key in ("log_marginal_likelihoods", "standard_errors")
    )
    inputs = torch.tensor(content["inputs"], dtype=torch.float64) if "inputs" in content else None
    data = Sequences(x, torch.tensor(content["lengths"]), inputs=inputs)
    return Reference(data, found, errors, content["bound"], content.get("num_given", 0))


def _drawn(model: SequenceModel) -> Sequences:
    """Draws of the model, of `LENGTHS` steps after those that it has no proper law of."""
    unknown = model.num_given + 1 if model.num_given else _num_diffuse(model)  # a forecast needs a modelled step
    lengths, most = torch.tensor(LENGTHS) + unknown, max(LENGTHS) + unknown
    generator = torch.Generator().manual_seed(SEED)
    inputs = _inputs(model, lengths, generator)
    if not unknown:
        return Sequences(model.sample(len(LENGTHS), most, seed=SEED, inputs=inputs).x, lengths, inputs=inputs)
    event = model.family.event_shape
    begun = torch.randn(len(LENGTHS), unknown, *event, generator=generator, dtype=torch.float64)
    before, ahead = (None, None) if inputs is None else (inputs[:, :unknown], inputs[:, unknown:])
    continued = model.forecast(begun, max(LENGTHS), seed=SEED, inputs=before, future_inputs=ahead).x
    return Sequences(torch.cat([begun, continued], 1), lengths, inputs=inputs)


def _inputs(model: SequenceModel, lengths: Tensor, generator: torch.Generator) -> Tensor | None:
    """Standard normal inputs, zero in the padding, (batch, T, input_dim); None for a model without inputs."""
    if model.input_dim is None:
        return None
    inside = length_mask(lengths, int(lengths.max()))[..., None]
    drawn = torch.randn(*inside.shape[:2], model.input_dim, generator=generator, dtype=torch.float64)
    return drawn * inside


def _num_diffuse(model: SequenceModel) -> int:
    """Number of first observations that a diffuse first state uses up."""
    diffuse = getattr(model, "diffuse", None)
    return 0 if diffuse is None else diffuse.shape[1]


def _inside(row: Tensor, length: int) -> Tensor:
    return (torch.arange(len(row)) < length).reshape(-1, *[1] * (row.dim() - 1))
