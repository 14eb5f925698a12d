"""One belief: what the forward algorithm remembers, and how many units or particles it takes to remember it.

Run it: `python tutorials/one_belief.py` (half a minute). Every number that it prints is explained by the line above it.
The full experiments, on twenty random models: `pgm-rnn reproduce infinite-data` and `pgm-rnn reproduce figure-7`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from pgm_rnn.experiments.histories import Histories, all_histories, fit, history_log_probs
from pgm_rnn.experiments.taggers import initial_weights
from pgm_rnn.inference import forward_backward, smc
from pgm_rnn.models import HMM, BeliefRNN

NUM_STEPS = 6


def main() -> None:
    """Walk from the belief to networks and particles that approximate it."""
    torch.set_default_dtype(torch.float64)
    hmm = HMM.random(num_states=2, num_symbols=3, seed=3).requires_grad_(False)
    histories = all_histories(hmm, NUM_STEPS)

    x = hmm.sample(num_sequences=1, num_steps=NUM_STEPS, seed=0).x
    belief = forward_backward.filter(hmm, x).filtered_probs[0, :, 1]
    print(
        "1. Of a past x_1, ..., x_t the forward algorithm keeps the belief p(z_t | x_1, ..., x_t), with two states one"
    )
    print("   number, such as its log-odds:")
    print("  ", *(f"{value:+.3f}" for value in belief.logit().tolist()))

    rnn = BeliefRNN(hmm, units="log-odds")
    print(
        "\n2. A recurrent network whose single hidden unit is that number has exactly the HMM's law (Choe et al. 2017,"
    )
    print("   Proposition 6); the two log likelihoods of a sequence:")
    print(f"   {float(hmm.log_prob(x)):.12f}  {float(rnn.log_prob(x)):.12f}")

    count = len(histories.probs)
    print(f"\n3. Units that are tanh have to come close. Fitted to the beliefs after all {count} histories of up to")
    print(
        f"   {NUM_STEPS} symbols, as with infinitely many data, the best of five starts leaves a KL divergence, in nats"
    )
    print("   per step, and predicts another state than the forward algorithm in a fraction of the steps:")
    for num_units in (1, 2, 3):
        log_probs = best_fit(histories, num_units)
        print(f"   k = {num_units}: {histories.kl(log_probs):.1e}, {disagreement(histories, log_probs):.2%}")

    print(
        "\n4. Particles are draws from the belief; their shares of the states have an error of order 1 / sqrt(M). The"
    )
    print("   fraction of the steps in which they predict another state:")
    for num_particles in (1, 10, 100, 1000):
        share = shares(hmm, histories, num_particles)
        print(f"   M = {num_particles}: {disagreement(histories, share):.2%}")

    print("\nExercises. Which histories does the single unit get wrong, and how sure is the belief there? Give the HMM")
    print("three states: how many units now, and why is one log-odds too few? Add a unit to the best fit and fit on.")


def best_fit(histories: Histories, num_units: int) -> Tensor:
    """log q(z_t | x_{1:t}) of the best of five networks, (N, 2)."""
    fits = [fit(histories, initial_weights(3, 2, num_units, [seed]), num_iterations=500) for seed in range(5)]
    best = min(fits, key=lambda fitted: fitted.kl)
    return history_log_probs(best.weights, NUM_STEPS).mT


def shares(hmm: HMM, histories: Histories, num_particles: int) -> Tensor:
    """The bootstrap filter's weight of each state after each history, (N, 2)."""

    def indicators(z: Tensor, h: Tensor | None) -> Tensor:
        return F.one_hot(z, 2).double()

    result = smc.filter(hmm, histories.x, num_particles=num_particles, functions={"states": indicators}, seed=0)
    found = torch.empty_like(histories.beliefs)
    found[histories.numbers(histories.x)] = result.means["states"]  # of the sequences that begin alike, the last one's
    return found


def disagreement(histories: Histories, scores: Tensor) -> float:
    """Fraction of the steps in which the most likely state differs from the belief's."""
    return histories.mean(scores.argmax(-1) != histories.beliefs.argmax(-1))


if __name__ == "__main__":
    main()
