import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import pgm_rnn
from pgm_rnn.inference import smc
from pgm_rnn.inference.mcmc import Posterior
from pgm_rnn.inference.pmmh import ParticlePosterior
from pgm_rnn.models.hmm import HMM


def posterior() -> Posterior:
    draws = {"rows": torch.randn(2, 50, 3, 3), "scale": torch.randn(2, 50)}
    return Posterior(draws, torch.zeros(2, dtype=torch.int64), 1.0)


@pytest.mark.slow
def test_arvizs_daily_warning_is_no_error_where_warnings_are(tmp_path: Path) -> None:
    code = "import torch, pgm_rnn; from pgm_rnn.inference.mcmc import Posterior; import warnings; "
    code += "warnings.simplefilter('error', FutureWarning); "
    code += "pgm_rnn.to_arviz(Posterior({'a': torch.ones(1, 2)}, torch.zeros(1, dtype=torch.int64), 0.0))"
    places = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=os.environ | places, check=True)


def test_draws_keep_their_chains_and_their_statistics() -> None:
    result = posterior()
    data = pgm_rnn.to_arviz(result)
    assert set(data.posterior.data_vars) == {"rows", "scale"}
    assert data.posterior["rows"].dims[:2] == ("chain", "draw")
    for name, draws in result.samples.items():
        np.testing.assert_array_equal(data.posterior[name].values, draws.numpy())
        mean = data.posterior[name].mean(("chain", "draw")).values
        np.testing.assert_allclose(mean, result.means[name].numpy())


def test_particle_chains_bring_their_estimates_and_paths_are_draws() -> None:
    chain = Posterior({"scale": torch.randn(1, 50)}, torch.zeros(1, dtype=torch.int64), 1.0)
    data = pgm_rnn.to_arviz(ParticlePosterior(chain, 0.3, torch.arange(50.0)))
    assert data.sample_stats["log_likelihood_estimate"].values[0, 7] == 7
    model = HMM.random(2, 3, seed=0)
    paths = smc.smooth(model, model.sample(2, 4, seed=0).x, num_particles=10, num_paths=5)
    assert pgm_rnn.to_arviz(paths).posterior["z"].shape == (1, 5, 2, 4)


def test_what_holds_no_draws_is_an_error() -> None:
    with pytest.raises(TypeError, match=r"expected a result of mcmc.run, pmmh.run or smc.smooth, .*, got HMM"):
        pgm_rnn.to_arviz(HMM.random(2, 3))
