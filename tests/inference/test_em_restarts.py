import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from pgm_rnn.emissions import Categorical, Emission, Gaussian
from pgm_rnn.inference import em
from pgm_rnn.inference.em.random_starts import Start, random_starts
from pgm_rnn.inference.forward_backward import ImpossibleSequenceError
from pgm_rnn.kernels import hmm as kernels
from pgm_rnn.models.hmm import HMM
from pgm_rnn.sequences import Sequences
from tests.inference.test_em import NUM_STATES, batch, start
from tests.instances import every_estimated_family

NUM_RESTARTS, NUM_ITERATIONS = 4, 5
ROUNDING = NUM_ITERATIONS * 30 * 12 * NUM_STATES * torch.finfo(torch.float64).eps
"""Relative; one rounding error for each term of each sum of each iteration."""


def fit(family: Emission, data: Sequences, seed: int = 0, valid: Sequences | None = None) -> tuple[em.EmFit, HMM]:
    model = start(family)
    result = em.fit(
        model, data, valid=valid, num_restarts=NUM_RESTARTS, seed=seed, num_iterations=NUM_ITERATIONS, progress=False
    )
    return result, model


def alone(family: Emission, data: Sequences, seed: int = 0) -> list[tuple[em.EmFit, HMM]]:
    """Every start fitted by itself."""
    model = start(family)
    own = Start(model.initial_probs.detach(), model.transition_probs.detach(), model.emission_table)
    drawn = random_starts(own, data.x[data.mask], NUM_RESTARTS - 1, seed)
    models = [HMM(s.initial, s.transition, s.emission) for s in (own, *drawn)]
    return [(em.fit(m, data, num_iterations=NUM_ITERATIONS, progress=False), m) for m in models]


def log_likelihood(model: HMM, data: Sequences) -> Tensor:
    return model.log_marginal_likelihood(data.x, data.lengths).sum().detach()


@pytest.mark.parametrize("backend", ["compiled", "batched"])
@every_estimated_family
def test_a_start_in_company_is_the_start_alone(family: Emission, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "prefers_batched", lambda emission: backend == "batched")
    data = batch(family)
    (together, model), singles = fit(family, data), alone(family, data)
    expected = torch.stack([single.log_likelihoods[-1] for single, _ in singles])
    torch.testing.assert_close(together.restarts.log_likelihoods, expected, rtol=ROUNDING, atol=0)
    chosen, chosen_model = singles[together.restarts.chosen]
    torch.testing.assert_close(together.log_likelihoods, chosen.log_likelihoods, rtol=ROUNDING, atol=0)
    for a, b in zip(model.parameters(), chosen_model.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    assert float(expected.max() - expected.min()) > 1e-3  # the starts are not all the same


def test_training_data_choose_where_there_are_no_others() -> None:
    result, model = fit(Categorical(3), batch(Categorical(3)))
    restarts = result.restarts
    assert restarts.valid_log_likelihoods is None
    assert restarts.chosen == int(restarts.log_likelihoods.argmax())
    assert not bool((restarts.log_likelihoods == restarts.log_likelihoods.max()).all())
    assert float(result.log_likelihoods[-1]) == float(restarts.log_likelihoods.max())
    torch.testing.assert_close(log_likelihood(model, batch(Categorical(3))), restarts.log_likelihoods.max())


def test_validation_data_choose_where_they_are_given() -> None:
    family = Categorical(3)
    data, valid = batch(family), Sequences(torch.ones(2, 6, dtype=torch.int64), torch.tensor([6, 3]))
    (result, model), singles = fit(family, data, valid=valid), alone(family, data)
    expected = torch.stack([log_likelihood(m, valid) for _, m in singles])
    assert result.restarts.valid_log_likelihoods is not None
    torch.testing.assert_close(result.restarts.valid_log_likelihoods, expected)
    assert result.restarts.chosen == int(expected.argmax())
    assert result.restarts.chosen != int(result.restarts.log_likelihoods.argmax())  # training data would choose another
    torch.testing.assert_close(log_likelihood(model, valid), expected.max())


def test_training_data_choose_among_starts_that_validation_data_cannot_tell_apart() -> None:
    data = batch(Categorical(3))
    data = Sequences(data.x.clamp(max=1), data.lengths)
    unseen = Sequences(torch.full((1, 2), 2), torch.tensor([2]))
    result, _ = fit(Categorical(3), data, valid=unseen)
    assert result.restarts.valid_log_likelihoods is not None
    assert bool((result.restarts.valid_log_likelihoods == -torch.inf).all())
    assert result.restarts.chosen == int(result.restarts.log_likelihoods.argmax())


def test_validation_data_may_be_a_tensor_and_change_no_start() -> None:
    family = Categorical(3)
    data, valid = batch(family), Sequences(torch.zeros(2, 6, dtype=torch.int64), torch.tensor([6, 6]))
    without, padded = fit(family, data)[0], fit(family, data, valid=valid)[0]
    plain = em.fit(
        start(family), data, valid=valid.x, num_restarts=NUM_RESTARTS, num_iterations=NUM_ITERATIONS, progress=False
    )
    assert torch.equal(without.restarts.log_likelihoods, padded.restarts.log_likelihoods)
    assert torch.equal(plain.log_likelihoods, padded.log_likelihoods)


@every_estimated_family
def test_a_seed_gives_the_same_fit_to_the_bit_and_another_seed_does_not(family: Emission) -> None:
    results = [fit(family, batch(family), seed) for seed in (1, 1, 2)]
    (first, model), (second, twin), (other, _) = results
    assert torch.equal(first.restarts.log_likelihoods, second.restarts.log_likelihoods)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))
    assert float(first.restarts.log_likelihoods[0]) == float(other.restarts.log_likelihoods[0])
    assert not torch.equal(first.restarts.log_likelihoods, other.restarts.log_likelihoods)


def test_all_starts_go_on_while_one_of_them_gains() -> None:
    family, tolerance = Categorical(3), 1e-3
    data = batch(family)
    together = em.fit(
        start(family), data, num_restarts=NUM_RESTARTS, num_iterations=500, tolerance=tolerance, progress=False
    )
    model = start(family)
    own = Start(model.initial_probs.detach(), model.transition_probs.detach(), model.emission_table)
    drawn = random_starts(own, data.x[data.mask], NUM_RESTARTS - 1, 0)
    singles = [
        em.fit(HMM(s.initial, s.transition, s.emission), data, num_iterations=500, tolerance=tolerance, progress=False)
        for s in (own, *drawn)
    ]
    assert together.stopped_by == "tolerance"
    assert len(together.log_likelihoods) >= max(len(single.log_likelihoods) for single in singles)
    assert len({len(single.log_likelihoods) for single in singles}) > 1


def test_an_impossible_first_start_is_a_named_error_and_leaves_the_model() -> None:
    hmm = HMM(torch.tensor([1.0, 0.0]), torch.eye(2), torch.eye(2))
    before = [p.clone() for p in hmm.parameters()]
    with pytest.raises(ImpossibleSequenceError, match="probability zero for sequence 1 from step 2 on; start from"):
        em.fit(hmm, torch.tensor([[0, 0], [0, 1]]), num_restarts=3, progress=False)
    assert all(torch.equal(a, b) for a, b in zip(before, hmm.parameters(), strict=True))


def test_random_starts_keep_the_zeros_of_a_left_to_right_chain() -> None:
    transition = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5], [0.0, 0.0, 1.0]])
    hmm = HMM(torch.tensor([1.0, 0.0, 0.0]), transition, torch.full((3, 4), 0.25))
    result = em.fit(hmm, torch.randint(4, (20, 6)), num_restarts=5, num_iterations=5, progress=False)
    assert result.restarts.chosen > 0  # equal laws in all states are a saddle point
    assert torch.equal(hmm.transition_probs > 0, transition > 0)


@pytest.mark.parametrize("num_restarts", [0, 1.5, True])
def test_a_number_of_restarts_below_one_is_an_error(num_restarts: object) -> None:
    with pytest.raises(ValueError, match="expected num_restarts to be an integer of at least 1"):
        em.fit(start(Categorical(3)), batch(Categorical(3)), num_restarts=num_restarts)  # type: ignore[arg-type]


def test_validation_data_of_another_kind_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"symbols in 0\.\.2"):
        em.fit(start(Categorical(3)), batch(Categorical(3)), valid=torch.full((1, 2), 7), progress=False)


def test_a_start_that_converged_says_so_while_others_still_climb() -> None:
    """Start 0 is where an earlier fit converged, so that it rests at once; the random starts need longer."""
    model, data = start(Gaussian()), batch(Gaussian())
    options: dict[str, Any] = {"tolerance": 1e-4, "progress": False}
    em.fit(model, data, num_iterations=500, start="model", **options)
    best = copy.deepcopy(model)
    for num_restarts in (1, 4):
        found = em.fit(
            copy.deepcopy(best), data, num_iterations=3, num_restarts=num_restarts, start="model", seed=1, **options
        )
        assert found.restarts.chosen == 0
        assert found.stopped_by == "tolerance"
    assert found.num_iterations == 3  # the others went on
    assert em.fit(start(Gaussian()), data, num_iterations=3, **options).stopped_by == "num_iterations"
