import re

import pyro.distributions as dist
import pytest
import torch

from pgm_rnn.emissions import Gaussian
from pgm_rnn.inference import em, forward_backward, kalman, mcmc, smc, svi
from pgm_rnn.models import HMM, RNN, LinearGaussianSSM
from pgm_rnn.results import in_short
from pgm_rnn.sequence_model.priors import WithPriors
from tests.latent_toy import LatentToy


def test_a_model_says_its_sizes_its_family_and_how_many_parameters_it_has() -> None:
    assert repr(HMM.random(3, emission=Gaussian(2))) == (
        "HMM(num_states=3, emission=Gaussian(size=2); 24 parameters)"  # 3 + 9 + 3 * 4
    )
    rnn = repr(RNN("lstm", num_symbols=3, hidden_dim=4, first="condition"))
    assert rnn.startswith("RNN(rnn-lstm, hidden_dim=4, ")
    assert "emission=Categorical(num_symbols=3), first='condition'; " in rnn
    assert repr(LatentToy()) == "LatentToy(States(), emission=Gaussian(size=None); 2 parameters)"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (torch.tensor(1.5), "1.5"),
        (torch.tensor([1.0, 2.5]), "[1, 2.5]"),
        (torch.arange(6), "[0, 1, 2, 3, ... 6 in all]"),
        (torch.zeros(2, 3), "tensor (2, 3)"),
        ({"a": torch.zeros(())}, "{a: 0}"),
        ((1, 2), "2 entries"),
        (0.25, "0.25"),
        ("tolerance", "'tolerance'"),
        (None, "None"),
    ],
)
def test_values_in_short(value: object, expected: str) -> None:
    assert in_short(value) == expected


def test_results_show_their_main_numbers_and_no_tensor_at_length() -> None:
    hmm, lds = HMM.random(2, 3, seed=0), LinearGaussianSSM.random(2, 1, seed=0)
    x, y = hmm.sample(6, 5, seed=0), lds.sample(2, 5, seed=0)
    prior = WithPriors(hmm, {"initial_probs": dist.Dirichlet(torch.ones(2))})
    results = [
        forward_backward.filter(hmm, x),
        forward_backward.smooth(hmm, x),
        forward_backward.most_likely_states(hmm, x),
        kalman.smooth(lds, y),
        kalman.forecast(lds, y, 2),
        smc.filter(lds, y, num_particles=10, seed=0),
        smc.smooth(lds, y, num_particles=10, num_paths=3, seed=0),
        em.fit(hmm, x, num_iterations=2, progress=False),
        svi.fit(hmm, x, num_epochs=1, progress=False),
        svi.evaluate(hmm, x),
        mcmc.run(prior, x.x, num_samples=2, num_warmup=2, progress=False),
        hmm.forecast(x, 2),
        x,
    ]
    for result in results:
        text = repr(result)
        assert text.startswith(f"{type(result).__name__}(")
        assert len(text) < 250
        assert not re.search(r"tensor\(|<.* at 0x|\n", text)
    first = results[0]
    assert isinstance(first, forward_backward.Filtered)
    assert f"log_marginal_likelihood=[{float(first.log_marginal_likelihood[0]):.6g}, " in repr(first)
