"""The pages of docs/ are what the registry says; nothing is measured."""

from pathlib import Path

import pytest

from pgm_rnn.claims import CLAIMS
from pgm_rnn.claims.sources import by_paper, paper_of, place_of
from tools.claim_pictures import PICTURES
from tools.claims_pages import main, measurements, pages
from tools.formulas import typeset

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", ["claims.md", "errata.md"])
def test_the_committed_pages_are_those_that_the_registry_makes(name: str) -> None:
    expected = pages()[name]
    assert (DOCS / name).read_text(encoding="utf-8") == expected, "run python -m tools.claims_pages"


def test_every_claim_has_a_section_and_every_erratum_two() -> None:
    made = pages()
    for claim in CLAIMS.values():
        assert f"### {claim.id} (" in made["claims.md"]
        for text in (claim.quotation, claim.meaning, claim.proof, claim.example, claim.control):
            assert typeset(text) in made["claims.md"]
        assert (f" (`{claim.id}`)\n\n> " in made["errata.md"]) == (claim.kind == "erratum")


def test_the_pages_are_written_into_a_folder(tmp_path: Path) -> None:
    main(str(tmp_path))
    assert {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()} == pages()


def test_claims_stand_under_their_papers_in_the_order_of_the_papers() -> None:
    claims = list(CLAIMS.values())
    groups = by_paper([claims[-1], claims[0], claims[-2]])
    assert [paper for paper, _ in groups] == [paper_of(claims[-1].source), paper_of(claims[0].source)]
    assert groups[0][1] == [claims[-1], claims[-2]]


def test_a_source_is_a_paper_and_a_place() -> None:
    source = "Chung et al. (2015), eq. (5), (6)"
    assert (paper_of(source), place_of(source)) == ("Chung et al. (2015)", "eq. (5), (6)")


def test_a_picture_stands_in_the_section_of_its_claim() -> None:
    page = pages()["claims.md"]
    for name, picture in PICTURES.items():
        section = page.split(f"### {name} (")[1].split("\n### ")[0]
        assert f"![{picture.says}](claims/{name}.svg)" in section


def test_errata_stand_under_what_they_are() -> None:
    wrong, imprecise = pages()["errata.md"].split("## Imprecise")
    for claim in CLAIMS.values():
        assert (f" (`{claim.id}`)\n\n> " in wrong) == (claim.erratum == "wrong")
        assert (f" (`{claim.id}`)\n\n> " in imprecise) == (claim.erratum == "imprecise")


def test_the_latest_measurement_is_of_every_claim_and_all_its_instances_and_holds() -> None:
    measured = measurements()
    assert set(measured) == set(CLAIMS)
    for name, record in measured.items():
        assert record["instances"] == len(CLAIMS[name].cases())
        assert record["residual"] <= record["tolerance"] < record["control_residual"], name
