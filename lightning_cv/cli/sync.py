"""`lightning-cv sync`: sends runs that W&B logged offline, and says truthfully which ones arrived.

The W&B command was seen to exit with 0 after failing, and to wait a quarter of an hour for a server that is not there.
So the server is asked first, each run has a time limit, and only W&B's own mark of a sent run is believed.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from lightning_cv.errors import UserError
from lightning_cv.tools.wandb_server import ask_server

COMMAND = (sys.executable, "-m", "wandb", "sync")


def main(argv: list[str]) -> int:
    """0 when every run was sent, now or before; 1 when some were not."""
    options = _parser().parse_args(argv)
    if not options.timeout > 0:
        raise UserError(f"--timeout must be above 0, got {options.timeout}")
    runs = offline_runs(options.folders)
    waiting = [run for run in runs if not is_sent(run)]
    if waiting:
        ask_server()
    failed = 0
    for run in runs:
        problem = send(run, options.timeout) if run in waiting else None
        state = "sent before" if run not in waiting else f"NOT SENT: {problem}" if problem else "sent"
        print(f"{run}: {state}", flush=True)
        failed += problem is not None
    return 1 if failed else 0


def offline_runs(folders: Sequence[Path]) -> list[Path]:
    """The offline logs in and below some folders, those of one run in the order they were made."""
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"no folder {folder}")
    logs = [path for folder in folders for path in folder.resolve().rglob("run-*.wandb")]
    found = {path.parent for path in logs if path.parent.name.startswith("offline-run-")}
    if not found:
        raise UserError(f"no offline W&B run in {', '.join(map(str, folders))}")
    return sorted(found, key=lambda run: (run.parent, run.name))


def is_sent(run: Path) -> bool:
    """Whether W&B has marked every log in the folder as sent, and nothing was logged since."""
    marks = [(path, path.with_name(f"{path.name}.synced")) for path in run.glob("run-*.wandb")]
    return all(mark.exists() and mark.stat().st_mtime >= path.stat().st_mtime for path, mark in marks)


def send(run: Path, timeout: float) -> str | None:
    """Send one run; what went wrong, None if nothing did."""
    environment = {key: value for key, value in os.environ.items() if key != "WANDB_MODE"}
    with tempfile.TemporaryFile("w+") as log:  # a pipe would be held open by what the command starts
        command = [*COMMAND, str(run)]
        work = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            status = work.wait(timeout)
        except BaseException as error:
            os.killpg(work.pid, signal.SIGKILL)  # with all that it has started
            work.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                return f"not done after {timeout:g} s (--timeout)"
            raise
        log.seek(0)
        said = [line.strip() for line in log if line.strip()]
    if is_sent(run):
        return None
    return f"W&B left no mark that it arrived (exit status {status})" + (f"; it said: {said[-1]}" if said else "")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lightning-cv sync", description="Send runs that W&B logged offline to its server, one after the other."
    )
    parser.add_argument("folders", metavar="RUN", type=Path, nargs="+", help="run folder, or a folder of many runs")
    parser.add_argument("--timeout", type=float, default=600, metavar="S", help="seconds a run (default %(default)s)")
    return parser
