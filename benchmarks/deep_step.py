"""A training step of a VRNN and of a deep Markov model: all sizes 32, 88 keys, batch 20, T = 60, one draw of the guide.

Compared are plain torch with everything but the recursion fused (`deep_torch`), our fused program under Pyro's
Trace_ELBO, the same with one Pyro site per variable and step, and FIVO with four particles. A step consists of loss,
gradient, clipping and Adam. Before the timing, the mean losses of the first three must agree within 4.5 standard errors
with the same parameters.
"""

from collections.abc import Callable

import pyro
import torch
from pyro.infer import Trace_ELBO
from torch import Tensor, nn

from benchmarks.deep_torch import PlainDeepMarkovModel, PlainVRNN
from benchmarks.timing import time_in_turn
from pgm_rnn.inference import smc
from pgm_rnn.models import VRNN, DeepMarkovModel
from pgm_rnn.sequence_model import SequenceModel

NUM_KEYS, SIZE, BATCH, NUM_STEPS = 88, 32, 20, 60
Loss = Callable[[], Tensor]


def run(repeats: int = 30) -> list[tuple[str, list[tuple[str, float, float]]]]:
    """Tables (title, rows of name, milliseconds per step, ratio to plain torch)."""
    torch.manual_seed(0)
    x = (torch.rand(BATCH, NUM_STEPS, NUM_KEYS) < 0.05).float()
    vrnn, dmm = VRNN(NUM_KEYS, SIZE, SIZE), DeepMarkovModel(NUM_KEYS, SIZE, SIZE)
    plain_vrnn, plain_dmm = PlainVRNN(NUM_KEYS, SIZE), PlainDeepMarkovModel(NUM_KEYS, SIZE)
    _copy_vrnn(vrnn, plain_vrnn)
    _copy_dmm(dmm, plain_dmm)
    with pyro.settings.context(module_local_params=True):
        return [
            ("VRNN", _compare(vrnn, plain_vrnn, x, repeats)),
            ("deep Markov model", _compare(dmm, plain_dmm, x, repeats)),
        ]


def _compare(model: SequenceModel, plain: nn.Module, x: Tensor, repeats: int) -> list[tuple[str, float, float]]:
    elbo = Trace_ELBO()(model.model, model.guide)
    bare, fused, unrolled = (lambda: plain(x)), (lambda: elbo(x)), (lambda: elbo(x, rendering="unrolled"))
    _check_equal([bare, fused, unrolled])
    fivo = _step(lambda: -smc.log_marginal_likelihood(model, x, num_particles=4).sum(), model)
    quick = {"plain torch, fused": _step(bare, plain), "pgm_rnn fused": _step(fused, model)}
    times = time_in_turn(quick, repeats)
    slow = {"plain torch, fused": quick["plain torch, fused"], "one Pyro site per step": _step(unrolled, model)}
    times |= {"one Pyro site per step": time_in_turn(slow, 8)["one Pyro site per step"]}
    times |= {"FIVO, 4 particles": time_in_turn(quick | {"FIVO, 4 particles": fivo}, 8)["FIVO, 4 particles"]}
    return [(name, milliseconds, ratio) for name, (milliseconds, ratio) in times.items()]


def _check_equal(losses: list[Loss], draws: int = 50) -> None:
    with torch.no_grad():
        values = torch.tensor([[float(loss()) for _ in range(draws)] for loss in losses])
    errors = values.std(1) / draws**0.5
    for i, name in enumerate(("fused", "unrolled"), 1):
        score = float((values[i] - values[0]).mean().abs() / (errors[0].square() + errors[i].square()).sqrt())
        if not score < 4.5:
            raise ValueError(f"expected the {name} loss to agree with plain torch, got {score:.1f} standard errors")


def _step(loss: Loss, module: nn.Module) -> Callable[[], None]:
    parameters = list(module.parameters())
    optimizer = torch.optim.Adam(parameters, 1e-6)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        (loss() / (BATCH * NUM_STEPS)).backward()
        nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()

    return step


@torch.no_grad()
def _copy_vrnn(vrnn: VRNN, plain: PlainVRNN) -> None:
    """Our parameters into plain torch's; its two z_t terms of the constant log(2 pi) cancel."""
    cell = vrnn.hidden.cell.network
    pairs = [(plain.phi_x, vrnn.phi_x.linear[0]), (plain.phi_z, vrnn.phi_z.linear[0])]
    pairs += [(plain.prior_hidden, vrnn.prior[0].linear[0]), (plain.prior, vrnn.prior[1].linear)]
    pairs += [(plain.encoder_x, vrnn.encoder.from_x), (plain.encoder_h, vrnn.encoder.from_h)]
    pairs += [(plain.encoder, vrnn.encoder.head.linear), (plain.decoder_hidden, vrnn.decoder[0].linear[0])]
    _copy([*pairs, (plain.decoder, vrnn.decoder[1])])
    plain.cell.weight_ih.copy_(torch.cat([cell.weight_ih_l0, vrnn.hidden.from_z.weight], dim=1))
    plain.cell.weight_hh.copy_(cell.weight_hh_l0)
    plain.cell.bias_ih.copy_(cell.bias_ih_l0)
    plain.cell.bias_hh.copy_(cell.bias_hh_l0)


@torch.no_grad()
def _copy_dmm(dmm: DeepMarkovModel, plain: PlainDeepMarkovModel) -> None:
    gated, (first, second) = dmm.gated, dmm.emitter[0].linear
    pairs = [(plain.gate_hidden, gated.gate_hidden), (plain.gate, gated.gate), (plain.linear, gated.linear)]
    pairs += [(plain.proposed_hidden, gated.proposed_hidden), (plain.proposed, gated.proposed)]
    pairs += [(plain.scale, gated.raw_scale), (plain.emitter_1, first), (plain.emitter_2, second)]
    _copy([*pairs, (plain.emitter, dmm.emitter[1]), (plain.combiner, dmm.combiner.from_z)])
    _copy([(plain.guide, dmm.combiner.head.linear)])
    plain.backward_network.load_state_dict(dmm.backward_network.state_dict())


def _copy(pairs: list[tuple[nn.Module, nn.Module]]) -> None:
    for theirs, ours in pairs:
        theirs.weight.copy_(ours.weight)
        if theirs.bias is not None:
            theirs.bias.copy_(ours.bias)
