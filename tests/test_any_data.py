"""Every kind of data gives what the tensor gives: arrays, tables, lists, and one series without a batch dimension."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from pgm_rnn.emissions import Categorical, Gaussian, Poisson
from pgm_rnn.inference import em, forward_backward, kalman, smc, svi
from pgm_rnn.models import MarkovChain
from pgm_rnn.sequences import Sequences, as_sequences, pad
from tests.instances import make_hmm, make_model

SERIES = torch.randn(7, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

KINDS: dict[str, Callable[[Tensor], Any]] = {
    "array": lambda x: x.numpy(),
    "array without batch": lambda x: x[0].numpy(),
    "tensor without batch": lambda x: x[0],
    "DataFrame": lambda x: pd.DataFrame(x[0].numpy(), columns=["flow", "rain"]),
    "list of arrays": lambda x: [x[0].numpy()],
    "list of tensors": lambda x: [x[0]],
    "list of DataFrames": lambda x: [pd.DataFrame(x[0].numpy())],
    "nested lists": lambda x: x.tolist(),
    "Sequences": as_sequences,
}


def hmm() -> Any:
    return make_hmm(Gaussian(2))


def fitted(x: Any) -> Tensor:
    model = hmm()
    svi.fit(model, x, objective="mle", num_epochs=1, seed=0)
    return model.log_prob(SERIES[None])


FUNCTIONS: dict[str, Callable[[Any], Tensor]] = {
    "log_prob": lambda x: make_model("rnn-gru", Gaussian(2)).log_prob(x),
    "model": lambda x: hmm().model(x),
    "forecast": lambda x: hmm().forecast(x, 3, seed=0).x,
    "forward_backward.smooth": lambda x: forward_backward.smooth(hmm(), x).smoothed_probs,
    "kalman.filter": lambda x: kalman.filter(make_model("lgssm", Gaussian(2)), x).filtered_means,
    "kalman.forecast": lambda x: kalman.forecast(make_model("lgssm", Gaussian(2)), x, 2).means,
    "smc.filter": lambda x: smc.filter(hmm(), x, num_particles=5, seed=0).log_marginal_likelihood,
    "em.fit": lambda x: em.fit(hmm(), x, num_iterations=2).log_likelihoods,
    "svi.fit": lambda x: fitted(x),
    "svi.evaluate": lambda x: torch.tensor(svi.evaluate(hmm(), x).nats_per_step),
}


@pytest.mark.filterwarnings("ignore::pgm_rnn.inference.em.EmWarning")
@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_kind_of_data_gives_what_the_tensor_gives(function: str) -> None:
    expected = FUNCTIONS[function](SERIES[None])
    for kind, of in KINDS.items():
        assert torch.equal(FUNCTIONS[function](of(SERIES[None])), expected), kind


@pytest.mark.parametrize("kind", KINDS)
def test_double_precision_data_give_a_single_precision_model_its_results(kind: str) -> None:
    model = hmm().float()
    expected = model.log_prob(SERIES[None].float())
    assert expected.dtype == torch.float32
    assert torch.equal(model.log_prob(KINDS[kind](SERIES[None])), expected)


def test_single_precision_data_suit_a_double_precision_model() -> None:
    model, x = hmm(), SERIES[None].float()
    assert torch.equal(model.log_prob(x), model.log_prob(x.double()))


@pytest.mark.parametrize("as_kind", [list, lambda parts: [part.numpy() for part in parts]])
def test_a_list_of_ragged_sequences_is_their_padded_batch(as_kind: Callable[[list[Tensor]], Any]) -> None:
    parts = [SERIES[:3], SERIES[2:], SERIES[:1]]
    assert torch.equal(hmm().log_prob(as_kind(parts)), hmm().log_prob(pad(parts)))


def test_numbers_of_one_variable_may_be_a_flat_series() -> None:
    x = SERIES[:, 0]
    for family, column in ((Gaussian(1), x[None, :, None]), (Gaussian(), x[None])):
        model = make_hmm(family)
        expected = model.log_prob(column)
        for given in (x, x.numpy(), x.tolist(), pd.Series(x.numpy(), name="flow"), pd.DataFrame({"flow": x.numpy()})):
            assert torch.equal(model.log_prob(given), expected)


def test_symbols_and_counts_may_be_lists_of_whole_numbers() -> None:
    symbols = [[0, 2, 1], [1]]
    expected = pad([torch.tensor(part) for part in symbols])
    assert torch.equal(make_hmm(Categorical(3)).log_prob(symbols), make_hmm(Categorical(3)).log_prob(expected))
    counts = make_hmm(Poisson())
    assert torch.equal(counts.log_prob([3, 0, 5]), counts.log_prob(torch.tensor([[3.0, 0.0, 5.0]])))
    chain = MarkovChain.from_counts(np.array([0, 1, 1, 0]), num_symbols=2)
    assert torch.equal(chain.initial_probs, torch.tensor([1.0, 0.0]))


def test_a_batch_of_scalars_stays_a_batch() -> None:
    """(3, 4) is three sequences of four numbers for events of shape (), whatever the family's parameters are."""
    assert make_hmm(Gaussian()).log_prob(torch.zeros(3, 4)).shape == (3,)
    assert make_hmm(Gaussian(4)).log_prob(torch.zeros(3, 4)).shape == (1,)
    with pytest.raises(ValueError, match=r"expected x of shape \(batch, T, 2\), got \(3, 4\)"):
        hmm().log_prob(torch.zeros(3, 4))


def test_masks_inputs_and_states_of_one_series_need_no_batch_dimension() -> None:
    mask = torch.ones(7, 2, dtype=torch.bool)
    mask[2, 0] = mask[5] = False
    expected = hmm().log_marginal_likelihood(SERIES[None], mask=mask[None])
    for given in (mask, mask.numpy(), mask[None]):
        assert torch.equal(hmm().log_marginal_likelihood(SERIES.numpy(), mask=given), expected)
    by_step = mask.any(1)
    expected = hmm().log_marginal_likelihood(SERIES[None], mask=by_step[None])
    assert torch.equal(hmm().log_marginal_likelihood(SERIES, mask=by_step), expected)
    z = torch.tensor([0, 1, 1, 0, 1, 0, 0])
    assert torch.equal(hmm().log_prob(SERIES, z), hmm().log_prob(SERIES[None], z[None]))
    driven: Any = make_model("lgssm", Gaussian(2), input_dim=1)
    inputs = torch.linspace(0, 1, 7)[:, None]
    expected = driven.log_marginal_likelihood(SERIES[None], inputs=inputs[None])
    for given in (inputs, inputs.numpy().astype(np.float32).astype(np.float64), pd.DataFrame(inputs.numpy())):
        torch.testing.assert_close(driven.log_marginal_likelihood(SERIES, inputs=given), expected)
    future = driven.forecast(SERIES, 2, inputs=inputs, future_inputs=inputs[:2], seed=0).x
    assert torch.equal(
        future, driven.forecast(SERIES[None], 2, inputs=inputs[None], future_inputs=inputs[None, :2], seed=0).x
    )


def test_lengths_may_be_an_array_or_a_list() -> None:
    x, lengths = SERIES.expand(2, 7, 2), [7, 3]
    expected = hmm().log_prob(x, lengths=torch.tensor(lengths))
    assert torch.equal(hmm().log_prob(x.numpy(), lengths=np.array(lengths)), expected)
    assert torch.equal(hmm().log_prob(x, lengths=lengths), expected)
    with pytest.raises(ValueError, match="expected no lengths with a list of sequences, which have their own"):
        as_sequences([SERIES], torch.tensor([7]))


def test_the_columns_of_a_table_name_the_variables() -> None:
    legend = as_sequences(pd.DataFrame({"flow": [1.0, 2.0], "wet": [True, False]})).legend
    assert legend is not None
    assert [column.name for column in legend.columns] == ["flow", "wet"]


def test_the_callers_array_is_not_written_to() -> None:
    x = SERIES.numpy().copy()
    x.flags.writeable = False
    as_sequences(x[None, ::-1], torch.tensor([5])).x.zero_()
    assert np.array_equal(x, SERIES.numpy())


def test_a_table_with_words_points_to_the_reader() -> None:
    with pytest.raises(TypeError, match=r"expected the columns of the table as numbers .*pgm_rnn\.read_sequences"):
        hmm().log_prob(pd.DataFrame({"flow": [1.0, 2.0], "gate": ["open", "shut"]}))


def test_a_batch_of_a_table_has_no_axis_of_columns_for_a_family_of_scalars() -> None:
    frame = pd.DataFrame({"flow": SERIES[:, 0].numpy()})
    batch = as_sequences(frame)
    assert isinstance(batch, Sequences)
    assert batch.x.shape == (1, 7, 1)
    assert torch.equal(make_hmm(Gaussian()).log_prob(batch), make_hmm(Gaussian()).log_prob(SERIES[None, :, 0]))
