"""Every claim of the registry holds, its control fails, and damage to the models is noticed."""

from typing import Any

import networkx as nx
import pytest
from pyro import poutine
from torch import Tensor

from pgm_rnn.claims import CLAIMS, Claim, check
from pgm_rnn.claims.choe_2017 import independences
from pgm_rnn.claims.claim import conclude
from pgm_rnn.claims.hidden_chain import HiddenChain
from pgm_rnn.claims.standard_errors import MANY
from pgm_rnn.graph import read_graph
from pgm_rnn.models.cells import StackedCell
from pgm_rnn.models.rnn import RNN
from pgm_rnn.sequence_model import programs

NIGHTLY = pytest.mark.nightly
LONG = {"particle-filter-unbiased", "particle-filter-rate"}
"""By day `make verify` draws their samples."""


def first_cases(claim: Claim, few: int, monkeypatch: pytest.MonkeyPatch) -> Claim:
    """The claim on a few of its cases, spread over all of them; on the first alone if it draws many samples."""
    cases = list(claim.cases())
    chosen = cases[:: max(1, len(cases) // few)] if claim.unit == "difference" else cases[:1]
    monkeypatch.setattr(claim, "cases", lambda: chosen)
    return claim


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(name, marks=[NIGHTLY] * (name in LONG)) for name in CLAIMS])
@pytest.mark.parametrize(
    ("seed", "few"), [(7, 2), pytest.param(7, 4, marks=NIGHTLY), pytest.param(0, 4, marks=NIGHTLY)]
)  # `make verify` has seed 0
def test_the_claim_holds_and_its_control_fails(name: str, seed: int, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    result = check(first_cases(CLAIMS[name], few, monkeypatch), seed)
    assert result.residual <= result.tolerance, result
    assert result.control_residual > result.tolerance, result
    assert result.verdict == "holds"


@pytest.mark.parametrize("name", CLAIMS)
def test_the_claim_says_what_it_is(name: str) -> None:
    claim = CLAIMS[name]
    assert claim.id == name
    assert claim.kind in ("identity", "independence", "inequality", "statistical", "slope", "limit", "erratum")
    for text in (claim.statement, claim.quotation, claim.meaning, claim.hypotheses, claim.routes, claim.control):
        assert len(text) > 10
    assert len(claim.proof) > 150
    assert bool(claim.erratum) == bool(claim.example) == (claim.kind == "erratum")
    assert ")" in claim.source.partition(", ")[0] or "), " in claim.source
    largest = {"difference": 1e-9, "standard errors": MANY, "slope": 0.25, "limit": 1.0}[claim.unit]
    assert 0 < claim.tolerance <= largest
    assert (claim.kind == "slope") == (claim.unit == "slope")


def test_a_claim_whose_control_passes_fails() -> None:
    claim = CLAIMS["theorem-5"]
    assert conclude(claim, 1, residual=0.0, tolerance=1e-9, control_residual=0.0, seconds=0.0).verdict == "fails"


def _forget_the_state(self: RNN, h: Tensor, z: None, x: Tensor) -> Tensor:
    return RNN_RECURRENCE(self, 0.9 * h, z, x)


def _shifted_inputs(self: StackedCell, x: Tensor, h: Tensor) -> Tensor:
    return STACKED_UNROLL(self, x.roll(1, dims=0), h)


def _unnormalised(self: RNN, *args: Tensor, **options: Any) -> Tensor:
    scaled = poutine.scale(RNN_MODEL, scale=1.1)
    return scaled(self, *args, **options)


RNN_RECURRENCE, RNN_MODEL, STACKED_UNROLL = RNN.recurrence, RNN.model, StackedCell.unroll


def _graph_without_arcs(*arguments: Any) -> "nx.DiGraph[str]":
    return nx.create_empty_copy(read_graph(*arguments))


def _unconditioned(lengths: Tensor, num_steps: int, first: str) -> Tensor | None:
    return MODELLED_STEPS(lengths, num_steps, "model")


MODELLED_STEPS = programs.modelled_steps

DAMAGES: dict[str, tuple[str, Any, str, Any]] = {
    "a recurrence that forgets": ("theorem-5", RNN, "recurrence", _forget_the_state),
    "a fused law that counts x_1": ("theorem-5", programs, "modelled_steps", _unconditioned),
    "a fused network one step late": ("elbo-equivalence", StackedCell, "unroll", _shifted_inputs),
    "a program that is not normalised": ("remark-1", RNN, "model", _unnormalised),
    "a graph without arcs": ("markov-properties", independences, "read_graph", _graph_without_arcs),
    "a graph without arcs either": ("proposition-4", independences, "read_graph", _graph_without_arcs),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_to_the_model_is_noticed(damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, owner, attribute, damaged = DAMAGES[damage]
    monkeypatch.setattr(owner, attribute, damaged)
    claim = CLAIMS[name]
    assert claim.residual(claim.cases()[0], seed=0) > claim.tolerance


def test_an_enumeration_of_the_wrong_sequences_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    enumerate_all = HiddenChain.enumerated_log_likelihoods
    monkeypatch.setattr(HiddenChain, "enumerated_log_likelihoods", lambda self, x: enumerate_all(self, x.flip(0)))
    claim = CLAIMS["theorem-5"]
    assert claim.residual(claim.cases()[0], seed=0) > claim.tolerance
