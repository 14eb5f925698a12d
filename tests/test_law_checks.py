"""A method that does not return what engines rely on is one error, which names the method and the step."""

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from pyro.nn import PyroModule, PyroSample
from torch import Tensor, nn

import pgm_rnn as pr
from pgm_rnn import Sequences, WithPriors
from pgm_rnn.emissions import Bernoulli, Categorical, Emission, Gaussian, Pen, Poisson
from pgm_rnn.inference import em, forward_backward, pmmh, smc, svi
from pgm_rnn.registries import OWN
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.law_checks import check_laws
from pgm_rnn.states import FiniteStates, GaussianStates
from tests.instances import draw, make_model
from tests.latent_toy import LatentToy
from tests.own_models import Drift, Fixed, Regression, StochasticVolatility, SwitchingAR

Method = Callable[..., Any]


class Unnormalised(dist.Categorical):
    """A law of states whose probabilities sum to a half."""

    def log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(value) - torch.tensor(2.0).log()


def changed(base: Any, **methods: Method) -> SequenceModel:
    """A model of a class whose methods are others."""
    made: SequenceModel = type(f"Bad{base.__name__}", (base,), methods)()
    return made


FAULTS: list[tuple[Any, str, Method, type[Exception], str]] = [
    # A law's shape.
    (
        SwitchingAR,
        "emission",
        lambda self, z, h: dist.Normal(self.a[z] * h, 1.0),
        ValueError,
        r"expected a law of event shape \(1,\) from emission of .* at step 1, as the family Gaussian\(size=1\)"
        r" has, got a Normal of event shape \(\) and batch shape \(3, 2, 1\); use \.to_event\(1\)",
    ),
    (
        SwitchingAR,
        "emission",
        lambda self, z, h: dist.Normal(self.a[z] * h, 1.0).to_event(2),
        ValueError,
        r"expected a law of event shape \(1,\) from emission .* at step 1, .*, got a Normal of event shape \(2, 1\)",
    ),
    (
        SwitchingAR,
        "transition",
        lambda self, z, h: dist.Categorical(logits=self.moves),
        ValueError,
        r"expected a law from transition of BadSwitchingAR at step 2 whose batch shape broadcasts to .*\(3, 2\), got a "
        r"Categorical of batch shape \(3,\); index by z, such as self\.table\[z\]",
    ),
    (
        StochasticVolatility,
        "transition",
        lambda self, z, h: dist.Normal(z.mean(0), 1.0).expand([7]),
        ValueError,
        "expected .*transition of BadStochasticVolatility at step 2.*",
    ),
    (
        StochasticVolatility,
        "transition",
        lambda self, z, h: dist.Normal(z, 1.0).to_event(1),
        ValueError,
        r"expected a law of event shape \(\) from transition .* at step 2, as z_1 has, got a Normal of event shape \(2",
    ),
    (
        SwitchingAR,
        "emission",
        lambda self, z, h: dist.Normal(torch.cat([self.a[z], h], -1).sum(-1, keepdim=True), 1.0).to_event(1),
        ValueError,
        r"expected emission .* at step 1 to broadcast over \(3, 1\) and \(1, 2, 1\), got RuntimeError: Sizes of",
    ),
    # Something else than a law.
    (
        SwitchingAR,
        "emission",
        lambda self, z, h: None,
        TypeError,
        r"expected a law from emission of BadSwitchingAR at step 1, such as pyro\.distributions\.Normal\(\.\.\.\), got",
    ),
    (
        StochasticVolatility,
        "initial",
        lambda self, h: torch.zeros(()),
        TypeError,
        "from initial .* at step 1, .*, got Ten",
    ),
    # A law of other values.
    (
        SwitchingAR,
        "transition",
        lambda self, z, h: dist.Normal(0.0, 1.0),
        ValueError,
        r"expected a law of the states 0\.\.2 from transition .* at step 2, got a Normal, a law of real numbers",
    ),
    (
        SwitchingAR,
        "initial",
        lambda self, h: dist.Categorical(logits=torch.zeros(2)),
        ValueError,
        r"expected a law of the states 0\.\.2 from initial .* at step 1, got a Categorical of 0\.\.1; give it 3 logits",
    ),
    (
        SwitchingAR,
        "transition",
        lambda self, z, h: dist.Categorical(logits=torch.zeros(4)),
        ValueError,
        r"expected a law of the states 0\.\.2 from transition .* at step 2, got a Categorical of 0\.\.3; give it 3",
    ),
    (
        SwitchingAR,
        "initial",
        lambda self, h: dist.Bernoulli(0.5),
        ValueError,
        r"expected a law from initial .* at step 1 with a density at valid values .*, got a Bernoulli: ValueError",
    ),
    (
        SwitchingAR,
        "emission",
        lambda self, z, h: dist.Poisson((self.a[z] * h).exp()).to_event(1),
        ValueError,
        "expected a law of finite real numbers from emission .* at step 1, got a Poisson, a law of whole numbers",
    ),
    (
        SwitchingAR,
        "emission",
        lambda self, z, h: dist.LogNormal(self.a[z] * h, 1.0).to_event(1),
        ValueError,
        "expected a law from emission .* with a density at valid values .*, got a LogNormal: ValueError: Expected",
    ),
    (
        SwitchingAR,
        "emission",
        lambda self, z, h: dist.Normal(self.a[z] * h + torch.nan, 1.0, validate_args=False).to_event(1),
        ValueError,
        "expected a law from emission .* with a density at every valid value, got a Normal whose log density is NaN",
    ),
    # Probabilities that do not sum to one.
    (
        SwitchingAR,
        "transition",
        lambda self, z, h: Unnormalised(logits=self.moves[z]),
        ValueError,
        r"expected probabilities of the states 0\.\.2 that sum to one from transition .* at step 2, got a Unnormalised "
        r"whose sum is 0\.5; normalise it",
    ),
    (
        SwitchingAR,
        "initial",
        lambda self, h: Unnormalised(logits=self.start),
        ValueError,
        r"that sum to one from initial of BadSwitchingAR at step 1, got a Unnormalised whose sum is 0\.5",
    ),
    # A memory.
    (
        SwitchingAR,
        "recurrence",
        lambda self, h, z, x: x[..., 0],
        ValueError,
        r"expected a memory of shape \(2, 1\) from recurrence .* at step 2, as h_1 has, got \(2,\); a scalar x",
    ),
    (
        SwitchingAR,
        "recurrence",
        lambda self, h, z, x: torch.cat([x, h], -1),
        ValueError,
        r"expected a memory of shape \(2, 1\) from recurrence of BadSwitchingAR at step 2, as h_1 has, got \(2, 2\)$",
    ),
    (
        SwitchingAR,
        "recurrence",
        lambda self, h, z, x: x / 0,
        ValueError,
        "expected a memory of finite numbers from recurrence of BadSwitchingAR at step 2, got -?inf; keep it bounded",
    ),
    (
        SwitchingAR,
        "recurrence",
        lambda self, h, z, x: x + z[..., None],
        TypeError,
        r"expected recurrence .* at step 2 to read only h and x, because memory_reads_state is False and z is None, .*"
        r"TypeError: .*; to read z, set memory_reads_state = True and use smc or svi",
    ),
    (
        SwitchingAR,
        "recurrence",
        lambda self, h, z, x: None,
        TypeError,
        "expected a tensor as the memory from recurrence .*, got NoneType",
    ),
    (
        SwitchingAR,
        "recurrence",
        lambda self, h, z, x: h + self.a[z],
        ValueError,
        r"expected recurrence .* at step 2 to broadcast over its arguments, got .*; its z is None, because memory_",
    ),
    (
        LatentToy,
        "recurrence",
        lambda self, h, z, x: h @ x,
        ValueError,
        "expected recurrence of BadLatentToy at step 2 to broadcast over its arguments, got RuntimeError: ",
    ),
    (
        LatentToy,
        "recurrence",
        lambda self, h, z, x: z + x,
        ValueError,
        r"expected a memory of shape \(3, 2, 1\) from recurrence .* at step 2, as h_1 has, got \(3, 2\); a scalar x",
    ),
]


@pytest.mark.parametrize(("base", "method", "fault", "error", "message"), FAULTS)
def test_a_fault_of_a_method_names_the_method_and_the_step(
    base: Any, method: str, fault: Method, error: type[Exception], message: str
) -> None:
    x = draw(base().family, 3, 4)
    runs: list[Callable[[SequenceModel], object]] = [
        lambda model: model.log_prob(x, *([] if model.exact else [torch.zeros(3, 4)])),
        lambda model: model.sample(2, 3),
        lambda model: smc.filter(model, x, num_particles=3),
        lambda model: svi.fit(model, x, num_epochs=1, progress=False),
        lambda model: svi.evaluate(model, x),
        lambda model: model.model(x),
    ]
    for run in runs:
        if not (run is runs[1] and base is SwitchingAR and "LogNormal" in message):  # what it draws itself is valid
            with pytest.raises(error, match=message) as caught:
                run(changed(base, **{method: fault}))
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("family", "law", "message"),
    [
        (
            Categorical(3),
            lambda: dist.Normal(0.0, 1.0),
            r"a law of symbols in 0\.\.2 from emission .*, got a Normal, a law of",
        ),
        (
            Categorical(3),
            lambda: dist.Categorical(torch.ones(4)),
            r"got a Categorical of 0\.\.3; give it 3 logits or probs",
        ),
        (
            Categorical(3),
            lambda: dist.Categorical(torch.ones(2)),
            r"got a Categorical of 0\.\.1; give it 3 logits or probs",
        ),
        (
            Bernoulli(),
            lambda: dist.Normal(0.0, 1.0),
            "a law of bits 0 or 1 from emission .*, got a Normal, a law of real",
        ),
        (
            Bernoulli(2),
            lambda: dist.Bernoulli(0.5),
            r"event shape \(2,\) from emission of Plain at step 1, as the family",
        ),
        (
            Poisson(),
            lambda: dist.Gamma(1.0, 1.0),
            "a law of .*counts.* from emission of .*, got a Gamma, a law of real num",
        ),
        (
            Gaussian(),
            lambda: dist.Poisson(1.0),
            "a law of finite real numbers from .*, got a Poisson, a law of whole num",
        ),
        (
            Gaussian(2),
            lambda: dist.Normal(0.0, 1.0).expand([2]),
            r"as the family Gaussian\(size=2\) has, .*; use \.to_event\(1",
        ),
    ],
)
def test_a_law_of_observations_is_one_of_the_familys_kind(
    family: Emission, law: Callable[[], TorchDistribution], message: str
) -> None:
    class Plain(SequenceModel):
        def emission(self, z: None, h: None) -> TorchDistribution:
            return law()

    with pytest.raises(ValueError, match=message):
        Plain(family).log_prob(draw(family, 2, 3))


@pytest.mark.parametrize("label", [label for info in OWN.families.values() for label in info.examples])
def test_the_families_own_laws_pass(label: str) -> None:
    family = {label: each for info in OWN.families.values() for label, each in info.examples.items()}[label]
    head = family.head(1)

    class Plain(SequenceModel):
        def __init__(self) -> None:
            super().__init__(family)
            self.head = head

        def emission(self, z: None, h: None) -> TorchDistribution:
            law: TorchDistribution = self.head(torch.ones(1))
            return law

    check_laws(Plain(), draw(family, 2, 3))
    if isinstance(family, Pen):
        assert Plain().family.event_shape == (3,)


@pytest.mark.parametrize("shape", [(), (1, 1)])
def test_an_initial_memory_has_one_axis(shape: tuple[int, ...]) -> None:
    model = SwitchingAR()
    model.initial_memory = torch.zeros(shape)
    with pytest.raises(
        ValueError, match=r"expected initial_memory of SwitchingAR of shape \(memory_dim,\) and floating"
    ):
        model.log_prob(torch.zeros(2, 3, 1))


def test_vectors_of_normal_states_have_their_dimension() -> None:
    class Flat(SequenceModel):
        states = GaussianStates(2)

        def initial(self, h: None) -> TorchDistribution:
            return dist.Normal(torch.zeros(2), 1.0)

        def transition(self, z: Tensor, h: None) -> TorchDistribution:
            return dist.Normal(z, 1.0).to_event(1)

        def emission(self, z: Tensor, h: None) -> TorchDistribution:
            return dist.Normal(z.sum(-1), 1.0)

    message = (
        r"expected a law of event shape \(2,\) from initial of Flat at step 1, as GaussianStates\(dim=2, linear=False\)"
        r" has, got a Normal of event shape \(\) and batch shape \(2,\); use \.to_event\(1\)"
    )
    with pytest.raises(ValueError, match=message):
        smc.filter(Flat(Gaussian()), torch.zeros(1, 2))


@pytest.mark.parametrize(
    ("proposal", "message"),
    [
        (
            lambda self, z, h, features: dist.Normal(torch.zeros(2), 1.0).to_event(1),
            r"expected a law of event shape \(\) from proposal of BadStochasticVolatility at step 1, as z_1 has, got a",
        ),
        (
            lambda self, z, h, features: dist.Normal(0.0, 1.0) if z is None else dist.Normal(features, 1.0).to_event(1),
            r"expected a law of event shape \(\) from proposal of BadStochasticVolatility at step 2, as z_1 has, got a",
        ),
        (
            lambda self, z, h, features: dist.Normal(features, 1.0),
            r"from proposal .* at step 1 whose batch shape broadcasts to that of its arguments, \(2,\), got a",
        ),
        (lambda self, z, h, features: features, "expected a law from proposal of .* at step 1, such as .*, got Tensor"),
    ],
)
def test_a_guide_has_laws_of_the_states(proposal: Method, message: str) -> None:
    def encode(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
        return torch.stack([x, x, x], dim=-1)

    x = torch.randn(3, 4)
    for run in (
        lambda model: smc.filter(model, x, num_particles=3),
        lambda model: svi.fit(model, x, num_epochs=1, progress=False),
        lambda model: model.guide(x),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            run(changed(StochasticVolatility, proposal=proposal, encode=encode))

    def fits(self: Any, z: Any, h: None, features: Tensor) -> TorchDistribution:
        return dist.Normal(features.mean(-1), 1.0)

    check_laws(changed(StochasticVolatility, proposal=fits, encode=encode), x)


def test_a_method_that_is_missing_is_named() -> None:
    class Headless(SequenceModel):
        states = FiniteStates(2)

        def transition(self, z: Tensor, h: None) -> TorchDistribution:
            return dist.Categorical(logits=torch.zeros(2))

        def emission(self, z: Tensor, h: None) -> TorchDistribution:
            return dist.Normal(z.double(), 1.0)

    with pytest.raises(TypeError, match="expected initial of Headless, which has finite states, got none; define it"):
        Headless(Gaussian()).log_prob(torch.zeros(1, 2))


def test_inputs_ahead_that_are_missing_are_asked_for_by_their_own_name() -> None:
    model, data = Regression(), Sequences(torch.zeros(2, 3), torch.tensor([3, 3]), inputs=torch.zeros(2, 3, 1))
    runs: list[Callable[[], object]] = [
        lambda: model.forecast(data, 4, seed=0),
        lambda: smc.forecast(model, data, 4, num_particles=5, seed=0),
        lambda: pr.forecast(model, data, 4),
    ]
    for run in runs:
        with pytest.raises(ValueError, match=r"expected future_inputs of shape \(2, 4, 1\), .*; give future_inputs="):
            run()


@pytest.mark.parametrize(
    ("u", "message"),
    [
        (None, r"expected inputs of shape \(2, 3, 1\), one row u_t for each step, got None; give inputs=\.\.\."),
        (torch.zeros(2, 2, 1), r"expected inputs of shape \(2, 3, 1\), one row u_t for each step, got \(2, 2, 1\)"),
        (torch.zeros(2, 3, 2), r"expected inputs of shape \(2, 3, 1\), one row u_t for each step, got \(2, 3, 2\)"),
    ],
)
def test_inputs_that_are_missing_or_of_another_length_are_an_error(u: Tensor | None, message: str) -> None:
    model, x = Regression(), torch.zeros(2, 3)
    runs: list[Callable[[], object]] = [
        lambda: model.log_prob(x, inputs=u),
        lambda: forward_backward.filter(model, x, inputs=u),
        lambda: smc.filter(model, x, inputs=u),
        lambda: model.sample(2, 3, inputs=u),
        lambda: model.model(x, inputs=u),
    ]
    for run in runs:
        with pytest.raises(ValueError, match=message):
            run()


# Tables by hand.


class ByHand:
    """Tables of two states, with no class of the package behind them."""

    def __init__(self, initial: Tensor, transition: Tensor) -> None:
        self.initial_probs, self.transition_probs = initial, transition

    def emission_log_probs(self, x: Tensor) -> Tensor:
        return torch.zeros(*x.shape, 2)

    def check(self, x: Tensor, lengths: Tensor | None, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        return x, torch.full((len(x),), x.shape[1])


def test_tables_by_hand_are_probabilities() -> None:
    half, x = torch.tensor([0.5, 0.5]), torch.zeros(2, 3)
    forward_backward.filter(ByHand(half, torch.eye(2)), x)  # type: ignore[arg-type]
    for initial, transition, message in (
        (
            half,
            2 * torch.eye(2),
            "expected each row of transition_probs of ByHand to sum to one, got a sum of 2 in row 0",
        ),
        (
            half,
            torch.eye(2).expand(2, 2, 2, 2) / 2,
            "each row of transition_probs of ByHand to sum to one, got a sum of 0.5 in row 0",
        ),
        (
            half / 2,
            torch.eye(2),
            "expected each row of initial_probs of ByHand to sum to one, got a sum of 0.5 in row 0",
        ),
        (
            torch.tensor([1.5, -0.5]),
            torch.eye(2),
            "expected initial_probs of ByHand to be non-negative numbers, got -0.5",
        ),
        (half, torch.eye(3), r"expected transition_probs of ByHand of shape \(any, 2\), got \(3, 3\)"),
    ):
        with pytest.raises(ValueError, match=message):
            forward_backward.filter(ByHand(initial, transition), x)  # type: ignore[arg-type]


def test_a_model_that_gives_tables_by_hand_is_checked_too() -> None:
    class Given(Fixed):
        initial_probs = torch.tensor([0.5, 0.5])
        transition_probs = torch.tensor([[0.5, 0.4], [0.5, 0.5]])

        def emission_log_probs(self, x: Tensor) -> Tensor:
            return torch.zeros(*x.shape[:2], 2)

    with pytest.raises(
        ValueError, match=r"expected each row of transition_probs of Given to sum to one, got a sum of 0\.9 in row 0"
    ):
        Given().log_prob(torch.zeros(2, 3, 1))


# The check itself.


@pytest.mark.parametrize("make", [SwitchingAR, StochasticVolatility, Fixed, Drift, LatentToy])
@pytest.mark.parametrize("validated", [True, False])
def test_a_check_changes_nothing_and_is_made_once(make: Any, validated: bool) -> None:
    model = make()
    x, before, calls = draw(model.family, 2, 3), torch.get_rng_state(), []
    emission = model.emission

    def counted(z: Any, h: Any) -> Any:
        calls.append(torch.is_grad_enabled())
        return emission(z, h)

    model.emission = counted
    with pyro.validation_enabled(validated):
        check_laws(model, x)
        check_laws(model, x)
    assert calls == [False, False]
    assert torch.equal(torch.get_rng_state(), before)


def test_a_model_whose_states_have_changed_is_checked_again() -> None:
    model, x = SwitchingAR(2), torch.zeros(1, 2, 1)
    check_laws(model, x)
    model.states = FiniteStates(3)
    with pytest.raises(
        ValueError, match=r"expected a law of the states 0\.\.2 from initial .*, got a Categorical of 0\.\.1"
    ):
        check_laws(model, x)


@pytest.mark.parametrize("error", [TypeError, ValueError, RuntimeError, ZeroDivisionError, NotImplementedError])
def test_an_error_that_is_not_one_of_shapes_comes_up_as_it_is(error: type[Exception]) -> None:
    def broken(self: Any, z: Any, h: Any) -> Any:
        raise error("a mistake in the program")

    for run in (lambda model, x: model.log_prob(x), lambda model, x: model.sample(2, 3)):
        with pytest.raises(error, match=r"^a mistake in the program$"):
            run(changed(SwitchingAR, emission=broken), torch.zeros(2, 3, 1))


def test_a_parameter_that_a_law_does_not_take_is_the_laws_own_error() -> None:
    class Spread(Drift):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(-1.0))

        def emission(self, z: Tensor, h: None) -> TorchDistribution:
            return dist.Normal(z, self.scale)

    model, x = Spread(), torch.zeros(1, 2)
    with pytest.raises(ValueError, match=r"^Expected parameter scale .* to satisfy the constraint"):
        smc.filter(model, x, num_particles=3)
    program = WithPriors(model, {"scale": dist.Gamma(1.0, 1.0)})  # whose draws are other values
    found = pmmh.run(program, x, num_samples=3, num_warmup=1, num_particles=5, progress=False)
    assert bool((found.posterior.samples["scale"] > 0).all())


def test_priors_are_checked_by_shapes_and_their_draws_are_not() -> None:
    class Spread(StochasticVolatility):
        def emission(self, z: Tensor, h: None) -> TorchDistribution:
            return dist.Normal(self.m.log() + z, 1.0, validate_args=False)  # NaN at m = -1, and at every draw below 0

    WithPriors(Regression(), {"w": dist.Normal(torch.zeros(2), 1.0)})  # with inputs that are not known yet
    model = Spread()
    program = WithPriors(model, {"m": dist.Normal(1.0, 1.0)})
    assert program.model_at({"m": torch.tensor(-1.0)}).checked_as == model.checked_as is not None
    with pytest.raises(
        ValueError, match=r"expected a law of event shape \(1,\) from emission of BadSwitchingAR at step 1"
    ):
        WithPriors(
            changed(SwitchingAR, emission=lambda self, z, h: dist.Normal(self.a[z] * h, 1.0)),
            {"start": dist.Normal(torch.zeros(3), 1.0)},
        )


def test_a_model_that_conditions_on_the_first_observation_is_checked_once_it_is_known() -> None:
    class Given(SwitchingAR):
        def __init__(self) -> None:
            super().__init__()
            self.first = "condition"

        def initial_given(self, h: Tensor, x: Tensor) -> TorchDistribution:
            return dist.Categorical(logits=torch.zeros(2))

    program = WithPriors(Given(), {"start": dist.Normal(torch.zeros(3), 1.0)})
    with pytest.raises(
        ValueError, match=r"a law of the states 0\.\.2 from initial_given of Given at step 1, got a Categ"
    ):
        program.model.log_prob(torch.zeros(2, 3, 1))


def test_a_deterministic_start_and_a_diffuse_one_pass() -> None:
    class Line(SequenceModel):
        """z_1 known or of infinite variance, z_t = z_{t-1}, x_t ~ N(z_t, 1)."""

        states = GaussianStates(1)

        def __init__(self, spread: float) -> None:
            super().__init__(Gaussian(1))
            self.spread = spread

        def initial(self, h: None) -> TorchDistribution:
            if self.spread == 0:
                return dist.Delta(torch.zeros(1), event_dim=1)
            return dist.Normal(torch.zeros(1), self.spread, validate_args=False).to_event(1)

        def transition(self, z: Tensor, h: None) -> TorchDistribution:
            return dist.Delta(z, event_dim=1)

        def emission(self, z: Tensor, h: None) -> TorchDistribution:
            return dist.Normal(z, 1.0, validate_args=False).to_event(1)

    for spread in (0.0, float("inf")):
        model = Line(spread)
        check_laws(model, torch.zeros(1, 2, 1))
        assert model.checked_as is not None


def test_a_check_leaves_no_site_in_a_program() -> None:
    class Sampled(Drift):
        def emission(self, z: Tensor, h: None) -> TorchDistribution:
            noise: Tensor = pyro.sample("noise", dist.Gamma(1.0, 1.0))
            return dist.Normal(z, noise)

    trace: Any = pyro.poutine.trace(lambda: check_laws(Sampled(), torch.zeros(1, 2))).get_trace()
    assert list(trace.nodes) == ["_INPUT", "_RETURN"]


def test_a_pyro_module_and_the_zoos_classes_are_not_called() -> None:
    class Meta(type(Drift), type(PyroModule)):  # type: ignore[misc]
        """That of both."""

    class Random(PyroModule, Drift, metaclass=Meta):
        def emission(self, z: Tensor, h: None) -> TorchDistribution:
            return dist.Normal(z, self.scale)

    model = Random()
    model.scale = PyroSample(dist.Gamma(1.0, 1.0))
    check_laws(model, torch.zeros(1, 2))
    zoo = make_model("hmm", Gaussian())
    zoo.emission = lambda z, h: pytest.fail("it was called")  # type: ignore[method-assign]
    check_laws(zoo, torch.zeros(1, 2))


class Forgetful(SequenceModel):
    """Its memory is the last observation, but it has no h_1."""

    def __init__(self) -> None:
        super().__init__(Gaussian(1))
        self.slope = nn.Parameter(torch.tensor(0.5))

    def recurrence(self, h: Any, z: Any, x: Tensor) -> Tensor:
        return x

    def emission(self, z: Any, h: Any) -> TorchDistribution:
        return dist.Normal(self.slope * h, 1.0).to_event(1)


def test_a_memory_that_is_read_and_has_no_start_is_named() -> None:
    with pytest.raises(ValueError, match=r"emission of Forgetful at step 1 .* h is None, because .* initial_memory"):
        Forgetful().log_prob(torch.zeros(2, 3, 1))
    model = Forgetful()
    model.initial_memory = nn.Parameter(torch.zeros(1))
    assert model.log_prob(torch.zeros(2, 3, 1)).shape == (2,)


@pytest.mark.parametrize("engine", [svi.fit, svi.evaluate, em.fit])
def test_a_program_with_priors_is_sent_to_the_engines_that_take_it(engine: Any) -> None:
    program = WithPriors(SwitchingAR(), {"a": dist.Normal(torch.zeros(3, 1), 1.0).to_event(2)})
    with pytest.raises(TypeError, match=r"WithPriors.*; use mcmc\.run, or Pyro's SVI .*AutoNormal\(program\)"):
        engine(program, torch.zeros(2, 3, 1))
