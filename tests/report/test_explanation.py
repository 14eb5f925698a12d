import math

import pytest

from pgm_rnn.claims import CLAIMS
from pgm_rnn.claims.claim import conclude
from pgm_rnn.claims.sources import place_of
from pgm_rnn.report.explanation import WIDTH, explain_claim, explanation, list_claims


def test_an_explanation_has_everything_that_a_claim_says() -> None:
    claim = CLAIMS["forward-start"]
    text = explanation(claim, conclude(claim, 3, 1e-16, 1e-13, 0.5, 0.1), ["a note"], seed=4)
    flat = " ".join(text.split())
    said = (claim.quotation, claim.meaning, claim.hypotheses, claim.proof, claim.example, claim.routes, claim.control)
    for part in (claim.source, claim.statement, *said, "a note"):
        assert " ".join(part.split()) in flat
    assert "corrects what is printed, which is wrong" in flat
    assert "residual 1e-16, tolerance 1e-13, control 0.5; 3 instances, seed 4, 0.1 s: it holds" in flat


@pytest.mark.parametrize("name", CLAIMS)
def test_explanations_fit_a_terminal(name: str) -> None:
    claim = CLAIMS[name]
    result = conclude(claim, 1, math.nan, claim.tolerance, 0.5, 0.1)
    assert all(len(line) <= WIDTH for line in explanation(claim, result, [], seed=0).splitlines())


def test_explaining_measures_and_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain_claim("stochastic-bound", seed=1, quick=True).verdict == "holds"
    output = capsys.readouterr().out
    assert "seed 1" in output
    assert "bits on average" in output


def test_an_unknown_claim_is_an_error() -> None:
    with pytest.raises(ValueError, match="did you mean 'theorem-5'"):
        explain_claim("theorem5", seed=0)


def test_the_list_has_every_claim_and_measures_none(capsys: pytest.CaptureFixture[str]) -> None:
    list_claims()
    output = capsys.readouterr().out
    flat = " ".join(output.split())
    assert all(f"{claim.id} ({place_of(claim.source)}" in flat for claim in CLAIMS.values())
    assert "residual" not in output
    assert all(len(line) <= WIDTH for line in output.splitlines())
