"""The loop of a sweep: claim, start, look, record. What it knows is in the folder; it may be killed at any moment."""

import shutil
import signal
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from lightning_cv.cli.run_folder import CONFIG, METRICS, TRIAL_FOLDER
from lightning_cv.errors import UserError
from lightning_cv.sweeps.command import command_line, fit_of, path_with_interpreter, resume_line
from lightning_cv.sweeps.folder import OVER, Agreement, State, SweepFolder, Trial, writing
from lightning_cv.sweeps.launcher import Ended, Handle, Job, Launcher, NotTaken
from lightning_cv.sweeps.progress import RESULTS, best_of, newest_checkpoint_time, read_progress
from lightning_cv.sweeps.search import Search
from lightning_cv.sweeps.spec import Point, Sweep

_BEAT_S, _LOOK_S, _LOOK_AT_OTHERS_S = 10.0, 1.0, 5.0
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.001, 0.2


class AtWork(NamedTuple):
    """A trial that this launcher looks after."""

    trial: Trial
    handle: Handle
    ours: bool  # our own `fit`, which says by results.json that it is done


class SweepLoop:
    """Runs the trials of a sweep that nobody else runs, until none is left.

    Args:
        sweep: what to run.
        folder: where.
        agreement: of all launchers of the folder.
        launcher: starts trials.
        retries: how often a trial that failed is started again.
        search: draws points and stops hopeless trials; None for a plain grid.
    """

    def __init__(
        self,
        sweep: Sweep,
        folder: SweepFolder,
        agreement: Agreement,
        launcher: Launcher,
        retries: int = 1,
        search: Search | None = None,
    ) -> None:
        self.sweep, self.folder, self.agreement = sweep, folder, agreement
        self.launcher, self.retries, self.search = launcher, retries, search
        self._grid: list[Point] = list(sweep.grid()) if sweep.method == "grid" else []
        self._size = sweep.size
        self._queue = deque(range(self._size))
        self._held: list[int] = []  # by other launchers, when last looked
        self._at_work: dict[int, AtWork] = {}
        self._to_be: dict[int, State] = {}  # what trials that were asked to stop will be
        self._looked_at: dict[int, float] = {}
        self._signals = 0
        self._next_beat = self._next_look = self._next_look_at_others = 0.0

    def run(self) -> bool:
        """Run; whether it was interrupted by a signal."""
        pause = _SHORTEST_PAUSE_S
        with self._signals_counted(), self.folder.alive():
            try:
                while True:
                    moved = self._collect() | (not self._signals and self._fill())
                    if not self._at_work and (self._signals or not (self._queue or self._take_from_others())):
                        break
                    self._now_and_then()
                    pause = _SHORTEST_PAUSE_S if moved else min(1.5 * pause, _LONGEST_PAUSE_S)
                    time.sleep(pause)
            except BaseException:
                self._abandon()
                raise
        return bool(self._signals)

    def _fill(self) -> bool:
        """Start as many trials as there is room for; whether any was."""
        ready: list[tuple[Trial, Job, bool]] = []
        while self._queue and len(ready) < self.launcher.room:
            number = self._queue.popleft()
            if (prepared := self._take(number)) is not None:
                ready.append(prepared)
        if not ready:
            return False
        for (trial, job, ours), handle in zip(ready, self._start(ready), strict=True):
            self._watch(trial, handle, ours)
            again = " again" if trial.starts > 1 else ""
            self._say(trial, f"started{again}{_from_checkpoint(job)}: {_told(trial.point)}")
        return True

    def _start(self, ready: list[tuple[Trial, Job, bool]]) -> list[Handle]:
        """Start trials; before that, keep what each is found by if this launcher does not live to see it start."""
        before = [replace(trial) for trial, _, _ in ready]
        references = self.launcher.references(len(ready))
        for (trial, _, _), reference in zip(ready, references, strict=True):
            trial.state, trial.reference, trial.launcher = "running", reference, self.folder.token
            trial.starts += 1
            trial.begun = time.time()
            if reference:
                self.folder.write(trial)
        try:
            return self.launcher.start([job for _, job, _ in ready], references)
        except NotTaken:
            for trial in before:
                self.folder.write(trial)
            raise

    def _take(self, number: int) -> tuple[Trial, Job, bool] | None:
        """Claim a trial and make it ready; None where there is nothing to start."""
        if not self._is_wanted(self.folder.read(number), number):
            return None
        claim = self.folder.claim(number)
        if claim is None:
            self._held.append(number)
            return None
        trial = self.folder.read(number) or self._new(number)
        if not self._is_wanted(trial, number):  # somebody was faster
            self.folder.write(replace(trial, claim=claim))
            return None
        left, trial.claim = trial.reference if trial.state == "running" else "", claim
        handle = self.launcher.recover(left) if left else None
        line = self._line(trial)
        place = self.folder.path / trial.id
        ours = fit_of(line) is not None
        if handle is not None:
            self._watch(trial, handle, ours)
            self._say(trial, f"taken over from a launcher that died, as {handle.reference}")
            return None
        if ours and (place / RESULTS).exists():  # its launcher died before it could say so
            self._settle(trial, "finished", "")
            return None
        if ours and (place / CONFIG).exists():
            line = self._resumed(trial, line, place)
        with writing(place):
            place.mkdir(parents=True, exist_ok=True)
        return trial, Job(trial.id, number, line, self._environment(trial), place, self._log(trial)), ours

    def _new(self, number: int) -> Trial:
        if self.search is None or self.sweep.method == "grid":
            point = self._grid[number]
            asked = self.search.follow(number) if self.search else None
            return Trial(number, self.sweep.trial_id(point), point, asked=asked)
        drawn = self.search.ask(number, lambda trial: self.folder.is_new(trial, number))
        if drawn is None:
            return Trial(number, f"none-{number:05d}", {}, "cancelled", reason="there is no other point left")
        return Trial(number, self.sweep.trial_id(drawn.point), drawn.point, asked=drawn.asked)

    def _is_wanted(self, trial: Trial | None, number: int) -> bool:
        if self.folder.is_cancelled(number):
            return False
        if trial is None:
            return True
        return trial.state not in OVER and not (trial.state == "failed" and trial.failures > self.retries)

    def _line(self, trial: Trial) -> list[str]:
        json_file = self.folder.trials / f"{trial.number:05d}.args.json"
        return command_line(self.sweep.command, self.sweep.program, trial.point, json_file)

    def _resumed(self, trial: Trial, line: list[str], place: Path) -> list[str]:
        """The line that goes on with a run; from the beginning where it has nothing to go on from."""
        newest = newest_checkpoint_time(place)
        stuck = trial.state == "failed" and trial.resumed_at == newest  # resumed from it before, and got no further
        if newest is None or stuck:
            with writing(place):
                if newest is None:
                    shutil.rmtree(place)
                else:  # the fault may be the machine's: what was trained is not thrown away
                    aside = place.rename(place.with_name(f".{trial.id}-{trial.starts}"))
                    self._say(trial, f"gets no further from its checkpoint and begins again; the old run is {aside}")
            trial.resumed_at = 0.0
            return line
        trial.resumed_at = newest
        return resume_line(line, place)

    def _environment(self, trial: Trial) -> dict[str, str]:
        threads = str(self.agreement.threads)
        return {
            "PATH": path_with_interpreter(),
            "WANDB_RUN_ID": trial.id,
            "WANDB_RUN_GROUP": self.sweep.name,
            TRIAL_FOLDER: str((self.folder.path / trial.id).absolute()),
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "OPENBLAS_NUM_THREADS": threads,
        }

    def _log(self, trial: Trial) -> Path:
        return self.folder.logs / f"{trial.id}.log"

    def _watch(self, trial: Trial, handle: Handle, ours: bool) -> None:
        trial.state, trial.reason = "running", ""
        trial.node, trial.reference, trial.launcher = handle.node, handle.reference, self.folder.token
        self._at_work[trial.number] = AtWork(trial, handle, ours)
        self.folder.write(trial)
        if self._signals:
            handle.stop()

    def _collect(self) -> bool:
        """Record what has ended; whether anything has."""
        ended = {number: how for number, one in self._at_work.items() if (how := one.handle.poll()) is not None}
        for number, how in ended.items():
            one = self._at_work.pop(number)
            self._record(one, how)
        return bool(ended)

    def _record(self, one: AtWork, how: Ended) -> None:
        trial, to_be = one.trial, self._to_be.pop(one.trial.number, None)
        trial.node, trial.reference = one.handle.node, one.handle.reference
        done = not one.ours or (self.folder.path / trial.id / RESULTS).exists()
        trial.seconds = round(trial.seconds + time.time() - trial.begun, 3)
        if how.outcome == "finished" and not done:
            how = Ended("failed", f"it ended without {RESULTS}")
        if how.outcome == "interrupted" and one.ours and done:
            how = Ended("finished", "")
        state: State = to_be or "interrupted" if how.outcome == "interrupted" else how.outcome
        trial.failures += state == "failed"
        if not self.folder.holds(trial.number, trial.claim):
            self._say(trial, "taken over by another launcher, which took this one for dead")
            return
        self._settle(trial, state, how.reason)
        if self._is_wanted(trial, trial.number) and not self._signals:
            self._queue.append(trial.number)

    def _settle(self, trial: Trial, state: State, reason: str) -> None:
        """Write how a trial stands now, with what its figures say."""
        metric = self.sweep.metric
        progress = read_progress(self.folder.path / trial.id, metric.name if metric else None)
        trial.state, trial.reason = state, reason
        trial.best = best_of(progress.values, metric.goal) if metric else None
        trial.epoch, trial.epochs = progress.epoch, progress.epochs
        if self.search and trial.asked is not None and not self._is_wanted(trial, trial.number):
            # the rest of its values, for others to be judged by
            self.search.is_hopeless(trial.number, trial.asked, progress.values)
            self.search.tell(trial.number, trial.asked, trial.best, state)
        self.folder.write(trial)
        value = "" if trial.best is None or metric is None else f", best {metric.name} {trial.best:.5g}"
        log = f"; see {self._log(trial)}" if state == "failed" else ""
        self._say(trial, f"{state}{f' ({reason})' if reason else ''} after {trial.seconds:.0f} s{value}{log}")

    def _now_and_then(self) -> None:
        """Signs of life, trials that nobody wants any more, figures of the others."""
        now = time.monotonic()
        if now >= self._next_beat:
            self.folder.beat()
            self._next_beat = now + _BEAT_S
        if now >= self._next_look:
            for number, one in self._at_work.items():
                told = one.handle.node, one.handle.reference  # it has left the cluster's queue, moved, or was found
                if told != (one.trial.node, one.trial.reference) and self.folder.holds(number, one.trial.claim):
                    one.trial.node, one.trial.reference = told
                    self.folder.write(one.trial)
                if number not in self._to_be and (state := self._verdict(number, one)) is not None:
                    self._to_be[number] = state
                    one.handle.stop()
            self._next_look = now + _LOOK_S
        if self._held and now >= self._next_look_at_others:
            self._take_from_others()

    def _verdict(self, number: int, one: AtWork) -> State | None:
        """What a trial is to be that should be stopped now; None for one that goes on."""
        if self.folder.is_cancelled(number):
            return "cancelled"
        if not self.folder.holds(number, one.trial.claim):
            return "interrupted"
        if self.search is None or self.sweep.stopping is None or one.trial.asked is None or self.sweep.metric is None:
            return None
        place = self.folder.path / one.trial.id
        try:
            written = (place / METRICS).stat().st_mtime
        except OSError:
            return None
        if self._looked_at.get(number) == written:
            return None
        self._looked_at[number] = written
        values = read_progress(place, self.sweep.metric.name).values
        return "pruned" if self.search.is_hopeless(number, one.trial.asked, values) else None

    def _take_from_others(self) -> bool:
        """Queue what other launchers held and hold no more; whether there is any such trial."""
        self._next_look_at_others = time.monotonic() + _LOOK_AT_OTHERS_S
        free = [number for number in self._held if self.folder.holder(number) is None]
        self._held = [number for number in self._held if number not in free]
        free = [number for number in free if self._is_wanted(self.folder.read(number), number)]
        self._queue.extend(free)
        return bool(free)

    @property
    def held(self) -> list[int]:
        """Trials that other launchers are at work on."""
        return list(self._held)

    def _abandon(self) -> None:
        """End all trials before this launcher ends by an error, and keep what can be kept."""
        for one in self._at_work.values():
            one.handle.stop()
        while self._at_work:
            with suppress(UserError):
                self._collect()
            time.sleep(_LONGEST_PAUSE_S)

    def _say(self, trial: Trial, text: str) -> None:
        print(f"trial {trial.number + 1} of {self._size}, {trial.id}: {text}", flush=True)

    @contextmanager
    def _signals_counted(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM ask trials to save and end; a second one ends them at once."""

        def count(number: int, frame: FrameType | None) -> None:
            self._signals += 1
            for one in list(self._at_work.values()):
                one.handle.stop(now=self._signals > 1)
            if self._signals == 1:
                print("stopping: trials save what they have; once more ends them at once", file=sys.stderr, flush=True)

        kinds = [kind for kind in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if _is_heard(kind)]
        before = {kind: signal.signal(kind, count) for kind in kinds}
        try:
            yield
        finally:
            for kind, handler in before.items():
                signal.signal(kind, handler)


def states_of(folder: SweepFolder, size: int) -> Counter[str]:
    """How many trials stand how."""
    return Counter(folder.standing(number, folder.read(number)) for number in range(size))


def _is_heard(kind: signal.Signals) -> bool:
    """Whether a signal is not ignored, as nohup has it."""
    return signal.getsignal(kind) is not signal.SIG_IGN


def _from_checkpoint(job: Job) -> str:
    return " from its checkpoint" if "resume" in job.command else ""


def _told(point: Point) -> str:
    told = " ".join(f"{key}={value}" for key, value in point.items())
    return told if len(told) <= 200 else f"{told[:197]}..."
