"""Verdicts on rows that are made up: each sentence can be borne out, and can fail."""

import inspect
import re
from collections import Counter
from collections.abc import Callable

import pytest
import torch

from pgm_rnn.experiments import disagreement, figure_5, figure_6, figure_7, infinite_data, next_symbol
from pgm_rnn.experiments.experiment import Finding, Row, Rows, verdict_of
from pgm_rnn.experiments.scores import divergence
from pgm_rnn.experiments.summary import curve, each_draw, number
from tools.experiments_page import THRESHOLDS

NETWORK: Row = {
    "method": "rnn",
    "start": "zero",
    "accuracy": 0.7,
    "forward_accuracy": 0.7,
    "agreement": 1.0,
    "agreement_all": 1.0,
    "different": 0,
    "expected_accuracy": 0.7,
    "forward_expected_accuracy": 0.7,
    "near_ties": 0.1,
    "near_ties_among_different": 1.0,
    "kl": 1e-4,
}


def rows_5(**changes: float) -> list[Row]:
    """Two draws, k = 1 and 20, n = 100 and 20 000; the changes are to k = 1 of draw 1."""
    rows: list[Row] = []
    for replicate in (0, 1):
        for start, k in (("zero", 1), ("zero", 20), ("trained", 1)):
            for n in (100, 20_000):
                changed = changes if (replicate, start, k) == (1, "zero", 1) else {}
                rows.append(
                    {**NETWORK, "replicate": replicate, "start": start, "size": k, "num_sequences": n, **changed}
                )
    return rows


@pytest.mark.parametrize(
    ("find", "changes", "expected"),
    [
        (figure_5._caption, {}, [True, True]),
        (figure_5._caption, {"different": 1}, [True, False]),
        (figure_5._single_unit, {}, [True, True]),
        (figure_5._single_unit, {"different": 1}, [True, False]),
        (figure_5._less_data, {}, [False, False]),
        (figure_5._less_data, {"agreement_all": 0.98}, [False, True]),
        (figure_5._probabilities, {}, [True, True]),
        (figure_5._imperfect, {}, [True, True]),
        (figure_5._imperfect, {"accuracy": 1.0}, [True, False]),
        (figure_5._optimum, {}, [True, True]),
        (figure_5._optimum, {"accuracy": 0.71}, [True, True]),
        (figure_5._optimum, {"expected_accuracy": 0.71}, [True, False]),
        (figure_5._replicates, {}, [True, True]),
        (figure_5._replicates, {"agreement_all": 0.98}, [True, True]),
    ],
)
def test_verdicts_of_figure_5(find: Callable[[Rows], Finding], changes: dict[str, float], expected: list[bool]) -> None:
    assert find(rows_5(**changes)).draws == expected


def test_a_unit_is_stuck_where_fewer_sequences_served_it_better() -> None:
    draw: list[Row] = [{"num_sequences": n, "kl": kl} for n, kl in ((20_000, 0.2), (100, 0.3), (1000, 0.09))]
    assert figure_5._is_stuck(draw)
    assert not figure_5._is_stuck([{**row, "kl": 0.1} for row in draw])


def rows_6(drop: int, **changes: float) -> list[Row]:
    """Two draws, m = 2, 4, 8; the agreement drops most up to m = drop, the HMM has more parameters from m = 8 on."""
    rows: list[Row] = []
    for replicate in (0, 1):
        for m in (2, 4, 8):
            row: Row = {
                **NETWORK,
                "replicate": replicate,
                "num_states": m,
                "size": 4,
                "num_sequences": 10,
                "agreement_all": 1.0 - 0.1 * (m >= 4) - 0.1 * (m >= 8) - 0.3 * (m >= drop),
                "expected_accuracy": 0.1 / m,
                "forward_expected_accuracy": 0.1 / m,
                "chance": 1 / m,
                "chance_agreement": 1 / m,
                "parameters": 50,
                "hmm_parameters": m * m,
            }
            rows.append({**row, **(changes if replicate == 1 and m == 8 else {})})
    return rows


@pytest.mark.parametrize(
    ("find", "rows", "expected"),
    [
        (figure_6._poor, rows_6(8), [True, True]),
        (figure_6._poor, rows_6(8, forward_expected_accuracy=0.5), [True, False]),
        (figure_6._harder, rows_6(8), [True, True]),
        (figure_6._harder, rows_6(8, forward_expected_accuracy=0.024), [True, False]),
        (figure_6._chance, rows_6(8), [True, True]),
        (figure_6._chance, rows_6(8, chance_agreement=0.9), [True, False]),
        (figure_6._matches, rows_6(8), [True, True]),
        (figure_6._matches, rows_6(8, expected_accuracy=0.001), [True, False]),
        (figure_6._decreases, rows_6(8), [True, True]),
        (figure_6._decreases, rows_6(8, agreement_all=1.0), [True, False]),
        (figure_6._crossing, rows_6(8), [True, True]),
        (figure_6._crossing, rows_6(4), [False, False]),
    ],
)
def test_verdicts_of_figure_6(find: Callable[[Rows], Finding], rows: list[Row], expected: list[bool]) -> None:
    assert find(rows).draws == expected


def rows_7(**changes: float) -> list[Row]:
    """Two draws, k = 1 and 2, networks ahead of particles; the changes are to the particles of draw 1."""
    rows: list[Row] = []
    for replicate in (0, 1):
        rows += [{**NETWORK, "num_states": 5, "replicate": replicate, "size": k} for k in (1, 2)]
        particles: Row = {
            **NETWORK,
            "num_states": 5,
            "method": figure_7.PARTICLES,
            "expected_accuracy": 0.6,
            "agreement": 0.6,
            "agreement_all": 0.6,
        }
        changed = changes if replicate == 1 else {}
        rows += [{**particles, "replicate": replicate, "size": number, **changed} for number in (1, 2, 100)]
    return rows


@pytest.mark.parametrize(
    ("find", "changes", "expected"),
    [
        (figure_7._outperforms, {}, [True, True]),
        (figure_7._outperforms, {"expected_accuracy": 0.8}, [True, False]),
        (figure_7._outperforms, {"agreement_all": 1.0}, [True, False]),
        (figure_7._efficient, {}, [True, True]),
        (figure_7._efficient, {"agreement": 1.0}, [True, False]),
        (figure_7._unit_against_particle, {}, [True, True]),
        (figure_7._unit_against_particle, {"agreement_all": 0.7}, [True, False]),
        (figure_7._enough_particles, {}, [True, True]),
        (figure_7._enough_particles, {"near_ties_among_different": 0.5}, [True, False]),
    ],
)
def test_verdicts_of_figure_7(find: Callable[[Rows], Finding], changes: dict[str, float], expected: list[bool]) -> None:
    assert find(rows_7(**changes)).draws == expected


def rows_of_infinite_data(**changes: float) -> list[Row]:
    """Two draws, one unit and three; the changes are to the unit of draw 1 with h_0 = 0."""
    fitted: Row = {
        "kl_worst": 0.1,
        "fits": 4,
        "fits_at_best": 2,
        "converged": 1,
        "histories": 12,
        "different": 0,
        "different_test": 0,
        "disagreement": 0.0,
        "largest_odds": 0.0,
    }
    rows: list[Row] = []
    for replicate in (0, 1):
        for start, k in (("zero", 1), ("zero", 3), ("trained", 1)):
            row: Row = {**fitted, "replicate": replicate, "start": start, "size": k, "kl": 0.01 if k == 1 else 1e-5}
            rows.append({**row, **(changes if (replicate, start, k) == (1, "zero", 1) else {})})
    return rows


@pytest.mark.parametrize(
    ("find", "changes", "expected"),
    [
        (infinite_data._single_unit, {}, [True, True]),
        (infinite_data._single_unit, {"different_test": 1, "different": 3}, [True, False]),
        (infinite_data._capacity, {}, [True, True]),
        (infinite_data._capacity, {"kl": 5e-5}, [True, False]),
        (infinite_data._optima, {}, [True, True]),
        (infinite_data._optima, {"kl_worst": 0.015}, [True, False]),
    ],
)
def test_verdicts_of_infinite_data(
    find: Callable[[Rows], Finding], changes: dict[str, float], expected: list[bool]
) -> None:
    assert find(rows_of_infinite_data(**changes)).draws == expected


def test_the_next_symbols_learners_are_compared_in_every_draw() -> None:
    kl = {"direct": 0.1, "states": 0.2, "hmm": 0.2, "chain": 0.3}

    def row(replicate: int, m: int, method: str, value: float) -> Row:
        key: Row = {"method": method, "num_states": m, "size": 2, "num_sequences": 10, "replicate": replicate}
        return {**key, "kl": value}

    rows = [row(r, m, name, value) for r in (0, 1) for m in (2, 4) for name, value in kl.items()]
    assert next_symbol._against_hmm(rows).draws == [True, True]
    rows = [{**row, "kl": 0.05} if (row["replicate"], row["method"]) == (1, "hmm") else row for row in rows]
    assert next_symbol._against_hmm(rows).draws == [True, False]
    assert next_symbol._against_states(rows).draws == [True, True]


def rows_of_disagreement(starts: float, beliefs: float) -> list[Row]:
    """One draw: the divergence 1 with labels, of which the starts make a part, two thirds of it seen, and beliefs'."""
    row: Row = {
        "replicate": 0,
        "num_states": 8,
        "size": 4,
        "num_sequences": 10,
        "num_starts": 3,
        "agreement_all": 0.5,
        "expected_accuracy": 0.1,
        "forward_expected_accuracy": 0.1,
        "start_agreement": 0.5,
        "held_out_spread": 0.01,
        "c2_residual": 0.1,
    }
    seen = starts * 2 / 3
    labels: Row = {**row, "method": "labels", "kl": 1.0, "kl_starts": seen, "kl_shared": 1 - seen}
    return [labels, {**row, "method": "beliefs", "kl": beliefs, "kl_starts": 0.0, "kl_shared": beliefs}]


def test_optima_are_the_cause_where_starts_differ_and_phi_where_beliefs_do_not_help() -> None:
    assert disagreement._optima(rows_of_disagreement(0.8, 0.1)).draws == [True]
    assert disagreement._optima(rows_of_disagreement(0.6, 0.1)).draws == [True]
    assert disagreement._optima(rows_of_disagreement(0.4, 0.1)).draws == [False]
    assert disagreement._approximation(rows_of_disagreement(0.2, 0.9)).draws == [True]
    assert disagreement._approximation(rows_of_disagreement(0.2, 0.1)).draws == [False]


def test_more_data_help_where_beliefs_do() -> None:
    rows = rows_of_disagreement(0.2, 0.1)
    assert disagreement._more_data(rows).draws == [True]
    worse = [{**row, "expected_accuracy": 0.098} if row["method"] == "beliefs" else row for row in rows]
    assert disagreement._more_data(worse).draws == [False]


def test_agreement_that_is_lost_again_does_not_count() -> None:
    def draw(*agreements: float) -> list[Row]:
        return [{"size": 1, "num_sequences": 10**i, "agreement_all": a} for i, a in enumerate(agreements)]

    assert figure_5.enough(draw(0.5, 0.995, 1.0), 1) == 10
    assert figure_5.enough(draw(1.0, 0.98, 1.0), 1) == 100
    assert figure_5.enough(draw(1.0, 1.0, 0.98), 1) == float("inf")


def test_starts_of_one_law_with_noise_share_nothing() -> None:
    """q_s = softmax(log p + noise): what is left of the divergence is zero on average for any number of starts."""
    torch.manual_seed(0)
    p = torch.full((4000, 3), 1 / 3, dtype=torch.float64)
    for num_starts in (2, 3, 10):
        laws = (p.log() + 0.05 * torch.randn(num_starts, *p.shape, dtype=torch.float64)).softmax(-1)
        mean = laws.log().mean(0).softmax(-1)
        row: Row = {
            "num_starts": num_starts,
            "kl": float(divergence(p, laws.log()).mean()),
            "kl_starts": float(divergence(mean, laws.log()).mean()),
        }
        starts, shared = disagreement._parts(row)
        assert abs(shared) < 0.05 * starts  # 4000 laws of two free numbers each: relative noise of a few percent
        assert number(row, "kl") - number(row, "kl_starts") > 0.05 * starts  # without the correction


def test_the_words_count_draws() -> None:
    assert verdict_of([True, True]) == "reproduced"
    assert verdict_of([True, False, False]) == "reproduced in 1 of 3 draws"
    assert verdict_of([False]) == "not reproduced"
    assert [verdict_of(d, question=True) for d in ([True], [True, False], [False])] == [
        "yes",
        "yes in 1 of 2 draws",
        "no",
    ]
    with pytest.raises(ValueError, match="expected rows that a verdict can be drawn from"):
        verdict_of([])


def test_a_curve_is_the_median_between_the_tenth_and_the_ninetieth_percentile() -> None:
    rows: list[Row] = [{"x": x, "y": float(x * y)} for x in (2, 1) for y in range(11)]
    found = curve(rows, "x", "y")
    assert (found.x, found.middle, found.low, found.high) == ([1, 2], [5, 10], [1, 2], [9, 18])
    assert each_draw([{"replicate": 1}, {"replicate": 0}], lambda rows: rows[0]["replicate"] == 1) == [False, True]


def test_a_sentence_that_is_true_by_definition_is_not_judged_by_drawn_states() -> None:
    (sentence,) = (sentence for sentence in figure_5.Figure5.sentences if sentence.by_definition)
    assert sentence.judge(rows_5(accuracy=0.9)).words == "true by definition"
    assert sentence.judge(rows_5(expected_accuracy=0.9)).words == "reproduced in 1 of 2 draws"


def test_every_threshold_of_the_experiments_stands_in_the_pages_table() -> None:
    modules = (disagreement, figure_5, figure_6, figure_7, infinite_data, next_symbol)
    own = {
        module.__name__.rpartition(".")[2].replace("_", "-"): len(
            re.findall(r"^[A-Z_]+ = [\d.e-]+$", inspect.getsource(module), re.MULTILINE)
        )
        for module in modules
    }
    shown = Counter(where for where, _, _ in THRESHOLDS)
    assert own["figure-5"] == 3
    assert {where: count for where, count in own.items() if count != shown[where]} == {}
