"""A particle filter with a set seed is a recurrent network, and over seeds it is unbiased: sec. 3.3.

    h_t = f(h_{t-1}, x_t),   f resamples, then propagates, both by inverse distribution functions at the seed's uniforms
    E_seed [p_hat(x_{1:T})] = p(x_{1:T})

The paper's q*(H_{t-1}, h_0) injects the seed once, h_0, and has no t: read as written, every step meets the same
uniforms, and the estimate is biased. The uniforms must be new at each step, which the hidden state has to count.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from pgm_rnn.claims.choe_2017 import PAPER
from pgm_rnn.claims.choe_2017.textbook_filter import log_likelihood_given
from pgm_rnn.claims.claim import Claim, largest, rounding
from pgm_rnn.claims.finite_chain import FiniteChain
from pgm_rnn.claims.standard_errors import MANY, z_score
from pgm_rnn.claims.tables import all_sequences
from pgm_rnn.inference import smc
from pgm_rnn.models.particle_filter_rnn import ParticleFilterRNN
from pgm_rnn.particles.noise import SeededNoise

Case = tuple[str, float]
"""A resampling scheme, and the fraction of N at or below which the effective sample size triggers resampling."""


def recursion(rnn: ParticleFilterRNN, x: Tensor) -> tuple[Tensor, Tensor]:
    """Particles (T, N, batch) and log p(x_t | h_t), (batch, T), by the network's recurrence from step to step."""
    h, particles, terms = rnn.initial_memory.expand(len(x), -1), [], []
    for x_t in x.unbind(1):
        particles.append(rnn.particles(h)[0])
        terms.append(rnn.emission(None, h).log_prob(x_t))
        h = rnn.recurrence(h, None, x_t)
    return torch.stack(particles), torch.stack(terms, 1)


class ParticleFilterIsAnRNN(Claim):
    """The filter's likelihood by the network, by the engine and by the textbook, from the same uniforms."""

    id = "particle-filter-is-an-rnn"
    source = f"{PAPER}, sec. 3.3"
    statement = "the particle filter with a set seed is a recurrent network whose hidden units are its particles"
    quotation = "this definition of an RNN emulates the performance of a particle filter with a set seed"
    meaning = (
        "Fix the random numbers, and a particle filter is a deterministic recursion: new particles are a function of "
        "old particles and the observation. That is a recurrent network, exactly and not approximately; its hidden "
        "units are the particles."
    )
    hypotheses = "all draws are inverse distribution functions at uniforms that the seed fixes"
    routes = (
        "the recursion of ParticleFilterRNN, against smc.filter with the same uniforms, bit by bit, and against a "
        "filter written particle by particle without either"
    )
    control = "the textbook filter with the uniforms of another seed"
    proof = (
        "A draw from a distribution function F is F^{-1}(u) with u uniform. With the seed fixed, the uniforms u_t are "
        "constants. Propagation, G_t = F^{-1}(u_t; H_{t-1}), and resampling, which looks up further uniforms in the "
        "cumulative weights, are then functions of H_{t-1} and x_t: h_t = f_t(h_{t-1}, x_t). The prediction of x_{t+1} "
        "reads the particles h_t alone, g(h_t). These are the definitions of a recurrent network; with other uniforms "
        "it is another network."
    )

    num_particles = 7
    num_steps = 5

    @override
    def cases(self) -> Sequence[Case]:
        return [(scheme, part) for scheme in ("multinomial", "stratified", "systematic") for part in (1.0, 0.5)]

    @property
    @override
    def tolerance(self) -> float:
        return rounding(self.num_steps, width=self.num_particles)

    @torch.no_grad()
    @override
    def residual(self, case: Case, seed: int) -> float:
        (scheme, part), (chain, words) = case, self._instance(seed)
        rnn = self._network(chain, case, seed)
        engine = smc.filter(
            rnn.of,
            words,
            num_particles=self.num_particles,
            proposal="bootstrap",
            resampling=scheme,
            ess_threshold=part,
            noise=rnn.noise,
            keep="all",
        )
        assert engine.history is not None  # it was asked for
        particles, terms = recursion(rnn, words)
        same = torch.equal(particles, engine.history.z) and torch.equal(terms, engine.log_normalizers)
        by_textbook = self._textbook(chain, words, rnn.noise, case)
        differences = [float((found - by_textbook).abs().max()) for found in (terms.sum(1), rnn.log_prob(words))]
        return (0.0 if same else 1.0) + largest(differences)

    @torch.no_grad()
    @override
    def control_residual(self, case: Case, seed: int) -> float:
        chain, words = self._instance(seed)
        rnn = self._network(chain, case, seed)
        others = SeededNoise(seed + 1, self.num_particles, 1, case[0])
        return float((rnn.log_prob(words) - self._textbook(chain, words, others, case)).abs().max())

    def _instance(self, seed: int) -> tuple[FiniteChain, Tensor]:
        return FiniteChain.random(3, 2, seed), all_sequences(2, self.num_steps)[::3]

    def _network(self, chain: FiniteChain, case: Case, seed: int) -> ParticleFilterRNN:
        scheme, part = case
        return ParticleFilterRNN(chain.hmm(), self.num_particles, seed, resampling=scheme, ess_threshold=part)

    def _textbook(self, chain: FiniteChain, words: Tensor, noise: SeededNoise, case: Case) -> Tensor:
        values = [log_likelihood_given(chain, x, self.num_particles, noise, *case) for x in words.tolist()]
        return torch.tensor(values, dtype=torch.float64)


class Unbiased(Claim):
    """The mean over seeds of the network's likelihood, for every short sequence."""

    id = "particle-filter-unbiased"
    source = f"{PAPER}, sec. 3.3, h_0"
    statement = (
        "over seeds, the likelihood of the seeded filter is unbiased; the seed must give fresh uniforms at each step"
    )
    quotation = (
        "Here, h_0 can be thought of as the random seed for the proposal, which is injected at the beginning of the "
        "chain."
    )
    meaning = (
        "Over seeds, the filter's likelihood is right on average, provided that every step has uniforms of its own, as "
        "a random number generator seeded with h_0 provides. The formula q*(H_{t-1}, h_0) has no t in it: taken "
        "literally, every step uses the same numbers, and the average is wrong."
    )
    hypotheses = "the uniforms of a step are independent of those of the steps before"
    routes = (
        "the mean of exp log_prob of ParticleFilterRNN over seeds, against the sum over all paths, in standard errors"
    )
    control = "as printed: q*(H_{t-1}, h_0) without t, so that every step uses the same uniforms"
    kind = "erratum"
    unit = "standard errors"
    proof = (
        "Let Z_t be the mean weight of step t. Given the particles of step t - 1, fresh uniforms make E[Z_t | "
        "particles] the mean of p(x_t | H_{t-1}^i), and resampling keeps weighted means in expectation. Going "
        "backwards from T, the product Z_1 ... Z_T has mean p(x_{1:T}) (Del Moral, 2004). If steps share their "
        "uniforms, the earlier particles already depend on the numbers from which step t is drawn, and the conditional "
        "mean of Z_t differs."
    )
    erratum = "imprecise"
    example = (
        "One particle, two steps, states that are independent tosses of a fair coin, x_t = 1 if and only if H_t = 1. "
        "P(x = (1, 1)) = 1/4. Fresh uniforms: the filter says 1 with probability 1/4, else 0; mean 1/4. The same "
        "uniform twice: H_1 = H_2, and the mean is 1/2."
    )

    num_seeds = 500
    num_particles = 2
    num_steps = 4

    @override
    def cases(self) -> Sequence[str]:
        return ["multinomial", "systematic"]

    @property
    @override
    def tolerance(self) -> float:
        return MANY

    @override
    def residual(self, case: str, seed: int) -> float:
        return self._z_score(case, seed, advance=True)

    @override
    def control_residual(self, case: str, seed: int) -> float:
        return self._z_score(case, seed, advance=False)

    @torch.no_grad()
    def _z_score(self, scheme: str, seed: int, advance: bool) -> float:
        chain, words = FiniteChain.sticky(seed), all_sequences(2, self.num_steps)
        draws = []
        for number in range(self.num_seeds):
            rnn = ParticleFilterRNN(chain.hmm(), self.num_particles, 1000 * seed + number, resampling=scheme)
            if not advance:
                first = rnn.noise(1)
                rnn.noise = lambda _, first=first: first  # type: ignore[assignment]
            draws.append(rnn.log_prob(words).exp())
        return z_score(torch.stack(draws), chain.probs(words))
