"""The same parameters and data in hmmlearn, where it is installed: it is one of the peers of `make bench`."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pgm_rnn.emissions import EmissionTable, FullGaussian, Gaussian, Mixture, SphericalGaussian, Tied
from pgm_rnn.inference import em
from pgm_rnn.models import HMM
from pgm_rnn.sequence_model.naturals import natural_parameters

peer = pytest.importorskip("hmmlearn.hmm", exc_type=ImportError)

K, M, D = 3, 2, 2
INITIAL = np.array([0.5, 0.3, 0.2])
TRANSITION = np.array([[0.8, 0.15, 0.05], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]])


def data(seed: int = 0) -> Tensor:
    return torch.as_tensor(np.random.default_rng(seed).normal(size=(4, 50, D))) * 2


def natural(table: EmissionTable, name: str) -> Tensor:
    return table.natural_parameters[name].read(table.params.detach().clone())


def likelihood_of(peers: Any, x: Tensor) -> float:
    return float(peers.score(x.flatten(0, 1).numpy(), [x.shape[1]] * len(x)))


def model_of(table: Any) -> HMM:
    return HMM(torch.as_tensor(INITIAL), torch.as_tensor(TRANSITION), table).double()


def mixture(full: bool) -> tuple[HMM, Any]:
    rng = np.random.default_rng(1)
    weights, loc = rng.dirichlet(np.ones(M), K), 2 * rng.normal(size=(K, M, D))
    roots = rng.normal(size=(K, M, D, D))
    cov = roots @ roots.swapaxes(-1, -2) + np.eye(D)
    var = np.diagonal(cov, axis1=-2, axis2=-1)
    peers = peer.GMMHMM(K, M, covariance_type="full" if full else "diag", init_params="", n_iter=1, tol=-np.inf)
    peers.startprob_, peers.transmat_, peers.weights_, peers.means_ = INITIAL, TRANSITION, weights, loc
    peers.covars_ = cov if full else var
    parts = [
        FullGaussian(D).table(torch.as_tensor(loc[:, m]), torch.as_tensor(cov[:, m]))
        if full
        else Gaussian(D).table(torch.as_tensor(loc[:, m]), torch.as_tensor(var[:, m] ** 0.5))
        for m in range(M)
    ]
    family = Mixture(FullGaussian(D) if full else Gaussian(D), M)
    return model_of(family.table(torch.as_tensor(weights), *parts)), peers


@pytest.mark.parametrize("full", [False, True], ids=["diag", "full"])
def test_the_likelihood_of_an_hmm_of_mixtures_is_theirs(full: bool) -> None:
    model, peers = mixture(full)
    x = data()
    found = float(model.log_marginal_likelihood(x).detach().sum())
    assert found == pytest.approx(likelihood_of(peers, x), rel=1e-11)
    peers.weights_ = np.full((K, M), 1 / M)
    assert found != pytest.approx(likelihood_of(peers, x), rel=1e-4)


def test_a_step_of_em_for_mixtures_is_theirs_but_for_their_covariances_around_the_old_means() -> None:
    model, peers = mixture(full=True)
    table, x = model.emission_table, data()
    before = natural(table, "loc")
    one_step(model, peers, x)
    weights, loc, cov = (natural(table, name) for name in ("weights", "loc", "cov"))
    np.testing.assert_allclose(weights, peers.weights_, rtol=1e-6)
    np.testing.assert_allclose(loc, peers.means_, rtol=1e-6)
    moved = (loc - before)[..., None]
    np.testing.assert_allclose(cov + moved @ moved.mT, peers.covars_, rtol=1e-6)
    assert not np.allclose(cov, peers.covars_, rtol=1e-2)
    np.testing.assert_allclose(model.transition_probs.detach(), peers.transmat_, rtol=1e-8)


def one_step(model: HMM, peers: Any, x: Tensor) -> None:
    em.fit(model, x, num_iterations=1, tolerance=0.0, progress=False)
    peers.fit(x.flatten(0, 1).numpy(), [x.shape[1]] * len(x))


def normal(kind: str) -> tuple[HMM, Any]:
    rng = np.random.default_rng(2)
    loc, root = 2 * rng.normal(size=(K, D)), rng.normal(size=(D, D))
    cov, scale = root @ root.T + np.eye(D), np.array([0.5, 1.0, 2.0])
    peers = peer.GaussianHMM(
        K, kind, init_params="", n_iter=1, tol=-np.inf, min_covar=0, covars_prior=0, covars_weight=0
    )
    peers.startprob_, peers.transmat_, peers.means_ = INITIAL, TRANSITION, loc
    means = torch.as_tensor(loc)
    if kind == "tied":
        peers.covars_ = cov
        return model_of(Tied(FullGaussian(D)).table(means, cov=torch.as_tensor(cov))), peers
    peers.covars_ = scale**2
    return model_of(SphericalGaussian(D).table(means, torch.as_tensor(scale))), peers


@pytest.mark.parametrize("kind", ["tied", "spherical"])
def test_the_likelihood_and_a_step_of_em_are_theirs(kind: str) -> None:
    model, peers = normal(kind)
    x = data()
    found = float(model.log_marginal_likelihood(x).detach().sum())
    assert found == pytest.approx(likelihood_of(peers, x), rel=1e-11)
    one_step(model, peers, x)
    np.testing.assert_allclose(natural_of(model, "loc"), peers.means_, rtol=1e-8)
    if kind == "tied":
        np.testing.assert_allclose(natural_of(model, "cov"), peers.covars_[0], rtol=1e-6)
    else:
        np.testing.assert_allclose(natural_of(model, "scale") ** 2, peers._covars_[:, 0], rtol=1e-6)
    after = float(model.log_marginal_likelihood(x).detach().sum())
    assert after == pytest.approx(likelihood_of(peers, x), rel=1e-8)
    assert after > found + 1


def natural_of(model: HMM, name: str) -> Tensor:
    view = natural_parameters(model)[name]
    return view.read(dict(model.named_parameters())[view.raw].detach())
