"""`lightning-cv runs`: what is listed, in which order, and what is removed."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lightning_cv.cli import main
from lightning_cv.cli.run_folder import RunLock


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Three runs: one is done, one was stopped, one has failed; and a folder that is no run."""
    for name, beta, elbo in (("a", 1.0, -90.0), ("b", 4.0, -80.0), ("c", 4.0, None)):
        folder = tmp_path / "runs" / "vae" / "small" / name
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "checkpoints" / "last.ckpt").write_bytes(bytes(2000))
        settings = {"model": {"class_path": "a.VAE", "init_args": {"beta": beta}}, "data": {}}
        (folder / "config.yaml").write_text(yaml.safe_dump(settings))
        rows = [f"{step},{epoch},{value}" for step, epoch, value in ((0, 0, -99.0), (1, 1, elbo))]
        (folder / "metrics.csv").write_text("step,epoch,val/elbo\n" + "\n".join(rows[: 2 if elbo else 0]) + "\n7,")
    base = tmp_path / "runs" / "vae" / "small"
    (base / "a" / "results.json").write_text('{"val/elbo": -89.5, "seconds": 3}')
    (base / "c" / "not_a_number.json").write_text("{}")
    (tmp_path / "runs" / "other").mkdir()
    (tmp_path / "runs" / "other" / "config.yaml").write_text("program: x")
    return tmp_path / "runs"


def listed(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert main(["runs", *arguments, "--json"]) == 0
    return [Path(run["folder"]).name for run in json.loads(capsys.readouterr().out)]


def test_states_figures_and_sizes(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", str(runs), "--json"]) == 0
    found = {Path(run["folder"]).name: run for run in json.loads(capsys.readouterr().out)}
    assert {name: run["state"] for name, run in found.items()} == {"a": "finished", "b": "stopped", "c": "failed"}
    assert found["a"]["figures"] == {"val/elbo": -89.5, "seconds": 3.0}, "results.json has the last word"
    assert found["b"]["figures"] == {"val/elbo": -80.0}
    assert [found[name]["epoch"] for name in "abc"] == [2, 2, None]
    assert found["b"]["settings"]["model.beta"] == 4.0
    assert 2000 < found["a"]["size"] < 3000


def test_filters_and_order(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = str(runs)
    assert listed(capsys, root, "--where", "model.beta=4.0") == ["b", "c"]
    assert listed(capsys, root, "--state", "finished") == ["a"]
    assert listed(capsys, root, "--sort", "val/elbo") == ["b", "a", "c"]
    assert listed(capsys, root, "--sort", "val/elbo", "--reverse") == ["a", "b", "c"], "without a figure: last"


def test_the_table_is_for_people(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", str(runs), "--sort", "val/elbo"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:4]] == [
        [str(runs / "vae" / "small" / name), state]
        for name, state in (("b", "stopped"), ("a", "finished"), ("c", "failed"))
    ]
    assert lines[4].startswith("3 runs, 6.")
    assert lines[4].endswith("kB")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--sort", "val/elbow"], "no run has val/elbow; did you mean val/elbo?"),
        (["--where", "model.beta"], "--where is KEY=VALUE"),
        (["--remove"], "nobody is there to answer: say --yes"),
    ],
)
def test_slips_are_named(
    runs: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert main(["runs", str(runs), *arguments]) == 2
    assert words in capsys.readouterr().err
    assert len(list(runs.glob("vae/small/*"))) == 3


def test_only_what_is_listed_and_not_at_work_is_removed(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RunLock(runs / "vae" / "small" / "b"):
        assert main(["runs", str(runs), "--where", "model.beta=4.0", "--remove", "--yes"]) == 0
    said = capsys.readouterr()
    assert "b is at work and stays" in said.err
    assert "1 runs removed" in said.out
    assert sorted(path.name for path in runs.glob("vae/small/*")) == ["a", "b"]


@pytest.mark.parametrize(("answer", "left"), [("n", 3), ("y", 0)])
def test_it_asks_before_it_removes(runs: Path, monkeypatch: pytest.MonkeyPatch, answer: str, left: int) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _: answer)
    assert main(["runs", str(runs), "--remove"]) == (answer == "n")
    assert len(list(runs.glob("vae/small/*"))) == left


def test_it_is_quick_for_it_imports_nothing_heavy(runs: Path) -> None:
    code = (
        f"import sys; from lightning_cv.cli import main; main(['runs', {str(runs)!r}]);"
        "print([m for m in ('torch', 'lightning', 'wandb', 'numpy', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")
