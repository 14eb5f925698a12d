"""The command line as a person meets it, in processes of its own and in this one."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from pgm_rnn.cli import main as cli
from pgm_rnn.cli import run
from tests.fresh import with_all


def pgm_rnn(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pgm_rnn", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environment)


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["pgm-rnn", *arguments])
    with pytest.raises(SystemExit) as stopped:
        run()
    return int(stopped.value.code or 0)


@pytest.mark.slow
def test_verify_writes_one_record_a_claim(tmp_path: Path) -> None:
    output = tmp_path / "results.json"
    arguments = ["--claim", "theorem-5", "--claim", "markov-properties", "--json", str(output)]
    done = with_all().module("pgm_rnn", "verify", *arguments)
    assert done.returncode == 0, done.stderr
    records = json.loads(output.read_text())
    assert [record["id"] for record in records] == ["theorem-5", "markov-properties"]
    keys = "id source statement kind instances residual tolerance control_residual verdict seconds"
    assert all(list(record) == keys.split() for record in records)
    assert all(record["verdict"] == "holds" for record in records)
    assert "theorem-5" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert list(tmp_path.iterdir()) == [output]


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """Python's own handler of Ctrl-C: a shell starts what runs in the background without it."""
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, usual)


@pytest.mark.usefixtures("_interruptible")
@pytest.mark.parametrize("pressed", [True, False])
def test_an_error_of_what_ctrl_c_cut_short_is_no_traceback(monkeypatch: pytest.MonkeyPatch, pressed: bool) -> None:
    def cut_short(**options: object) -> None:
        with suppress(KeyboardInterrupt):
            if pressed:
                signal.raise_signal(signal.SIGINT)
        raise AttributeError("partially imported")

    monkeypatch.setattr(cli, "app", cut_short)
    if pressed:
        assert call(monkeypatch) == 130
    else:
        with pytest.raises(AttributeError, match="partially imported"):
            run()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_failing_claim_is_exit_status_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from pgm_rnn.claims import CLAIMS

    monkeypatch.setattr(CLAIMS["causal-posterior"], "residual", lambda case, seed: float("nan"))
    output = tmp_path / "results.json"
    assert call(monkeypatch, "verify", "--claim", "causal-posterior", "--json", str(output)) == 1
    (record,) = json.loads(output.read_text())
    assert record["verdict"] == "fails"
    assert record["residual"] is None


def test_explain_prints_a_claim_and_fails_with_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pgm_rnn.claims import CLAIMS

    assert call(monkeypatch, "explain", "forward-start") == 0
    assert "alpha_1 = D_{x_1} P(H_1)" in capsys.readouterr().out
    monkeypatch.setattr(CLAIMS["forward-start"], "residual", lambda case, seed: float("nan"))
    assert call(monkeypatch, "explain", "forward-start", "--quick") == 1
    assert "it fails" in capsys.readouterr().out


def test_a_quick_check_measures_fewer_instances(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    counts = []
    for options in ([], ["--quick"]):
        output = tmp_path / "results.json"
        assert call(monkeypatch, "verify", "--claim", "causal-posterior", *options, "--json", str(output)) == 0
        (record,) = json.loads(output.read_text())
        counts.append(record["instances"])
    assert counts[1] <= 4 < counts[0]


def test_errata_are_marked(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "verify", "--claim", "forward-start", "--claim", "particle-filter-is-an-rnn") == 0
    output = capsys.readouterr().out
    assert "forward-start*" in output
    assert "*: an erratum" in output
    assert max(map(len, output.splitlines())) <= 80


def test_one_seed_gives_one_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = []
    for seed in ("3", "3", "4"):
        output = tmp_path / "results.json"
        assert call(monkeypatch, "verify", "--claim", "markov-properties", "--seed", seed, "--json", str(output)) == 0
        (record,) = json.loads(output.read_text())
        records.append((record["residual"], record["control_residual"]))
    assert records[0] == records[1] != records[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["verify", "--claim", "theorem5"], "did you mean 'theorem-5'"),
        (["verify", "--data", "jbs"], "did you mean 'jsb'"),
        (["verify", "--data", "synthetic-hmm", "--cell", "lsmt"], "did you mean 'lstm'"),
        (["verify", "--data", "synthetic-hmm", "--epochs", "0"], "expected num_epochs"),
        (["verify", "--data", "synthetic-hmm", "--hidden-dim", "0"], "expected hidden_dim"),
        (["verify", "--claim", "remark-1", "--data", "jsb"], "expected --claim or --data, got both"),
        (["verify", "--json", "/no/such/folder/x.json"], "expected --json"),
        (["verify", "--json", "/dev/null"], "expected --json"),
        (["verify", "--cell", "gru"], "only with --data"),
        (["verify", "--data", "synthetic-hmm", "--hidden-dim", "100000000000"], "not enough memory"),
        (["verify", "--data", "jsb", "--quick"], "expected --quick without --data"),
        (["explain", "theorem5"], "did you mean 'theorem-5'"),
        (["explain"], "expected the id of a claim, such as theorem-5, or --list"),
        (["explain", "theorem-5", "--list"], "expected the id of a claim, such as theorem-5, or --list"),
        (["verify", "--seed", "zero"], "Invalid value for '--seed'"),
        (["verify", "--sed", "0"], "No such option: --sed"),
        (["verfy"], "No such command 'verfy'"),
        (["graph"], "Missing argument"),
        (["graph", "rnn-lst"], "did you mean 'rnn-lstm'"),
        (["graph", "hmm", "--steps", "0"], "expected steps"),
        (["graph", "hmm", "--out", "graph.pdf"], "expected --out to end in .png or .svg, got graph.pdf"),
        (["graph", "hmm", "--folded"], "expected --folded only with --out, got it alone"),
    ],
)
def test_what_the_user_got_wrong_is_one_sentence_and_status_two(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, *arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err


@pytest.mark.slow
def test_a_tampered_data_file_is_one_sentence_and_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "JSB_Chorales.mat").write_bytes(b"not the chorales")
    environment = os.environ | {"PGM_RNN_DATA": str(tmp_path)}
    done = with_all().module("pgm_rnn", "verify", "--data", "jsb", environment=environment)
    assert done.returncode == 2
    assert "SHA-256" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_verify_on_data_fits_and_reports(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["verify", "--data", "synthetic-hmm", "--cell", "gru", "--hidden-dim", "4", "--epochs", "1"]
    assert call(monkeypatch, *arguments) == 0
    output = capsys.readouterr().out
    assert "nats per step, exact" in output
    assert "theorem-5" in output
    assert "elbo-equivalence" in output


@pytest.mark.parametrize(("model", "edge"), [("rnn-gru", "x_1 --> h_2"), ("hmm", "z_1 --> z_2")])
def test_graph_prints_a_flowchart(
    model: str, edge: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "graph", model, "--steps", "2") == 0
    assert edge in capsys.readouterr().out


@pytest.mark.parametrize("options", [[], ["--folded"]])
def test_graph_draws_models_beside_each_other(
    options: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    output = tmp_path / "graphs.svg"
    assert call(monkeypatch, "graph", "hmm", "rnn-gru", "--steps", "2", "--out", str(output), *options) == 0
    picture = output.read_text()
    assert ('id="edge-z_1-z_2"' in picture, 'id="edge-z-z-1"' in picture) == (not options, bool(options))
    assert ">hmm<" in picture
    assert ">rnn-gru<" in picture


def test_a_results_file_keeps_its_mode_and_a_link_stays_a_link(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    target, link = tmp_path / "target.json", tmp_path / "link.json"
    target.write_text("old")
    target.chmod(0o600)
    link.symlink_to(target)
    assert call(monkeypatch, "verify", "--claim", "causal-posterior", "--json", str(link)) == 0
    assert link.is_symlink()
    assert json.loads(target.read_text())
    assert target.stat().st_mode & 0o777 == 0o600


@pytest.mark.nightly
def test_a_terminal_without_unicode_is_no_error() -> None:
    arguments = ["verify", "--data", "synthetic-hmm", "--hidden-dim", "2", "--epochs", "1"]
    done = pgm_rnn(*arguments, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr


def test_a_seed_of_any_size_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    assert call(monkeypatch, "verify", "--claim", "markov-properties", "--seed", str(10**18)) == 0


def test_no_arguments_show_help() -> None:
    assert "verify" in pgm_rnn("--help").stdout
