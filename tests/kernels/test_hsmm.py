"""The recursions of a hidden semi-Markov chain: sums over segmentations, and a Markov chain over states and times."""

import itertools
import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from pgm_rnn.kernels import hmm, hsmm

LENGTHS = torch.tensor([7, 1, 4])


class Chain(NamedTuple):
    initial: Tensor
    transition: Tensor
    durations: Tensor
    log_emission: Tensor


def rows(*shape: int, seed: int = 0) -> Tensor:
    draws = torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return draws / draws.sum(-1, keepdim=True)


def chain(num_states: int = 3, max_duration: int = 4, batch: int = 3, num_steps: int = 7, seed: int = 0) -> Chain:
    moves = rows(num_states, num_states, seed=seed + 1) * (1 - torch.eye(num_states))
    emission = torch.randn(batch, num_steps, num_states, generator=torch.Generator().manual_seed(seed + 2))
    durations = rows(num_states, max_duration, seed=seed + 3)
    return Chain(rows(num_states, seed=seed), moves / moves.sum(-1, keepdim=True), durations, emission.double())


def path_prob(made: Chain, path: tuple[int, ...], late: int = 0) -> float:
    """p(z_{1:T}): the last segment may go on past the end. A control takes durations that are `late` steps off."""
    segments = [(state, len(list(group))) for state, group in itertools.groupby(path)]
    prob = float(made.initial[path[0]])
    for i, (state, steps) in enumerate(segments):
        law = made.durations[state]
        if i == len(segments) - 1:
            prob *= float(law[steps - 1 + late :].sum())
        else:
            prob *= float(law[steps - 1]) if steps <= len(law) else 0.0
            prob *= float(made.transition[state, segments[i + 1][0]])
    return prob


def joint_probs(made: Chain, b: int, length: int, late: int = 0) -> dict[tuple[int, ...], float]:
    """p(x_{1:T}, z_{1:T}) of every path of one sequence."""
    paths = itertools.product(range(len(made.initial)), repeat=length)
    seen = made.log_emission[b]
    return {
        path: path_prob(made, path, late) * math.exp(sum(float(seen[t, k]) for t, k in enumerate(path)))
        for path in paths
    }


def expanded(made: Chain) -> tuple[Tensor, Tensor, Tensor]:
    """The same law as a Markov chain over (state, remaining time), remaining time 1 included, as `hmm` takes it."""
    num_states, longest = made.durations.shape
    start = (made.initial[:, None] * made.durations).flatten()
    table = start.new_zeros(num_states, longest, num_states, longest)
    for k in range(num_states):
        for r in range(1, longest):
            table[k, r, k, r - 1] = 1.0
    table[:, 0] = made.transition[:, :, None] * made.durations
    size = num_states * longest
    return start, table.reshape(size, size), made.log_emission.repeat_interleave(longest, -1)


def test_the_likelihood_is_the_sum_over_all_segmentations() -> None:
    made = chain()
    found = hsmm.log_marginal_likelihood(*made, LENGTHS)
    for b, length in enumerate(LENGTHS.tolist()):
        assert float(found[b].exp()) == pytest.approx(sum(joint_probs(made, b, length).values()), rel=1e-12)
    wrong = sum(joint_probs(made, 0, 7, late=1).values())
    assert float(found[0].exp()) != pytest.approx(wrong, rel=1e-3)


@pytest.mark.parametrize(("num_states", "max_duration"), [(2, 1), (2, 5), (4, 3), (3, 20)])
def test_value_and_gradient_are_those_of_the_expanded_chain(num_states: int, max_duration: int) -> None:
    made = chain(num_states, max_duration, num_steps=40)
    lengths, weights = torch.tensor([40, 1, 17]), torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    leaves = [part.requires_grad_() for part in made]
    ours, theirs = hsmm.log_marginal_likelihood(*made, lengths), hmm.log_marginal_likelihood(*expanded(made), lengths)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    found = torch.autograd.grad(ours @ weights, leaves)
    expected = torch.autograd.grad(theirs @ weights, leaves)
    for ours_part, part in zip(found, expected, strict=True):
        torch.testing.assert_close(ours_part, part, rtol=1e-10, atol=1e-10)
    with torch.no_grad():  # a control: durations one step longer
        longer = made._replace(durations=torch.cat([made.durations.new_zeros(num_states, 1), made.durations], 1))
        off = hsmm.log_marginal_likelihood(*longer, lengths)
    assert not torch.allclose(off[0], ours.detach()[0], rtol=1e-4)


def test_geometric_durations_are_a_markov_chain() -> None:
    made, stay = chain(num_steps=30), torch.tensor([0.5, 0.2, 0.7], dtype=torch.float64)
    moves = torch.diag(stay) + (1 - stay)[:, None] * made.transition
    expected = hmm.log_marginal_likelihood(made.initial, moves, made.log_emission, torch.tensor([30, 1, 12]))

    def truncated(longest: int) -> Tensor:
        law = (1 - stay)[:, None] * stay[:, None] ** torch.arange(longest)
        law = law / law.sum(-1, keepdim=True)
        return hsmm.log_marginal_likelihood(*made._replace(durations=law), torch.tensor([30, 1, 12]))

    errors = [float((truncated(longest) - expected).abs().max()) for longest in (5, 20, 80)]
    assert errors[0] > 1e-2 > errors[1] > 1e-6 > errors[2]


def test_one_step_durations_are_the_chain_itself() -> None:
    made = chain(max_duration=1)._replace(transition=rows(3, 3, seed=9))
    plain = hmm.log_marginal_likelihood(made.initial, made.transition, made.log_emission, LENGTHS)
    torch.testing.assert_close(hsmm.log_marginal_likelihood(*made, LENGTHS), plain)


def test_posteriors_are_those_of_all_segmentations() -> None:
    made = chain()
    forward = hsmm.forward(*made, LENGTHS)
    found = hsmm.posterior(*made, LENGTHS)
    for b, length in enumerate(LENGTHS.tolist()):
        joint = joint_probs(made, b, length)
        total = sum(joint.values())
        for t in range(length):
            prefix = joint_probs(made, b, t + 1)
            for k in range(3):
                smoothed = sum(p for path, p in joint.items() if path[t] == k) / total
                filtered = sum(p for path, p in prefix.items() if path[t] == k) / sum(prefix.values())
                assert float(found.states[b, t, k]) == pytest.approx(smoothed, abs=1e-12)
                assert float(forward.filtered[b, t, k]) == pytest.approx(filtered, abs=1e-12)
        moved = sum(p * sum(i == 0 and j == 2 for i, j in itertools.pairwise(path)) for path, p in joint.items())
        assert float(found.moves[b, 0, 2]) == pytest.approx(moved / total, abs=1e-12)
    assert bool((found.states[1, 1:] == 0).all())
    assert bool((forward.filtered[1, 1:] == 0).all())
    starts = found.first.sum(-1) + found.moves.sum((1, 2))  # as many segments as durations
    torch.testing.assert_close(found.durations.sum((1, 2)), starts)


def test_viterbi_finds_the_best_path() -> None:
    made = chain()
    states, log_prob = hsmm.most_likely_states(*made, LENGTHS)
    for b, length in enumerate(LENGTHS.tolist()):
        joint = joint_probs(made, b, length)
        best = max(joint, key=lambda path: joint[path])
        assert tuple(states[b, :length].tolist()) == best
        assert float(log_prob[b]) == pytest.approx(math.log(joint[best]), rel=1e-12)
    assert bool((states[1, 1:] == 0).all())


def test_drawn_paths_have_the_posterior_as_their_frequencies() -> None:
    made, num = chain(num_states=2, max_duration=3), 4000
    uniforms = torch.rand(num, 3, 7, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    paths = hsmm.sample_states(*made, LENGTHS, uniforms)
    joint = joint_probs(made, 0, 7)
    total = sum(joint.values())
    for path, prob in joint.items():
        share = float((paths[:, 0] == torch.tensor(path)).all(-1).double().mean())
        assert abs(share - prob / total) < 4.5 * math.sqrt(prob / total * (1 - prob / total) / num) + 1e-9


def test_hypotheses_that_are_far_behind_come_back() -> None:
    """Durations are 60 steps exactly; the later start is 1000 nats behind when it turns out to be the only one."""
    durations = torch.zeros(2, 60, dtype=torch.float64)
    durations[:, -1] = 1.0
    durations[1, 29] = 0.5
    durations[1, 59] = 0.5
    log_emission = torch.zeros(1, 90, 2, dtype=torch.float64)
    log_emission[0, 30:60, 0] = -40.0
    log_emission[0, 85:, 1] = -torch.inf
    log_emission[0, 30:60, 1] = 0.0
    start, moves = torch.tensor([0.0, 1.0]).double(), torch.tensor([[0.0, 1.0], [1.0, 0.0]]).double()
    made = Chain(start, moves, durations, log_emission.requires_grad_())
    length = torch.tensor([90])
    found, expected = (
        hsmm.log_marginal_likelihood(*made, length),
        hmm.log_marginal_likelihood(*expanded(made), length),
    )
    torch.testing.assert_close(found, expected)
    ours, theirs = (torch.autograd.grad(value.sum(), log_emission)[0] for value in (found, expected))
    torch.testing.assert_close(ours, theirs)


def test_a_state_lost_to_underflow_is_found_again() -> None:
    made = chain(num_states=2, max_duration=30, batch=1, num_steps=24)
    law = torch.zeros(2, 30, dtype=torch.float64)
    law[:, -1] = 1.0  # no move within the data
    made = made._replace(durations=law)
    made.log_emission[0, :12] = torch.tensor([0.0, -100.0])
    made.log_emission[0, 12:] = torch.tensor([-150.0, 0.0])
    length = torch.tensor([24])
    with_gradient = made._replace(log_emission=made.log_emission.clone().requires_grad_())
    expected = math.log(float(made.initial[1])) - 1200.0
    assert float(hsmm.log_marginal_likelihood(*made, length)) == pytest.approx(expected, rel=1e-12)
    assert float(hsmm.log_marginal_likelihood(*with_gradient, length).detach()) == pytest.approx(expected, rel=1e-12)
    posterior = hsmm.posterior(*made, length)
    torch.testing.assert_close(posterior.states[0, :, 1], torch.ones(24, dtype=torch.float64))
    assert float(hsmm.forward(*made, length).log_normalizers.sum()) == pytest.approx(expected, rel=1e-12)


def test_an_impossible_sequence_has_no_likelihood_and_no_gradient() -> None:
    made = chain()
    made.log_emission[0, 3] = -torch.inf
    leaf = made.log_emission.requires_grad_()
    value = hsmm.log_marginal_likelihood(*made, LENGTHS)
    assert float(value.detach()[0]) == -torch.inf
    [gradient] = torch.autograd.grad(value[1:].sum() + value[0], leaf)
    assert bool((gradient[0] == 0).all())
    assert float(gradient[1:].sum()) == pytest.approx(5.0)
    assert float(hsmm.most_likely_states(*Chain(*(part.detach() for part in made)), LENGTHS)[1][0]) == -torch.inf


def test_second_derivatives_are_those_of_the_expanded_chain() -> None:
    made = chain(num_states=2, max_duration=3, num_steps=5, batch=1)
    length = torch.tensor([5])

    def ours(values: Tensor) -> Tensor:
        return hsmm.log_marginal_likelihood(*made._replace(log_emission=values), length).sum()

    def theirs(values: Tensor) -> Tensor:
        return hmm.log_marginal_likelihood(*expanded(made._replace(log_emission=values)), length).sum()

    found = torch.autograd.functional.hessian(ours, made.log_emission)
    torch.testing.assert_close(found, torch.autograd.functional.hessian(theirs, made.log_emission))


def test_single_precision_comes_back_in_single_precision() -> None:
    made = chain()
    single = hsmm.log_marginal_likelihood(*Chain(*(part.float() for part in made)), LENGTHS)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), hsmm.log_marginal_likelihood(*made, LENGTHS), rtol=1e-5, atol=1e-5)


def test_what_does_not_fit_is_one_sentence() -> None:
    made = chain()
    with pytest.raises(ValueError, match=r"expected durations of shape \(3, any\), got \(2, 4\)"):
        hsmm.log_marginal_likelihood(*made._replace(durations=made.durations[:2]), LENGTHS)
    with pytest.raises(ValueError, match=r"expected durations with at least one column, got \(3, 0\)"):
        hsmm.forward(*made._replace(durations=made.durations[:, :0]), LENGTHS)
    with pytest.raises(ValueError, match=r"expected lengths in 1..T = 1..7, got 8 at index 0"):
        hsmm.posterior(*made, LENGTHS + 1)
    with pytest.raises(TypeError, match="expected durations of dtype"):
        hsmm.most_likely_states(*made._replace(durations=made.durations.float()), LENGTHS)
