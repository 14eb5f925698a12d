import math
from typing import Any

import pyro.distributions as dist
import pytest
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import Normal

from pgm_rnn.emissions import Emission, Gaussian
from pgm_rnn.inference import em, forward_backward
from pgm_rnn.kernels import hmm as kernels
from pgm_rnn.models.hmm import HMM
from pgm_rnn.models.rnn import RNN
from pgm_rnn.sequence_model import SequenceModel, memory_of
from tests.definitions import path_probs
from tests.instances import LENGTHS, every_family, make_hmm, ragged

NUM_STATES = 3


@pytest.fixture(params=["compiled", "batched"], autouse=True)
def _backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "prefers_batched", lambda emission: request.param == "batched")


def paths(hmm: HMM, x: Tensor) -> dict[tuple[int, ...], float]:
    """p(z, x) of every path z for one sequence x (L, *event)."""
    emission_probs = hmm.emission_log_probs(x[None])[0].exp()
    joint = path_probs(hmm.initial_probs, hmm.transition_probs, emission_probs)
    return {path: float(prob.detach()) for path, prob in joint.items()}


def marginal(joint: dict[tuple[int, ...], float], *steps: int) -> Tensor:
    """The law of the states at some steps, given x."""
    probs = torch.zeros([NUM_STATES] * len(steps))
    for path, prob in joint.items():
        probs[tuple(path[t] for t in steps)] += prob
    return probs / probs.sum()


@every_family
def test_posteriors_are_sums_over_all_paths(family: Emission) -> None:
    hmm, x = make_hmm(family, num_states=NUM_STATES), ragged(family)
    result = forward_backward.smooth(hmm, x, LENGTHS)
    for i, length in enumerate(LENGTHS.tolist()):
        joint = paths(hmm, x[i, :length])
        torch.testing.assert_close(result.log_marginal_likelihood[i].exp(), torch.tensor(sum(joint.values())))
        for t in range(length):
            torch.testing.assert_close(result.smoothed_probs[i, t], marginal(joint, t))
            until = marginal(paths(hmm, x[i, : t + 1]), t)
            torch.testing.assert_close(result.filtered_probs[i, t], until)
            if t + 1 < length:
                torch.testing.assert_close(result.pairwise_probs[i, t], marginal(joint, t, t + 1))
                ahead = until @ hmm.transition_probs.detach()
                torch.testing.assert_close(result.predicted_probs[i, t + 1], ahead)
        torch.testing.assert_close(result.predicted_probs[i, 0], hmm.initial_probs.detach())
        for probs in (result.smoothed_probs, result.filtered_probs, result.predicted_probs):
            assert not probs[i, length:].any()
        assert not result.pairwise_probs[i, max(0, length - 1) :].any()


@every_family
def test_viterbi_finds_the_best_of_all_paths(family: Emission) -> None:
    hmm, x = make_hmm(family, num_states=NUM_STATES), ragged(family)
    result = forward_backward.most_likely_states(hmm, x, LENGTHS)
    for i, length in enumerate(LENGTHS.tolist()):
        joint = paths(hmm, x[i, :length])
        best = max(joint, key=lambda path: joint[path])
        assert tuple(result.states[i, :length].tolist()) == best
        assert (result.states[i, length:] == -1).all()  # no state
        assert float(result.log_prob[i].exp()) == pytest.approx(joint[best])
    torch.testing.assert_close(hmm.log_prob(x, result.states, LENGTHS), result.log_prob)  # the padding is not read
    decoded = forward_backward.smooth_and_decode(hmm, x, LENGTHS)[1]
    assert torch.equal(decoded.states, result.states)


@every_family
def test_predictions_are_ratios_of_marginals(family: Emission) -> None:
    hmm, x = make_hmm(family, num_states=NUM_STATES), ragged(family)
    law = forward_backward.predict(hmm, x, LENGTHS)
    assert law.batch_shape == x.shape[:2]
    for i, length in enumerate(LENGTHS.tolist()):
        for t in range(1, length):
            log_probs = [hmm.log_marginal_likelihood(x[i : i + 1, :n])[0] for n in (t, t + 1)]
            actual = law.log_prob(x[i, t].expand(*law.batch_shape, *family.event_shape))[i, t - 1]
            torch.testing.assert_close(actual, (log_probs[1] - log_probs[0]).detach())


def test_an_impossible_state_has_no_share_in_a_prediction() -> None:
    # Not even the smallest float: 800 nats are more than it.
    table = Gaussian().table(torch.tensor([0.0, 40.0]), torch.ones(2))
    hmm, x = HMM(torch.tensor([1.0, 0.0]), torch.eye(2), table), torch.tensor([[0.0, 40.0]])
    law = forward_backward.predict(hmm, x)
    actual, expected = law.log_prob(x[:, 1:])[0, 0], forward_backward.filter(hmm, x).log_normalizers[0, 1]
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(expected, torch.tensor(-800.0 - 0.5 * math.log(2 * math.pi)))


@pytest.mark.parametrize(("dtype", "mean"), [(torch.float32, 20.0), (torch.float64, 40.0)])
def test_a_state_whose_belief_no_float_holds_has_its_share_in_a_prediction(dtype: torch.dtype, mean: float) -> None:
    table = Gaussian().table(torch.tensor([0.0, mean], dtype=dtype), torch.ones(2, dtype=dtype))
    hmm = HMM(torch.tensor([1.0, 0.0]).to(dtype), torch.tensor([[0.9, 0.1], [0.0, 1.0]], dtype=dtype), table)
    x = torch.tensor([[0.0, mean + 1, -mean / 2]], dtype=dtype)
    law, terms = forward_backward.predict(hmm, x), forward_backward.filter(hmm, x).log_normalizers
    torch.testing.assert_close(law.log_prob(x[:, 2:])[0, 1], terms[0, 2])
    assert float(terms[0, 2]) > float(Normal(mean, 1.0).log_prob(x[0, 2])) + 100  # without it


def test_an_impossible_symbol_is_predicted_with_probability_zero() -> None:
    hmm = HMM(torch.full((2,), 0.5), torch.full((2, 2), 0.5), torch.tensor([[0.5, 0.5, 0.0]] * 2))
    law = forward_backward.predict(hmm, torch.tensor([[0, 1]]))
    assert law.log_prob(torch.full((1, 2), 2)).tolist() == [[-torch.inf] * 2]


class SwitchingWalk(SequenceModel):
    """x_t ~ N(slope[z_t] x_{t-1} + level[z_t], 1): finitely many states, and a memory of the last observation."""

    def __init__(self) -> None:
        super().__init__(Gaussian())
        self.hmm = make_hmm(Gaussian(), num_states=NUM_STATES)
        self.slope, self.level = torch.tensor([-0.9, 0.2, 0.8]), torch.tensor([0.0, 3.0, -3.0])
        self.register_buffer("initial_memory", torch.zeros(1))
        self.emission_table = self.hmm.emission_table  # of other laws, which no result may be made of

    initial_probs = property(lambda self: self.hmm.initial_probs)
    transition_probs = property(lambda self: self.hmm.transition_probs)

    def recurrence(self, h: Tensor, z: Tensor | None, x: Tensor) -> Tensor:
        return x[..., None]

    def emission(self, z: Tensor | None, h: Tensor | None) -> TorchDistribution:
        assert z is not None
        assert h is not None
        return dist.Normal(self.slope[z] * h[..., 0] + self.level[z], 1.0)

    def emission_log_probs(self, x: Tensor) -> Tensor:
        h = memory_of(self).unroll(x)
        assert h is not None
        return self.emission(torch.arange(NUM_STATES).expand(1, 1, -1), h[:, :, None]).log_prob(x[..., None])


def test_predictions_of_a_model_with_a_memory_are_those_of_its_own_emission() -> None:
    model, x = SwitchingWalk(), 2 * torch.randn(3, 6)
    law = forward_backward.predict(model, x, LENGTHS)
    terms = forward_backward.filter(model, x, LENGTHS).log_normalizers
    for i, length in enumerate(LENGTHS.tolist()):
        for t in range(1, length):
            actual = law.log_prob(x[i, t].expand(law.batch_shape))[i, t - 1]
            torch.testing.assert_close(actual, terms[i, t])


def test_em_climbs_by_gradients_where_a_model_gives_tables_and_no_parts_to_replace() -> None:
    model, x = SwitchingWalk(), 2 * torch.randn(40, 6)
    values = em.fit(model, x, num_iterations=3, tolerance=0.0, progress=False).log_likelihoods
    assert float(values.diff().min()) > 0
    torch.testing.assert_close(values[-1], forward_backward.filter(model, x).log_marginal_likelihood.sum())


@every_family
def test_missing_steps_are_summed_out(family: Emission) -> None:
    hmm, x = make_hmm(family, num_states=NUM_STATES), ragged(family)
    mask = torch.tensor([[True, False, False, True], [False, True, True, True], [True, False, True, False]])
    unread = x.clone()
    unread[~mask] = -1 if family.needs_integers else torch.nan
    result = forward_backward.smooth(hmm, unread, LENGTHS, mask=mask)
    best = forward_backward.most_likely_states(hmm, unread, LENGTHS, mask=mask)
    for i, length in enumerate(LENGTHS.tolist()):
        emission_probs = hmm.emission_log_probs(x[i : i + 1, :length])[0].exp()
        emission_probs = emission_probs.where(mask[i, :length, None], 1.0).detach()
        table = path_probs(hmm.initial_probs.detach(), hmm.transition_probs.detach(), emission_probs)
        joint = {path: float(prob) for path, prob in table.items()}
        torch.testing.assert_close(result.log_marginal_likelihood[i].exp(), torch.tensor(sum(joint.values())))
        for t in range(length):
            torch.testing.assert_close(result.smoothed_probs[i, t], marginal(joint, t))
        assert float(best.log_prob[i].exp()) == pytest.approx(max(joint.values()))
    torch.testing.assert_close(
        hmm.log_marginal_likelihood(unread, LENGTHS, mask=mask).detach(), result.log_marginal_likelihood
    )
    if family.needs_integers:
        with pytest.raises(ValueError, match=r"expected symbols in 0\.\.2, got -1"):
            forward_backward.filter(hmm, unread, LENGTHS)
    else:  # NaN without a mask is missing, too
        assert torch.equal(
            forward_backward.filter(hmm, unread, LENGTHS).log_marginal_likelihood, result.log_marginal_likelihood
        )


def _frequencies(draws: Tensor, length: int) -> dict[tuple[int, ...], float]:
    paths, counts = draws[:, :length].unique(dim=0, return_counts=True)
    return {tuple(p): c / len(draws) for p, c in zip(paths.tolist(), counts.tolist(), strict=True)}


def test_sampled_paths_have_the_posteriors_law_and_not_the_priors() -> None:
    limit = 5.0  # standard errors
    hmm = HMM.random(NUM_STATES, 2, seed=3).double()
    x, num_samples = torch.tensor([[0, 1, 1], [1, 0, 0]]), 20_000
    draws = forward_backward.sample_states(hmm, x, torch.tensor([3, 2]), num_samples=num_samples, seed=0)
    assert draws.shape == (num_samples, 2, 3)
    assert not draws[:, 1, 2].any()
    for i, length in ((0, 3), (1, 2)):
        joint, found = paths(hmm, x[i, :length]), _frequencies(draws[:, i], length)
        total = sum(joint.values())
        ones = path_probs(hmm.initial_probs, hmm.transition_probs, torch.ones(length, NUM_STATES))
        scores = {"posterior": 0.0, "prior": 0.0}
        for path, prob in joint.items():
            for name, p in (("posterior", prob / total), ("prior", float(ones[path].detach()))):
                error = abs(found.get(path, 0.0) - p) / (p * (1 - p) / num_samples) ** 0.5
                scores[name] = max(scores[name], error)
        assert scores["posterior"] < limit
        assert scores["prior"] > limit


def test_the_same_seed_gives_the_same_paths() -> None:
    hmm, x = HMM.random(NUM_STATES, 4, seed=0).double(), torch.randint(4, (5, 20))
    first, again, other = (forward_backward.sample_states(hmm, x, num_samples=3, seed=s) for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_path_never_takes_a_step_of_probability_zero() -> None:
    ring = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    hmm = HMM(torch.full((3,), 1 / 3), ring, torch.full((3, 2), 0.5))
    draws = forward_backward.sample_states(hmm, torch.zeros(4, 30, dtype=torch.int64), num_samples=50, seed=0)
    assert torch.equal((draws[..., :-1] + 1) % 3, draws[..., 1:])


def left_to_right() -> HMM:
    return HMM(torch.tensor([1.0, 0.0]), torch.eye(2), torch.tensor([[1.0, 0.0], [0.0, 1.0]]))


def test_an_impossible_sequence_has_a_likelihood_and_no_posterior() -> None:
    x = torch.tensor([[0, 0, 0], [0, 1, 0]])
    result = forward_backward.smooth(left_to_right(), x)
    assert result.log_marginal_likelihood.tolist() == [0, -torch.inf]
    for name in ("filtered_probs", "predicted_probs", "smoothed_probs", "pairwise_probs"):
        message = "probability zero for sequence 1 from step 2 on"
        with pytest.raises(forward_backward.ImpossibleSequenceError, match=message):
            getattr(result, name)
    with pytest.raises(forward_backward.ImpossibleSequenceError, match="no posterior exists"):
        forward_backward.sample_states(left_to_right(), x)
    assert forward_backward.most_likely_states(left_to_right(), x).log_prob.tolist() == [0, -torch.inf]


def test_a_model_without_finitely_many_states_is_an_error_that_names_another_engine() -> None:
    with pytest.raises(
        TypeError, match=r"a model with finitely many states for forward_backward, RNN has none; use svi"
    ):
        forward_backward.filter(RNN(num_symbols=3), torch.zeros(1, 2, dtype=torch.int64))


ENGINES = {
    "filter": forward_backward.filter,
    "smooth": forward_backward.smooth,
    "most likely states": forward_backward.most_likely_states,
    "sample states": forward_backward.sample_states,
    "predict": forward_backward.predict,
    "em": em.fit,
}
BROKEN = {
    "initial NaN": (
        "initial_logits",
        1,
        torch.nan,
        "numbers as the parameters of the HMM, got NaN in initial_logits; load",
    ),
    "transition NaN": (
        "transition_logits",
        3,
        torch.nan,
        "numbers as .* of the HMM, got NaN in transition_logits; load",
    ),
    "emission NaN": ("emission_table.params", 4, torch.nan, "numbers as .*, got NaN in emission_table.params; load"),
    "initial infinite": ("initial_logits", 1, torch.inf, "probabilities as initial_probs of the HMM, got NaN; look"),
    "transition infinite": (
        "transition_logits",
        3,
        torch.inf,
        "probabilities as transition_probs of the HMM, got NaN in row 1; look",
    ),
    "emission infinite": (
        "emission_table.params",
        4,
        torch.inf,
        "probabilities as emission_probs of the HMM, got NaN in row 1; look",
    ),
    "transition empty": (
        "transition_logits",
        [2, 3],
        -torch.inf,
        "probabilities as transition_probs .*, got NaN in row 1; look",
    ),
    "emission empty": (
        "emission_table.params",
        [3, 4, 5],
        -torch.inf,
        "probabilities as emission_probs .*, got NaN in row 1; look",
    ),
}


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
@pytest.mark.parametrize(("name", "place", "value", "message"), BROKEN.values(), ids=BROKEN)
def test_parameters_that_make_no_law_are_an_error_that_names_them(
    engine: Any, name: str, place: Any, value: float, message: str
) -> None:
    hmm = HMM.random(2, 3, seed=0)
    x = hmm.sample(2, 4, seed=0).x
    assert engine(hmm, x) is not None
    with torch.no_grad():
        dict(hmm.named_parameters())[name].view(-1)[place] = value
    with pytest.raises(ValueError, match=f"^expected {message}"):
        engine(hmm, x)


def test_probabilities_of_zero_and_emissions_without_a_table_are_no_error() -> None:
    hmm = HMM(
        torch.tensor([1.0, 0.0]), torch.eye(2), Gaussian().table(loc=torch.tensor([0.0, 9.0]), scale=torch.ones(2))
    )
    x = torch.zeros(1, 3)
    expected = 3 * dist.Normal(0.0, 1.0).log_prob(torch.zeros(()))  # the second state is never reached
    assert float(forward_backward.filter(hmm, x).log_marginal_likelihood.detach()) == pytest.approx(float(expected))


def test_the_number_of_samples_is_checked() -> None:
    with pytest.raises(ValueError, match="expected num_samples to be an integer of at least 1, got 0"):
        forward_backward.sample_states(left_to_right(), torch.zeros(1, 2, dtype=torch.int64), num_samples=0)


@pytest.mark.slow
@pytest.mark.parametrize("num_steps", [5_000, pytest.param(20_000, marks=pytest.mark.nightly)])
def test_long_sequences_do_not_underflow_in_single_precision(num_steps: int) -> None:
    hmm = HMM.random(4, 3, seed=0).double()
    x = hmm.sample(2, num_steps, seed=0).x
    double = forward_backward.filter(hmm, x).log_marginal_likelihood
    single = forward_backward.filter(hmm.float(), x).log_marginal_likelihood
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), double, rtol=1e-5, atol=0)
    totals = forward_backward.smooth(hmm, x).smoothed_probs.sum(-1)
    torch.testing.assert_close(totals, torch.ones_like(totals), rtol=0, atol=8 * torch.finfo(torch.float32).eps)
