"""Each script of tutorials/models is the zoo's model: the same density, site by site, and the same bound."""

from functools import partial

import pytest
import torch
from pyro import poutine
from pyro.infer import TraceEnum_ELBO
from torch import Tensor

from pgm_rnn.emissions import Categorical
from pgm_rnn.inference import forward_backward
from pgm_rnn.models import HMM, BidirectionalRNN, MultiParticleRNN, Tagger
from pgm_rnn.registries import OWN
from tests.instances import LENGTHS, draw, ragged, randomised
from tests.tutorials.pairs import FOLDER, PAIRS, Pair, load, loaded, renamed

assert_close = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-9)
OF_PARTICLES = [name for name in PAIRS if name.startswith("multi_particle_rnn")]
"""Their latent variable is a site of the script; the zoo sums it out by itself."""
DRAWN = ("linear_gaussian", "noisy_rnn", "deep_markov", "vrnn")
"""Those whose latent states the guide draws."""


def test_every_model_has_a_script_that_is_named_like_its_module() -> None:
    makers = [info.make for registry in (OWN.models, OWN.label_models) for info in registry.values()]
    modules = {getattr(maker, "func", maker).__module__.rsplit(".", 1)[-1] for maker in makers}
    assert modules <= {path.stem for path in FOLDER.glob("*.py")}


every_pair_of_equal_sites = pytest.mark.parametrize("name", [name for name in PAIRS if name not in OF_PARTICLES])
every_exact_pair = pytest.mark.parametrize("name", [name for name in PAIRS if name not in DRAWN])


def traces(pair: Pair, x: Tensor) -> tuple[poutine.Trace, poutine.Trace]:
    """Of the script's guide, and of its model at the guide's draws."""
    guide = poutine.trace(pair.script.guide).get_trace(x, LENGTHS, *pair.arguments)
    model = poutine.replay(pair.script.model, trace=guide)
    return guide, poutine.trace(model).get_trace(x, LENGTHS, *pair.arguments)


def zoos_traces(pair: Pair, x: Tensor, z: dict[str, Tensor]) -> tuple[poutine.Trace, poutine.Trace]:
    """Of the zoo's guide and model at latent states z, with hidden states of their own."""
    options = {"rendering": "unrolled", **pair.options}
    guide = poutine.trace(poutine.condition(pair.zoo.guide, data=z)).get_trace(x, LENGTHS, **options)
    model = poutine.condition(pair.zoo.model, data=z | values(guide, "h"))
    return guide, poutine.trace(model).get_trace(x, LENGTHS, **options)


def log_probs(trace: poutine.Trace) -> dict[str, Tensor]:
    """log density of every site, (batch,), nats."""
    trace.compute_log_prob()
    sites = {name: site for name, site in trace.nodes.items() if site["type"] == "sample" and name != "sequences"}
    return {name: site["log_prob"].detach().expand(len(LENGTHS)) for name, site in sites.items()}


def total(trace: poutine.Trace) -> Tensor:
    """log density of all sites, (batch,), nats."""
    return torch.stack(list(log_probs(trace).values())).sum(0)


def values(trace: poutine.Trace, letter: str) -> dict[str, Tensor]:
    """Of the sites h_1, h_2, ... or of another letter."""
    return {name: value(trace, name) for name in trace.nodes if name.startswith(f"{letter}_")}


def value(trace: poutine.Trace, name: str) -> Tensor:
    found = trace.nodes[name]["value"]
    assert isinstance(found, Tensor)
    return found.detach()


@every_pair_of_equal_sites
def test_every_site_has_the_zoos_density_and_every_hidden_state_the_zoos_value(name: str) -> None:
    pair = PAIRS[name]()
    x = ragged(pair.zoo.family)
    guide, model = traces(pair, x)
    zoos_guide, zoos_model = zoos_traces(pair, x, values(model, "z"))
    given = {"x_1"} if pair.options.get("first") == "condition" else set()
    for found, expected in ((guide, zoos_guide), (model, zoos_model)):
        ours, zoos = log_probs(found), log_probs(expected)
        assert {site for site in ours if site[0] != "h"} == {site for site in zoos if site[0] != "h"} - given
        for site in ours:
            assert_close(ours[site], zoos[site])
    for t, (site, h) in enumerate(values(model, "h").items(), start=1):
        zoos_h = value(zoos_model, site)[..., : h.shape[-1]]  # behind a filter's particles are their weights
        inside = t <= LENGTHS
        assert_close(h[inside].to(zoos_h), zoos_h.expand(h.shape)[inside])


@every_pair_of_equal_sites
def test_its_joint_density_is_the_zoos_and_not_that_of_other_parameters(name: str) -> None:
    pair = PAIRS[name]()
    x = ragged(pair.zoo.family)
    _, model = traces(pair, x)
    drawn = list(values(model, "z").values())
    z = torch.stack(drawn, dim=1) if drawn else None

    def difference() -> float:
        zoos = pair.zoo.log_prob(x, z, LENGTHS, first=pair.options.get("first"))
        return float((total(model) - zoos.detach()).abs().max())

    assert difference() < 1e-9
    randomised(pair.zoo, seed=1)
    assert difference() > 1e-2


@every_exact_pair
def test_its_elbo_is_the_exact_log_likelihood_where_nothing_is_left_to_draw(name: str) -> None:
    pair, elbo = PAIRS[name](), TraceEnum_ELBO(max_plate_nesting=1, strict_enumeration_warning=False)
    x = ragged(pair.zoo.family)

    def found(x: Tensor, lengths: Tensor) -> Tensor:
        return -torch.tensor(elbo.loss(pair.script.model, pair.script.guide, x, lengths, *pair.arguments))

    exact = pair.zoo.log_prob(x, lengths=LENGTHS, first=pair.options.get("first")).detach()
    assert_close(found(x, LENGTHS), exact.sum())
    one_by_one = [found(x[i : i + 1], LENGTHS[i : i + 1]) for i in range(len(x))]
    assert_close(torch.stack(one_by_one), exact)
    randomised(pair.zoo, seed=1)
    other = pair.zoo.log_prob(x, lengths=LENGTHS, first=pair.options.get("first")).detach()
    assert float((found(x, LENGTHS) - other.sum()).abs()) > 1e-2


@pytest.mark.parametrize("name", [name for name in DRAWN if name != "linear_gaussian"])
def test_its_elbo_is_the_zoos_at_the_same_draws(name: str) -> None:
    """In the zoo's other rendering, which has the states of all steps at one site."""
    pair = PAIRS[name]()
    x = ragged(pair.zoo.family)
    guide, model = traces(pair, x)
    z = torch.stack(list(values(model, "z").values()), dim=1)

    def zoos() -> Tensor:
        drawn = poutine.trace(poutine.condition(pair.zoo.guide, data={"z": z})).get_trace(x, LENGTHS)
        return (pair.zoo.log_prob(x, z, LENGTHS) - total(drawn)).detach()

    assert_close(total(model) - total(guide), zoos())
    randomised(pair.zoo, seed=1)
    assert float((total(model) - total(guide) - zoos()).abs().max()) > 1e-2


def test_the_linear_gaussian_scripts_exact_law_is_the_zoos() -> None:
    pair = PAIRS["linear_gaussian"]()
    x = draw(pair.zoo.family, 3, 5)
    found = pair.script.exact_law(5, *pair.arguments).log_prob(x)
    assert_close(found, pair.zoo.log_prob(x).detach())
    assert float((found - randomised(pair.zoo, seed=1).log_prob(x).detach()).abs().min()) > 1e-2


def test_the_uniform_guides_elbo_is_the_mean_of_the_particles_log_likelihoods() -> None:
    pair = PAIRS["multi_particle_rnn-sequence"]()
    assert isinstance(pair.zoo, MultiParticleRNN)
    x, net = ragged(pair.zoo.family), pair.arguments[0]
    bound = -TraceEnum_ELBO(max_plate_nesting=1).loss(pair.script.model, pair.script.uniform_guide, x, LENGTHS, net)
    expected = pair.zoo.particle_log_probs(x, LENGTHS).mean(-1).sum()
    assert_close(torch.tensor(bound), expected.detach())
    assert bound < float(pair.zoo.log_prob(x, lengths=LENGTHS).sum().detach()) - 1e-3


def test_the_belief_scripts_hmm_is_the_zoos() -> None:
    script, (pair, other) = load("belief_rnn"), (PAIRS["belief_rnn"](), PAIRS["hmm"]())
    x, elbo = ragged(pair.zoo.family), TraceEnum_ELBO(max_plate_nesting=1)
    for arguments, zoo in ((pair.arguments, pair.zoo), (other.arguments, other.zoo)):
        found = -torch.tensor(elbo.loss(script.hmm, script.guide, x, LENGTHS, *arguments))
        assert_close(found, zoo.log_prob(x, lengths=LENGTHS).sum().detach())


def test_the_bidirectional_scripts_labels_have_the_zoos_law() -> None:
    script, zoo = load("bidirectional_rnn"), randomised(BidirectionalRNN("gru", 3, 2, hidden_dim=4))
    net = loaded(script.BidirectionalRNN(3, 2, 4), zoo.state_dict())
    x, y = ragged(Categorical(3)), ragged(Categorical(2), seed=1)
    trace = poutine.trace(script.model).get_trace(x, LENGTHS, net, y)
    trace.compute_log_prob()
    assert_close(trace.nodes["y"]["log_prob"].sum(-1), zoo.log_prob(y, x, LENGTHS))
    assert_close(value(trace, "h"), zoo.features(x, LENGTHS))
    other = randomised(zoo, seed=1).log_prob(y, x, LENGTHS).detach()
    assert float((trace.nodes["y"]["log_prob"].sum(-1).detach() - other).abs().min()) > 1e-3


def test_the_taggers_labels_have_the_zoos_law_and_its_forward_algorithm_is_the_zoos() -> None:
    script, zoo = load("tagger"), randomised(Tagger("gru", 3, 2, hidden_dim=4, embedding_dim=4))
    state = {name: value for name, value in zoo.state_dict().items() if name != "initial_memory"}  # it starts at zero
    net = loaded(script.Tagger(3, 2, 4), renamed(state, {"cell.": ""}))
    x, y = ragged(Categorical(3)), ragged(Categorical(2), seed=1)
    trace = poutine.trace(script.model).get_trace(x, LENGTHS, net, y)
    trace.compute_log_prob()
    labels = trace.nodes["y"]["log_prob"].sum(-1)
    assert_close(labels, zoo.log_prob(y, x, LENGTHS))
    hidden = value(trace, "h")
    assert_close(hidden[0], zoo.features(x, LENGTHS)[0])  # of the longest sequence: the zoo has zeros in the padding
    other = randomised(zoo, seed=1).log_prob(y, x, LENGTHS).detach()
    assert float((labels.detach() - other).abs().min()) > 1e-3
    hmm = HMM(*(table.double() for table in (script.START, script.MOVE, script.SEE)))
    assert_close(script.forward(x).double(), forward_backward.filter(hmm, x).filtered_probs)
