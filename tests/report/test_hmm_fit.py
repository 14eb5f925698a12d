"""Fits of HMMs at the command line: as likely as possible where that is sound, and never a state on equal values."""

import copy
from typing import Any

import pytest
import torch

from pgm_rnn import Sequences
from pgm_rnn.emissions import Gaussian, Poisson
from pgm_rnn.inference import em
from pgm_rnn.models import HMM
from pgm_rnn.report.hmm_fit import HmmFit, fit_by_em
from pgm_rnn.report.notes import noted

FAR = 30.0
"""Distance of two states whose noise has scale 1: no value is near both."""


def levels(seed: int = 0, num: int = 6, steps: int = 40) -> Sequences:
    """Sequences that change between 0 and `FAR` every ten steps."""
    generator = torch.Generator().manual_seed(seed)
    level = FAR * (torch.arange(num * steps) // 10 % 2).double()
    x = level + torch.randn(num * steps, generator=generator, dtype=torch.float64)
    return Sequences(x.reshape(num, steps, 1), torch.full((num,), steps))


def fitted(data: Sequences, num_states: int = 2, valid: Sequences | None = None, **options: Any) -> HmmFit:
    model = HMM.random(num_states, emission=Gaussian(1), seed=0).double()
    given = {"num_restarts": 3, "pseudo_count": 0.1, "progress": False, "seed": 0} | options
    return fit_by_em(model, data, valid=valid, **given)


def law(fit: HmmFit) -> Any:
    model: Any = fit.found.model
    table = model.emission_table
    return table.family.distribution(table.params.detach())


def scales(fit: HmmFit) -> torch.Tensor:
    return law(fit).stddev.detach().flatten()


def test_states_far_apart_have_the_moments_of_their_values() -> None:
    data, fit = levels(), fitted(levels())
    x = data.x.flatten()
    moments = sorted((float(part.mean()), float(part.std(correction=0))) for part in (x[x < FAR / 2], x[x > FAR / 2]))
    its_law = law(fit)
    found = sorted(zip(its_law.mean.flatten().tolist(), scales(fit).tolist(), strict=True))
    for its, ours in zip(moments, found, strict=True):
        assert ours == pytest.approx(its, rel=1e-6, abs=1e-6)
    assert fit.remark == ""
    # pseudo-observations to the end: about m d^2 / n = 2 (30^2 / 2) / 120 = 7.5 is added to the variance
    assert bool((scales(fitted(data, pseudo_observations=2.0)) > 2).all())


def test_a_state_does_not_shrink_onto_equal_values() -> None:
    data = levels()
    data.x[:, 5] = 12.0  # in each sequence
    alone = fitted(data, 3, num_iterations=300, pseudo_observations=2.0).found.model
    with pytest.warns(em.EmWarning, match="held at min_scale"):  # a control: EM alone does
        em.fit(alone, data, start="model", num_iterations=300, progress=False)
    fit = fitted(data, 3, num_iterations=300)
    assert bool((scales(fit) > 0.1).all())
    assert not any("min_scale" in note for note in fit.notes)
    assert fit.remark.startswith("0.02 pseudo-observations are added to each state, because without them EM warns: The")


def log_prob(model: Any, data: Sequences) -> float:
    return float(model.log_prob(data.x).detach())


def test_the_validation_data_never_lose() -> None:
    without = []
    for seed in range(6):
        generator = torch.Generator().manual_seed(seed)
        draw = torch.randn(40, 1, generator=generator, dtype=torch.float64)
        data, valid = (Sequences(part[None], torch.tensor([20])) for part in draw.split(20))
        with_all: Any = fitted(data, 3, valid, pseudo_observations=2.0).found.model
        free = copy.deepcopy(with_all)
        with noted(em.EmWarning):
            em.fit(free, data, start="model", pseudo_count=0.1, progress=False)
        held_out = log_prob(with_all, valid)
        assert log_prob(fitted(data, 3, valid).found.model, valid) >= held_out
        without.append(log_prob(free, valid) - held_out)
    assert min(without) < 0  # a control: without the comparison they would


def test_laws_of_whole_numbers_keep_them() -> None:
    x = torch.poisson(torch.full((2, 30), 3.0), generator=torch.Generator().manual_seed(0)).double()
    data = Sequences(x, torch.tensor([30, 30]))
    options: dict[str, Any] = {"num_restarts": 2, "progress": False, "seed": 0}
    models = [HMM.random(2, emission=Poisson(), seed=0).double() for _ in range(2)]
    found = [
        fit_by_em(m, data, pseudo_observations=n, **options).found for m, n in zip(models, (None, 2.0), strict=True)
    ]
    assert torch.equal(found[0].log_likelihoods, found[1].log_likelihoods)
