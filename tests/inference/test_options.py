"""A training option stands in one place; signatures, help and the command line say what is there."""

import inspect
import re
from dataclasses import dataclass
from typing import Any, get_args

import pytest
import torch

from pgm_rnn.cli.gradient import BOUND, LEARNING, RUN, annotated, training_options
from pgm_rnn.inference import svi
from pgm_rnn.inference.svi import supervised
from pgm_rnn.inference.svi.options import check_options, option, options_of, take_options
from pgm_rnn.inference.svi.plan import Plan, Surroundings
from pgm_rnn.models import RNN
from pgm_rnn.registries import OWN


@dataclass(frozen=True)
class Momentum:
    """A new option, as somebody would add it."""

    momentum: float = option(0.9, "Momentum of the steps.")
    seconds: float = option(30.0, "Seconds of rest.", command="minutes", unit=60, command_help="Minutes of rest.")
    of_a_bound: int = option(1, "Particles.", bounds=True)


@take_options(Momentum)
def fit(model: object, train: object = None, **options: Any) -> dict[str, Any]:
    """Fits.

    Args:
        model: any.
        options: the fields of `Momentum`.

    Raises:
        TypeError: others.
    """
    check_options(fit, options)
    return options


def test_a_new_option_is_in_the_signature_and_in_the_help() -> None:
    signature = inspect.signature(fit)
    assert list(signature.parameters) == ["model", "train", "momentum", "seconds", "of_a_bound"]
    new = signature.parameters["momentum"]
    assert (new.kind, new.default, new.annotation) == (inspect.Parameter.KEYWORD_ONLY, 0.9, float)
    assert fit.__doc__ is not None
    assert "    momentum: Momentum of the steps.\n    seconds: Seconds of rest.\n" in fit.__doc__
    assert "options:" not in fit.__doc__
    without = take_options(Momentum, bounds=False)(lambda model, **options: None)
    assert list(inspect.signature(without).parameters) == ["model", "momentum", "seconds"]


def test_a_new_option_is_one_of_the_command_line() -> None:
    momentum, seconds, _ = options_of(Momentum)
    kind, shown = get_args(annotated(momentum))
    assert (kind, shown.help) == (float, "Momentum of the steps.")
    assert (seconds.command, get_args(annotated(seconds))[1].help) == ("minutes", "Minutes of rest.")


def test_an_unknown_option_is_an_error_that_suggests_one() -> None:
    assert fit(None, momentum=0.5) == {"momentum": 0.5}
    with pytest.raises(
        TypeError, match=r"fit\(\) got an unexpected keyword argument 'momentun'; did you mean 'momentum'"
    ):
        fit(None, momentun=0.5)
    with pytest.raises(TypeError, match="unexpected keyword argument 'xyz'; it takes model, train, momentum, seconds"):
        fit(None, xyz=1)
    rnn, x = RNN("gru", num_symbols=2, hidden_dim=2), torch.zeros(2, 3, dtype=torch.int64)
    with pytest.raises(
        TypeError, match=r"fit\(\) got an unexpected keyword argument 'epochs'; did you mean 'num_epochs'"
    ):
        svi.fit(rnn, x, epochs=3)
    with pytest.raises(TypeError, match=r"at most 3 arguments of fit by position, got 4; write objective=\.\.\."):
        svi.fit(rnn, x, None, "mle")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"fit\(\) got an unexpected keyword argument 'kl_warmup'"):
        supervised.fit(rnn, None, kl_warmup=3)  # type: ignore[arg-type]


def test_svi_fit_takes_every_option_with_the_default_of_its_field() -> None:
    parameters = inspect.signature(svi.fit).parameters
    assert list(parameters)[:5] == ["model", "train", "valid", "objective", "num_particles"]
    assert svi.fit.__doc__ is not None
    for each in options_of(Plan, Surroundings):
        assert each.name in parameters
        if each.name != "objective":  # None there: it depends on the model
            assert parameters[each.name].default == each.default
        assert re.search(rf"^ +{each.name}: \S", svi.fit.__doc__, re.MULTILINE), each.name


def test_the_labels_fit_takes_every_option_that_is_not_for_bounds() -> None:
    parameters = inspect.signature(supervised.fit).parameters
    expected = [each.name for each in options_of(Plan, Surroundings) if not each.bounds]
    assert list(parameters) == ["model", "train", "valid", *expected]


def test_the_command_line_has_every_option_but_seed_and_progress_and_gives_it_on() -> None:
    offered = {**LEARNING, **BOUND, **RUN}
    found = training_options(dict.fromkeys(offered, 2.0))
    assert set(found) == {each.name for each in options_of(Plan, Surroundings)} - {"seed", "progress"}
    assert (found["num_epochs"], found["checkpoint_seconds"]) == (2.0, 120.0)


@pytest.mark.parametrize("name", [name for name, info in OWN.models.items() if info.fit is not None])
def test_what_an_entry_says_of_its_command_is_there(name: str) -> None:
    info = OWN.models[name]
    assert info.fit is not None
    assert set(info.fit.defaults) <= {each.name for each in options_of(Plan)}
    assert set(info.fit.sizes) - {info.fit.named_by} <= set(inspect.signature(info.make).parameters)
    assert info.fit.by_bound == (not info.make(**info.smallest).exact)
