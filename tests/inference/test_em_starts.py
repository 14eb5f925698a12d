"""Where EM begins: at the model's own parameters, or at some that are read off the data."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pgm_rnn.emissions import Bernoulli, Categorical, Emission, FullGaussian, Gaussian, Poisson
from pgm_rnn.inference import em
from pgm_rnn.inference.em import baum_welch
from pgm_rnn.inference.em.data_starts import data_starts
from pgm_rnn.inference.em.numbering import numbered_like
from pgm_rnn.inference.em.random_starts import Start
from pgm_rnn.models.hmm import HMM
from pgm_rnn.models.linear_gaussian import LinearGaussianSSM
from pgm_rnn.sequences import Sequences, pad
from pgm_rnn.storage import load_model, save_model
from tests.instances import draw, every_estimated_family

STAY = torch.tensor([[0.95, 0.05], [0.05, 0.95]])
MEANS, SCALES = torch.tensor([[20.0, 1.0, 5.0], [60.0, 4.0, 9.0]]), torch.tensor([[3.0, 0.3, 0.8], [5.0, 0.6, 1.0]])


def regimes() -> tuple[HMM, Sequences]:
    """Two regimes of three columns, far apart."""
    truth = HMM(torch.tensor([0.5, 0.5]), STAY, Gaussian(3).table(MEANS, SCALES))
    return truth, truth.sample(6, 50, seed=0)


def parameters(model: HMM) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("family", [Gaussian(3), FullGaussian(3)], ids=["independent", "full"])
def test_two_regimes_are_found_from_every_seed_and_not_from_the_models_own_start(
    family: Emission, dtype: torch.dtype
) -> None:
    truth, batch = regimes()
    best = float(truth.log_marginal_likelihood(batch.x).detach().sum())
    data = batch._replace(x=batch.x.to(dtype))
    for seed in range(8):
        found = em.fit(HMM.random(2, emission=family, seed=seed).to(dtype), data, seed=seed, progress=False)
        assert float(found.log_likelihoods[-1]) > best  # the maximum lies above any other parameters
    if family == Gaussian(3):
        own = HMM.random(2, emission=family, seed=1).to(dtype)
        with pytest.warns(
            em.EmWarning, match="Almost none of the data, less than 0.1 expected steps, belongs to state 1 of 2"
        ):
            found = em.fit(own, data, start="model", progress=False)
        assert float(found.log_likelihoods[-1]) < best - 100


@pytest.mark.parametrize("family", [Gaussian(), FullGaussian(1)], ids=["independent", "full"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("wild", [1e5, 1e30])
@pytest.mark.parametrize("seed", range(3))
def test_one_wild_value_has_a_state_of_its_own_and_merges_no_others(
    seed: int, wild: float, dtype: torch.dtype, family: Emission
) -> None:
    generator = torch.Generator().manual_seed(seed)
    centres = torch.tensor([0.0, 4.0, 8.0], dtype=torch.float64)
    x = centres[torch.arange(400) // 50 % 3] + torch.randn(400, generator=generator, dtype=torch.float64)
    x[17] = wild
    x = x.to(dtype).reshape(1, 400, *family.event_shape)
    model = HMM.random(4, emission=family, seed=0).to(dtype)
    with pytest.warns(em.EmWarning, match=r"held at min_scale=.* in state \d, column 0"):  # the state of the wild value
        em.fit(model, x, progress=False)
    means = model.emission_table(torch.arange(4)).mean.detach().flatten().sort().values
    torch.testing.assert_close(means[:3].double(), centres, rtol=0, atol=5 * 100**-0.5)  # five standard errors
    assert float(means[3]) == pytest.approx(wild, rel=1e-3)


def test_one_wild_value_leaves_clusters_that_can_be_told_apart() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.arange(400) // 50 % 3
    x = 20.0 * truth + torch.randn(400, generator=generator, dtype=torch.float64)
    x[17] = 1e30
    found = data_starts(own_start(Gaussian(), 4), x, torch.tensor([400]), frozen=(), seed=0, units=None)
    assert len(found) == 1  # clusters, not several random starts
    moves = (torch.diff(truth) != 0).double().sum()
    stays = found[0].transition.diagonal().sort().values  # of the wild value: it never stays, 1/4 of 2 counts
    leaving = 1 - stays[1:]
    assert float(stays[0]) == pytest.approx(0.25 / 2)
    assert float(leaving.max()) < float(2 * moves) / 100  # of some 100 steps in each regime


def test_advice_names_no_start_that_was_taken() -> None:
    _, data = regimes()
    far = Gaussian(3).table(torch.cat([MEANS, MEANS[:1] + 1e3]), torch.cat([SCALES, SCALES[:1]]))
    for start, advice in (
        ("data", "use fewer states or more restarts$"),
        ("model", "use fewer states, start='data', or"),
    ):
        model = HMM(torch.ones(3) / 3, torch.full((3, 3), 1 / 3), far)
        with pytest.warns(em.EmWarning, match=rf"Almost none of the data.* belongs to state 2 .*: {advice}"):
            em.fit(model, data, start=start, frozen=("emission",), progress=False)  # type: ignore[arg-type]


def first_value(model: HMM, x: Tensor, **options: object) -> float:
    return float(em.fit(model, x, num_iterations=1, progress=False, **options).log_likelihoods[0])  # type: ignore[arg-type]


def reloaded(model: HMM, folder: Path) -> HMM:
    save_model(model, folder)
    loaded = load_model(folder)
    assert isinstance(loaded, HMM)
    return loaded


def stepped(model: HMM, x: Tensor) -> HMM:
    (-model.log_marginal_likelihood(x).sum()).backward()
    torch.optim.SGD(model.parameters(), lr=1e-4).step()
    return model


def nudged(model: HMM) -> HMM:
    with torch.no_grad():
        model.emission_table.params[0, 0] += 0.1
    return model


def own_numbers(model: HMM) -> HMM:
    model.load_state_dict(model.state_dict())
    return model


def own_probs(model: HMM) -> HMM:
    model.set_probs(model.initial_probs)
    return model


X = torch.randn(4, 20, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 3
TOUCHED: dict[str, Callable[[HMM, Path], HMM]] = {
    "set_probs": lambda model, _: own_probs(model),
    "load_state_dict": lambda model, _: own_numbers(model),
    "saved and loaded": reloaded,
    "in place": lambda model, _: nudged(model),
    "an optimiser": lambda model, _: stepped(model, X),
    "another fit": lambda model, _: em.fit(model, X, num_iterations=1, progress=False).model,  # type: ignore[dict-item,return-value]
    "the constructor": lambda model, _: HMM(
        model.initial_probs.detach(), model.transition_probs.detach(), model.emission_table
    ),
}
UNTOUCHED: dict[str, Callable[[HMM], HMM]] = {
    "as it is": lambda model: model,
    "copied": copy.deepcopy,
    "in single precision and back": lambda model: model.float().double(),
    "without gradients": lambda model: model.requires_grad_(False),
    "evaluated": lambda model: stepped(copy.deepcopy(model), X) and model,
}


@pytest.mark.parametrize("name", TOUCHED)
def test_parameters_that_were_set_loaded_or_fitted_are_where_em_starts(name: str, tmp_path: Path) -> None:
    model = TOUCHED[name](HMM.random(2, emission=Gaussian(2), seed=1).double(), tmp_path / "saved")
    own = float(model.log_marginal_likelihood(X).detach().sum())
    assert not model.as_drawn
    assert first_value(model, X) == pytest.approx(own, rel=1e-10)


@pytest.mark.parametrize("name", UNTOUCHED)
def test_random_parameters_that_nobody_touched_are_not(name: str) -> None:
    with torch.random.fork_rng():
        torch.set_default_dtype(torch.float32)
        drawn = HMM.random(2, emission=Gaussian(2), seed=1)
        torch.set_default_dtype(torch.float64)
    model = UNTOUCHED[name](drawn.double())
    own = float(model.log_marginal_likelihood(X).detach().sum())
    assert model.as_drawn
    assert first_value(copy.deepcopy(model), X, start="model") == pytest.approx(own, rel=1e-10)
    assert first_value(copy.deepcopy(model), X) > own + 10
    assert first_value(copy.deepcopy(model), X) == first_value(model, X, start="data")
    assert not model.as_drawn


def own_start(family: Emission, num_states: int = 2) -> Start:
    hmm = HMM.random(num_states, emission=family, seed=0).double()
    return Start(hmm.initial_probs.detach(), hmm.transition_probs.detach(), hmm.emission_table)


@every_estimated_family
def test_a_start_from_the_data_is_reproducible_and_allows_every_observation(family: Emission) -> None:
    x, lengths = draw(family, 1, 40)[0], torch.tensor([25, 1, 14])
    starts = [data_starts(own_start(family, 3), x, lengths, frozen=(), seed=s, units=None)[0] for s in (0, 0)]
    for start in starts:
        assert start.emission.log_probs(x).isfinite().all()
        torch.testing.assert_close(start.initial.sum(), torch.ones(()))
        torch.testing.assert_close(start.transition.sum(-1), torch.ones(3))
    assert all(torch.equal(a, b) for a, b in zip(starts[0][:2], starts[1][:2], strict=True))
    assert torch.equal(starts[0].emission.params, starts[1].emission.params)


CLUSTERED = {
    "reals": (Gaussian(2), torch.tensor([[0.0, 1e6], [1.0, 3e6]])),
    "counts": (Poisson(), torch.tensor([2.0, 50.0])),
    "bits": (Bernoulli(4), torch.tensor([[0.0, 0, 0, 0], [1, 1, 1, 1]])),
}


@pytest.mark.parametrize("name", CLUSTERED)
def test_clusters_become_states_and_their_moves_transitions(name: str) -> None:
    family, places = CLUSTERED[name][0], CLUSTERED[name][1].double()
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 1, 1])
    (start,) = data_starts(own_start(family), places[labels], torch.tensor([6, 4]), frozen=(), seed=0, units=None)
    state = start.emission.log_probs(places).argmax(-1)  # of each place
    assert sorted(state.tolist()) == [0, 1]
    moves = torch.tensor([[3.0, 1.0], [0.0, 4.0]]) + 0.5  # by hand; one more for each row, spread evenly
    torch.testing.assert_close(start.transition[state][:, state], moves / moves.sum(-1, keepdim=True))
    first = torch.tensor([1.0, 1.0]) + 0.5
    torch.testing.assert_close(start.initial[state], first / first.sum())


def test_symbols_get_several_starts_and_the_best_of_them_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = HMM(torch.tensor([0.5, 0.5]), STAY, torch.tensor([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]]))
    data = truth.sample(10, 40, seed=0)
    best = float(truth.log_marginal_likelihood(data.x).detach().sum())
    found = em.fit(HMM.random(2, 3, seed=0), data, progress=False)
    assert float(found.log_likelihoods[-1]) > best
    x = data.x[data.mask]
    starts = data_starts(own_start(Categorical(3)), x, data.lengths, frozen=(), seed=0, units=None)
    assert len(starts) > 1
    assert not torch.equal(starts[0].transition, starts[1].transition)
    monkeypatch.setattr(baum_welch, "data_starts", lambda *_, **__: starts[:1])
    alone = em.fit(HMM.random(2, 3, seed=0), data, num_iterations=1, progress=False)
    assert float(alone.log_likelihoods[0]) < float(found.log_likelihoods[0])


def test_more_states_than_different_observations_are_no_clusters() -> None:
    x = torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0])
    starts = data_starts(own_start(Bernoulli(), 3), x, torch.tensor([5]), frozen=(), seed=0, units=None)
    assert len(starts) > 1


LEFT_TO_RIGHT = torch.tensor([[0.9, 0.1, 0.0], [0.0, 0.9, 0.1], [0.0, 0.0, 1.0]])


def test_a_left_to_right_chain_keeps_its_zeros_and_finds_its_order() -> None:
    means = torch.tensor([5.0, -5.0, 0.0])
    truth = HMM(torch.tensor([1.0, 0.0, 0.0]), LEFT_TO_RIGHT, Gaussian().table(means, torch.ones(3)))
    data = truth.sample(8, 60, seed=0)
    for seed in range(4):
        model = HMM(torch.tensor([1.0, 0.0, 0.0]), LEFT_TO_RIGHT, Gaussian().table(torch.zeros(3), torch.ones(3)))
        em.fit(model, data, start="data", seed=seed, progress=False)
        assert torch.equal(model.transition_probs > 0, LEFT_TO_RIGHT > 0)
        assert model.initial_probs.tolist() == [1, 0, 0]
        found = model.emission_table(torch.arange(3)).mean.detach()
        torch.testing.assert_close(found, means, rtol=0, atol=0.5)  # more than three standard errors


def test_clusters_are_numbered_as_the_chain_visits_its_states() -> None:
    labels = torch.tensor([2, 2, 0, 0, 0, 1, 2, 0, 1, 1])
    members, lengths = torch.nn.functional.one_hot(labels).double(), torch.tensor([6, 4])
    order = numbered_like(torch.tensor([1.0, 0.0, 0.0]), LEFT_TO_RIGHT.double(), members, lengths)
    assert order.tolist() == [2, 0, 1]


@pytest.mark.parametrize("part", ["initial", "transition", "emission"])
def test_frozen_parts_stay_to_the_bit_in_a_start_from_the_data(part: str) -> None:
    _, batch = regimes()
    model = HMM(torch.tensor([0.3, 0.7]), torch.tensor([[0.9, 0.1], [0.2, 0.8]]), Gaussian(3).table(MEANS, SCALES))
    before = dict(zip(("initial", "transition", "emission"), parameters(model), strict=True))
    em.fit(model, batch, start="data", frozen=[part], progress=False)
    after = dict(zip(("initial", "transition", "emission"), parameters(model), strict=True))
    assert [name for name in before if torch.equal(before[name], after[name])] == [part]


def test_an_interrupt_while_a_start_is_looked_for_ends_the_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(baum_welch.BaumWelch, "_tried", interrupted)
    model = HMM.random(2, 3, seed=0)
    found = em.fit(model, draw(Categorical(3), 4, 10), progress=False)
    assert found.stopped_by == "interrupt"
    assert len(found.log_likelihoods) == 1
    final = model.log_marginal_likelihood(draw(Categorical(3), 4, 10)).sum().detach()
    torch.testing.assert_close(found.log_likelihoods[-1], final)


def test_starts_that_there_are_not_are_errors() -> None:
    with pytest.raises(ValueError, match="expected start to be one of auto, model, data, got 'dat'; did you mean"):
        em.fit(HMM.random(2, 3), draw(Categorical(3), 1, 4), start="dat", progress=False)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"expected start='model' for a linear-Gaussian model.*linear_start"):
        em.fit(LinearGaussianSSM.random(1, 1), torch.zeros(1, 4, 1), start="data", progress=False)


def test_a_ragged_batch_counts_no_move_across_sequences() -> None:
    data = pad([torch.tensor([0.0, 0.1, 0.0]), torch.tensor([9.0, 9.1])])
    model = HMM.random(2, emission=Gaussian(), seed=0).double()
    (start,) = data_starts(
        Start(model.initial_probs.detach(), model.transition_probs.detach(), model.emission_table),
        data.x[data.mask],
        data.lengths,
        frozen=(),
        seed=0,
        units=None,
    )
    low = int(start.emission.log_probs(torch.zeros(1)).argmax())
    assert float(start.transition[low, 1 - low]) == pytest.approx(0.5 / 3)
