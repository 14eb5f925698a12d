"""Draws and log densities of normal laws at the particles of a filter: one compiled call for each.

    z = m + s e,   log p(x) = sum_i -((x_i - m_i) / s_i)^2 / 2 - log s_i - log(2 pi) / 2
    z = m + L e,   log p(x) = c - |L^-1 (x - m)|^2 / 2

The compiled functions check the parameters as they read them: means that are not NaN, positive scales.
"""

import torch
from torch import Tensor

from pgm_rnn.kernels.doors import FLOATS
from pgm_rnn.kernels.threads import Repeated


class ParticleNormals:
    """Normal laws at N particles for each of B sequences, called again and again.

    Args:
        num_particles: N.
        batch: B.
        dtype: of the laws' parameters.

    Raises:
        TypeError: another dtype than single or double precision.
    """

    def __init__(self, num_particles: int, batch: int, dtype: torch.dtype) -> None:
        from pgm_rnn.kernels import particle_normals_compiled as compiled

        if dtype not in FLOATS:
            raise TypeError(f"expected float32 or float64 as dtype, got {dtype}")
        self.shape, self.dtype = torch.Size([num_particles, batch]), dtype
        self._found = torch.zeros(self.shape, dtype=dtype)
        self._flat_found = self._found.view(-1).numpy()
        fine = torch.zeros(1, dtype=torch.bool)
        self._fine = fine.numpy()
        self._draw, self._log_density = Repeated(compiled.draw), Repeated(compiled.log_density)
        self._draw_correlated = Repeated(compiled.draw_correlated)
        self._log_density_correlated = Repeated(compiled.log_density_correlated)

    def draw(self, loc: Tensor, scale: Tensor, event: torch.Size) -> Tensor | None:
        """Draws z, (N, B, *event), by torch's global generator; None where a mean is NaN or a scale not positive.

        Args:
            loc: means, of a shape that broadcasts to that of z.
            scale: standard deviations, likewise.
            event: shape of one draw.
        """
        shape = self.shape + event
        flat = _flat(loc, shape), _flat_scale(scale, shape).numpy()
        z = torch.randn(shape, dtype=self.dtype)
        self._draw(flat[0].numpy(), flat[1], z.view(-1).numpy(), self._fine)
        return z if self._fine[0] else None

    def log_density(self, loc: Tensor, scale: Tensor, x: Tensor, event: torch.Size) -> Tensor | None:
        """Log densities of x (B, *event) at all particles, (N, B), nats, which the next call overwrites.

        None where a mean is NaN or a scale not positive.
        """
        shape = self.shape + event
        flat_scale = _flat_scale(scale, shape)
        arrays = (value.numpy() for value in (_flat(loc, shape), flat_scale, flat_scale.log(), x.reshape(-1)))
        self._log_density(*arrays, self._flat_found, self._fine)
        return self._found if self._fine[0] else None

    def draw_correlated(self, loc: Tensor, factor: Tensor) -> Tensor:
        """Draws loc + L e, (N, B, D), for means that broadcast to it and a lower triangular L (D, D)."""
        shape = self.shape + factor.shape[-1:]
        flat = _flat(loc, shape)
        z = torch.randn(shape, dtype=self.dtype)
        self._draw_correlated(flat.numpy(), factor.detach().contiguous().numpy(), z.view(-1).numpy(), self._fine)
        return z

    def log_density_correlated(self, loc: Tensor, factor: Tensor, log_peak: Tensor, x: Tensor) -> Tensor:
        """Log densities of x (B, D) at all particles, (N, B), nats, for `log_peak` c; the next call overwrites them."""
        flat = _flat(loc, self.shape + factor.shape[-1:])
        given = flat.numpy(), factor.detach().contiguous().numpy(), float(log_peak), x.reshape(-1).numpy()
        self._log_density_correlated(*given, self._flat_found, self._fine)
        return self._found


def _flat(value: Tensor, shape: torch.Size) -> Tensor:
    """The entries of a tensor that broadcasts to a shape, one after the other."""
    value = value.detach()
    return (value if value.shape == shape else value.expand(shape)).reshape(-1)


def _flat_scale(value: Tensor, shape: torch.Size) -> Tensor:
    """`_flat`, or one entry where all are the same number in memory."""
    value = value.detach()
    if value.numel() == 1:
        return value.reshape(1)
    if not any(value.stride()):
        return value[(0,) * value.dim()].reshape(1)
    return _flat(value, shape)
