"""What stands in the padding changes no value and no gradient, to the bit."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pgm_rnn.emissions import Emission
from pgm_rnn.inference import svi
from pgm_rnn.registries import OWN
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequences import Sequences
from tests.cases import cases_of
from tests.instances import (
    FAMILIES,
    assert_same,
    every_exact_law,
    every_first,
    every_model,
    gradients,
    make_model,
    program_loss,
    ragged,
    spoiled,
)

NUMBERS = [float("nan"), float("inf"), -1e300, 0.5]
SYMBOLS = [-1, 3, 10**9]


@dataclass
class Pair:
    """A model and two batches that differ in their padding only."""

    model: SequenceModel
    clean: Tensor
    dirty: Tensor
    lengths: Tensor


@st.composite
def pairs(draw: st.DrawFn) -> Pair:
    name, family = draw(st.sampled_from([law.values for law in cases_of("exact law", OWN)[1]]))
    assert isinstance(name, str)
    assert isinstance(family, Emission)
    lengths = torch.tensor(draw(st.lists(st.integers(1, 5), min_size=1, max_size=4)))
    x = ragged(family, torch.cat([lengths, torch.tensor([6])]))[:-1]
    garbage = draw(st.sampled_from(SYMBOLS if family.needs_integers else NUMBERS))
    return Pair(make_model(name, family), x, spoiled(x, lengths, garbage), lengths)


def pair(name: str, family: Emission) -> Pair:
    """A fixed pair, whose first sequence has no padding."""
    lengths = torch.tensor([4, 1, 3])
    x, garbage = ragged(family, lengths), SYMBOLS[0] if family.needs_integers else NUMBERS[0]
    return Pair(make_model(name, family), x, spoiled(x, lengths, garbage), lengths)


def assert_value_and_gradient_are_the_same(model: SequenceModel, clean: Tensor, dirty: Tensor) -> None:
    assert torch.equal(clean, dirty)
    assert_same(gradients(clean.sum(), model), gradients(dirty.sum(), model))


@given(pairs())
def test_padding_does_not_change_the_likelihood(p: Pair) -> None:
    for first in ("model", "condition"):
        for f in (p.model.log_prob, p.model.log_marginal_likelihood):
            clean, dirty = (f(x, lengths=p.lengths, first=first) for x in (p.clean, p.dirty))
            assert clean.isfinite().all()
            assert_value_and_gradient_are_the_same(p.model, clean, dirty)


@given(pairs(), st.sampled_from(["fused", "unrolled"]), st.sampled_from(["deterministic", "sampled"]))
def test_padding_does_not_change_the_elbo(p: Pair, rendering: str, memory: str) -> None:
    clean, dirty = (program_loss(p.model, x, p.lengths, rendering=rendering, memory=memory) for x in (p.clean, p.dirty))
    assert clean.isfinite()
    assert_value_and_gradient_are_the_same(p.model, clean, dirty)


@given(pairs())
def test_padding_does_not_change_a_forecast(p: Pair) -> None:
    clean, dirty = (p.model.forecast(x, 3, lengths=p.lengths, num_samples=2, seed=0) for x in (p.clean, p.dirty))
    assert torch.equal(clean.x, dirty.x)


@given(pairs())
def test_padding_does_not_change_an_evaluation(p: Pair) -> None:
    clean, dirty = (svi.evaluate(p.model, x, p.lengths) for x in (p.clean, p.dirty))
    assert clean.nats_per_step == dirty.nats_per_step
    assert torch.equal(clean.log_likelihoods, dirty.log_likelihoods)


@every_model
def test_padding_does_not_change_a_fit(name: str) -> None:
    p = pair(name, FAMILIES["reals"])
    fits = []
    for x in (p.clean, p.dirty):
        model = make_model(name, FAMILIES["reals"])
        svi.fit(model, Sequences(x, p.lengths), num_epochs=2, batch_size=2, progress=False)
        fits.append(model.state_dict())
    assert_same(fits[0], fits[1])


@every_first
@every_exact_law
def test_a_ragged_batch_is_its_sequences_one_by_one(name: str, family: Emission, first: str) -> None:
    p = pair(name, family)
    whole = p.model.log_prob(p.dirty, lengths=p.lengths, first=first)  # type: ignore[arg-type]
    alone = [
        p.model.log_prob(row[None, :n], first=first)[0]  # type: ignore[arg-type]
        for row, n in zip(p.clean, p.lengths.tolist(), strict=True)
    ]
    torch.testing.assert_close(whole, torch.stack(alone))
    assert_same(gradients(whole.sum(), p.model), gradients(torch.stack(alone).sum(), p.model), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("rendering", ["fused", "unrolled"])
@every_model
def test_the_elbo_of_a_ragged_batch_is_the_sum_over_its_sequences(name: str, rendering: str) -> None:
    p = pair(name, FAMILIES["counts"])
    whole = program_loss(p.model, p.dirty, p.lengths, rendering=rendering)
    rows = zip(p.clean, p.lengths.tolist(), strict=True)
    alone = torch.stack([program_loss(p.model, row[None, :n], rendering=rendering) for row, n in rows])
    torch.testing.assert_close(whole, alone.sum())
