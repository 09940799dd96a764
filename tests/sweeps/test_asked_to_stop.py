"""A trial that somebody else asked to stop has not failed, if it is one of ours, which says so."""

import sys
import time
from pathlib import Path

import pytest

from lightning_cv.interrupts import STATUS
from lightning_cv.sweeps.command import can_be_asked_to_stop
from lightning_cv.sweeps.launcher import Ended, Job
from lightning_cv.sweeps.local import LocalLauncher


@pytest.mark.parametrize(
    ("line", "is_so"),
    [
        ("lightning-cv fit --config a", True),
        ("/bin/lightning-cv resume runs/a", True),
        ("python -m lightning_cv resume runs/a", True),
        ("python train.py fit", False),
        ("lightning-cv demo", False),
    ],
)
def test_lines_that_tell(line: str, is_so: bool) -> None:
    assert can_be_asked_to_stop(line.split()) == is_so


@pytest.mark.parametrize(("name", "outcome"), [("lightning-cv", "interrupted"), ("other", "failed")])
def test_status_75_is_no_failure_of_ours(tmp_path: Path, name: str, outcome: str) -> None:
    program = tmp_path / name
    program.write_text(f"#!{sys.executable}\nraise SystemExit({STATUS})\n")
    program.chmod(0o755)
    launcher = LocalLauncher(1)
    (handle,) = launcher.start([Job("a", 0, [str(program), "fit", "x"], {}, tmp_path, tmp_path / "log")])
    ended: Ended | None = None
    end = time.monotonic() + 30
    while ended is None and time.monotonic() < end:
        ended = handle.poll()
        time.sleep(0.05)
    assert ended is not None
    assert ended.outcome == outcome
