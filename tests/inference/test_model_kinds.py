"""How engines recognise the models they take: by attributes, for `isinstance` asks something else in each Python."""

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest
import torch

import pgm_rnn
from pgm_rnn.emissions import Gaussian
from pgm_rnn.inference import em, forward_backward, kalman
from pgm_rnn.inference.em.gaussian_em import is_trainable
from pgm_rnn.inference.kalman.kinds import has_gaussian_states, is_linear
from pgm_rnn.sequence_model.tables import has_tables
from tests.instances import every_model_of_vectors, make_model

KINDS = {
    **dict.fromkeys(
        ["hmm", "autoregressive-hmm", "switching-mean-ar", "recurrent-hmm", "factorial-hmm"],
        (True, False, False, False),
    ),
    "lgssm": (False, True, True, True),
    "noisy-rnn": (False, True, False, False),
    "dmm": (False, True, False, False),
}
"""Finitely many states, Gaussian states, linear, fitted by the Gaussian EM; every other model has none of these."""


def protocols() -> Iterator[type[Any]]:
    """Every protocol that a module of the package defines."""
    for name in (info.name for info in pkgutil.walk_packages(pgm_rnn.__path__, "pgm_rnn.")):
        if name.endswith("__main__"):
            continue
        for value in vars(importlib.import_module(name)).values():
            if getattr(value, "_is_protocol", False) and value.__module__ == name:
                yield value


@every_model_of_vectors
def test_the_kind_of_every_registered_model(name: str) -> None:
    model = make_model(name, Gaussian(2))
    found = has_tables(model), has_gaussian_states(model), is_linear(model), is_trainable(model)
    assert found == KINDS.get(name, (False,) * 4)


def test_no_protocol_can_be_asked_by_isinstance() -> None:
    """Since Python 3.12 it looks past `__getattr__`, where an `nn.Module` keeps parameters and submodules."""
    found = list(protocols())
    assert kalman.LinearGaussianModel in found
    assert forward_backward.FiniteStateModel in found
    assert [kind.__name__ for kind in found if getattr(kind, "_is_runtime_protocol", False)] == []


def test_a_model_without_the_states_an_engine_needs_is_an_error_that_names_another_engine() -> None:
    x = torch.zeros(2, 3, 2)
    rnn, lgssm = make_model("rnn-gru", Gaussian(2)), make_model("lgssm", Gaussian(2))
    with pytest.raises(
        TypeError,
        match=r"a model with finitely many states for forward_backward, RNN has none; use svi\.evaluate",
    ):
        forward_backward.filter(rnn, x)
    with pytest.raises(TypeError, match="LinearGaussianSSM has linear Gaussian states; use kalman"):
        forward_backward.filter(lgssm, x)
    with pytest.raises(TypeError, match=r"a model with Gaussian states for kalman, RNN has none; use svi\.evaluate"):
        kalman.filter(rnn, x)
    with pytest.raises(TypeError, match="NoisyRNN has nonlinear Gaussian states; use kalman with a method"):
        em.fit(make_model("noisy-rnn", Gaussian(2)), x)
