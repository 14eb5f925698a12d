"""`pgm-rnn sample`, `evaluate` and `forecast` of a saved model whose numbers make no law: one sentence."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pgm_rnn import get_model, save_model
from pgm_rnn.models import HMM, LinearGaussianSSM
from pgm_rnn.models.registry import model_info
from pgm_rnn.report.soundness import blamed_on_model
from pgm_rnn.storage import DESCRIPTION, TENSORS, StorageError
from tests.cases import every
from tests.storage.earlier import without_digests
from tests.test_cli import call

Capture = pytest.CaptureFixture[str]
VALUES = (float("inf"), float("-inf"), float("nan"), 1e308, -1e308)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@every("model")
@pytest.mark.parametrize("value", VALUES)
def test_a_model_of_any_kind_with_numbers_of_no_law_is_one_sentence_or_a_finite_result(
    name: str, value: float, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    model = get_model(name, seed=0, **model_info(name).smallest)
    save_model(model, "broken")
    without_digests(Path("broken"))
    numbers = {key: torch.full_like(tensor, value) for key, tensor in load_file(f"broken/{TENSORS}").items()}
    save_file(numbers, f"broken/{TENSORS}")
    np.save("x.npy", model.sample(2, 5, seed=0).x.reshape(2, 5, -1).numpy())
    out = ["--out", "f.npz"] if model.family.event_shape else []
    for command in (
        ["sample", "broken", "--num-steps", "4", *out],
        ["evaluate", "broken", "--data", "x.npy", "--num-particles", "3"],
        ["forecast", "broken", "--data", "x.npy", "--num-samples", "3", "--num-particles", "3"],
    ):
        status = call(monkeypatch, *command)
        captured = capsys.readouterr()
        if status == 0:
            assert value == value
            assert "nan" not in captured.out.replace("variables", "")
        else:
            *notes, error = captured.err.splitlines()
            assert (status, captured.out) == (2, "")
            assert all(note.startswith("column ") for note in notes)  # such as one that is the same in every row
            assert error.startswith("error: expected ")
            assert "broken" in captured.err or "particle" in captured.err or "sequence" in captured.err


@pytest.mark.parametrize("command", ["sample hmm", "evaluate hmm --data x.npy", "forecast hmm --data x.npy"])
@pytest.mark.parametrize("file", [TENSORS, DESCRIPTION])
@pytest.mark.parametrize("change", ["cut", "flipped", "emptied", "removed"])
def test_a_damaged_model_is_one_sentence(
    command: str, file: str, change: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    save_model(HMM.random(2, 3, seed=0), "hmm")
    np.save("x.npy", np.array([0, 1, 2, 1]))
    path = Path("hmm", file)
    content = path.read_bytes()
    if change == "removed":
        path.unlink()
    else:
        changed = {"cut": content[:-9], "emptied": b"", "flipped": content[:30] + b"\x80" + content[31:]}
        path.write_bytes(changed[change])
    assert call(monkeypatch, *command.split()) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert captured.err.startswith("error: expected ")


def test_draws_that_are_no_numbers_are_not_printed(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """A model that grows without bound is one: z_t = 1e15 z_{t-1}, plus noise."""
    model = LinearGaussianSSM.random(1, 1, seed=0).double()
    with torch.no_grad():
        model.transition_matrix.fill_(1e15)
    save_model(model, "grows")
    assert call(monkeypatch, "sample", "grows", "--num-steps", "2", "--out", "f.npz") == 0
    assert "not finite" not in capsys.readouterr().out
    assert call(monkeypatch, "sample", "grows", "--num-steps", "90", "--out", "f.npz") == 0
    assert "not finite" in capsys.readouterr().out
    np.save("x.npy", np.array([1.0, 0.5, 2.0]))
    assert call(monkeypatch, "forecast", "grows", "--data", "x.npy", "--num-steps", "90") == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert "expected finite draws from grows, got NaN or infinity; either its parameters are invalid" in captured.err


def test_our_own_sentences_and_a_full_memory_are_not_blamed_on_the_model() -> None:
    for error in (ValueError("expected x"), RuntimeError("can't allocate memory: you tried to allocate")):
        with pytest.raises(type(error), match=r"expected x|alloc"), blamed_on_model("here"):
            raise error
    with pytest.raises(StorageError, match=r"got here, with which torch fails \(a\); fit it again"):  # noqa: SIM117
        with blamed_on_model("here"):
            raise RuntimeError("a\nb")
