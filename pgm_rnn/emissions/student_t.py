"""Real numbers with heavy tails: Student's t law, a normal law whose precision is itself random.

    x = loc + scale e / sqrt(g),   e ~ N(0, 1),   g ~ Gamma(df / 2, rate df / 2)

The smaller df, the heavier the tails: 1 is the Cauchy law, infinity the normal law. Source: Lange, Little & Taylor
(1989).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from typing_extensions import override

from pgm_rnn.distributions.student_t import StudentT as Law
from pgm_rnn.emissions.entries import Entries, inverse_softplus
from pgm_rnn.emissions.family import EmissionTable
from pgm_rnn.emissions.info import FamilyInfo, normal_draws, size_of
from pgm_rnn.emissions.limits import STUDENT_T, positive_within
from pgm_rnn.emissions.natural import IDENTITY, SOFTPLUS, Natural
from pgm_rnn.emissions.supports import Reals
from pgm_rnn.kernels import positive


@dataclass(frozen=True)
class StudentT(Reals, Entries):
    """Real observations with outliers: independent entries that follow Student's t law.

    params are loc, and the inverse softplus of the scale and of the degrees of freedom df. The mean is loc if df > 1,
    and the variance scale^2 df / (df - 2) if df > 2; otherwise they do not exist. Scales and degrees of freedom have
    the smallest values of the scales of `Gaussian`. `em.fit` searches degrees of freedom from 0.1 to 1000.

    Example:
        >>> table = StudentT().table(loc=torch.zeros(1), scale=torch.ones(1), df=torch.tensor([1.0]))
        >>> table.log_probs(torch.tensor([0.0])).exp()  # 1 / pi, the Cauchy law
        tensor([[0.3183]], grad_fn=<ExpBackward0>)
    """

    params_per_entry: ClassVar[int] = 3

    @property
    @override
    def natural_parameters(self) -> Mapping[str, Natural]:
        return self._named(loc=IDENTITY, scale=SOFTPLUS, df=positive_within(STUDENT_T))

    @override
    def distribution(self, params: Tensor) -> TorchDistribution:
        loc, raw_scale, raw_df = self._per_entry(params)
        law = Law(positive.scale(raw_df), loc, positive.scale(raw_scale), validate_args=False)
        return law.to_event(len(self.event_shape))

    @override
    def within_range(self, params: Tensor) -> Tensor:
        loc, raw_scale, raw_df = params.chunk(3, dim=-1)
        return torch.cat([loc, positive.at_least(raw_scale), positive.at_least(raw_df)], dim=-1)

    def table(self, loc: Tensor, scale: Tensor, df: Tensor) -> EmissionTable:
        """One law for each state from locations, scales and degrees of freedom, each (num_states, *event).

        Raises:
            ValueError: other shapes, NaN, or scales or degrees of freedom that are not positive.
        """
        given = {name: self._column(name, values) for name, values in (("loc", loc), ("scale", scale), ("df", df))}
        for name, values in given.items():
            if len(values) != len(given["loc"]):
                raise ValueError(f"expected {name} of {len(given['loc'])} states, as loc has, got {len(values)}")
        raw = [inverse_softplus(name, given[name]) for name in ("scale", "df")]
        return EmissionTable(self, torch.cat([given["loc"], *raw], dim=-1))


INFO = FamilyInfo(
    "student-t",
    StudentT,
    normal_draws,
    examples={"heavy-tailed": StudentT(), "heavy-tailed-reals": StudentT(2)},
    estimated={},
    numbers="real numbers with outliers",
    of_numbers=lambda x: StudentT(size_of(x)),
)
