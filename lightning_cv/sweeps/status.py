"""How a sweep stands, from its folder alone: a table for people, JSON for programs. Nothing heavy is imported."""

import time
from collections import Counter
from dataclasses import asdict, dataclass

from lightning_cv.sweeps.folder import Agreement, SweepFolder, Trial
from lightning_cv.sweeps.progress import best_of, read_progress
from lightning_cv.sweeps.spec import Metric


@dataclass
class Row:
    """One trial, as it is shown."""

    number: int
    id: str
    state: str
    point: dict[str, object]
    epoch: int | None
    epochs: int | None
    best: float | None
    seconds: float
    eta: float | None
    """Seconds until its end, if its epochs go on taking as long as they did."""
    node: str
    reason: str
    starts: int


def rows_of(folder: SweepFolder, agreement: Agreement) -> list[Row]:
    """All trials that were ever started or asked to be left out; of the others, only their number is known."""
    metric = metric_of(agreement)
    living = {folder.token, *folder.living()}
    return [_row(folder, number, metric, living) for number in range(agreement.size)]


def metric_of(agreement: Agreement) -> Metric | None:
    """The sweep's metric."""
    if agreement.metric is None:
        return None
    name, goal = agreement.metric
    return Metric(name, "maximize" if goal == "maximize" else "minimize")


def _row(folder: SweepFolder, number: int, metric: Metric | None, living: set[str]) -> Row:
    trial = folder.read(number)
    state: str = folder.standing(number, trial)
    if trial is None:
        return Row(number, "", state, {}, None, None, None, 0.0, None, "", "", 0)
    if state == "running" and trial.launcher not in living:
        state = "lost"  # its launcher died: the next launch goes on with it
    row = Row(
        number, trial.id, state, trial.point, trial.epoch, trial.epochs, trial.best, trial.seconds, None,
        trial.node, trial.reason, trial.starts,
    )  # fmt: skip
    if trial.state == "running":
        _look(row, trial, folder, metric)
    return row


def _look(row: Row, trial: Trial, folder: SweepFolder, metric: Metric | None) -> None:
    """Fill in what a trial at work says itself."""
    progress = read_progress(folder.path / trial.id, metric.name if metric else None)
    row.epoch, row.epochs = progress.epoch, progress.epochs
    row.best = best_of(progress.values, metric.goal) if metric else None
    if row.state == "running":
        row.seconds = round(trial.seconds + time.time() - trial.begun, 1)
        if row.epoch and row.epochs:
            row.eta = round(row.seconds / row.epoch * (row.epochs - row.epoch), 1)


def eta_of(rows: list[Row]) -> float | None:
    """Seconds until the sweep is done, if trials go on taking what finished ones took, as many at once as now."""
    took = [row.seconds for row in rows if row.state in ("finished", "pruned")]
    at_once = sum(row.state == "running" for row in rows)
    left = sum(row.state in ("waiting", "running", "interrupted", "lost") for row in rows)
    if not took or not at_once:
        return None
    return round(sum(took) / len(took) * left / at_once, 1)


def as_json(agreement: Agreement, rows: list[Row]) -> dict[str, object]:
    """The status for programs."""
    return {
        "name": agreement.name,
        "method": agreement.method,
        "metric": agreement.metric,
        "threads": agreement.threads,
        "states": dict(Counter(row.state for row in rows)),
        "eta": eta_of(rows),
        "trials": [asdict(row) for row in rows],
    }


def table(agreement: Agreement, rows: list[Row]) -> str:
    """The status for people."""
    metric = metric_of(agreement)
    head = ["trial", "id", "state", "epoch", f"best {metric.name}" if metric else "best", "time", "to go", "node", ""]
    cells = [head, *(_cells(row) for row in rows if row.id or row.state != "waiting")]
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    states = Counter(row.state for row in rows)
    told = ", ".join(f"{count} {state}" for state, count in states.most_common())
    left = eta_of(rows)
    lines.append(f"{agreement.name}: {len(rows)} trials: {told}{f'; about {clock(left)} to go' if left else ''}")
    return "\n".join(lines)


def _cells(row: Row) -> list[str]:
    epoch = "" if row.epoch is None else f"{row.epoch}/{row.epochs or '?'}"
    best = "" if row.best is None else f"{row.best:.5g}"
    point = " ".join(f"{key}={value}" for key, value in row.point.items())
    told = point if len(point) <= 60 else f"{point[:57]}..."
    words = f"{told} ({row.reason})" if row.reason else told
    eta = "" if row.eta is None else clock(row.eta)
    return [str(row.number + 1), row.id, row.state, epoch, best, clock(row.seconds), eta, row.node, words]


def clock(seconds: float) -> str:
    """Hours, minutes and seconds.

    >>> clock(3725.2)
    '1:02:05'
    """
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
