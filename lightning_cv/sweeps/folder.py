"""A sweep's folder: what it is a sweep of, and a small file for each trial. Launchers meet nowhere else.

sweep.json                    what all launchers agree on; made once
state/trials/00003.json       how trial 3 stands; written by the launcher that holds its claim
state/claims/00003.2          the second claim on trial 3: a file that only one launcher can make
state/launchers/TOKEN.json    a launcher that is alive; its time is the last sign of life
state/cancel/00003            somebody wants no trial 3
logs/ID.log  ID/              what a trial said, and its run folder
"""

import json
import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from lightning_cv.errors import UserError
from lightning_cv.sweeps.processes import is_alive, machine, reference
from lightning_cv.sweeps.spec import Point, Sweep

State = Literal["waiting", "running", "finished", "pruned", "failed", "interrupted", "cancelled"]
OVER: tuple[State, ...] = ("finished", "pruned", "cancelled")
"""A trial in one of these is never started again, unless somebody asks for it. `failed` depends on the retries."""

SWEEP = "sweep.json"
SILENT_S = 120.0
"""After so many seconds without a sign of life, a launcher on another machine counts as dead."""


@dataclass
class Trial:
    """How a trial stands."""

    number: int
    id: str
    point: Point
    state: State = "waiting"
    claim: int = 0
    """The claim under which this was written."""
    starts: int = 0
    failures: int = 0
    """Ends by its own fault since it was last asked for."""
    reason: str = ""
    node: str = ""
    reference: str = ""
    """What its processes are found by, for the launcher's kind."""
    launcher: str = ""
    begun: float = 0.0
    """When it was last started, seconds since 1970."""
    seconds: float = 0.0
    """Of all starts that have ended."""
    best: float | None = None
    epoch: int | None = None
    """Whole epochs, as last looked at."""
    epochs: int | None = None
    resumed_at: float = 0.0
    """Time of the checkpoint it was last resumed from."""
    asked: int | None = None
    """Its number in the search's journal."""


@dataclass
class Agreement:
    """What all launchers of a sweep agree on: `sweep.json`."""

    fingerprint: str
    name: str
    method: str
    metric: list[str] | None
    size: int
    threads: int
    seed: int
    file: str
    created: float = field(default_factory=time.time)


class SweepFolder:
    """Reads and writes a sweep's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        state = path / "state"
        self.trials, self.claims, self.launchers = state / "trials", state / "claims", state / "launchers"
        self.cancelled, self.logs = state / "cancel", path / "logs"
        self.journal = state / "search.journal"
        self.token = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"

    def agree(self, sweep: Sweep, threads: int | None, seed: int | None) -> Agreement:
        """The sweep's agreement, made now if this is its first launch.

        Raises:
            UserError: another sweep lies there, it was begun otherwise, or nothing can be written.
        """
        metric = list(sweep.metric) if sweep.metric else None
        asked = Agreement(
            sweep.fingerprint, sweep.name, sweep.method, metric, sweep.size, threads or 1, seed or 0, sweep.file
        )
        with writing(self.path):
            for folder in (self.trials, self.claims, self.launchers, self.cancelled, self.logs):
                folder.mkdir(parents=True, exist_ok=True)
            if not (self.path / SWEEP).exists():
                _write_new(self.path / SWEEP, asdict(asked))
        found = self.agreement()
        if found.fingerprint != asked.fingerprint:
            raise UserError(f"{self.path} holds another sweep, of {found.file}; name another folder with --folder")
        if threads is not None and found.threads != threads:
            raise UserError(f"{self.path} was begun with --threads {found.threads}: other threads give other roundings")
        if seed is not None and found.seed != seed:
            raise UserError(f"{self.path} was begun with --seed {found.seed}")
        if found.size != asked.size:  # run_cap or --count
            found.size = asked.size
            with writing(self.path):
                write_json(self.path / SWEEP, asdict(found))
        return found

    def agreement(self) -> Agreement:
        """What `sweep.json` says."""
        path = self.path / SWEEP
        if not path.is_file():
            raise UserError(f"{self.path} is no sweep's folder: there is no {SWEEP} in it")
        content = _read(path)
        try:
            return Agreement(**content)
        except TypeError as error:
            raise UserError(f"{path} is damaged: {error}") from error

    def read(self, number: int) -> Trial | None:
        """How a trial stands; None before its first claim was used."""
        path = self.trials / f"{number:05d}.json"
        try:
            content = _read(path)
        except FileNotFoundError:
            return None
        known = {one.name for one in fields(Trial)}
        if not {"number", "id", "point", "state"} <= content.keys() <= known or content["state"] not in get_args(State):
            raise UserError(f"{path} is damaged: it is no trial's state; without it the trial would run again")
        return Trial(**content)

    def write(self, trial: Trial) -> None:
        """Keep how a trial stands, in one step."""
        path = self.trials / f"{trial.number:05d}.json"
        with writing(path):
            write_json(path, asdict(trial))

    def claim(self, number: int) -> int | None:
        """Take a trial that nobody holds; the number of the claim, None if somebody does.

        A claim is a new file, which the file system gives to one launcher only, and it is never removed: it is over
        when the trial's state was written under it, or when its launcher is dead, and then the next one may be made.
        """
        newest = 0
        if (self.claims / f"{number:05d}.1").exists():
            newest = self._newest_claim(number)
            if not self._is_over(number, newest):
                return None
        path = self.claims / f"{number:05d}.{newest + 1}"
        with writing(path):
            try:
                descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
            except FileExistsError:
                return None
            try:
                with os.fdopen(descriptor, "w") as file:
                    file.write(self.token)
            except OSError:  # without a name it would be a claim of somebody unknown
                path.unlink()
                raise
        return newest + 1

    def holds(self, number: int, claim: int) -> bool:
        """Whether a claim is still the newest: a launcher that was silent for long may have lost it."""
        return not (self.claims / f"{number:05d}.{claim + 1}").exists()

    def holder(self, number: int) -> str | None:
        """The living launcher that holds a trial."""
        newest = self._newest_claim(number)
        if newest == 0 or self._is_over(number, newest):
            return None
        return self._owner(number, newest)

    def _newest_claim(self, number: int) -> int:
        newest = 0
        while (self.claims / f"{number:05d}.{newest + 1}").exists():
            newest += 1
        return newest

    def _is_over(self, number: int, claim: int) -> bool:
        trial = self.read(number)
        if trial is not None and trial.claim == claim and trial.state != "running":
            return True
        return not self._lives(self._owner(number, claim))

    def _owner(self, number: int, claim: int) -> str:
        path = self.claims / f"{number:05d}.{claim}"
        token = path.read_text()
        if token or time.time() - path.stat().st_mtime < SILENT_S:
            return token or "?"
        return ""  # made by a launcher that died before it wrote its name

    def _lives(self, token: str) -> bool:
        if token in ("?", self.token):
            return True
        if not token:
            return False
        path = self.launchers / f"{token}.json"
        try:
            content, seen = _read(path), path.stat().st_mtime
        except FileNotFoundError:
            return False
        if content.get("machine") == machine():
            return is_alive(str(content.get("reference")))
        return self._now() - seen < SILENT_S

    def _now(self) -> float:
        """The time by the clock that gives files their times, where this launcher has one; else the system's."""
        with suppress(OSError):
            own = self.launchers / f"{self.token}.json"
            os.utime(own)
            return own.stat().st_mtime
        return time.time()

    @contextmanager
    def alive(self) -> Iterator[None]:
        """Make this launcher known for as long as it is at work."""
        path = self.launchers / f"{self.token}.json"
        with writing(path):
            self._introduce()
        try:
            yield
        finally:
            with suppress(OSError):
                path.unlink()

    def _introduce(self) -> None:
        content = {"machine": machine(), "reference": reference(os.getpid()), "host": socket.gethostname()}
        write_json(self.launchers / f"{self.token}.json", content)

    def beat(self) -> None:
        """A sign of life."""
        path = self.launchers / f"{self.token}.json"
        with writing(path):
            try:
                os.utime(path)
            except FileNotFoundError:  # somebody has tidied up
                self._introduce()

    def living(self) -> list[str]:
        """Launchers that are at work, this one left out."""
        tokens = [path.stem for path in self.launchers.glob("*.json")]
        return [token for token in sorted(tokens) if token != self.token and self._lives(token)]

    def is_cancelled(self, number: int) -> bool:
        """Whether somebody wants no such trial."""
        return (self.cancelled / f"{number:05d}").exists()

    def standing(self, number: int, trial: Trial | None) -> State:
        """The state of a trial, that nobody wants it any more included."""
        state: State = trial.state if trial else "waiting"
        unwanted = state not in ("running", "finished", "pruned") and self.is_cancelled(number)
        return "cancelled" if unwanted else state

    def wish(self, number: int, wanted: bool) -> None:
        """Say that a trial is, or is not, wanted."""
        path = self.cancelled / f"{number:05d}"
        with writing(path):
            if wanted:
                path.unlink(missing_ok=True)
            else:
                path.touch()

    def is_new(self, trial: str, number: int) -> bool:
        """Whether a drawn point is no other trial's: the first trial to ask has it."""
        path = self.claims / f"point-{trial}"
        with writing(path):
            try:
                path.symlink_to(f"{number}")
            except FileExistsError:
                return os.readlink(path) == f"{number}"
        return True


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what a disk says into a message that names the place."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a file in one step, so that a reader never sees half of it."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_text(json.dumps(content) + "\n")
    os.replace(part, path)


def _write_new(path: Path, content: dict[str, Any]) -> None:
    """Write a file in one step unless somebody was faster."""
    part = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(3)}.part")
    part.write_text(json.dumps(content, indent=2) + "\n")
    try:
        os.link(part, path)
    except FileExistsError:
        part.unlink()
    except OSError:  # a file system without hard links
        os.replace(part, path)
    else:
        part.unlink()


def _read(path: Path) -> dict[str, Any]:  # Any: JSON
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is damaged: a mapping is expected, this is {type(content).__name__}")
    return content
