"""The recursions of several chains that are observed together: sums over all paths, and one chain over all values."""

import itertools
import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from pgm_rnn.kernels import factorial, factorial_compiled, factorial_differentiable, hmm

LENGTHS = torch.tensor([4, 1, 3])


class Chains(NamedTuple):
    """The arguments of the kernels, and the tables of each chain."""

    sizes: tuple[int, ...]
    initial: Tensor
    transition: Tensor
    log_emission: Tensor

    def start_of(self, m: int, b: int = 0) -> Tensor:
        return factorial.unpacked(self.sizes, self.initial, square=False)[m][b % len(self.initial)]

    def moves_of(self, m: int, t: int, b: int = 0) -> Tensor:
        tables = factorial.unpacked(self.sizes, self.transition, square=True)[m][b % len(self.transition)]
        return tables[t % len(tables)]


def rows(generator: torch.Generator, *shape: int) -> Tensor:
    draws = torch.rand(*shape, generator=generator, dtype=torch.float64)
    return draws / draws.sum(-1, keepdim=True)


def chains(sizes: tuple[int, ...] = (2, 3), *, own: int = 1, moves: int = 1, batch: int = 3, steps: int = 5) -> Chains:
    """Random chains whose tables differ by sequence (own = batch) or by step (moves = steps - 1)."""
    generator = torch.Generator().manual_seed(0)
    start = [rows(generator, own, size) for size in sizes]
    tables = [rows(generator, own, moves, size, size) for size in sizes]
    emission = torch.randn(batch, steps, math.prod(sizes), generator=generator, dtype=torch.float64)
    return Chains(sizes, factorial.packed(start, square=False), factorial.packed(tables, square=True), 2 * emission)


def joint_probs(made: Chains, b: int, length: int) -> dict[tuple[int, ...], float]:
    """p(x_{1:T}, z_{1:T}) of every path of one sequence, by the definition."""
    values = list(itertools.product(*[range(size) for size in made.sizes]))
    found = {}
    for path in itertools.product(range(len(values)), repeat=length):
        prob = math.exp(sum(float(made.log_emission[b, t, n]) for t, n in enumerate(path)))
        for m in range(len(made.sizes)):
            prob *= float(made.start_of(m, b)[values[path[0]][m]])
            for t, (i, j) in enumerate(itertools.pairwise(path)):
                prob *= float(made.moves_of(m, t, b)[values[i][m], values[j][m]])
        found[path] = prob
    return found


def expanded(made: Chains, b: int = 0) -> tuple[Tensor, Tensor]:
    """The same law as one chain with N states: initial (N,) and transitions (T - 1 or 1, N, N)."""
    start, tables = torch.ones(1, dtype=torch.float64), []
    for m in range(len(made.sizes)):
        start = torch.kron(start, made.start_of(m, b))
    for t in range(made.transition.shape[1]):
        table = torch.ones(1, 1, dtype=torch.float64)
        for m in range(len(made.sizes)):
            table = torch.kron(table, made.moves_of(m, t, b))
        tables.append(table)
    return start, torch.stack(tables)


each_kind = pytest.mark.parametrize(
    "made",
    [
        chains(),
        chains((4,)),
        chains((2, 1, 2)),
        chains(own=3),
        chains(moves=4),
        chains((2, 2, 2), own=3, moves=4),
        chains(steps=5, batch=3)._replace(transition=chains(moves=4).transition),
    ],
    ids=["two", "one", "three", "own", "by-step", "all", "mixed"],
)


@each_kind
def test_the_likelihood_is_the_sum_over_all_paths(made: Chains) -> None:
    found = factorial.log_marginal_likelihood(*made, LENGTHS)
    for b, length in enumerate(LENGTHS.tolist()):
        expected = math.fsum(joint_probs(made, b, length).values())
        assert float(found[b].exp()) == pytest.approx(expected, rel=1e-12)
    reversed_chains = made._replace(log_emission=made.log_emission.flip(-1))
    assert float((found - factorial.log_marginal_likelihood(*reversed_chains, LENGTHS)).abs().max()) > 1e-3


@each_kind
def test_filter_smoother_and_moves_are_those_of_one_chain_over_all_values(made: Chains) -> None:
    forward, posterior = factorial.forward(*made, LENGTHS), factorial.posterior(*made, LENGTHS)
    for b, length in enumerate(LENGTHS.tolist()):
        start, tables = expanded(made, b)
        one, seen = LENGTHS[b : b + 1], made.log_emission[b : b + 1]
        table = tables[0] if len(tables) == 1 else tables
        whole = hmm.forward(start, table, seen, one)
        torch.testing.assert_close(forward.log_normalizers[b], whole.log_normalizers[0])
        torch.testing.assert_close(forward.filtered[b], whole.filtered[0])
        back = hmm.backward(table, one, whole)
        torch.testing.assert_close(posterior.states[b], back.smoothed[0])
        pairs = hmm.pairwise_probs(table, whole, back.future)[0]  # (T - 1, N, N)
        assert float(pairs[: length - 1].sum()) == pytest.approx(length - 1)
        joint = pairs.unflatten(-1, made.sizes).unflatten(1, made.sizes)
        num = len(made.sizes)
        found = factorial.unpacked(made.sizes, posterior.moves[b], square=True)
        for m in range(num):
            others = [1 + d for d in range(num) if d != m] + [1 + num + d for d in range(num) if d != m]
            expected = joint.sum(others) if others else joint  # (T - 1, K_m, K_m)
            expected = expected.sum(0, keepdim=True) if len(found[m]) == 1 else expected
            torch.testing.assert_close(found[m], expected)
        first = back.smoothed[0, 0].unflatten(-1, made.sizes)
        firsts = factorial.unpacked(made.sizes, posterior.first[b], square=False)
        for m in range(num):
            axes = [d for d in range(num) if d != m]
            torch.testing.assert_close(firsts[m], first.sum(axes) if axes else first)


@each_kind
def test_the_gradients_are_those_of_autograd_and_of_differences(made: Chains) -> None:
    leaves = [part.clone().requires_grad_() for part in made[1:]]
    weights = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    found = torch.autograd.grad(
        weights @ factorial.log_marginal_likelihood(*Chains(made.sizes, *leaves), LENGTHS), leaves
    )
    torch_value = factorial_differentiable.log_marginal_likelihood(*Chains(made.sizes, *leaves), LENGTHS)
    for ours, theirs in zip(found, torch.autograd.grad(weights @ torch_value, leaves), strict=True):
        torch.testing.assert_close(ours, theirs)

    def of(*parts: Tensor) -> Tensor:
        return factorial.log_marginal_likelihood(*Chains(made.sizes, *parts), LENGTHS)

    assert torch.autograd.gradcheck(of, leaves)


def test_second_derivatives_are_those_of_differences() -> None:
    made = chains((2, 2), steps=3)
    lengths = torch.tensor([3, 1, 2])
    leaves = [part.clone().requires_grad_() for part in made[1:]]
    assert torch.autograd.gradgradcheck(
        lambda *parts: factorial.log_marginal_likelihood(*Chains(made.sizes, *parts), lengths), leaves
    )


def test_rows_of_vmap_are_separate_chains() -> None:
    made, other = chains(), chains((2, 3), own=2)
    found = torch.func.vmap(
        lambda start: factorial.log_marginal_likelihood(
            made.sizes, start[None], made.transition, made.log_emission, LENGTHS
        )
    )(other.initial)
    for row, start in zip(found, other.initial, strict=True):
        expected = factorial.log_marginal_likelihood(*made._replace(initial=start[None]), LENGTHS)
        torch.testing.assert_close(row, expected)


@each_kind
def test_the_best_path_is_the_best_of_all(made: Chains) -> None:
    lengths = LENGTHS.clamp(max=3)
    states, log_prob = factorial.most_likely_states(*made, lengths)
    for b, length in enumerate(lengths.tolist()):
        probs = joint_probs(made, b, length)
        best = max(probs, key=lambda path: probs[path])
        assert tuple(states[b, :length].tolist()) == best
        assert float(log_prob[b].exp()) == pytest.approx(probs[best], rel=1e-12)


@pytest.mark.parametrize("made", [chains(), chains(own=3, moves=4)], ids=["shared", "own"])
def test_drawn_paths_have_the_posterior_probabilities(made: Chains) -> None:
    num, lengths = 40_000, LENGTHS.clamp(max=3)
    uniforms = torch.rand(num, 3, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    drawn = factorial.sample_states(*made, lengths, uniforms)
    probs = joint_probs(made, 0, 3)
    total = math.fsum(probs.values())
    counts: dict[tuple[int, ...], int] = {}
    for path in map(tuple, drawn[:, 0, :3].tolist()):
        counts[path] = counts.get(path, 0) + 1

    def worst(shares: dict[tuple[int, ...], float]) -> float:
        """The largest difference between counts and expectations in standard errors, over likely paths."""
        likely = {path: share for path, share in shares.items() if share * num > 50}
        errors = {path: math.sqrt(share * (1 - share) / num) for path, share in likely.items()}
        return max(abs(counts.get(path, 0) / num - likely[path]) / errors[path] for path in likely)

    assert worst({path: prob / total for path, prob in probs.items()}) < 5
    prior = joint_probs(made._replace(log_emission=torch.zeros_like(made.log_emission)), 0, 3)
    assert worst(prior) > 20


@pytest.mark.parametrize("scale", [30.0, 1000.0, 30_000.0])
def test_no_state_is_lost_to_underflow(scale: float) -> None:
    """Chains that hardly move meet observations that insist: what was left behind must be found again."""
    made = chains((2, 3), steps=9, batch=3)
    stay = [torch.full((1, 1, k, k), 1e-200, dtype=torch.float64) for k in made.sizes]
    stay = [table + (1 - 1e-200 * (len(table[0, 0]) - 1)) * torch.eye(len(table[0, 0])) for table in stay]
    tables, lengths = factorial.packed(stay, square=True), torch.tensor([9, 9, 4])
    made = made._replace(transition=tables, log_emission=scale * made.log_emission)
    found = factorial.log_marginal_likelihood(*made, lengths)
    expected = factorial_differentiable.log_marginal_likelihood(*made, lengths)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-9)
    assert bool((found >= factorial.most_likely_states(*made, lengths)[1] - 1e-12 * found.abs()).all())
    posterior = factorial.posterior(*made, lengths)
    leaves = [part.clone().requires_grad_() for part in made[1:]]
    value = factorial_differentiable.log_marginal_likelihood(*Chains(made.sizes, *leaves), lengths)
    grads = torch.autograd.grad(value.sum(), leaves)
    torch.testing.assert_close(posterior.states, grads[2], rtol=1e-7, atol=1e-12)
    torch.testing.assert_close(posterior.moves.sum(0, keepdim=True), grads[1] * leaves[1], rtol=1e-7, atol=1e-12)


def test_moves_that_are_impossible_and_sequences_that_are() -> None:
    made = chains((2, 2), steps=4)
    cycle = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    tables = factorial.packed([cycle[None, None], torch.eye(2, dtype=torch.float64)[None, None]], square=True)
    made, lengths = made._replace(transition=tables), torch.tensor([4, 2, 3])
    found = factorial.log_marginal_likelihood(*made, lengths)
    for b, length in enumerate(lengths.tolist()):
        assert float(found[b].exp()) == pytest.approx(math.fsum(joint_probs(made, b, length).values()), rel=1e-12)
    nothing = made.log_emission.clone()
    nothing[1, 1] = -torch.inf
    made = made._replace(log_emission=nothing)
    assert factorial.log_marginal_likelihood(*made, lengths).isinf().tolist() == [False, True, False]
    forward, posterior = factorial.forward(*made, lengths), factorial.posterior(*made, lengths)
    assert forward.log_normalizers[1, 1] == -torch.inf
    assert float(forward.filtered[1, 0].sum()) == pytest.approx(1.0)
    assert float(forward.filtered[1, 1:].sum()) == 0.0
    assert float(posterior.states[1].sum() + posterior.moves[1].sum()) == 0.0
    leaf = made.initial.clone().requires_grad_()
    value = factorial.log_marginal_likelihood(made.sizes, leaf, made.transition, made.log_emission, lengths)
    assert bool(torch.autograd.grad(value[1], leaf)[0].eq(0).all())


class Uniform:
    """A transition table of equal rows that counts how often it is read, once for each multiplication."""

    def __init__(self, size: int) -> None:
        self.size, self.reads = size, 0

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, place: tuple[int, int]) -> float:
        self.reads += 1
        return 1 / self.size


@pytest.mark.parametrize("sizes", [(2,), (3, 4), (2, 2, 2, 2), (5, 2, 3)])
def test_a_step_costs_the_values_times_the_sum_of_the_sizes(sizes: tuple[int, ...]) -> None:
    """Multiplications of one forward step, counted in the recursion that runs as plain Python."""
    num = stride = math.prod(sizes)
    belief, following, cost = [-math.log(num)] * num, [0.0] * num, 0
    for size in sizes:
        stride, table = stride // size, Uniform(size)
        factorial_compiled.moved.py_func(belief, following, table, stride)
        belief, following, cost = following, belief, cost + table.reads
    assert belief == pytest.approx([-math.log(num)] * num)
    assert cost == num * sum(sizes)


def test_single_precision_is_that_of_its_densities() -> None:
    made = chains((2, 3))
    single = Chains(made.sizes, *(part.float() for part in made[1:]))
    found = factorial.log_marginal_likelihood(*single, LENGTHS)
    assert found.dtype == torch.float32
    expected = factorial.log_marginal_likelihood(*made, LENGTHS)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


def test_arguments_that_do_not_fit_are_named() -> None:
    made = chains()
    with pytest.raises(ValueError, match=r"expected sizes as whole numbers of at least 1 whose product is 6"):
        factorial.forward((2, 2), *made[1:], LENGTHS)
    with pytest.raises(ValueError, match=r"expected initial of shape \(1 or 3, 5\), got \(1, 4\)"):
        factorial.forward(made.sizes, made.initial[:, :4], *made[2:], LENGTHS)
    with pytest.raises(ValueError, match="expected transition of shape"):
        factorial.posterior(made.sizes, made.initial, made.transition[..., :4], made.log_emission, LENGTHS)
