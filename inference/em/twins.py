"""Starts of EM that run side by side, each on a copy of the model, which is left alone until one is adopted."""

import torch
from torch import Tensor, nn


class Twins:
    """What the E and M steps on copies of a model share.

    Attributes:
        _model: the model.
        _twins: its copies, one for each start.
        _before: the parameters of each copy before the last M-step.
        _resting: which starts have stopped, (R,).
        _trained: names of the parameters that are fitted.
    """

    _model: nn.Module
    _twins: list[nn.Module]
    _before: list[dict[str, Tensor]]
    _resting: Tensor
    _trained: list[str]

    def put_back(self, fallen: Tensor) -> None:
        """Restore the parameters before the last `maximise` in starts where `fallen` (R,) is true, and stop these."""
        for start in fallen.nonzero()[:, 0].tolist():
            restore(self._twins[start], self._before[start])
        self._resting = self._resting | fallen.cpu()

    def adopt(self, start: int) -> None:
        """Write one start's present parameters into the model, except the frozen ones.

        Raises:
            ValueError: a parameter is NaN.
        """
        values = values_of(self._twins[start])
        if any(bool(values[name].isnan().any()) for name in self._trained):
            raise ValueError("expected parameters that are numbers at the end of the fit, got NaN; use float64")
        restore(self._model, {name: values[name] for name in self._trained})


def values_of(model: nn.Module) -> dict[str, Tensor]:
    """Copies of a model's parameters by their names."""
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


@torch.no_grad()
def restore(model: nn.Module, values: dict[str, Tensor]) -> None:
    """Write these parameters into a model; others stay as they are."""
    for name, parameter in model.named_parameters():
        if name in values:
            parameter.copy_(values[name])
