"""Sweeps of a program that takes no time, each launcher a process of its own as from a shell."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import yaml

from lightning_cv.cli import main

FAKE = Path(__file__).with_name("fake_program.py")
REPOSITORY = Path(__file__).resolve().parents[2]


def _hear_ctrl_c() -> None:
    """As from a shell: where these tests run in the background, Ctrl-C is ignored, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Sweeping:
    """A folder with a sweep file in it, and what can be done with it."""

    def __init__(self, folder: Path) -> None:
        self.root = folder
        self.file = folder / "s.yaml"
        self.folder = folder / "runs/sweeps/s"
        self.notes_file = folder / "notes.jsonl"

    def write(self, parameters: dict[str, Any], **more: Any) -> None:
        command = [sys.executable, "-S", "-E", "${program}", "${args}"]
        content = {"program": str(FAKE), "command": command, "method": "grid", "parameters": parameters, **more}
        self.file.write_text(yaml.safe_dump(content, sort_keys=False))

    def start(self, *words: str) -> "subprocess.Popen[str]":
        environment = os.environ | {"NOTES": str(self.notes_file), "PYTHONPATH": str(REPOSITORY)}
        return subprocess.Popen(
            [sys.executable, "-m", "lightning_cv", "sweep", *words],
            cwd=self.root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            preexec_fn=_hear_ctrl_c,
        )  # fmt: skip

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """A command to its end. What starts no trial needs no process of its own."""
        if words[0] in ("status", "cancel", "retry"):
            out, err = io.StringIO(), io.StringIO()
            with chdir(self.root), redirect_stdout(out), redirect_stderr(err):
                status = main(["sweep", *words])
            return subprocess.CompletedProcess(words, status, out.getvalue(), err.getvalue())
        process = self.start(*words)
        said = process.communicate(timeout=100)
        return subprocess.CompletedProcess(words, process.returncode, *said)

    def notes(self, what: str = "begins") -> list[dict[str, Any]]:
        lines = self.notes_file.read_text().splitlines() if self.notes_file.exists() else []
        return [one for one in map(json.loads, lines) if one["what"] == what]

    def status(self) -> dict[str, Any]:
        done = self.run("status", "s.yaml", "--json")
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert isinstance(found, dict)
        return found

    def states(self) -> list[str]:
        return [one["state"] for one in self.status()["trials"]]


def wait_for(true: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)
