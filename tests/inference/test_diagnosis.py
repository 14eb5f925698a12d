"""Numbers that are not finite: which models give them, and what the errors say of the cause."""

import math
from pathlib import Path

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from pgm_rnn.emissions import Gaussian
from pgm_rnn.inference import svi
from pgm_rnn.inference.diagnosis import cause
from pgm_rnn.models import HMM, RNN, VRNN
from pgm_rnn.models.registry import get_model, model_info
from pgm_rnn.report import material
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequences import as_sequences
from tests.instances import assert_same, every_model_of_vectors, of_sequences

UNLIKELY = pytest.mark.filterwarnings("ignore:Encountered (NaN|[+]inf):UserWarning")


def walks(scale: float, dtype: torch.dtype = torch.float32) -> Tensor:
    """Random walks of up to 15 times the scale."""
    return scale * torch.randn(32, 20, 2, generator=torch.Generator().manual_seed(0), dtype=dtype).cumsum(1)


def untrained(name: str, seed: int, dtype: torch.dtype = torch.float32) -> SequenceModel:
    model = get_model(name, seed=seed, emission=Gaussian(2), **model_info(name).small)
    return of_sequences(model).to(dtype)


@pytest.mark.parametrize("scale", [1e2, 1e3, 1e4])
@every_model_of_vectors
def test_large_observations_have_finite_scores_under_every_model(name: str, scale: float) -> None:
    for seed in range(3):
        model = untrained(name, seed)
        for bound in ("exact",) if model.exact else ("elbo", "iwae", "fivo"):
            score = svi.evaluate(model, walks(scale), bound=bound, num_particles=2)
            assert math.isfinite(score.nats_per_step)


@UNLIKELY
def test_a_score_out_of_range_is_an_error_that_names_the_datas_scale_and_float64_has_it() -> None:
    x = walks(1e12)
    message = r"the log likelihood \(ELBO\) of sequence \d+ is -inf; the observations are large, 1.55e\+13 in sequence "
    message += r"\d+ at step \d+, and the computation overflows float32; standardise them"
    with pytest.raises(FloatingPointError, match=message):
        svi.evaluate(untrained("vrnn", 0), x, num_particles=2)
    wide = svi.evaluate(untrained("vrnn", 0, torch.float64), walks(1e12, torch.float64), num_particles=2)
    assert math.isfinite(wide.nats_per_step)


@UNLIKELY
@pytest.mark.parametrize("name", ["rnn-gru", "hmm", "vrnn"])
def test_a_parameter_that_is_nan_is_named(name: str) -> None:
    model = untrained(name, 0)
    broken = list(model.named_parameters())[-1][0]
    with torch.no_grad():
        model.get_parameter(broken).fill_(torch.nan)
    with pytest.raises(FloatingPointError, match=rf"; parameter {broken} of the {type(model).__name__} is NaN or inf"):
        svi.evaluate(model, walks(1.0), num_particles=2)


def test_a_sequence_of_probability_zero_still_has_the_score_infinity() -> None:
    hmm = HMM(torch.tensor([1.0, 0.0]), torch.eye(2), torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]))
    found = svi.evaluate(hmm, torch.tensor([[0, 1, 2], [0, 1, 1]]))
    assert found.nats_per_step == math.inf
    assert found.log_likelihoods[1] == pytest.approx(3 * math.log(0.5))


@UNLIKELY
def test_a_fit_to_large_observations_does_not_blame_the_learning_rate() -> None:
    vrnn = untrained("vrnn", 0)
    before = {name: value.clone() for name, value in vrnn.state_dict().items()}
    with pytest.raises(FloatingPointError, match=r"in epoch 1 at .* of epoch 0; the observations are large") as caught:
        svi.fit(vrnn, walks(1e12), num_epochs=1, learning_rate=1e-6)
    assert "try a smaller learning rate" not in str(caught.value)
    assert_same(dict(vrnn.state_dict()), before)


def test_validation_data_out_of_range_do_not_end_a_fit() -> None:
    vrnn = untrained("vrnn", 0)
    fit = svi.fit(vrnn, walks(1.0), valid=walks(1e12), num_epochs=2)
    assert [entry.valid_nats_per_step for entry in fit.history] == [math.inf, math.inf]


@pytest.mark.parametrize(
    ("scale", "num_updates", "words"),
    [
        (1.0, 0, "look for observations of probability zero, and for very large parameters"),
        (1.0, 9, "try a smaller learning rate, or look for observations of probability zero"),
        (1e3, 0, "deviation"),
        (1e3, 9, "deviation, before you try a smaller learning rate"),
    ],
)
def test_the_cause_depends_on_the_data_and_on_whether_a_step_was_taken(
    scale: float, num_updates: int, words: str
) -> None:
    model = RNN("gru", emission=Gaussian(2), hidden_dim=2)
    assert cause(model, model.family, as_sequences(walks(scale)), num_updates).endswith(words)


def test_large_numbers_in_the_padding_are_no_cause() -> None:
    x, lengths = walks(1.0), torch.full((32,), 10)
    x[:, 10:] = 1e9
    model = RNN("gru", emission=Gaussian(2), hidden_dim=2)
    assert "probability zero" in cause(model, model.family, as_sequences(x, lengths), 0)


def test_a_split_without_a_score_does_not_cost_the_command_line_its_model() -> None:
    model = VRNN(emission=Gaussian(2), latent_dim=2, hidden_dim=8).float()
    with pytest.warns(UserWarning, match=r"no score on the test data: .* the observations are large"):
        score = material._scored(model, "test", as_sequences(walks(1e12)))
    assert math.isnan(score.nats_per_step)
    assert score.num_steps == 640


def test_a_file_without_a_score_says_why(tmp_path: Path) -> None:
    file = tmp_path / "walk.csv"
    file.write_text("a\n" + "\n".join(map(str, (1, -2, 3, 1, -2, 4, 1, 5, -3, 2))))
    found = material.from_file(file, material.FileOptions(test_fraction=0.2, kind=("real",)))
    model = RNN("gru", emission=Gaussian(1), hidden_dim=2)
    assert all(math.isfinite(score.nats_per_step) for score in found.scores(model))
    model.readout.weight.data.fill_(torch.nan)
    with pytest.warns(UserWarning, match="no score on all of the data: .* parameter readout.weight of the RNN is NaN"):
        scores = found.scores(model)
    assert all(math.isnan(score.nats_per_step) for score in scores)


@pytest.mark.parametrize("value", [-math.inf, math.nan])
def test_a_file_that_a_filter_cannot_score_does_not_cost_the_model(
    value: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "walk.csv"
    file.write_text("a\n" + "\n".join(map(str, (1, -2, 3, 1, -2, 4, 1, 5, -3, 2))))
    found = material.from_file(file, material.FileOptions(test_fraction=0.2, kind=("real",)))
    law = VRNN.emission

    class Spoiled(dist.Independent):
        """No density above 4.5, as of the eighth step, which is one of training."""

        def log_prob(self, x: Tensor) -> Tensor:
            return super().log_prob(x).masked_fill(x[..., 0] > 4.5, value)

    monkeypatch.setattr(VRNN, "emission", lambda self, z, h: Spoiled(law(self, z, h).base_dist, 1))
    model = VRNN(emission=Gaussian(1), latent_dim=2, hidden_dim=4)
    with pytest.warns(UserWarning, match=f"no score on all of the data: .* of sequence 0 is {value}; look for"):
        train, test = found.scores(model)
    assert not math.isfinite(train.nats_per_step)
    assert math.isfinite(test.nats_per_step) == (value == -math.inf)  # a filter goes on behind a lost step
