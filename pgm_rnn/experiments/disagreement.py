"""Why a network and the forward algorithm disagree when there are many states: optima, an approximate phi, or data?

Several networks that differ in their start, and in the order of the sequences, learn from the same sequences. With
q_s the law of start s and qbar the normalised geometric mean of all of them,

    mean_s KL(p || q_s)  =  KL(p || qbar)  +  mean_s KL(qbar || q_s)        p = p(z_t | x_{1:t}), nats per step

is what the starts share plus what they, that is the optima they end in, make different; (S - 1) / S of it, for qbar
keeps a part of the S starts' own, which the verdict corrects. "labels" networks learn
from drawn states; "beliefs" networks from p(z_t | x_{1:t}) itself, the mean of those labels: the same optimum without
their noise. What beliefs leave is the network's own doing, an approximate phi in the sense of Proposition 6; that is
measured too, as the residual of condition C.2, phi(f_x(b)) = f_{alpha,x}(phi(b)), phi by kernel regression.
"""

from statistics import median
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from typing_extensions import override

from pgm_rnn.experiments.experiment import PAPER, Cell, Experiment, Finding, Row, Rows, Sentence
from pgm_rnn.experiments.histories import all_histories
from pgm_rnn.experiments.intertwining import intertwining_residuals
from pgm_rnn.experiments.networks import Candidate, Network, train_candidates
from pgm_rnn.experiments.pictures import (
    BLUE,
    ORANGE,
    SKY,
    VERMILION,
    draw_curve,
    label_axis,
    legend_above,
    panels,
    plain_ticks,
)
from pgm_rnn.experiments.problem import Problem, make_problem
from pgm_rnn.experiments.scores import divergence, state_scores
from pgm_rnn.experiments.settings import NUM_STEPS, Settings
from pgm_rnn.experiments.summary import curve, each_draw, largest, middle, number, values_of, where

if TYPE_CHECKING:
    from matplotlib.figure import Figure

AS_WELL = 0.99
"""Fraction of the forward algorithm's expected accuracy that counts as performing as well."""


class Disagreement(Experiment):
    """Agreement and the parts of the divergence against the number of states."""

    id = "disagreement"
    title = "why networks and the forward algorithm disagree: starts, labels and phi"
    source = f"{PAPER}, sec. 4.1.1"
    described = (
        "Networks as in figure 6, all with one learning rate, from three starts each on the same sequences, trained on "
        "drawn states (labels) or on the exact p(z_t | x_{1:t}) (beliefs), which has the same optimum and no noise. "
        "The divergence KL(p || q) is split into what the starts share and what they do not. C.2's residual is the "
        "mean square of phi(f_x(b)) - f_{alpha,x}(phi(b)) over the variance of the hidden states, on sequences that "
        "phi, a kernel regression, was not fitted to."
    )
    settings = Settings(
        num_states=(4, 32, 128, 512), hidden_dims=(100,), num_starts=3, learning_rates=(0.003,), num_updates=1000
    )
    quick = Settings(
        num_states=(2, 3),
        hidden_dims=(4,),
        num_sequences=(100,),
        replicates=2,
        num_starts=2,
        learning_rates=(0.003,),
        narrow_rates=(0.01,),
        num_updates=20,
        num_test=100,
    )

    @override
    def cells(self, settings: Settings) -> list[Cell]:
        return [
            Cell(kind, num_states, k, replicates)
            for replicates in settings.replicate_groups()
            for num_states in sorted(settings.num_states, reverse=True)
            for k in settings.hidden_dims
            for kind in ("beliefs", "labels")
        ]

    @override
    def run(self, settings: Settings, cell: Cell) -> list[Row]:
        rows = []
        for replicate in cell.replicates:
            problem = make_problem(settings, cell.num_states, replicate)
            for num_sequences in settings.num_sequences:
                networks = _starts(settings, cell, problem, num_sequences)
                rows.append(_row(settings, cell, problem, num_sequences, networks))
        return rows

    @override
    def draw(self, rows: Rows) -> "Figure":
        rows = largest(rows)
        figure, (top, middle_panel, bottom) = panels(3)
        looks = {"labels": BLUE, "beliefs": VERMILION}
        for kind, look in looks.items():
            chosen = where(rows, method=kind)
            draw_curve(top, curve(chosen, "num_states", "agreement_all"), look, f"with forward, {kind}")
            draw_curve(bottom, curve(chosen, "num_states", "c2_residual"), look, f"C.2's residual, {kind}")
        for kind, look in (("labels", ORANGE), ("beliefs", SKY)):
            chosen = where(rows, method=kind)
            draw_curve(
                top, curve(chosen, "num_states", "start_agreement"), look._replace(dashes="--"), f"two starts, {kind}"
            )
        labels, beliefs = (where(rows, method=kind) for kind in ("labels", "beliefs"))
        draw_curve(middle_panel, curve(labels, "num_states", "kl"), BLUE, "labels, all")
        parts: list[Row] = [{"num_states": row["num_states"], "starts": _parts(row)[0]} for row in labels]
        draw_curve(middle_panel, curve(parts, "num_states", "starts"), ORANGE, "labels, the starts' part")
        draw_curve(middle_panel, curve(beliefs, "num_states", "kl"), VERMILION, "beliefs, all")
        for axis in (top, middle_panel, bottom):
            axis.set_xscale("log", base=2)
            plain_ticks(axis, [float(m) for m in values_of(rows, "num_states")])
        for axis in (middle_panel, bottom):
            axis.set_yscale("log")
        label = "m, hidden states of the HMM"
        note = f"median and middle 80 % of {len(values_of(rows, 'replicate'))} HMMs"
        label_axis(top, label, "agreement", percent=True, note=note)
        label_axis(middle_panel, label, "KL to forward, nats per step")
        label_axis(bottom, label, "part of the variance")
        for axis in (top, middle_panel, bottom):
            legend_above(axis, 2)
        return figure


def _starts(settings: Settings, cell: Cell, problem: Problem, num_sequences: int) -> list[Network]:
    """Networks trained on the same data, labels or beliefs, that differ in start and in the order of sequences."""
    assert problem.train.z is not None  # it was sampled with them
    rate = settings.rates(cell.size)[0]
    candidates = [Candidate(problem, num_sequences, rate, start) for start in range(settings.num_starts)]

    laws = all_histories(problem.hmm, NUM_STEPS)

    def beliefs(numbers: Tensor) -> Tensor:
        return laws.beliefs[laws.numbers(problem.train.x[numbers])]

    return train_candidates(
        settings,
        candidates,
        [problem.train.z] * len(candidates),
        (settings.num_symbols, cell.num_states, cell.size),
        targets=beliefs if cell.kind == "beliefs" else None,
    )


def _row(settings: Settings, cell: Cell, problem: Problem, num_sequences: int, networks: list[Network]) -> Row:
    laws = torch.stack([network.probs(problem.test.x) for network in networks])  # (S, num_test, T, m)
    mean = laws.log().mean(0).softmax(-1)
    predicted = laws.argmax(-1)
    scores = [state_scores(problem, law) for law in laws]
    residuals = [intertwining_residuals(network.tagger, problem) for network in networks]
    pairs = [float((predicted[i] == predicted[j]).double().mean()) for i in range(len(laws)) for j in range(i)]
    names = ("agreement", "agreement_all", "expected_accuracy", "forward_expected_accuracy", "near_ties", "kl")
    averages: Row = {name: sum(float(score[name]) for score in scores) / len(scores) for name in names}
    return {
        "method": cell.kind,
        "num_states": cell.num_states,
        "size": cell.size,
        "num_sequences": num_sequences,
        "replicate": problem.replicate,
        "num_starts": settings.num_starts,
        "hmm_seed": settings.seed_of("hmm", cell.num_states, problem.replicate),
        **averages,
        "start_agreement": sum(pairs) / len(pairs) if pairs else 1.0,
        "kl_shared": float(divergence(problem.beliefs, mean.log()).mean()),
        "kl_starts": float(divergence(mean, laws.log()).mean()),
        "mean_agreement_all": float(state_scores(problem, mean)["agreement_all"]),
        "held_out_spread": max(n.held_out_loss for n in networks) - min(n.held_out_loss for n in networks),
        "c2_residual": sum(residual.c2 for residual in residuals) / len(residuals),
        "phi_residual": sum(residual.phi for residual in residuals) / len(residuals),
    }


def _parts(row: Row) -> tuple[float, float]:
    """The part of the divergence that is due to the starts, and the part that all starts share.

    The geometric mean of S starts keeps 1/S of their differences: for small ones, kl_starts is (1 - 1/S) of them.
    """
    num_starts = number(row, "num_starts")
    starts = number(row, "kl_starts") * num_starts / (num_starts - 1)
    return starts, number(row, "kl") - starts


def _optima(rows: Rows) -> Finding:
    rows = largest(rows)
    many = values_of(rows, "num_states")[-1]
    last = where(rows, num_states=many)
    labels, beliefs = where(last, method="labels"), where(last, method="beliefs")

    def is_optima(draw: list[Row]) -> bool:
        (row,) = where(draw, method="labels")
        starts, shared = _parts(row)
        return starts > shared

    shares: list[Row] = [{"share": _parts(row)[0] / number(row, "kl")} for row in labels]
    left: list[Row] = [
        {"left": number(with_beliefs, "kl") / number(with_labels, "kl")}
        for with_labels, with_beliefs in zip(labels, beliefs, strict=True)
    ]
    reason = (
        f"At m = {many}, medians: the starts make {100 * middle(shares, 'share'):.0f} % of the divergence, and their "
        f"losses on held-out sequences differ by {middle(labels, 'held_out_spread'):.1e} nats per step. Two starts "
        f"agree with each other on {100 * middle(labels, 'start_agreement'):.0f} % and with the forward algorithm on "
        f"{100 * middle(labels, 'agreement_all'):.0f} % of the steps; trained without the labels' noise the latter is "
        f"{100 * middle(beliefs, 'agreement_all'):.0f} %, and the divergence is {100 * middle(left, 'left'):.1f} % of "
        "what it was. Over all laws the expected loss has one optimum, the forward algorithm's, and no local ones."
    )
    return Finding(each_draw(last, is_optima), reason)


def _more_data(rows: Rows) -> Finding:
    """Verdict on more data: beliefs are the average of infinitely many labels of the same sequences."""
    rows = largest(rows)
    states = values_of(rows, "num_states")

    def ratios(kind: str, m: int) -> list[float]:
        found = where(rows, method=kind, num_states=m)
        return [number(row, "expected_accuracy") / number(row, "forward_expected_accuracy") for row in found]

    def said(kind: str) -> str:
        return ", ".join(f"{100 * median(ratios(kind, m)):.1f}" for m in states)

    reason = (
        f"Expected accuracy in percent of the forward algorithm's, medians for m = {', '.join(map(str, states))}: "
        f"{said('labels')} with labels, {said('beliefs')} with beliefs."
    )
    return Finding([ratio >= AS_WELL for ratio in ratios("beliefs", states[-1])], reason)


def _approximation(rows: Rows) -> Finding:
    rows = largest(rows)
    many = values_of(rows, "num_states")[-1]
    last = where(rows, num_states=many)

    def is_phi(draw: list[Row]) -> bool:
        (labels,), (beliefs,) = (where(draw, method=kind) for kind in ("labels", "beliefs"))
        return number(beliefs, "kl") > number(labels, "kl") / 2

    def residuals(kind: str) -> str:
        found = where(rows, method=kind)
        return ", ".join(
            f"{middle(where(found, num_states=m), 'c2_residual'):.1e}" for m in values_of(found, "num_states")
        )

    states = ", ".join(map(str, values_of(rows, "num_states")))
    reason = (
        f"C.2's residual, as a part of the hidden states' variance, for m = {states}: {residuals('labels')} with "
        f"labels, {residuals('beliefs')} with beliefs (medians). At m = {many} the same networks come to a divergence "
        f"of {middle(where(last, method='labels'), 'kl'):.1e} nats per step with labels and of "
        f"{middle(where(last, method='beliefs'), 'kl'):.1e} with beliefs, which is what their size and training leave."
    )
    return Finding(each_draw(last, is_phi), reason)


Disagreement.sentences = (
    Sentence(
        "sec. 4",
        "some of the large RNNs that appear to perform sub-optimally below can in fact perform as well given more data "
        "points",
        f"at the largest m, networks of exact beliefs, which infinitely many labels of the same sequences average to, "
        f"have {100 * AS_WELL:.0f} % of the forward algorithm's expected accuracy at least",
        _more_data,
    ),
    Sentence(
        "sec. 4.1.1",
        "the disagreement is more likely due to the existence of many local optima, with the forward algorithm being "
        "one of them",
        "at the largest m, the part of the divergence that differs between starts is larger than the rest",
        _optima,
    ),
    Sentence(
        "sec. 4.1.1",
        "the RNN instead gives an approximation of the HMM forward algorithm, as we described in Section 3.2",
        "is it the network that is approximate (its phi), more than half of the divergence at the largest "
        "m being there without the labels' noise too?",
        _approximation,
        question=True,
    ),
)
