"""Checks a wheel and an sdist before a release: `python -m tools.release_check FOLDER` prints what is wrong."""

import email
import re
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from packaging.metadata import Metadata

from pgm_rnn.version import __version__

ROOT = Path(__file__).parents[1]
LARGEST = 20_000_000
"""Bytes that a wheel may have."""
NEEDED = ("tests/conftest.py", "tests/test_package.py", "docs/conf.py", "docs/index.md", "constraints.txt", "LICENSE")
"""Files without which an sdist cannot run its tests or build its site."""


def faults(folder: Path, root: Path = ROOT, version: str = __version__) -> Iterator[str]:
    """What is wrong with the wheel and the sdist in a folder, one sentence each."""
    wheels, sdists = sorted(folder.glob("*.whl")), sorted(folder.glob("*.tar.gz"))
    if len(wheels) != 1 or len(sdists) != 1:
        yield f"expected one wheel and one sdist in {folder}, got {len(wheels)} and {len(sdists)}"
        return
    yield from _of_wheel(wheels[0], version)
    yield from _of_sdist(sdists[0], version)
    yield from _of_changelog(root / "CHANGELOG.md", version)
    yield from _of_citation(root / "CITATION.cff", version)


def _of_wheel(path: Path, version: str) -> Iterator[str]:
    if path.stat().st_size > LARGEST:
        yield f"expected a wheel of at most {LARGEST:,} bytes, got {path.stat().st_size:,}"
    with zipfile.ZipFile(path) as wheel:
        names = wheel.namelist()
        tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
        if tops != {"pgm_rnn"}:
            yield f"expected the wheel to hold pgm_rnn alone, got {', '.join(sorted(tops))}"
        metadata = next((name for name in names if name.endswith(".dist-info/METADATA")), None)
        if metadata is None:
            yield "expected the wheel to have metadata, got none"
        else:
            yield from _of_metadata("the wheel", wheel.read(metadata), version)


def _of_sdist(path: Path, version: str) -> Iterator[str]:
    with tarfile.open(path) as sdist:
        top = sdist.getnames()[0].split("/")[0]
        there = {name.partition("/")[2] for name in sdist.getnames()}
        yield from (f"expected {name} in the sdist, it is missing" for name in NEEDED if name not in there)
        metadata = sdist.extractfile(f"{top}/PKG-INFO") if "PKG-INFO" in there else None
        if metadata is None:
            yield "expected the sdist to have metadata, got none"
        else:
            yield from _of_metadata("the sdist", metadata.read(), version)


def _of_metadata(where: str, text: bytes, version: str) -> Iterator[str]:
    """Metadata that are not valid by the core metadata's specification, or lack what a release has."""
    try:
        metadata = Metadata.from_email(text, validate=True)
    except ExceptionGroup as errors:
        yield from (f"the metadata of {where} are not valid: {error}" for error in errors.exceptions)
        return
    if str(metadata.version) != version:
        yield f"expected version {version} in the metadata of {where}, got {metadata.version}"
    if not email.message_from_bytes(text).get_payload():
        yield f"expected the README in the metadata of {where}, got nothing"


def _of_changelog(path: Path, version: str) -> Iterator[str]:
    found = re.findall(r"^## \[?v?(\d[\w.]*)", path.read_text(encoding="utf-8"), re.MULTILINE)
    if version not in found[:1]:
        yield f"expected CHANGELOG.md to begin with version {version}, got {found[0] if found else 'no version'}"


def _of_citation(path: Path, version: str) -> Iterator[str]:
    if not path.is_file():
        return
    found = re.search(r"^version: *[\"']?([\w.]+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    if found is not None and found[1] != version:
        yield f"expected version {version} in CITATION.cff, got {found[1]}"


if __name__ == "__main__":
    found = list(faults(Path(sys.argv[1])))
    print("\n".join(found) if found else f"The wheel and the sdist of version {__version__} are ready.")
    sys.exit(bool(found))
