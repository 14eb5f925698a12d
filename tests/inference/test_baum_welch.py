from collections.abc import Collection
from itertools import combinations

import pytest
import torch

from pgm_rnn.emissions import Bernoulli, Categorical, Emission, Gaussian
from pgm_rnn.inference import em
from pgm_rnn.inference.em import baum_welch
from pgm_rnn.inference.em.baum_welch import PARTS
from pgm_rnn.models.hmm import HMM
from tests.inference.test_em import batch, start
from tests.instances import every_estimated_family

SUBSETS = [*combinations(PARTS, 1), *combinations(PARTS, 2)]
every_subset = pytest.mark.parametrize("frozen", SUBSETS, ids="-".join)


def parts(hmm: HMM) -> dict[str, torch.Tensor]:
    values = hmm.initial_logits, hmm.transition_logits, hmm.emission_table.params
    return {name: value.detach().clone() for name, value in zip(PARTS, values, strict=True)}


@pytest.mark.parametrize("num_restarts", [1, 3])
@every_subset
@every_estimated_family
def test_frozen_parts_stay_to_the_bit_and_the_likelihood_never_decreases(
    family: Emission, frozen: Collection[str], num_restarts: int
) -> None:
    hmm = start(family)
    before = parts(hmm)
    result = em.fit(
        hmm, batch(family), frozen=frozen, num_restarts=num_restarts, num_iterations=10, tolerance=0.0, progress=False
    )
    after = parts(hmm)
    for part in PARTS:
        assert torch.equal(before[part], after[part]) == (part in frozen), part
    rounding = 64 * torch.finfo(torch.float64).eps * float(result.log_likelihoods.abs().max())
    assert float(result.log_likelihoods.diff().min()) > -rounding


@every_subset
def test_other_parts_move_in_one_iteration_as_if_nothing_were_frozen(frozen: Collection[str]) -> None:
    free, bound = start(Categorical(3)), start(Categorical(3))
    em.fit(free, batch(Categorical(3)), num_iterations=1, progress=False)
    em.fit(bound, batch(Categorical(3)), num_iterations=1, frozen=frozen, progress=False)
    for part in set(PARTS) - set(frozen):
        assert torch.equal(parts(free)[part], parts(bound)[part]), part


@pytest.mark.parametrize("family", [Categorical(3), Bernoulli(2)], ids=["symbols", "bits"])
def test_pseudo_counts_raise_the_likelihood_times_their_prior(family: Emission) -> None:
    hmm, data, pseudo_count = start(family), batch(family), 2.0

    def objectives() -> tuple[float, float]:
        table = hmm.emission_table.params.detach()
        laws = (
            table.log_softmax(-1) if isinstance(family, Categorical) else torch.stack([table, -table]).sigmoid().log()
        )
        probs = [hmm.initial_probs.detach().log(), hmm.transition_probs.detach().log(), laws]
        log_likelihood = float(hmm.log_marginal_likelihood(data.x, data.lengths).sum().detach())
        return log_likelihood, log_likelihood + pseudo_count * sum(float(log_prob.sum()) for log_prob in probs)

    em.fit(hmm, data, num_iterations=5, progress=False)
    values = [objectives()]
    for _ in range(20):
        em.fit(hmm, data, num_iterations=1, pseudo_count=pseudo_count, progress=False)
        values.append(objectives())
    plain, penalised = torch.tensor(values).T
    rounding = 64 * torch.finfo(torch.float64).eps * float(penalised.abs().max())
    assert float(penalised.diff().min()) > -rounding
    assert float(plain.diff().min()) < -rounding  # the likelihood alone does fall


@every_estimated_family
def test_pseudo_observations_raise_the_likelihood_times_that_of_the_data_in_every_state(family: Emission) -> None:
    hmm, data, pseudo_observations = start(family), batch(family), 5.0

    def objectives() -> tuple[float, float]:
        log_likelihood = float(hmm.log_marginal_likelihood(data.x, data.lengths).sum().detach())
        every_state = hmm.emission_table.log_probs(data.x[data.mask]).detach().mean(0).sum()
        return log_likelihood, log_likelihood + pseudo_observations * float(every_state)

    em.fit(hmm, data, num_iterations=20, progress=False)
    values = [objectives()]
    for _ in range(20):
        em.fit(hmm, data, num_iterations=1, pseudo_observations=pseudo_observations, progress=False)
        values.append(objectives())
    plain, penalised = torch.tensor(values).T
    rounding = 64 * torch.finfo(torch.float64).eps * float(penalised.abs().max())
    assert float(penalised.diff().min()) > -rounding
    assert float(plain.diff().min()) < -rounding  # the likelihood alone does fall


def test_many_pseudo_observations_give_every_state_the_law_of_all_data() -> None:
    hmm, data = start(Categorical(3)), batch(Categorical(3))
    em.fit(hmm, data, num_iterations=1, pseudo_observations=1e9, progress=False)
    frequencies = torch.bincount(data.x[data.mask]) / data.num_steps
    torch.testing.assert_close(hmm.emission_probs.detach(), frequencies.expand(3, 3), rtol=0, atol=1e-6)


def test_a_frozen_emission_needs_no_closed_form(monkeypatch: pytest.MonkeyPatch) -> None:
    def estimate(*_: object, **__: object) -> None:
        raise TypeError("no closed form")

    monkeypatch.setattr(baum_welch, "estimate", estimate)
    em.fit(start(Categorical(3)), batch(Categorical(3)), frozen=["emission"], num_iterations=2, progress=False)
    with pytest.raises(TypeError, match="no closed form"):
        em.fit(start(Categorical(3)), batch(Categorical(3)), num_iterations=2, progress=False)


def test_unknown_parts_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"expected frozen to be one of initial, .*'emision'; did you mean 'emission'"):
        em.fit(start(Categorical(3)), batch(Categorical(3)), frozen=["emision"], progress=False)


def test_a_bare_name_is_an_error() -> None:
    with pytest.raises(
        TypeError, match=r"expected frozen as a collection of names, got 'initial'; use frozen=\['initial'\]"
    ):
        em.fit(start(Categorical(3)), batch(Categorical(3)), frozen="initial", progress=False)


def test_nothing_left_to_fit_is_an_error() -> None:
    with pytest.raises(ValueError, match="expected at least one part left to fit"):
        em.fit(start(Categorical(3)), batch(Categorical(3)), frozen=PARTS, progress=False)


@pytest.mark.parametrize("pseudo_count", [0.0, 0.5])
def test_a_probability_of_zero_stays_zero(pseudo_count: float) -> None:
    # The last state is reached at the last step alone: no data speak of its row, and it is left as it was.
    transition = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5], [0.0, 0.0, 1.0]])
    table = Gaussian().table(torch.tensor([0.0, 5.0, 10.0]), torch.ones(3))
    model = HMM(torch.tensor([1.0, 0.0, 0.0]), transition, table)
    x = torch.tensor([[0.0, 0.1, 5.0, 5.1, 10.0], [0.1, -0.1, 0.0, 5.0, 9.9]])
    em.fit(model, x, num_iterations=5, pseudo_count=pseudo_count, progress=False)
    assert torch.equal(model.transition_probs > 0, transition > 0)
    assert model.transition_probs[2].tolist() == [0.0, 0.0, 1.0]
    assert model.initial_probs.tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("wild", [1e4, 1e8])
def test_pseudo_observations_are_not_those_of_one_wild_value(wild: float) -> None:
    x = torch.cat([torch.randn(100), 5 + torch.randn(100)]).reshape(1, -1)
    means, scales = torch.tensor([0.0, 5.0, wild]), []
    for num_states, values in ((2, x), (3, torch.cat([x, torch.tensor([[wild]])], 1))):
        ones = torch.ones(num_states)
        table = Gaussian().table(means[:num_states], ones)
        model = HMM(ones / num_states, torch.full((num_states, num_states), 1 / num_states), table)
        em.fit(model, values, num_iterations=3, pseudo_observations=2.0, progress=False)
        scales.append(model.emission(torch.arange(2), None).stddev.detach())
    torch.testing.assert_close(scales[0], scales[1], rtol=0.02, atol=0)
