"""Bad input to every registered model is one clear error, whichever verb it meets."""

from typing import Any

import pytest
import torch

from pgm_rnn.emissions import Categorical, Emission
from pgm_rnn.sequence_model import SequenceModel
from tests.instances import LENGTHS, draw, every_exact_law, every_model_of_symbols, make_model, ragged

VERBS = ["log_prob", "log_marginal_likelihood", "forecast", "model"]


def call(model: SequenceModel, verb: str, x: Any, lengths: Any = None) -> Any:
    options = {"num_steps": 2} if verb == "forecast" else {}
    return getattr(model, verb)(x, lengths=lengths, **options)


@pytest.mark.parametrize("verb", VERBS)
@every_exact_law
def test_observations_that_do_not_fit_are_errors(name: str, family: Emission, verb: str) -> None:
    model, x = make_model(name, family), draw(family, 2, 3)
    wrong_dtype = torch.float64 if family.needs_integers else torch.complex128
    bad: dict[str, tuple[Any, type[Exception], str]] = {
        "no batch": (x[0, 0], ValueError, "expected observations|expected x of shape"),
        "no steps": (x[:, :0], ValueError, "at least one sequence and one step"),
        "no sequences": (x[:0], ValueError, "at least one sequence and one step"),
        "events": (x[..., None], ValueError, r"expected x of shape \(batch, T"),
        "dtype": (x.to(wrong_dtype), TypeError, "expected x (of|as) "),
        "device": (x.to("meta"), ValueError, "expected x on cpu, where the model is, got meta"),
        "words": ("abc", TypeError, "expected observations as a tensor .*, got str"),
        "support": (torch.full_like(x, -1 if family.needs_integers else torch.nan), ValueError, "got (-1|nan) in seq"),
    }
    for value, error, message in bad.values():
        with pytest.raises(error, match=message):
            call(model, verb, value)


@pytest.mark.parametrize("verb", VERBS)
@every_model_of_symbols
def test_lengths_that_do_not_fit_are_errors(name: str, verb: str) -> None:
    model, x = make_model(name, Categorical(3)), ragged(Categorical(3))
    bad: list[tuple[Any, type[Exception], str]] = [
        (LENGTHS - 1, ValueError, "expected lengths in 1..T = 1..4, got 0 at index 1; drop empty sequences first"),
        (LENGTHS + 1, ValueError, "expected lengths in 1..T = 1..4, got 5 at index 0"),
        (LENGTHS[:2], ValueError, r"expected lengths of shape \(3,\), one per sequence, got \(2,\)"),
        (LENGTHS.double(), TypeError, "expected lengths as a tensor of integers, got torch.float64"),
        (3, TypeError, "expected lengths as a tensor of integers, got int"),
        (LENGTHS.to("meta"), ValueError, "expected lengths on cpu, where x is, got meta"),
    ]
    for lengths, error, message in bad:
        with pytest.raises(error, match=message):
            call(model, verb, x, lengths)


@every_model_of_symbols
def test_unknown_options_are_errors(name: str) -> None:
    model, x = make_model(name, Categorical(3)), ragged(Categorical(3))
    verbs: list[Any] = [model.log_prob, model.log_marginal_likelihood, model.model]
    for verb in verbs:
        with pytest.raises(ValueError, match="expected first to be one of model, condition, got 'modle'; did you mean"):
            verb(x, first="modle")
    with pytest.raises(ValueError, match="expected first to be one of model, condition, got 'modle'"):
        make_model(name, Categorical(3), first="modle")  # type: ignore[arg-type]
