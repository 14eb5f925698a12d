"""What is in the sdist, from which the tests have to pass; it is built in an environment that pip makes."""

import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("benchmarks", "docs", "inference", "models", "pgm_rnn", "tests", "tools", "tutorials")
FILES = {"CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", "constraints.txt", "pyproject.toml"}

pytestmark = pytest.mark.nightly


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tarfile.TarFile]:
    folder = tmp_path_factory.mktemp("sdist")
    subprocess.run([sys.executable, "-m", "build", "--sdist", "--outdir", str(folder), str(ROOT)], check=True)
    (path,) = folder.glob("*.tar.gz")
    with tarfile.open(path) as opened:
        yield opened


def names(archive: tarfile.TarFile) -> set[str]:
    """Paths without the folder that holds them all."""
    return {member.name.partition("/")[2] for member in archive.getmembers() if not member.isdir()}


def test_it_holds_every_file_of_the_source_tree(archive: tarfile.TarFile) -> None:
    expected = {
        path.relative_to(ROOT).as_posix()
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
    }
    behind_links = {name for name in expected if name.startswith(("pgm_rnn/models/", "pgm_rnn/inference/"))}
    assert len(expected) > 400
    assert sorted((expected - behind_links | FILES) - names(archive)) == []


def test_its_links_are_links_and_no_second_copies(archive: tarfile.TarFile) -> None:
    root = archive.getnames()[0].split("/")[0]
    for name in ("models", "inference"):
        member = archive.getmember(f"{root}/pgm_rnn/{name}")
        assert member.issym()
        assert member.linkname == f"../{name}"
    assert not [name for name in names(archive) if name.startswith(("pgm_rnn/models/", "pgm_rnn/inference/"))]


def test_its_unpacked_tree_is_imported_as_it_is(archive: tarfile.TarFile, tmp_path: Path) -> None:
    archive.extractall(tmp_path, filter="data")
    (tree,) = tmp_path.iterdir()
    code = "import pgm_rnn.models.hmm as a, pgm_rnn.inference.em as b, pgm_rnn; print(a.__file__, b.__file__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tree, check=True, capture_output=True, text=True)
    for place in done.stdout.split():
        assert Path(place).is_relative_to(tree)
