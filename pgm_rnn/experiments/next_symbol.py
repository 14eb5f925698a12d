"""The next symbol's law p(x_{t+1} | x_{1:t}): exact, and as networks and HMMs learn it from n sequences.

    KL per step = mean_t E_{x_{1:t}} KL(p(x_{t+1} | x_{1:t}) || q(x_{t+1} | x_{1:t})),   t = 1..T - 1, nats

The expectation is a sum over every history, so nothing but the training is random. Four learners see the same
sequences: "direct", a network trained on the next symbol; "states", a network trained on the states as in figure 5,
whose law of the state goes through the true transitions and emissions; "hmm", an HMM with m states, eight at most, of
maximum likelihood; "chain", a Markov chain of counts.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor
from typing_extensions import override

from pgm_rnn.experiments.experiment import PAPER, Cell, Experiment, Finding, Row, Rows, Sentence
from pgm_rnn.experiments.histories import all_sequences
from pgm_rnn.experiments.maximum_likelihood import fit_hmm, sequence_counts
from pgm_rnn.experiments.networks import Network, all_candidates, chosen, train_candidates, train_networks
from pgm_rnn.experiments.pictures import (
    GREEN,
    ORANGE,
    SKY,
    VERMILION,
    draw_curve,
    label_axis,
    panels,
    plain_ticks,
    side_by_side,
)
from pgm_rnn.experiments.problem import Problem, hmm_parameter_count, make_problem
from pgm_rnn.experiments.scores import divergence
from pgm_rnn.experiments.settings import NUM_STEPS, Settings
from pgm_rnn.experiments.summary import curve, each_draw, middle, number, values_of, where
from pgm_rnn.experiments.taggers import parameter_count
from pgm_rnn.experiments.training import num_held_out
from pgm_rnn.inference import forward_backward
from pgm_rnn.models.hmm import HMM
from pgm_rnn.models.markov_chain import MarkovChain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEARNERS = {
    "chain": ("Markov chain, counts", SKY),
    "states": ("RNN on the states, then the true HMM's step", ORANGE),
    "direct": ("RNN on the next symbol", VERMILION),
    "hmm": ("HMM of maximum likelihood", GREEN),
}
"""Label and look of each learner's curve."""

HMM_STARTS, HMM_STATES = 4, 8
"""Largest number of states of a fitted HMM: the cost of a fit grows with its square."""


class Exact(NamedTuple):
    """The true laws on every history.

    Attributes:
        x: all sequences x_{1:T-1}, (H, T - 1).
        weights: p(x_{1:T-1}), (H,).
        laws: p(x_{t+1} | x_{1:t}), (H, T - 1, p).
    """

    x: Tensor
    weights: Tensor
    laws: Tensor

    def kl(self, probs: Tensor) -> float:
        """KL per step of laws (H, T - 1, p), nats."""
        return float(self.weights @ divergence(self.laws, probs.log()).mean(-1))


def exact_laws(hmm: HMM) -> Exact:
    """Every history's law of the next symbol, by the forward algorithm."""
    x = all_sequences(hmm.emission_probs.shape[1], NUM_STEPS - 1)
    weights = forward_backward.filter(hmm, x).log_marginal_likelihood.exp()
    return Exact(x, weights, forward_backward.predict(hmm, x).probs)


class NextSymbol(Experiment):
    """KL per step against n and m."""

    id = "next-symbol"
    title = "the law of the next symbol: KL per step to the exact one"
    source = f"{PAPER}, end of sec. 4.1.1"
    described = (
        "HMMs with m states and 3 symbols; n sequences of 8 steps. The KL divergence from the exact law of the next "
        "symbol is summed over all 3^7 histories with their exact probabilities. An RNN of k units learns the next "
        "symbol, another one the states as in figure 5, its law of the state taken one step on by the true HMM. Beside "
        "them an HMM with m states, eight at most, of maximum likelihood on the same sequences (the best of "
        f"{HMM_STARTS} starts by L-BFGS, held-out sequences may stop it earlier), and a Markov chain of counts."
    )
    settings = Settings(
        num_states=(2, 8, 32, 128),
        hidden_dims=(1, 20),
        num_sequences=(1000, 20_000),
        num_updates=1000,
        group=5,
        num_test=100,
    )
    quick = Settings(
        num_states=(2, 3),
        hidden_dims=(2,),
        num_sequences=(50,),
        replicates=2,
        num_updates=20,
        narrow_starts=1,
        group=2,
        num_test=100,
    )

    @override
    def cells(self, settings: Settings) -> list[Cell]:
        kinds = [(kind, k) for kind in ("direct", "states") for k in sorted(settings.hidden_dims, reverse=True)]
        return [
            Cell(kind, num_states, size, replicates)
            for replicates in settings.replicate_groups()
            for num_states in sorted(settings.num_states, reverse=True)
            for kind, size in [("hmm", min(num_states, HMM_STATES)), *kinds, ("chain", settings.num_symbols)]
        ]

    @override
    def run(self, settings: Settings, cell: Cell) -> list[Row]:
        problems = [make_problem(settings, cell.num_states, replicate) for replicate in cell.replicates]
        if cell.kind == "direct":
            return [_network_row(settings, cell, network) for network in _direct(settings, problems, cell.size)]
        if cell.kind == "states":
            return [_network_row(settings, cell, network) for network in train_networks(settings, problems, cell.size)]
        fit = _fit_hmm if cell.kind == "hmm" else _fit_chain
        return [
            _row(settings, cell, problem, num_sequences, fit(settings, problem, num_sequences))
            for problem in problems
            for num_sequences in settings.num_sequences
        ]

    @override
    def procedure(self, settings: dict[str, Any]) -> str:
        return self.trained(settings)

    @override
    def draw(self, rows: Rows) -> "Figure":
        numbers = values_of(rows, "num_sequences")
        figure, axes = panels(len(numbers))
        for axis, num_sequences in zip(axes, numbers, strict=True):
            shown = _widest(where(rows, num_sequences=num_sequences))
            for place, (learner, (name, look)) in enumerate(LEARNERS.items()):
                found = curve(where(shown, method=learner), "num_states", "kl")
                draw_curve(axis, found, look, name, shift=side_by_side(place, len(LEARNERS)))
            axis.set_xscale("log", base=2)
            axis.set_yscale("log")
            plain_ticks(axis, [float(m) for m in values_of(rows, "num_states")])
            draws = len(values_of(rows, "replicate"))
            note = f"n = {num_sequences}; k = {_width(rows)}; median and middle 80 % of {draws} HMMs"
            label_axis(axis, "m, hidden states of the HMM", "KL, nats per step", note=note)
        handles = axes[0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside upper center", ncols=2, fontsize=9, frameon=False)
        return figure


def _direct(settings: Settings, problems: list[Problem], hidden_dim: int) -> list[Network]:
    """Networks trained on x_{t+1} given x_{1:t}."""
    candidates = all_candidates(settings, problems, hidden_dim)
    return chosen(
        train_candidates(
            settings,
            candidates,
            [candidate.problem.train.x[:, 1:] for candidate in candidates],
            (settings.num_symbols, settings.num_symbols, hidden_dim),
            sequences=[candidate.problem.train.x[:, :-1] for candidate in candidates],
        )
    )


def _network_row(settings: Settings, cell: Cell, network: Network) -> Row:
    problem = network.candidate.problem
    probs = network.probs(exact_laws(problem.hmm).x)
    if cell.kind == "states":
        probs = probs @ problem.hmm.transition_probs @ problem.hmm.emission_probs
    num_labels = cell.num_states if cell.kind == "states" else settings.num_symbols
    parameters = parameter_count(settings.num_symbols, num_labels, cell.size)
    return _row(settings, cell, problem, network.candidate.num_sequences, (probs, parameters))


def _fit_hmm(settings: Settings, problem: Problem, num_sequences: int) -> tuple[Tensor, int]:
    """The law of a fitted HMM, and its number of parameters."""
    num_states = min(problem.hmm.num_states, HMM_STATES)
    purpose = ("fitted hmm", problem.hmm.num_states, problem.replicate, num_sequences)
    trained = num_sequences - num_held_out(num_sequences)
    counts, held_out = (
        sequence_counts(x, settings.num_symbols)
        for x in (problem.train.x[:trained], problem.train.x[trained:num_sequences])
    )
    seeds = [settings.seed_of(*purpose, start) for start in range(HMM_STARTS)]
    hmm = fit_hmm(counts, held_out, NUM_STEPS, num_states, seeds)
    x = all_sequences(settings.num_symbols, NUM_STEPS - 1)
    return forward_backward.predict(hmm, x).probs, hmm_parameter_count(num_states, settings.num_symbols)


def _fit_chain(settings: Settings, problem: Problem, num_sequences: int) -> tuple[Tensor, int]:
    """The law of a Markov chain of counts, and its number of parameters."""
    chain = MarkovChain.from_counts(problem.train.x[:num_sequences], num_symbols=settings.num_symbols, pseudo_count=0.1)
    x = all_sequences(settings.num_symbols, NUM_STEPS - 1)
    return chain.transition_probs[x], settings.num_symbols**2 - 1


def _row(settings: Settings, cell: Cell, problem: Problem, num_sequences: int, fitted: tuple[Tensor, int]) -> Row:
    probs, parameters = fitted
    return {
        "method": cell.kind,
        "num_states": cell.num_states,
        "size": cell.size,
        "num_sequences": num_sequences,
        "replicate": problem.replicate,
        "hmm_seed": settings.seed_of("hmm", cell.num_states, problem.replicate),
        "parameters": parameters,
        "kl": exact_laws(problem.hmm).kl(probs.detach()),
    }


def _width(rows: Rows) -> int:
    return values_of(where(rows, method="direct"), "size")[-1]


def _widest(rows: Rows) -> list[Row]:
    """All rows but those of narrower networks."""
    width = _width(rows)
    return [row for row in rows if row["method"] in ("hmm", "chain") or row["size"] == width]


def _medians(rows: Rows, method: str) -> str:
    found = where(rows, method=method)
    return ", ".join(f"{middle(where(found, num_states=m), 'kl'):.1e}" for m in values_of(found, "num_states"))


def _beside(rows: Rows, first: str, second: str) -> Finding:
    """Whether one learner's law is closer to the exact one than another's, for every m, at the largest n."""
    last = _widest(where(rows, num_sequences=values_of(rows, "num_sequences")[-1]))
    states = values_of(last, "num_states")

    def closer(draw: list[Row], num_states: int) -> bool:
        one, other = (where(draw, method=name, num_states=num_states)[0] for name in (first, second))
        return number(one, "kl") < number(other, "kl")

    def count(num_states: int) -> int:
        return sum(each_draw(last, lambda draw: closer(draw, num_states)))

    counts = ", ".join(f"{count(m)} at m = {m}" for m in states)
    names = [f"{LEARNERS[name][0]} {_medians(last, name)}" for name in (first, second)]
    reason = (
        f"Draws in which it is closer: {counts}. Median KL in nats per step for m = {', '.join(map(str, states))}: "
        f"{'; '.join(names)}; {LEARNERS['chain'][0]} {_medians(last, 'chain')}."
    )
    return Finding(each_draw(last, lambda draw: all(closer(draw, m) for m in states)), reason)


def _against_hmm(rows: Rows) -> Finding:
    return _beside(rows, "direct", "hmm")


def _against_states(rows: Rows) -> Finding:
    return _beside(rows, "direct", "states")


QUOTE = (
    "it would be an interesting future work to further compare this probability between the classical and RNN-based "
    "approaches"
)

NextSymbol.sentences = (
    Sentence(
        "sec. 4.1.1",
        QUOTE,
        "is an RNN's law of the next symbol closer to the exact one than that of an HMM of m states, eight at most, of "
        "maximum likelihood on the same sequences, for every m at the largest n?",
        _against_hmm,
        question=True,
    ),
    Sentence(
        "sec. 4.1.1",
        "the forward probability prediction task is only the first half of eventually estimating the conditional "
        "probability of the next sequence item",
        "is the RNN that learns the next symbol closer than the one that learns the states and is given "
        "the true second half, for every m at the largest n?",
        _against_states,
        question=True,
    ),
)
