"""Compiled draws of particles of which some continue others, against one particle's loop after the other."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from pgm_rnn.kernels import combiner_draws, encoder_draws
from pgm_rnn.kernels.lineages import Lineage

Draws = Callable[[Lineage | None, list[Tensor]], Sequence[Tensor]]


def by_encoder(lineage: Lineage | None, given: list[Tensor]) -> Sequence[Tensor]:
    features, noise, start, *weights = given
    return encoder_draws.encoder_draws(features, noise, start, encoder_draws.Weights(*weights), lineage)


def by_combiner(lineage: Lineage | None, given: list[Tensor]) -> Sequence[Tensor]:
    features, noise, start, *weights = given
    return combiner_draws.combiner_draws(features, noise, start, combiner_draws.Weights(*weights), lineage)


def encoder_written_out(lineage: Lineage, given: list[Tensor]) -> Sequence[Tensor]:
    """Row by row: every particle's step from the memory of its ancestor, with nothing in common with the batch."""
    features, noise, start, recurrent, bias, head, head_bias, extract, extract_bias, from_state = given
    (rows, steps), size = features.shape[:2], start.shape[1]
    found: dict[tuple[int, int], tuple[Tensor, ...]] = {}
    after: dict[tuple[int, int], Tensor] = {}
    for t in range(steps):
        for r in range(rows):
            h = start[r] if t == 0 else after[int(lineage.ancestors[r, t]), t - 1]
            of_h = recurrent @ h + bias
            u = (features[r, t, :size] + of_h[:size]).clamp(min=0)
            loc, raw = (head @ u + head_bias).chunk(2)
            scale = (1 + raw.exp()).log()
            z = loc + noise[r, t] * scale
            phi = (extract @ z + extract_bias).clamp(min=0)
            (a_r, a_s, a_n), (b_r, b_s, b_n) = (
                (features[r, t, size:] + from_state @ phi).chunk(3),
                of_h[size:].chunk(3),
            )
            g, s = torch.sigmoid(a_r + b_r), torch.sigmoid(a_s + b_s)
            after[r, t] = s * h + (1 - s) * torch.tanh(a_n + g * b_n)
            found[r, t] = z, h, scale, phi
    return stacked(found, rows, steps)


def combiner_written_out(lineage: Lineage, given: list[Tensor]) -> Sequence[Tensor]:
    features, noise, start, combiner, bias, head, head_bias = given
    rows, steps = features.shape[:2]
    found: dict[tuple[int, int], tuple[Tensor, ...]] = {}
    for t in range(steps):
        for r in range(rows):
            before = start[r] if t == 0 else found[int(lineage.ancestors[r, t]), t - 1][0]
            loc, raw = (head @ (features[r, t] + torch.tanh(combiner @ before + bias) / 2) + head_bias).chunk(2)
            scale = (1 + raw.exp()).log()
            found[r, t] = loc + noise[r, t] * scale, scale
    return stacked(found, rows, steps)


def stacked(found: dict[tuple[int, int], tuple[Tensor, ...]], rows: int, steps: int) -> list[Tensor]:
    per_row = [[found[r, t] for t in range(steps)] for r in range(rows)]
    return [torch.stack([torch.stack([step[k] for step in row]) for row in per_row]) for k in range(len(found[0, 0]))]


def arguments(kind: str, rows: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    size, dim, width, steps = 5, 2, 3, 4
    if kind == "encoder":
        shapes = [(rows, steps, 4 * size), (rows, steps, dim), (rows, size), (4 * size, size), (4 * size,)]
        shapes += [(2 * dim, size), (2 * dim,), (width, dim), (width,), (3 * size, width)]
    else:
        shapes = [(rows, steps, size), (rows, steps, dim), (rows, dim), (size, dim), (size,), (2 * dim, size)]
        shapes += [(2 * dim,)]
    return [torch.randn(shape, dtype=dtype).requires_grad_() for shape in shapes]


def some_lineage(sequences: int, kin: int, steps: int = 4) -> Lineage:
    """Ancestors drawn at random; the rows of one sequence stand beside each other."""
    drawn = torch.randint(kin, (sequences, kin, steps)) + kin * torch.arange(sequences)[:, None, None]
    return Lineage(drawn.view(sequences * kin, steps), kin)


KINDS = {"encoder": (by_encoder, encoder_written_out), "combiner": (by_combiner, combiner_written_out)}


def values_and_gradients(function: Callable[..., Sequence[Tensor]], *given: object) -> list[Tensor]:
    torch.manual_seed(1)
    found = function(*given)
    weighted = torch.stack([(part * torch.randn_like(part)).sum() for part in found]).sum()
    return [*found, *torch.autograd.grad(weighted, given[1], materialize_grads=True)]  # type: ignore[call-overload]


@pytest.mark.parametrize("sequences_kin", [(1, 1), (3, 1), (2, 3), (5, 4), (3, 8), (2, 11), (1, 20)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_values_and_gradients_are_those_of_every_particle(kind: str, sequences_kin: tuple[int, int]) -> None:
    sequences, kin = sequences_kin
    given, lineage = arguments(kind, sequences * kin), some_lineage(sequences, kin)
    found, expected = (values_and_gradients(function, lineage, given) for function in KINDS[kind])
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12 * max(1.0, float(other.detach().abs().max())))


@pytest.mark.parametrize("kind", KINDS)
def test_another_lineage_gives_other_draws_and_gradients(kind: str) -> None:
    given, lineage = arguments(kind, 12), some_lineage(3, 4)
    other = lineage._replace(ancestors=lineage.ancestors.roll(1, 1))
    draws = KINDS[kind][0]
    found, changed = (values_and_gradients(draws, line, given) for line in (lineage, other))
    assert all(float((a - b).detach().abs().max()) > 1e-6 for a, b in zip(found, changed, strict=True) if a.dim() > 2)


@pytest.mark.parametrize("kind", KINDS)
def test_particles_that_continue_themselves_are_sequences(kind: str) -> None:
    given, own = arguments(kind, 12), Lineage(torch.arange(12)[:, None].expand(12, 4).contiguous(), 4)
    draws = KINDS[kind][0]
    for one, other in zip(*(values_and_gradients(draws, line, given) for line in (own, None)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_second_derivatives_follow_the_lineage(kind: str) -> None:
    given, lineage = arguments(kind, 4), some_lineage(2, 2)
    draws = KINDS[kind][0]
    assert torch.autograd.gradgradcheck(lambda *a: draws(lineage, list(a))[0], tuple(given))


@pytest.mark.parametrize("threads", [1, 2])
def test_draws_do_not_depend_on_the_number_of_threads(threads: int) -> None:
    given, lineage = arguments("encoder", 60, torch.float32), some_lineage(15, 4)
    torch.set_num_threads(threads)
    found = by_encoder(lineage, given)[0]
    torch.set_num_threads(1)
    assert torch.equal(found, by_encoder(lineage, given)[0])


def test_lineages_that_do_not_fit_are_named() -> None:
    given, lineage = arguments("combiner", 6), some_lineage(2, 3)
    with pytest.raises(TypeError, match=r"expected ancestors of dtype torch.int64, got torch.int32"):
        by_combiner(lineage._replace(ancestors=lineage.ancestors.int()), given)
    with pytest.raises(ValueError, match=r"expected ancestors of shape \(6, 4\), got \(6, 3\)"):
        by_combiner(lineage._replace(ancestors=lineage.ancestors[:, :3]), given)
    with pytest.raises(ValueError, match="expected a number of particles that divides 6 rows, got 4"):
        by_combiner(lineage._replace(kin=4), given)
    with pytest.raises(ValueError, match="expected ancestors within the same sequence"):
        by_combiner(lineage._replace(ancestors=lineage.ancestors.roll(3, 0)), given)
