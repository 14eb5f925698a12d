"""Densities of partly missing observations against sums and integrals over what is missing."""

from itertools import product

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from pgm_rnn.distributions.correlated_normal import CorrelatedNormal, Factor
from pgm_rnn.distributions.normal import Normal
from pgm_rnn.distributions.observed import PartlyObserved, observed_log_prob
from pgm_rnn.emissions import Beta, Emission, EmissionTable, NadeBits
from tests.cases import every
from tests.instances import draw, every_family
from tests.missing import integrated

NUM_STATES = 2


def patterns(family: Emission) -> Tensor:
    """Every way in which some entries can be missing, (patterns, *event)."""
    size = family.event_shape.numel()
    found = torch.tensor(list(product([True, False], repeat=size)))
    return found.reshape(-1, *family.event_shape)


def table_of(family: Emission) -> EmissionTable:
    params = 0.5 * torch.randn(NUM_STATES, family.num_params)
    if isinstance(family, Beta):  # so that few of its numbers are nearer to 1 than a float
        params = params + 4 * (torch.arange(family.num_params) >= family.num_params // 2)
    return EmissionTable(family, params)


def expected(family: Emission, table: EmissionTable, x: Tensor, observed: Tensor) -> Tensor:
    """(patterns, K), by sums and integrals."""
    law = table(torch.arange(NUM_STATES))
    rows = zip(x, observed, strict=True)
    return torch.stack(
        [integrated(family, law, x_n, there) if bool(there.any()) else torch.zeros(NUM_STATES) for x_n, there in rows]
    )


@every_family
def test_missing_entries_are_summed_out_of_every_familys_laws(family: Emission) -> None:
    table, observed = table_of(family), patterns(family)
    x = draw(family, len(observed))
    torch.testing.assert_close(table.log_probs(x, observed), expected(family, table, x, observed))
    law = table(torch.arange(NUM_STATES))
    if family.event_shape:
        torch.testing.assert_close(
            observed_log_prob(law, x[:, None], observed[:, None]), expected(family, table, x, observed)
        )
    whole = table.log_probs(x)
    assert not torch.allclose(table.log_probs(x, observed), whole)  # what is missing does count otherwise


@every_family
def test_what_stands_in_a_gap_is_not_read_nor_are_its_gradients(family: Emission) -> None:
    table, observed = table_of(family), patterns(family)
    x, other = draw(family, len(observed)), draw(family, len(observed), seed=1)
    found = []
    for values in (x, x.where(observed, other)):
        value = table.log_probs(values, observed)
        found.append((value.detach(), torch.autograd.grad(value.sum(), table.params)[0]))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
    assert found[0][1].isfinite().all()


@every_family
def test_the_gradient_is_that_of_the_sum(family: Emission) -> None:
    table, observed = table_of(family), patterns(family)
    x = draw(family, len(observed))
    (found,) = torch.autograd.grad(table.log_probs(x, observed).sum(), table.params)
    (wanted,) = torch.autograd.grad(expected(family, table, x, observed).sum(), table.params)
    torch.testing.assert_close(found, wanted)


@every("family of heads")
def test_a_step_is_whole_or_missing_for_every_family(family: Emission) -> None:
    law, x = family.head(3)(torch.randn(4, 3)), draw(family, 4)
    whole = torch.tensor([True, False, True, False])
    wanted = law.log_prob(x).where(whole, 0.0)
    assert torch.equal(observed_log_prob(law, x, whole), wanted)
    each = whole.reshape(4, *(1 for _ in family.event_shape)).expand(x.shape)
    torch.testing.assert_close(observed_log_prob(law, x, each), wanted)


def test_a_law_that_cannot_leave_out_entries_says_so() -> None:
    family = NadeBits(3, 4)
    law, x = family.head(3)(torch.randn(2, 3)), draw(family, 2)
    with pytest.raises(ValueError, match=r"NadeLaw cannot integrate out single entries, .* one truth value per step"):
        observed_log_prob(law, x, torch.tensor([[True, True, False], [True, True, True]]))


def normal_parts() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Means (3, D), a factor (D, D), observations (4, 3, D) and a mask for them."""
    root = torch.randn(3, 3)
    factor = torch.linalg.cholesky(root @ root.T + 0.1 * torch.eye(3))
    return torch.randn(3, 3), factor, torch.randn(4, 3, 3), torch.rand(4, 3, 3) > 0.4


def marginal(loc: Tensor, cov: Tensor, x: Tensor, there: Tensor) -> Tensor:
    """log N(x_o; m_o, S_oo), the blocks cut out."""
    if not bool(there.any()):
        return torch.zeros(())
    return dist.MultivariateNormal(loc[there], cov[there][:, there]).log_prob(x[there])


@pytest.mark.parametrize("shared", [True, False])
def test_a_normal_vector_has_the_marginal_law_of_its_observed_entries(shared: bool) -> None:
    loc, factor, x, observed = normal_parts()
    factors = [factor] * 3 if shared else [factor, 2 * factor, factor + torch.eye(3)]
    law = (
        CorrelatedNormal(loc, Factor.of(factor))
        if shared
        else dist.MultivariateNormal(loc, scale_tril=torch.stack(factors))
    )
    wanted = torch.stack(
        [
            torch.stack([marginal(loc[k], factors[k] @ factors[k].T, x[n, k], observed[n, k]) for k in range(3)])
            for n in range(4)
        ]
    )
    torch.testing.assert_close(observed_log_prob(law, x, observed), wanted)
    low = dist.LowRankMultivariateNormal(loc[0], factor[:, :1], factor.diagonal().square())
    there = observed[0, 0]
    torch.testing.assert_close(
        observed_log_prob(low, x[0, 0], there), marginal(loc[0], low.covariance_matrix, x[0, 0], there)
    )


def test_a_nearly_singular_covariance_keeps_its_digits() -> None:
    """x_2 = x_1 up to 1e-9: the marginal of either is a standard normal law."""
    factor = torch.tensor([[1.0, 0.0], [1.0, 1e-9]])
    law = dist.MultivariateNormal(torch.zeros(2), scale_tril=factor, validate_args=False)
    for there in ([True, False], [False, True]):
        found = observed_log_prob(law, torch.tensor([1.5, 1.5]), torch.tensor(there))
        torch.testing.assert_close(found, dist.Normal(0.0, 1.0).log_prob(torch.tensor(1.5)))


def test_mixtures_and_wrapped_laws_leave_out_entries_too() -> None:
    parts = dist.Normal(torch.randn(4, 2, 3), 1.0).to_event(1)
    mixture = dist.MixtureSameFamily(dist.Categorical(torch.ones(4, 2)), parts)
    x, there = torch.randn(4, 3), torch.tensor([True, False, True])
    wanted = dist.MixtureSameFamily(
        dist.Categorical(torch.ones(4, 2)), dist.Normal(parts.base_dist.loc[..., there], 1.0).to_event(1)
    ).log_prob(x[:, there])
    torch.testing.assert_close(observed_log_prob(mixture, x, there.expand(4, 3)), wanted)
    own = Normal(torch.zeros(4, 3), torch.ones(3), event_dim=1)
    wrapped = dist.torch_distribution.ExpandedDistribution(
        dist.Normal(torch.zeros(3), 1.0).to_event(1), torch.Size([4])
    )
    for law in (own, wrapped):
        wanted = dist.Normal(0.0, 1.0).log_prob(x[:, there]).sum(-1)
        torch.testing.assert_close(observed_log_prob(law, x, there.expand(4, 3)), wanted)


def test_a_partly_observed_law_draws_whole_observations() -> None:
    law = PartlyObserved(dist.Normal(torch.zeros(3), 1.0).to_event(1), torch.tensor([True, False, False]))
    assert law.expand([5]).sample((2,)).shape == (2, 5, 3)
    assert law.has_rsample
    assert law.rsample().shape == (3,)
    assert str(law.support) == str(law.law.support)
