import pytest
import torch
from torch import Tensor

from pgm_rnn.randomness import seeded


def drawn(seed: int | None, stream: int = 0) -> Tensor:
    with seeded(seed, stream):
        return torch.randn(4)


@pytest.mark.parametrize("seed", [0, 1, -1, 2**63 - 1, 2**80])
def test_the_same_seed_gives_the_same_numbers(seed: int) -> None:
    assert torch.equal(drawn(seed), drawn(seed))


def test_other_seeds_and_streams_give_other_numbers() -> None:
    numbers = {tuple(drawn(seed, stream).tolist()) for seed in range(-5, 20) for stream in range(5)}
    assert len(numbers) == 25 * 5


def test_streams_of_one_seed_are_uncorrelated() -> None:
    limit = 5.0  # standard errors
    num = 20_000
    with seeded(3):
        a = torch.randn(num)
    with seeded(3, stream=1):
        b = torch.randn(num)
    assert abs(float((a * b).mean())) * num**0.5 < limit
    assert abs(float((a * a).mean())) * num**0.5 > limit


def test_the_callers_random_state_is_restored() -> None:
    before = torch.get_rng_state()
    drawn(5)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_callers_random_state_is_restored_after_an_error() -> None:
    def fail() -> None:
        with seeded(5):
            torch.randn(4)
            raise RuntimeError("in the block")

    before = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="in the block"):
        fail()
    assert torch.equal(torch.get_rng_state(), before)


def test_without_a_seed_the_global_state_is_used() -> None:
    torch.manual_seed(7)
    first = drawn(None)
    second = drawn(None)
    torch.manual_seed(7)
    assert torch.equal(torch.cat([first, second]), torch.randn(8))


def test_blocks_can_be_nested() -> None:
    with seeded(1):
        alone = torch.randn(2)
    with seeded(1):
        drawn(2)
        assert torch.equal(torch.randn(2), alone)


@pytest.mark.parametrize("seed", [1.0, "1", (1,)])
def test_a_seed_is_an_integer(seed: int) -> None:
    with pytest.raises(TypeError, match=f"expected seed as an integer or None, got {type(seed).__name__}"):
        drawn(seed)
