from collections.abc import Iterator

import pytest
from matplotlib import pyplot


@pytest.fixture(autouse=True)
def no_figure_is_left() -> Iterator[None]:
    pyplot.switch_backend("Agg")
    yield
    pyplot.close("all")
