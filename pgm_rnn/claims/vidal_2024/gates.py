"""Gated cells: the slides' equations, and the derivative of a memory cell in the one before.

c_t = f_t c_{t-1} + i_t g_t,   h_t = o_t tanh(c_t)
dc_t / dc_{t-1} = diag(f_t) + [diag(c f (1-f)) U_f + diag(g i (1-i)) U_i + diag(i (1-g^2)) U_g] diag(o tanh'(c))
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from pgm_rnn.claims.claim import Claim, rounding
from pgm_rnn.claims.vidal_2024 import PAPER
from pgm_rnn.models.cell import Cell
from pgm_rnn.models.cells import CELLS
from pgm_rnn.randomness import seeded

DIM, INPUT_DIM = 4, 3


class Step(NamedTuple):
    """A cell with random weights, and its state before a step.

    Attributes:
        cell: one of `CELLS`.
        W: input weights of each gate, (gates, D, INPUT_DIM).
        U: recurrent weights of each gate, (gates, D, D).
        b: biases added to the input's part, (gates, D).
        c: biases added to the state's part, (gates, D).
        x: an input.
        h: the hidden vector before.
        memory: the memory cell before.
        output_gate: output gate of the step before, so that h = output_gate tanh(memory).
    """

    cell: Cell
    W: Tensor
    U: Tensor
    b: Tensor
    c: Tensor
    x: Tensor
    h: Tensor
    memory: Tensor
    output_gate: Tensor


def random_step(name: str, seed: int) -> Step:
    """Weights and vectors are normal, gates lie anywhere between zero and one."""
    gates = {"lstm": 4, "gru": 3}[name]
    with seeded(seed), torch.no_grad():
        cell = CELLS[name](INPUT_DIM, DIM, 1).double()
        for parameter in cell.parameters():
            parameter.normal_(std=0.7)
        weights = [dict(cell.named_parameters())[f"network.{kind}_l0"] for kind in KINDS]
        W, U, b, c = (weight.reshape(gates, DIM, *weight.shape[1:]) for weight in weights)
        memory, gate = torch.randn(DIM, dtype=torch.float64), torch.rand(DIM, dtype=torch.float64)
        x = torch.randn(INPUT_DIM, dtype=torch.float64)
    return Step(cell, W, U, b, c, x, gate * memory.tanh(), memory, gate)


KINDS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def slide_lstm(step: Step) -> Tensor:
    """(z_t, c_t), (2 D,), by the slide's equations, its functions tanh(W v + b)."""
    i, f, g, o = (W @ step.x + U @ step.h + b + c for W, U, b, c in zip(step.W, step.U, step.b, step.c, strict=True))
    memory = torch.sigmoid(f) * step.memory + torch.sigmoid(i) * torch.tanh(g)
    return torch.cat([torch.sigmoid(o) * torch.tanh(memory), memory])


def slide_gru(step: Step, complement: bool) -> Tensor:
    """(1 - s) z + s tanh(W x + U (r z)), (D,), or with `complement` s and 1 - s in each other's place."""
    r, s = (torch.sigmoid(step.W[n] @ step.x + step.U[n] @ step.h + step.b[n] + step.c[n]) for n in (0, 1))
    candidate = torch.tanh(step.W[2] @ step.x + step.b[2] + step.U[2] @ (r * step.h) + step.c[2])
    s = 1 - s if complement else s
    return (1 - s) * step.h + s * candidate


class GateEquations(Claim):
    """The LSTM of the slides is torch's and ours; their GRU is a cousin."""

    id = "gate-equations"
    source = f"{PAPER}, Long Short Term Memory; Gated Recurrent Neural Networks"
    statement = "the slides' LSTM is torch's; their GRU is, if s and 1 - s swap and the candidate's U is diagonal"
    quotation = "Long Short Term Memory (LSTM) can be described as a sequence of memory cells"
    meaning = (
        "The slides' networks are those of torch, up to which of two conventions a GRU follows: which gate value "
        "means 'keep', and whether the reset comes before or after the matrix product."
    )
    hypotheses = "for the GRU the candidate's recurrent matrix is diagonal and has no bias of its own, s is 1 - s"
    routes = "a step of the model's cell, against the slide's equations written out"
    control = "for the LSTM exchanged input and forget gates; for the GRU the equation as printed, s not exchanged"
    proof = (
        "Written out, the slide's f_forget, f_input and f_output are affine maps of [x_t; z_{t-1}], and f one "
        "followed by tanh; torch's LSTM has the same four maps, c_t = f c_{t-1} + i g and h_t = o tanh(c_t). torch's "
        "GRU is h_t = (1 - s) n + s h_{t-1} with n = tanh(W x + b + r (U h + c)). With 1 - s for the slide's s the "
        "outer equation is the same; r (U h + c) = U (r h) for every r and h if U is diagonal and c = 0."
    )

    @override
    def cases(self) -> Sequence[str]:
        return ["lstm", "gru"] * 3

    @property
    @override
    def tolerance(self) -> float:
        return rounding(1, width=4 * DIM)

    @override
    def residual(self, case: str, seed: int) -> float:
        return self._distance(case, seed, as_hypothesised=True)

    @override
    def control_residual(self, case: str, seed: int) -> float:
        return self._distance(case, seed, as_hypothesised=False)

    @torch.no_grad()
    def _distance(self, case: str, seed: int, as_hypothesised: bool) -> float:
        step = random_step(case, seed)
        if case == "lstm":
            found = step.cell.step(step.x, torch.cat([step.h, step.memory]))
            order = [0, 1, 2, 3] if as_hypothesised else [1, 0, 2, 3]
            parts = {name: getattr(step, name)[order] for name in ("W", "U", "b", "c")}
            return float((found - slide_lstm(step._replace(**parts))).abs().max())
        step.U[2].copy_(step.U[2].diagonal().diag())  # the cell's own memory
        step.c[2].zero_()
        return float((step.cell.step(step.x, step.h) - slide_gru(step, complement=as_hypothesised)).abs().max())


class GruReset(Claim):
    """Where the reset gate stands matters, unless the candidate's matrix is diagonal."""

    id = "gru-reset"
    source = f"{PAPER}, Gated Recurrent Neural Networks"
    statement = "torch's GRU resets U h + c after the matrix product; the slide's, which resets h before it, is another"
    quotation = "GRU uses a weighted sum of two hidden states"
    meaning = (
        "Both GRUs let a reset gate hide the old state from the candidate. The slide hides units before they are "
        "mixed by U, torch hides the mixture. They are different functions of the same parameters."
    )
    hypotheses = "the candidate is tanh(W x + b + r (U h + c)), and s weighs the old state"
    routes = "a step of the model's cell, against that equation written out"
    control = "the slide's tanh(W x + U (r h)), s and 1 - s already exchanged"
    proof = (
        "r (U h) has entries r_i sum_j U_ij h_j, U (r h) has sum_j U_ij r_j h_j. They agree for every h if and only "
        "if (r_i - r_j) U_ij = 0 for all i and j: where gates are equal or U is diagonal. The bias c inside torch's "
        "product is reset, too."
    )

    @override
    def cases(self) -> Sequence[int]:
        return range(3)

    @property
    @override
    def tolerance(self) -> float:
        return rounding(1, width=4 * DIM)

    @torch.no_grad()
    @override
    def residual(self, case: int, seed: int) -> float:
        step = random_step("gru", seed)
        r, s = (torch.sigmoid(step.W[n] @ step.x + step.U[n] @ step.h + step.b[n] + step.c[n]) for n in (0, 1))
        candidate = torch.tanh(step.W[2] @ step.x + step.b[2] + r * (step.U[2] @ step.h + step.c[2]))
        return float((step.cell.step(step.x, step.h) - (s * step.h + (1 - s) * candidate)).abs().max())

    @torch.no_grad()
    @override
    def control_residual(self, case: int, seed: int) -> float:
        step = random_step("gru", seed)
        return float((step.cell.step(step.x, step.h) - slide_gru(step, complement=True)).abs().max())


def memory_jacobian(step: Step) -> Tensor:
    """dc_t / dc_{t-1}, (D, D), with h_{t-1} = o_{t-1} tanh(c_{t-1}), by automatic differentiation of the cell."""

    def after(memory: Tensor) -> Tensor:
        h = step.output_gate * torch.tanh(memory)
        return step.cell.step(step.x, torch.cat([h, memory]))[DIM:]

    jacobian: Tensor = torch.autograd.functional.jacobian(after, step.memory)
    return jacobian


def lstm_parts(step: Step) -> tuple[Tensor, Tensor]:
    """diag(f_t), and what the gates add, (D, D) each, in closed form."""
    i, f, g, _ = (W @ step.x + U @ step.h + b + c for W, U, b, c in zip(step.W, step.U, step.b, step.c, strict=True))
    i, f, g = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g)
    of_gates = torch.diag(step.memory * f * (1 - f)) @ step.U[1] + torch.diag(g * i * (1 - i)) @ step.U[0]
    of_gates = of_gates + torch.diag(i * (1 - g**2)) @ step.U[2]
    return torch.diag(f), of_gates @ torch.diag(step.output_gate * (1 - step.memory.tanh() ** 2))


def gru_parts(step: Step) -> tuple[Tensor, Tensor]:
    """diag(s_t), s the weight of the old state, and what the gates add, (D, D) each, in closed form."""
    r, s = (torch.sigmoid(step.W[n] @ step.x + step.U[n] @ step.h + step.b[n] + step.c[n]) for n in (0, 1))
    reset = step.U[2] @ step.h + step.c[2]
    n = torch.tanh(step.W[2] @ step.x + step.b[2] + r * reset)
    of_candidate = torch.diag(reset * r * (1 - r)) @ step.U[0] + torch.diag(r) @ step.U[2]
    of_gates = torch.diag((step.h - n) * s * (1 - s)) @ step.U[1] + torch.diag((1 - s) * (1 - n**2)) @ of_candidate
    return torch.diag(s), of_gates


class LstmHighway(Claim):
    """The gradient's straight way through a gated cell."""

    id = "lstm-highway"
    source = f"{PAPER}, Long Short Term Memory: Memory Cells; Forget and Input gate"
    statement = "dc_t/dc_{t-1} is diag(f_t) plus the gates' terms; the GRU's dh_t/dh_{t-1} is diag(s_t) plus its own"
    quotation = (
        "Vanishing gradients happen because we multiply many gradients across time, we want some ways to prevent that"
    )
    meaning = (
        "The cell of an LSTM hands its gradient on by a multiplication per entry, with no matrix in between: where the "
        "forget gate is open nothing is lost. It is not the only path: the gates read the old cell as well, and their "
        "terms go through matrices."
    )
    hypotheses = "the hidden vector before is o_{t-1} tanh(c_{t-1}), o_{t-1} fixed; s_t weighs the old state"
    routes = "automatic differentiation of the model's cell, against the closed form"
    control = "diag(f_t) and diag(s_t) alone"
    proof = (
        "c_t = f c_{t-1} + i g, where f, i and g read h_{t-1} = o_{t-1} tanh(c_{t-1}). By the product and the chain "
        "rule dc_t/dc_{t-1} = diag(f) + [diag(c_{t-1} f') U_f + diag(g i') U_i + diag(i g') U_g] diag(o_{t-1} (1 - "
        "tanh^2(c_{t-1}))), primes for derivatives of the nonlinearities. For h_t = (1 - s) n + s h_{t-1} it is "
        "diag(s) + diag(h_{t-1} - n) ds/dh + diag(1 - s) dn/dh."
    )

    @override
    def cases(self) -> Sequence[str]:
        return ["lstm", "gru"] * 3

    @property
    @override
    def tolerance(self) -> float:
        return rounding(1, width=4 * DIM)

    @override
    def residual(self, case: str, seed: int) -> float:
        jacobian, straight, of_gates = self._parts(case, seed)
        return float((jacobian - straight - of_gates).abs().max())

    @override
    def control_residual(self, case: str, seed: int) -> float:
        jacobian, straight, _ = self._parts(case, seed)
        return float((jacobian - straight).abs().max())

    def _parts(self, case: str, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        step = random_step(case, seed)
        with torch.no_grad():
            straight, of_gates = (lstm_parts if case == "lstm" else gru_parts)(step)
        if case == "lstm":
            return memory_jacobian(step), straight, of_gates
        jacobian: Tensor = torch.autograd.functional.jacobian(lambda h: step.cell.step(step.x, h), step.h)
        return jacobian, straight, of_gates


class LstmEpsilon(Claim):
    """An erratum: what a memory cell adds to the identity is as large as its recurrent matrix."""

    id = "lstm-epsilon"
    source = f"{PAPER}, Long Short Term Memory: Memory Cells"
    statement = "for c_t = c_{t-1} + tanh(W x_t + U h_{t-1}) the slide's epsilon is diag(tanh') U diag(tanh'(c_{t-1}))"
    quotation = "with epsilon being small"
    meaning = (
        "The second term of the derivative is the recurrent matrix between two diagonal matrices of slopes. It is "
        "small where units are saturated or weights are small, and as large as the weights near zero, where training "
        "starts."
    )
    hypotheses = "input, forget and output gates are open; h_{t-1} = tanh(c_{t-1})"
    routes = "automatic differentiation of the model's LSTM with open gates, against the closed form"
    control = "as printed: dc_t/dc_{t-1} = I + epsilon, epsilon small enough to leave out"
    kind = "erratum"
    proof = (
        "With h_{t-1} = tanh(c_{t-1}) and a = W x_t + U h_{t-1}, the chain rule gives dc_t/dc_{t-1} = I + diag(1 - "
        "tanh^2(a)) U diag(1 - tanh^2(c_{t-1})). Both diagonals are at most one, so the term is at most ||U||, which "
        "it reaches at a = 0 and c_{t-1} = 0."
    )
    erratum = "imprecise"
    example = "One unit, U = 2, x_t = 0, c_{t-1} = 0: epsilon = 1 * 2 * 1 = 2, and dc_t/dc_{t-1} = 3."

    @override
    def cases(self) -> Sequence[int]:
        return range(3)

    @property
    @override
    def tolerance(self) -> float:
        return rounding(1, width=4 * DIM)

    @override
    def residual(self, case: int, seed: int) -> float:
        step, jacobian = self._open(seed)
        with torch.no_grad():
            slope = 1 - torch.tanh(step.W[2] @ step.x + step.U[2] @ step.h + step.b[2] + step.c[2]) ** 2
            epsilon = torch.diag(slope) @ step.U[2] @ torch.diag(1 - step.memory.tanh() ** 2)
        return float((jacobian - torch.eye(DIM) - epsilon).abs().max())

    @override
    def control_residual(self, case: int, seed: int) -> float:
        _, jacobian = self._open(seed)
        return float(torch.linalg.matrix_norm(jacobian - torch.eye(DIM, dtype=jacobian.dtype), 2))

    def _open(self, seed: int) -> tuple[Step, Tensor]:
        step = random_step("lstm", seed)
        with torch.no_grad():
            for gate in (0, 1, 3):  # sigmoid(1000) is one
                step.W[gate].zero_()
                step.U[gate].zero_()
                step.b[gate].fill_(1000.0)
            step.memory.mul_(0.5)  # where tanh has a slope
            step = step._replace(output_gate=torch.ones_like(step.memory), h=step.memory.tanh())
        return step, memory_jacobian(step)
