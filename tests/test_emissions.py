import math

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from pgm_rnn.emissions import Bernoulli, Categorical, Emission, EmissionTable, Gaussian, Poisson
from pgm_rnn.randomness import seeded
from tests.definitions import emission_log_probs, log_density
from tests.instances import FAMILIES, draw, every_family

PROBS = torch.tensor([[0.2, 0.3, 0.5], [0.0, 1.0, 0.0]], dtype=torch.float64)


def params_of(family: Emission, *batch: int) -> Tensor:
    return torch.randn(*batch, family.num_params)


@every_family
def test_log_probs_are_the_textbook_densities(family: Emission) -> None:
    params, x = params_of(family, 4, 5), draw(family, 4, 5)
    torch.testing.assert_close(family.distribution(params).log_prob(x), log_density(family, params, x))


@every_family
def test_a_law_has_the_batch_shape_of_its_parameters_and_the_events_shape(family: Emission) -> None:
    law = family.distribution(params_of(family, 4, 5))
    assert law.batch_shape == (4, 5)
    assert law.event_shape == family.event_shape
    assert law.sample().shape == (4, 5, *family.event_shape)


@every_family
def test_draws_are_valid_observations(family: Emission) -> None:
    drawn = family.distribution(params_of(family, 100)).sample()
    assert not family.invalid(drawn).any()


@pytest.mark.parametrize(
    ("family", "scalar"), [(Bernoulli(2), Bernoulli()), (Gaussian(2), Gaussian()), (Poisson(2), Poisson())]
)
def test_entries_of_a_vector_are_independent_given_their_parameters(family: Emission, scalar: Emission) -> None:
    params, x = params_of(family, 4), draw(family, 4)
    columns = params.reshape(4, -1, 2)  # (batch, kind, entry)
    entries = [scalar.distribution(columns[:, :, i]).log_prob(x[:, i]) for i in range(2)]
    torch.testing.assert_close(family.distribution(params).log_prob(x), entries[0] + entries[1])


def test_the_law_of_a_symbol_is_pyros_categorical_in_every_respect() -> None:
    params = torch.randn(4, 1, 3)
    params[0, 0, 1] = -torch.inf
    law, pyros = Categorical(3).distribution(params), dist.Categorical(logits=params)
    for actual, expected in ((law, pyros), (law.expand([4, 5]), pyros.expand([4, 5]))):
        assert (actual.batch_shape, actual.event_shape) == (expected.batch_shape, expected.event_shape)
        assert actual.has_enumerate_support
        support = expected.enumerate_support()
        assert torch.equal(actual.enumerate_support(), support)
        torch.testing.assert_close(actual.log_prob(support), expected.log_prob(support))
        torch.testing.assert_close(actual.probs, expected.probs)
        torch.manual_seed(0)
        drawn = actual.sample((7,))
        torch.manual_seed(0)
        assert torch.equal(drawn, expected.sample((7,)))
    assert type(law) is type(pyros)


@pytest.mark.parametrize(
    ("family", "support"),
    [
        (Categorical(4), torch.arange(4)),
        (Bernoulli(), torch.tensor([0.0, 1.0], dtype=torch.float64)),
        (Bernoulli(2), torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=torch.float64)),
        (Poisson(), torch.arange(200, dtype=torch.float64)),
    ],
)
def test_probabilities_sum_to_one(family: Emission, support: Tensor) -> None:
    law = family.distribution(params_of(family, 1))
    assert float(law.log_prob(support).exp().sum()) == pytest.approx(1, abs=1e-12)


def test_a_gaussian_density_integrates_to_one() -> None:
    grid = torch.linspace(-60, 60, 240_001)
    law = Gaussian().distribution(torch.tensor([0.7, 0.3]))
    assert float(torch.trapezoid(law.log_prob(grid).exp(), grid)) == pytest.approx(1, abs=1e-9)


def test_parameters_of_extreme_size_stay_finite() -> None:
    x = torch.tensor(1.0)
    for family in (Bernoulli(), Poisson(), Gaussian()):
        params = torch.full((family.num_params,), 700.0)
        assert family.distribution(params).log_prob(x).isfinite()
    assert float(Bernoulli().distribution(torch.tensor([-700.0])).log_prob(x)) == pytest.approx(-700)


def test_a_categorical_table_emits_the_given_probabilities_zeros_included() -> None:
    table = Categorical(3).table(PROBS)
    torch.testing.assert_close(table.log_probs(torch.arange(3)).exp().T, PROBS)


def test_a_bernoulli_table_emits_the_given_probabilities() -> None:
    probs = torch.tensor([[0.1, 0.9], [0.5, 1e-12]])
    table = Bernoulli(2).table(probs)
    expected = torch.stack([1 - probs[:, 0], probs[:, 0]], 1) * (1 - probs[:, 1:])  # x_2 = 0
    actual = table.log_probs(torch.tensor([[0.0, 0.0], [1.0, 0.0]])).exp()
    torch.testing.assert_close(actual.T, expected)


def test_a_gaussian_table_has_the_given_moments() -> None:
    loc, scale = torch.tensor([[0.0, -3.0], [1e3, 2.0]]), torch.tensor([[1e-3, 1.0], [50.0, 1e3]])
    law = Gaussian(2).table(loc, scale)(torch.tensor([0, 1]))
    torch.testing.assert_close(law.mean, loc)
    torch.testing.assert_close(law.variance.sqrt(), scale)


def test_a_poisson_table_has_the_given_rates() -> None:
    rate = torch.tensor([1e-6, 0.5, 1e3])
    torch.testing.assert_close(Poisson().table(rate)(torch.arange(3)).mean, rate)


@every_family
def test_a_table_gives_the_log_prob_under_every_state(family: Emission) -> None:
    table = family.random_table(3)
    x = draw(family, 5)
    torch.testing.assert_close(table.log_probs(x), emission_log_probs(family, table.params, x))
    assert table.log_probs(draw(family, 2, 5)).shape == (2, 5, 3)


@every_family
def test_the_law_given_a_state_is_the_states_row(family: Emission) -> None:
    table, z, x = family.random_table(3), torch.tensor([[2, 0], [1, 1]]), draw(family, 2, 2)
    every = table.log_probs(x)
    torch.testing.assert_close(table(z).log_prob(x), every.gather(-1, z[..., None]).squeeze(-1))


@every_family
def test_a_table_knows_its_size_and_its_parameters_are_trained(family: Emission) -> None:
    params = params_of(family, 3)
    table = EmissionTable(family, params)
    assert table.num_states == 3
    assert [name for name, p in table.named_parameters() if p.requires_grad] == ["params"]
    with torch.no_grad():
        table.params.zero_()
    assert bool(params.all())  # the caller's tensor is not the table's


@every_family
def test_a_head_is_a_linear_map_into_the_family(family: Emission) -> None:
    head, features, x = family.head(3), torch.randn(4, 5, 3), draw(family, 4, 5)
    params, shared = features @ head.weight.T + head.bias, getattr(head, "shared", torch.zeros(0))
    names = ["weight", "bias", *["shared"] * (len(shared) > 0)]
    assert [name for name, p in head.named_parameters() if p.requires_grad] == names
    expected = family.distribution(torch.cat([params, shared.expand(4, 5, -1)], dim=-1))
    torch.testing.assert_close(head(features).log_prob(x), expected.log_prob(x))


def test_a_fresh_head_is_a_fresh_linear_layer() -> None:
    torch.manual_seed(0)
    linear = torch.nn.Linear(3, 4)
    torch.manual_seed(0)
    head = Gaussian(2).head(3)
    assert torch.equal(head.weight, linear.weight)
    assert torch.equal(head.bias, linear.bias)


def test_random_tables_are_reproducible_from_a_seed() -> None:
    tables = []
    for seed in (1, 1, 2):
        with seeded(seed):
            tables.append(Gaussian(2).random_table(4).params)
    assert torch.equal(tables[0], tables[1])
    assert not torch.equal(tables[0], tables[2])


def test_inputs_of_a_recurrence_are_one_hot_values_or_logs_of_counts() -> None:
    assert Categorical(3).as_input(torch.tensor([2, 0])).tolist() == [[0, 0, 1], [1, 0, 0]]
    assert Bernoulli().as_input(torch.tensor([1.0])).tolist() == [[1]]
    assert Gaussian(2).as_input(torch.tensor([[0.5, -2.0]])).tolist() == [[0.5, -2.0]]
    torch.testing.assert_close(Poisson().as_input(torch.tensor([0.0, 7.0]))[:, 0], torch.tensor([0.0, math.log(8)]))


@every_family
def test_inputs_have_the_width_that_the_family_says(family: Emission) -> None:
    assert family.as_input(draw(family, 4, 5)).shape == (4, 5, family.input_dim)


def test_families_are_values() -> None:
    assert Gaussian(2) == Gaussian(2) != Gaussian(3)
    assert len(set(FAMILIES.values())) == len(FAMILIES)
    assert repr(Bernoulli(88)) == "Bernoulli(size=88)"


@pytest.mark.parametrize("make", [Categorical, Bernoulli, Gaussian, Poisson])
@pytest.mark.parametrize("size", [0, -1, 2.0])
def test_a_size_is_a_positive_integer(make: type[Emission], size: int) -> None:
    with pytest.raises(ValueError, match=f"to be an integer of at least 1, got {size!r}"):
        make(size)  # type: ignore[call-arg]


@pytest.mark.parametrize("shape", [(3,), (2, 5), (2, 2, 4)])
def test_a_table_of_another_width_is_an_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected parameters of shape \(num_states, 4\) for Gaussian\(size=2\), got"):
        EmissionTable(Gaussian(2), torch.zeros(shape))


@pytest.mark.parametrize("shape", [(), (2,), (2, 3), (2, 2, 1)])
def test_named_parameters_of_another_shape_are_an_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected rate of shape \(num_states, 2\), got"):
        Poisson(2).table(torch.ones(shape))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_named_parameters_that_are_not_finite_are_an_error(value: float) -> None:
    with pytest.raises(ValueError, match="expected loc as finite floating-point numbers"):
        Gaussian().table(torch.tensor([0.0, value]), torch.ones(2))
    with pytest.raises(ValueError, match="expected scale as finite floating-point numbers"):
        Gaussian().table(torch.zeros(2), torch.tensor([1.0, value]))


def test_named_parameters_of_an_integer_dtype_are_an_error_about_the_dtype() -> None:
    with pytest.raises(ValueError, match=r"expected rate as .*floating-point.* got torch.int64(?!.*NaN)"):
        Poisson().table(torch.tensor([1, 2]))


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_scales_and_rates_are_positive(value: float) -> None:
    with pytest.raises(ValueError, match=f"expected scale to be positive, got {value}"):
        Gaussian().table(torch.zeros(2), torch.tensor([1.0, value]))
    with pytest.raises(ValueError, match=f"expected rate to be positive, got {value}"):
        Poisson().table(torch.tensor([1.0, value]))


@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, 1.1])
def test_probabilities_of_bits_are_strictly_between_0_and_1(value: float) -> None:
    with pytest.raises(ValueError, match="expected probabilities of bits strictly between 0 and 1"):
        Bernoulli().table(torch.tensor([0.5, value]))


@pytest.mark.parametrize(
    ("row", "message"),
    [((0.5, 0.1, 0.1), "to sum to one"), ((-0.5, 0.5, 1.0), "non-negative"), ((torch.nan, 0.5, 0.5), "non-negative")],
)
def test_a_categorical_row_that_is_no_law_is_an_error(row: tuple[float, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Categorical(3).table(torch.tensor([row, (0.2, 0.3, 0.5)]))


def test_means_and_scales_for_different_numbers_of_states_are_an_error() -> None:
    with pytest.raises(ValueError, match="expected"):
        Gaussian().table(torch.zeros(2), torch.ones(3))
