"""Training of stacked networks: against one network under torch's Adam, and what it must reach."""

import pytest
import torch
from torch import Tensor

from pgm_rnn.experiments.taggers import initial_weights, label_log_probs, stacked
from pgm_rnn.experiments.training import Task, schedule, train
from pgm_rnn.models import HMM, Tagger


def tasks_of(seeds: list[int], num_sequences: int = 50) -> list[Task]:
    found = []
    for seed in seeds:
        batch = HMM.random(2, 3, seed=seed).sample(num_sequences, 8, seed=seed)
        assert batch.z is not None
        found.append(Task(batch.x, batch.z, num_sequences, 0.01 * (1 + seed), seed))
    return found


def test_updates_are_those_of_torchs_adam_on_each_network_alone() -> None:
    num_updates, batch_size = 20, 10
    networks, tasks = [Tagger("elman", 3, 2, 4) for _ in range(3)], tasks_of([0, 1, 2])
    start = stacked(networks)
    result = train(start, tasks, num_updates, batch_size)
    for i, (network, task) in enumerate(zip(networks, tasks, strict=True)):
        dict(network.named_parameters())["cell.network.bias_hh_l0"].requires_grad_(False)
        adam = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], task.learning_rate)
        held_out = []
        for number, numbers in enumerate(task.order(num_updates, batch_size)):
            adam.param_groups[0]["lr"] = task.learning_rate * schedule(number, num_updates)
            adam.zero_grad()
            mean_loss(network, task, numbers).backward()
            adam.step()
            held_out.append(float(mean_loss(network, task, torch.arange(50)[task.held_out()]).detach()))
        assert float(result.held_out_loss[i]) == pytest.approx(min(held_out), rel=1e-5)


def mean_loss(network: Tagger, task: Task, numbers: Tensor) -> Tensor:
    return -network.log_prob(task.y[numbers], task.x[numbers]).mean() / task.x.shape[1]


def test_a_network_is_trained_as_it_would_be_alone() -> None:
    tasks = tasks_of([0, 1, 2])
    weights = initial_weights(3, 2, 20, [5, 6, 7])
    together = train(weights, tasks, 20, 10)
    for i, task in enumerate(tasks):
        alone = train({name: value[i : i + 1] for name, value in weights.items()}, [task], 20, 10)
        for name, value in alone.weights.items():
            # rounding of float32 in 20 updates of at most the learning rate each
            torch.testing.assert_close(together.weights[name][i], value[0], rtol=1e-4, atol=1e-5)


def test_a_start_is_trained_only_on_request() -> None:
    tasks, weights = tasks_of([0]), initial_weights(3, 2, 1, [0])
    assert not bool(train(weights, tasks, 5, 10).weights["h_0"].any())
    assert bool(train(weights, tasks, 5, 10, trains_start=True).weights["h_0"].any())
    assert not bool(weights["h_0"].any())


def test_labels_that_are_a_function_of_the_symbol_are_learnt_and_random_ones_are_not() -> None:
    x = torch.randint(3, (200, 8))
    noise = torch.randint(2, (200, 8))
    tasks = [Task(x, (x == 1).long(), 200, 0.05, 0), Task(x, noise, 200, 0.05, 1)]
    result = train(initial_weights(3, 2, 4, [0, 1]), tasks, 200, 20)
    assert float(result.held_out_loss[0]) < 0.01
    assert float(result.held_out_loss[1]) > 0.65  # log 2 = 0.693 is the best there is


def test_laws_in_place_of_labels_have_their_mean_as_optimum() -> None:
    x, target = torch.zeros(10, 8, dtype=torch.long), torch.tensor([0.2, 0.8])
    task = Task(x, x, 10, 0.05, 0)
    result = train(initial_weights(2, 2, 1, [0]), [task], 300, 5, targets=lambda i: target.expand(len(i), 8, 2))
    probs = label_log_probs(result.weights, x[None])[0].exp()
    torch.testing.assert_close(probs, target.float().expand(8, 10, 2), rtol=0, atol=0.01)


@pytest.mark.parametrize("num_sequences", [1, 4, 5, 100, 20_000])
def test_held_out_sequences_are_not_trained_on(num_sequences: int) -> None:
    task = Task(torch.zeros(0), torch.zeros(0), num_sequences, 0.1, 0)
    trained, held_out = set(range(task.num_trained)), set(range(num_sequences)[task.held_out()])
    assert held_out
    assert set(task.order(3, 7).flatten().tolist()) <= trained
    assert num_sequences < 5 or not trained & held_out


def test_every_sequence_is_seen_once_an_epoch() -> None:
    task = Task(torch.zeros(0), torch.zeros(0), 50, 0.1, 0)
    order = task.order(8, 10).flatten()
    assert all(sorted(epoch.tolist()) == list(range(40)) for epoch in order.split(40))


def test_the_rate_rises_and_falls_to_almost_zero() -> None:
    rates = [schedule(number, 200) for number in range(200)]
    assert max(rates) == pytest.approx(1.0, abs=0.01)
    assert rates[0] == pytest.approx(0.1)
    assert rates[-1] < 1e-4
