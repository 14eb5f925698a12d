import gc
from collections.abc import Iterator
from pathlib import Path

import pyro
import pytest
import torch
from hypothesis import settings

from pgm_rnn.data import Dataset, synthetic
from pgm_rnn.kernels import compilation
from pgm_rnn.registries import OWN
from tests import long
from tests.cases import cases_of
from tests.daily import left_to_the_night
from tests.quick import quick

settings.register_profile("suite", deadline=None, derandomize=True, database=None, max_examples=50)
settings.load_profile("suite")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="a few cases of each test function, and no test marked slow")
    parser.addoption("--measure", metavar="FILE", help="append each case's seconds of processor time to a file")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Do not look for garbage while the cases are made, nor among them later: ten thousand of them are no garbage."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the cases of the night; with --quick, leave those out that `tests.quick` does.

    By night are run those that take long (`tests.long`), and those that `tests.daily` leaves out of large products.
    """
    if not any("::" in argument for argument in config.args) and (names := long.gone(items)):
        raise pytest.UsageError(f"expected cases that exist in {long.LIST.name}, got {', '.join(names)}")
    for item in [*long.long_among(items), *left_to_the_night(items)]:
        item.add_marker("nightly")
    if config.getoption("quick"):
        kept = quick(items)
        chosen = set(map(id, kept))
        config.hook.pytest_deselected(items=[item for item in items if id(item) not in chosen])
        items[:] = kept


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """With --measure, write how long a case has taken, its fixtures included."""
    before = long.seconds()
    try:
        return (yield)
    finally:
        if place := item.config.getoption("measure"):
            with Path(place).open("a", encoding="utf-8") as file:
                file.write(f"{long.seconds() - before:.2f} {item.nodeid}\n")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The cases of each mark `every(KIND)`."""
    registries = getattr(metafunc.module, "REGISTRIES", OWN)
    for mark in metafunc.definition.iter_markers("every"):
        metafunc.parametrize(*cases_of(mark.args[0], registries))


@pytest.fixture(scope="session", autouse=True)
def _torch_settings() -> None:
    """One thread, for small tensors are slower on many; every warning each time, and no notice of compiling."""
    torch.set_num_threads(1)
    torch.set_warn_always(True)
    compilation._State.said = True  # which test is the first to compile a kernel is chance


@pytest.fixture(autouse=True)
def _known_state() -> Iterator[None]:
    """float64, distributions validated, a fixed seed and an empty parameter store."""
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    pyro.set_rng_seed(0)
    pyro.clear_param_store()
    with pyro.validation_enabled(True):
        yield
    torch.set_default_dtype(dtype)


@pytest.fixture
def few_synthetic_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
    """`synthetic-hmm` with 500 training sequences, not 20 000, for tests of what surrounds a fit."""
    draw = synthetic.dirichlet_hmm

    def fewer(*, num_train: int, **sizes: int) -> Dataset:
        return draw(num_train=min(num_train, 500), **sizes)

    monkeypatch.setattr(synthetic, "dirichlet_hmm", fewer)
