"""A model of one's own class is saved with its constructor's arguments, and made again by it without an import."""

import copy
import functools
import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pyro.distributions as dist
import pytest
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor, nn

from pgm_rnn import load_model, save_model
from pgm_rnn.emissions import Bernoulli, Emission, Gaussian
from pgm_rnn.models import HMM, RNN
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.states import FiniteStates
from pgm_rnn.storage import DESCRIPTION, TENSORS, StorageError, describe
from pgm_rnn.storage.description import digest_of
from pgm_rnn.storage.version_2 import LAW
from tests.instances import assert_same, of_sequences
from tests.latent_toy import LatentToy


class Mixed(SequenceModel):
    """x_t ~ N(mean of what it was made with, 1): a constructor with arguments of every kind."""

    def __init__(
        self,
        family: Emission,
        /,
        start: Tensor,
        widths: tuple[int, ...] = (2, 3),
        *shifts: float,
        rates: list[float] | None = None,
        table: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(family)
        self.register_buffer("start", start)
        self.weight = nn.Parameter(torch.randn(widths))
        self.register_buffer("order", torch.arange(len(shifts)))
        self.shift = sum(shifts) + sum(rates or ()) + sum((table or {}).get("inner", torch.zeros(1)))
        self.widths, self.options = widths, options

    def emission(self, z: None, h: None) -> TorchDistribution:
        mean = self.start.sum() + self.shift + self.weight.sum()
        return dist.Normal(mean.expand(self.family.event_shape), 1.0).to_event(1)


class OwnHMM(HMM):
    """A class that derives from one of the zoo."""


class Constant(SequenceModel):
    """x_t ~ N(mean, 1), without any tensor."""

    def __init__(self, mean: float = 1.5) -> None:
        super().__init__(Gaussian())
        self.mean = mean

    def emission(self, z: None, h: None) -> TorchDistribution:
        return dist.Normal(self.mean, 1.0)


class Made(SequenceModel):
    """A class whose constructor takes anything."""

    def __init__(self, value: Any = None, states: Any = None) -> None:
        super().__init__(Gaussian())
        self.states = states

    def emission(self, z: Any, h: None) -> TorchDistribution:
        return dist.Normal(0.0, 1.0)


def mixed() -> Mixed:
    inner = {"inner": torch.tensor([0.25]), "name": "β", "none": None}
    return Mixed(Gaussian(2), torch.tensor([1.0, 2.0]), (2, 2), 0.5, 1.0, rates=[0.1], table=inner, deep=True)


def path_of(model: SequenceModel) -> str:
    return f"{type(model).__module__}:{type(model).__qualname__}"


# What is saved comes back.


def test_every_kind_of_argument_comes_back(tmp_path: Path) -> None:
    model, x = mixed(), torch.randn(3, 4, 2)
    before = torch.get_rng_state()
    save_model(model, tmp_path / "model", info={"seed": 0})
    loaded = load_model(tmp_path / "model")
    assert torch.equal(torch.get_rng_state(), before)
    assert isinstance(loaded, Mixed)
    assert (loaded.widths, loaded.options, loaded.family) == ((2, 2), {"deep": True}, Gaussian(2))
    assert_same(loaded.state_dict(), model.state_dict())
    assert torch.equal(loaded.log_prob(x), model.log_prob(x))
    found = describe(tmp_path / "model")
    assert (found.name, found.model_class) == (None, path_of(model))
    assert found.arguments == {
        "family": {"family": {"name": "Gaussian", "arguments": {"size": 2}}},
        "start": {"tensor": "argument:start"},
        "widths": {"tuple": [2, 2]},
        "*shifts": [0.5, 1.0],
        "rates": [0.1],
        "table": {"dict": {"inner": {"tensor": "argument:table.inner"}, "name": "β", "none": None}},
        "**options": {"dict": {"deep": True}},
    }


@pytest.mark.parametrize("twin", [copy.copy, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_is_saved_as_its_original_is(twin: Callable[[Mixed], Mixed], tmp_path: Path) -> None:
    model = mixed()
    save_model(twin(model), tmp_path / "model")
    assert_same(load_model(tmp_path / "model").state_dict(), model.state_dict())


def test_defaults_are_kept_as_they_were_when_the_model_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(Constant(), tmp_path / "model")
    monkeypatch.setattr(Constant.__init__, "__defaults__", (9.0,))
    loaded = load_model(tmp_path / "model")
    assert (Constant().mean, loaded.mean) == (9.0, 1.5)


def test_an_argument_that_is_changed_later_is_kept_as_it_was(tmp_path: Path) -> None:
    start, rates = torch.zeros(2), [0.1]
    model = Mixed(Gaussian(2), start, rates=rates)
    before = model.shift
    rates.append(100.0)
    save_model(model, tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert isinstance(loaded, Mixed)
    assert loaded.shift == before


def test_a_model_without_a_tensor_is_saved(tmp_path: Path) -> None:
    save_model(Constant(0.1), tmp_path / "model")
    torch.set_default_dtype(torch.float32)
    loaded, x = of_sequences(load_model(tmp_path / "model")), torch.randn(2, 3)
    assert torch.equal(loaded.log_prob(x), Constant(0.1).log_prob(x))
    assert not torch.equal(loaded.log_prob(x), Constant(0.2).log_prob(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("half", [False, True])
def test_the_dtype_comes_back_and_whole_numbers_stay(dtype: torch.dtype, half: bool, tmp_path: Path) -> None:
    model = mixed().to(dtype)
    save_model(model, tmp_path / "model", half=half)
    torch.set_default_dtype(torch.float32)
    loaded = load_model(tmp_path / "model")
    assert {name: value.dtype for name, value in loaded.state_dict().items()} == {
        "start": dtype,
        "weight": dtype,
        "order": torch.int64,
    }


def test_a_class_that_derives_from_the_zoos_comes_back(tmp_path: Path) -> None:
    model = OwnHMM(torch.tensor([0.5, 0.5]), torch.eye(2), torch.tensor([[0.25, 0.75], [1.0, 0.0]]))
    save_model(model, tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert type(loaded) is OwnHMM
    assert_same(loaded.state_dict(), model.state_dict())


def test_a_class_without_arguments_comes_back(tmp_path: Path) -> None:
    model = LatentToy()
    with torch.no_grad():
        model.a.fill_(0.9)
    save_model(model, tmp_path / "model")
    assert_same(load_model(tmp_path / "model").state_dict(), model.state_dict())


# The class.


class Outer:
    """A class with one inside it."""

    class Inner(Constant):
        """The one inside."""


def test_a_class_inside_a_class_is_found_where_it_is(tmp_path: Path) -> None:
    save_model(Outer.Inner(3.0), tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert type(loaded) is Outer.Inner
    assert loaded.mean == 3.0


def test_a_class_inside_a_function_is_given(tmp_path: Path) -> None:
    class Local(Constant):
        pass

    save_model(Local(2.0), tmp_path / "model")
    with pytest.raises(
        StorageError, match=r"expected the class Local, which was defined inside a function, got none; "
    ):
        load_model(tmp_path / "model")
    loaded = load_model(tmp_path / "model", model_class=Local)
    assert type(loaded) is Local
    assert loaded.mean == 2.0


def test_a_class_of_a_notebook_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Constant, "__module__", "__main__")
    monkeypatch.setattr(sys.modules["__main__"], "Constant", Constant, raising=False)
    save_model(Constant(), tmp_path / "model")
    with pytest.raises(
        StorageError, match=r"Constant, which was defined in a notebook or script, .*model_class=Constant"
    ):
        load_model(tmp_path / "model")
    assert isinstance(load_model(tmp_path / "model", model_class=Constant), Constant)


def write_described(folder: Path, **changes: Any) -> None:
    """A saved model whose model.json has other entries, with digests as if it had been saved so."""
    path = folder / DESCRIPTION
    content = json.loads(path.read_text()) | changes
    content["sha256"]["law"] = digest_of(content, LAW)
    path.write_text(json.dumps(content))


def test_no_module_is_imported_because_a_file_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither at the path itself, nor by a name that an imported module looks up when it is asked for."""
    (tmp_path / "trap_of_a_file.py").write_text("open('sprung', 'w').close()\nclass Constant: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    save_model(Constant(), tmp_path / "model")
    lazy = ModuleType("lazy")
    lazy.__getattr__ = lambda name: __import__("trap_of_a_file").Constant  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, "lazy", lazy)
    for path in ("trap_of_a_file:Constant", "lazy:Constant", "lazy:Constant.Inner", "os.path:join.Constant"):
        write_described(tmp_path / "model", **{"class": path})
        with pytest.raises(
            StorageError, match=rf"expected the class {path} to be imported already, .* import .*, or give the"
        ):
            load_model(tmp_path / "model")
    assert not Path("sprung").exists()
    assert "trap_of_a_file" not in sys.modules
    import trap_of_a_file  # type: ignore[import-not-found]  # noqa: F401  # the trap works

    assert Path("sprung").exists()


@pytest.mark.parametrize("path", ["json:loads", "pathlib:Path", "pgm_rnn.emissions.entries:Gaussian", "sys:path"])
def test_what_is_no_model_is_not_called(path: str, tmp_path: Path) -> None:
    save_model(Constant(), tmp_path / "model")
    write_described(tmp_path / "model", **{"class": path})
    with pytest.raises(StorageError, match=rf"expected a class that derives from SequenceModel at {path}, got "):
        load_model(tmp_path / "model")


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (Made, ValueError, "expected model_class=Constant, because the saved model is one of .*:Constant, got Made"),
        (Path, TypeError, "expected model_class=Constant, a class that derives from SequenceModel, got <class"),
        (Constant(), TypeError, "expected model_class=Constant, a class that derives from SequenceModel, got Constant"),
        (
            "Constant",
            TypeError,
            "expected model_class=Constant, a class that derives from SequenceModel, got 'Constant'",
        ),
    ],
)
def test_another_class_is_an_error(given: Any, error: type[Exception], message: str, tmp_path: Path) -> None:
    save_model(Constant(), tmp_path / "model")
    with pytest.raises(error, match=message):
        load_model(tmp_path / "model", model_class=given)


def test_another_class_of_a_model_of_the_zoo_is_an_error(tmp_path: Path) -> None:
    save_model(HMM.random(2, 3), tmp_path / "model")
    assert isinstance(load_model(tmp_path / "model", model_class=HMM), HMM)
    with pytest.raises(ValueError, match=r"expected model_class=HMM for .*model\.json, got RNN"):
        load_model(tmp_path / "model", model_class=RNN)


# What cannot be saved.


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (lambda: 0, "function"),
        (HMM.random(2, 3), "HMM"),
        (FiniteStates(2), "FiniteStates"),
        ([1, {"deep": (object(),)}], "object"),
        ({1: 2}, "dict"),
        (float("inf"), "float"),
        (torch.zeros(2).numpy(), "ndarray"),
    ],
)
def test_an_argument_that_is_no_plain_data_is_named(value: object, kind: str, tmp_path: Path) -> None:
    model = copy.deepcopy(Made(value))
    message = rf"expected numbers, .* as arguments of Made, got value with a value of type {kind}; make it inside"
    with pytest.raises(TypeError, match=message):
        save_model(model, tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_a_family_of_ones_own_as_an_argument_is_named(tmp_path: Path) -> None:
    class Own(Bernoulli):
        pass

    with pytest.raises(
        TypeError, match=r"expected an emission of .*, got Own as value of Made; make it inside the con"
    ):
        save_model(Made(Own()), tmp_path / "model")


def test_what_is_set_after_the_constructor_would_be_lost(tmp_path: Path) -> None:
    model = Made()
    model.states = FiniteStates(3)
    message = r"expected states of Made to be None, as the constructor sets it, got FiniteStates\(num_states=3\)"
    with pytest.raises(ValueError, match=message):
        save_model(model, tmp_path / "model")
    more = Made()
    more.weight = nn.Parameter(torch.zeros(2))
    with pytest.raises(StorageError, match="in the Made that its arguments make, got tensors that differ in weight"):
        save_model(more, tmp_path / "model")


# What cannot be loaded.


def test_a_changed_file_is_an_error_before_anything_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_model(Constant(), tmp_path / "model")
    path = tmp_path / "model" / DESCRIPTION
    content = json.loads(path.read_text())
    content["arguments"]["mean"] = 3.0
    path.write_text(json.dumps(content))
    monkeypatch.setattr(Constant, "__init__", lambda self, mean: pytest.fail("it was called"))
    with pytest.raises(StorageError, match=r"expected the model's name, arguments and dtype in .*, got changed"):
        load_model(tmp_path / "model")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mean": 1.0, "width": 2}, "that this version can follow, got .*'width'"),
        ({"mean": {"float": "inf"}}, "expected the kind of an argument to be one of family, tuple, dict, tensor, got"),
        (
            {"mean": {"tensor": "argument:mean"}},
            "expected the tensor argument:mean, an argument of the model, .*, got none",
        ),
    ],
)
def test_arguments_that_the_class_does_not_take_are_an_error(
    arguments: dict[str, Any], message: str, tmp_path: Path
) -> None:
    save_model(Constant(), tmp_path / "model")
    write_described(tmp_path / "model", arguments=arguments)
    with pytest.raises(StorageError, match=message):
        load_model(tmp_path / "model")


def test_a_class_that_has_changed_since_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_model(mixed(), tmp_path / "model")
    before = Mixed.__init__

    @functools.wraps(before)
    def wider(self: Mixed, *args: Any, **kwargs: Any) -> None:
        before(self, *args, **kwargs)
        self.more = nn.Parameter(torch.zeros(1))

    monkeypatch.setattr(Mixed, "__init__", wider)
    with pytest.raises(StorageError, match=rf"in .*{TENSORS}, got tensors that differ in more"):
        load_model(tmp_path / "model")
