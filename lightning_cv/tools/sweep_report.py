"""The page about a sweep: tables, figures against what was swept, pictures. It reads no folder: it gets `Run`s."""

import csv
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from lightning_cv.tools.report import Cell, Figure, Headline, Report, Section, Table, write_report
from lightning_cv.tools.sweep_table import (
    COSTS,
    SEED,
    Importance,
    Monitor,
    Run,
    common_monitor,
    differing_keys,
    evaluation_figures,
    importances,
    is_number,
    numeric_keys,
    short,
)
from lightning_cv.viz.canvas import Picture
from lightning_cv.viz.rate_distortion import RatePoint, rate_distortion
from lightning_cv.viz.sweep import (
    Axis,
    Series,
    Trace,
    bars,
    figures_against,
    importance_bars,
    lined_up,
    parallel_coordinates,
    training_curves,
)

MOST_PANELS, MOST_GROUPS, MOST_LINED_UP, MOST_FIGURE_AXES, MOST_BARS = 12, 8, 6, 4, 16
BETA = "model.beta"


class Sweep(NamedTuple):
    """Runs with what they have in common."""

    runs: Sequence[Run]
    keys: Sequence[str]  # settings that differ
    figures: dict[str, str]  # name of each figure to compare, and its key
    monitor: Monitor | None

    def label(self, key: str) -> str:
        """A setting's short name."""
        return "seed" if key == SEED else short(key, self.keys)

    @property
    def costs(self) -> dict[str, str]:
        """Name and key of what each run took, as far as any says it."""
        return {name: key for name, key in COSTS.items() if any(key in run.figures for run in self.runs)}

    @property
    def finished(self) -> list[Run]:
        """Runs whose figures are final."""
        return [run for run in self.runs if run.state == "finished"]


def sweep_of(runs: Sequence[Run], metric: Monitor | None = None) -> Sweep:
    """What differs between the runs and what can be compared."""
    return Sweep(runs, differing_keys(runs), evaluation_figures(runs), metric or common_monitor(runs))


def write_sweep_report(sweep: Sweep, out: Path, title: str) -> Path:
    """`report.html`, `runs.csv` and each picture as a PNG of its own in a folder; the page."""
    pictures = sweep_pictures(sweep)
    for name, figure in pictures.items():
        assert isinstance(figure.image, np.ndarray)
        Image.fromarray(figure.image).save(out / f"{name}.png")
    _write_csv(sweep, out / "runs.csv")
    return write_report(_page(sweep, pictures, title), out / "report.html")


def sweep_pictures(sweep: Sweep) -> dict[str, Figure]:
    """The drawings that the runs have the figures for, by name."""
    found: dict[str, Figure | None] = {"rate_distortion": _rate_distortion(sweep), "training": _training(sweep)}
    found |= {f"against_{sweep.label(key)}": _against(sweep, key) for key in numeric_keys(sweep.finished, sweep.keys)}
    found |= {"bars": _bars(sweep), "parallel": _parallel(sweep), "importance": _importance_figure(sweep)}
    found |= {f"lined_up_{kind}": _previews(sweep, kind) for kind in _kinds(sweep)}
    return {name: figure for name, figure in found.items() if figure is not None}


def _page(sweep: Sweep, pictures: dict[str, Figure], title: str) -> Report:
    states = Counter(run.state for run in sweep.runs)
    swept = [sweep.label(key) for key in sweep.keys]
    summary = f"{len(sweep.runs)} runs: " + ", ".join(f"{count} {state}" for state, count in states.items()) + ". "
    summary += f"They differ in {', '.join(swept)}." if swept else "Their settings are the same."
    drawn = [figure for name, figure in pictures.items() if not name.startswith("lined_up_")]
    lined = [figure for name, figure in pictures.items() if name.startswith("lined_up_")]
    sections = [Section("Figures", figures=drawn)] if drawn else []
    if lined:
        sections.append(Section("Pictures", "Of one run each, the one with the smallest seed.", figures=lined))
    sections.append(Section("Runs", tables=[table for table in (_runs_table(sweep), _troubles(sweep)) if table.rows]))
    return Report(title, summary, _headlines(sweep), sections)


def _headlines(sweep: Sweep) -> list[Headline]:
    tiles = [Headline(f"{len(sweep.finished)} of {len(sweep.runs)}", "runs finished")]
    if best := _best_run(sweep):
        run, value = best
        assert sweep.monitor is not None
        tiles.append(Headline(f"{value:.4g}", f"best {sweep.monitor.name}: {_told(run, sweep) or run.name}"))
    if shares := _importances(sweep):
        tiles.append(Headline(sweep.label(shares[0].key), f"mattered most ({shares[0].share:.0%} of the variance)"))
    return tiles


def _best_run(sweep: Sweep) -> tuple[Run, float] | None:
    if sweep.monitor is None:
        return None
    scored = [(run, value) for run in sweep.runs if (value := run.best(sweep.monitor)) is not None]
    choose = max if sweep.monitor.mode == "max" else min
    return choose(scored, key=lambda pair: pair[1]) if scored else None


def _told(run: Run, sweep: Sweep) -> str:
    """What sets a run apart, in words."""
    return ", ".join(f"{sweep.label(key)} {_short_value(run.settings.get(key))}" for key in sweep.keys)


def _short_value(value: Any) -> str:  # Any: a YAML value
    if is_number(value):
        return f"{value:g}"
    return value.rpartition(".")[2] if isinstance(value, str) else "-" if value is None else str(value)


def _cells(run: Run, sweep: Sweep) -> list[Cell]:
    settings: list[Cell] = [
        value if is_number(value := run.settings.get(key)) else _short_value(value) for key in sweep.keys
    ]
    best = [run.best(sweep.monitor)] if sweep.monitor else []
    keys = [*sweep.figures.values(), *sweep.costs.values()]
    return [run.name, run.state, *settings, *best, *(run.figures.get(key) for key in keys)]


def _columns(sweep: Sweep) -> list[str]:
    best = [f"best {sweep.monitor.name}"] if sweep.monitor else []
    return ["run", "state", *map(sweep.label, sweep.keys), *best, *sweep.figures.values(), *sweep.costs]


def _runs_table(sweep: Sweep) -> Table:
    caption = "Figures are those of the last validation and of the last test; best is over all validations."
    rows = [_cells(run, sweep) for run in _ordered(sweep)]
    return Table("", _columns(sweep), rows, caption=caption, code=["run"])


def _ordered(sweep: Sweep) -> list[Run]:
    """Best first; runs without the figure last."""
    sign = -1 if sweep.monitor and sweep.monitor.mode == "max" else 1
    values = {run.name: run.best(sweep.monitor) if sweep.monitor else None for run in sweep.runs}

    def place(run: Run) -> float:
        value = values[run.name]
        return math.inf if value is None else sign * value

    return sorted(sweep.runs, key=place)


def _troubles(sweep: Sweep) -> Table:
    rows = [
        [run.name, run.state, "; ".join(run.notes) or "no results yet", str(run.folder)]
        for run in sweep.runs
        if run.notes or run.state != "finished"
    ]
    return Table("Runs that are not whole", ["run", "state", "what is missing", "folder"], rows, code=["run", "folder"])


def _write_csv(sweep: Sweep, path: Path) -> None:
    """Every run with full keys of settings and all of its figures."""
    figures = list(dict.fromkeys(key for run in sweep.runs for key in run.figures))
    best = [f"best {sweep.monitor.name}"] if sweep.monitor else []
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["run", "state", "folder", *sweep.keys, *best, *figures])
        for run in sweep.runs:
            chosen = [run.best(sweep.monitor)] if sweep.monitor else []
            cells = [
                *(run.settings.get(key) for key in sweep.keys),
                *chosen,
                *(run.figures.get(key) for key in figures),
            ]
            writer.writerow([run.name, run.state, run.folder, *("" if cell is None else cell for cell in cells)])


def _rate_distortion(sweep: Sweep) -> Figure | None:
    """Of runs that report both terms of an ELBO."""
    kl, reconstruction = sweep.figures.get("kl"), sweep.figures.get("reconstruction")
    if kl is None or reconstruction is None:
        return None
    points = [
        RatePoint(
            float(run.settings[BETA]), int(run.settings.get(SEED) or 0), run.figures[kl], run.figures[reconstruction]
        )
        for run in sweep.finished
        if is_number(run.settings.get(BETA)) and kl in run.figures and reconstruction in run.figures
    ]
    if not points:
        return None
    part = kl.partition("/")[0]
    return Figure(
        "Rate and distortion",
        rate_distortion(points),
        f"A point a run, {part} images; thin lines join a seed.",
        fit=True,
    )


def _against(sweep: Sweep, key: str) -> Figure | None:
    """Each figure against one setting; runs that differ in other settings are other lines."""
    others = [other for other in sweep.keys if other not in (key, SEED)]
    groups: dict[str, list[Run]] = {}
    for run in sweep.finished:
        told = ", ".join(f"{sweep.label(other)} {_short_value(run.settings.get(other))}" for other in others)
        groups.setdefault(told, []).append(run)
    if len(groups) > MOST_GROUPS:
        groups = {"all runs": sweep.finished}
    panels = {}
    for figure in list(sweep.figures.values())[:MOST_PANELS]:
        series = [
            Series(told, points)
            for told, runs in groups.items()
            if (points := [(float(run.settings[key]), run.figures[figure]) for run in runs if _has(run, figure)])
        ]
        if series:
            panels[figure] = series
    caption = "A dot a run, lines through means, bands of one standard deviation over runs of the same settings."
    title = f"Figures against {sweep.label(key)}"
    return Figure(title, figures_against(sweep.label(key), panels), caption, wide=True) if panels else None


def _has(run: Run, figure: str) -> bool:
    return math.isfinite(run.figures.get(figure, math.nan))


def _bars(sweep: Sweep) -> Figure | None:
    """Of sweeps over words, classes of nets for example: what each of them reached and took."""
    keys = [key for key in sweep.keys if key != SEED]
    words = set(keys) - set(numeric_keys(sweep.finished, keys))
    if sweep.monitor is None or not words:
        return None
    groups: dict[str, list[Run]] = {}
    for run in _ordered(sweep):
        if run.state == "finished" and run.best(sweep.monitor) is not None:
            groups.setdefault(_told_briefly(run, keys, sweep), []).append(run)
    if not 1 < len(groups) <= MOST_BARS:
        return None
    monitor = sweep.monitor
    panels = {f"best {monitor.name}": {told: [run.best(monitor) for run in runs] for told, runs in groups.items()}}
    for name, key in sweep.costs.items():
        panels[name] = {told: [run.figures.get(key) for run in runs] for told, runs in groups.items()}
    known = {
        name: {told: [value for value in values if value is not None] for told, values in panel.items()}
        for name, panel in panels.items()
    }
    caption = "Bars are means over runs of the same settings; where there are several, each is a dot."
    return Figure("Side by side", bars(known), caption, wide=len(known) > 1)


def _told_briefly(run: Run, keys: Sequence[str], sweep: Sweep) -> str:
    """The words of a run's settings; numbers with the name of their setting."""
    parts = []
    for key in keys:
        if (value := run.settings.get(key)) is not None:
            parts.append(f"{sweep.label(key)} {value:g}" if is_number(value) else _short_value(value))
    return ", ".join(parts)


def _training(sweep: Sweep) -> Figure | None:
    if sweep.monitor is None:
        return None
    name = sweep.monitor.name
    keys = [key for key in sweep.keys if key != SEED][:2]
    traces = [
        Trace(", ".join(f"{sweep.label(key)} {_short_value(run.settings.get(key))}" for key in keys), run.curves[name])
        for run in sorted(sweep.runs, key=lambda run: _sort_key(run, keys))
        if len(run.curves.get(name, [])) > 1
    ]
    caption = "A line a run, unfinished ones too."
    return Figure("Over training", training_curves(name, traces), caption, fit=True) if traces else None


def _parallel(sweep: Sweep) -> Figure | None:
    keys = [key for key in sweep.keys if key != SEED] or list(sweep.keys)
    if sweep.monitor is None or not keys:
        return None
    scored = [(run, value) for run in sweep.finished if (value := run.best(sweep.monitor)) is not None]
    if len(scored) < 2:
        return None
    axes = []
    for key in keys:
        column: list[Any] = [run.settings.get(key) for run, _ in scored]  # Any: what YAML holds
        words = [_short_value(value) for value in column]
        axes.append(Axis(sweep.label(key), column if all(map(is_number, column)) else words))
    known = [key for key in sweep.figures.values() if all(_has(run, key) for run, _ in scored)]
    axes += [Axis(key, [run.figures[key] for run, _ in scored]) for key in known[:MOST_FIGURE_AXES]]
    axes.append(Axis(f"best {sweep.monitor.name}", [value for _, value in scored]))
    caption = "A line a finished run, coloured by the last axis."
    return Figure("Parallel coordinates", parallel_coordinates(axes), caption, wide=len(axes) > 4)


def _importances(sweep: Sweep) -> list[Importance]:
    if sweep.monitor is None:
        return []
    scored = [(run.settings, value) for run in sweep.finished if (value := run.best(sweep.monitor)) is not None]
    return importances([settings for settings, _ in scored], [value for _, value in scored], sweep.keys)


def _importance_figure(sweep: Sweep) -> Figure | None:
    shares = _importances(sweep)
    if not shares or sweep.monitor is None:
        return None
    methods = " and ".join(dict.fromkeys(one.method for one in shares))
    drawn = importance_bars([(sweep.label(one.key), one.share) for one in shares], f"best {sweep.monitor.name}")
    caption = f"Each setting alone: {methods}. What settings do only together is not seen."
    return Figure("What mattered", drawn, caption, fit=True)


def _kinds(sweep: Sweep) -> list[str]:
    return list(dict.fromkeys(kind for run in sweep.runs for kind in run.previews))


def _previews(sweep: Sweep, kind: str) -> Figure | None:
    """One kind of preview beside each other, a run for every setting but the seed."""
    keys = [key for key in sweep.keys if key != SEED]
    chosen: dict[str, Run] = {}
    for run in sorted(sweep.runs, key=lambda run: _sort_key(run, [*keys, SEED])):
        if kind in run.previews:
            told = ", ".join(f"{sweep.label(key)} {_short_value(run.settings.get(key))}" for key in keys)
            chosen.setdefault(told or run.name, run)
    if not chosen:
        return None
    shown = _spread(list(chosen.items()), MOST_LINED_UP)
    pictures = {told: _opened(run.previews[kind]) for told, run in shown}
    left_out = len(chosen) - len(shown)
    caption = f"{left_out} more settings are left out." if left_out else ""
    return Figure(kind.capitalize(), lined_up(pictures), caption, wide=True)


def _sort_key(run: Run, keys: Sequence[str]) -> list[tuple[bool, float, str]]:
    """Numbers by size, then words."""
    values: list[Any] = [run.settings.get(key) for key in keys]  # Any: what YAML holds
    return [(not is_number(value), float(value) if is_number(value) else 0.0, str(value)) for value in values]


def _spread(items: list[tuple[str, Run]], most: int) -> list[tuple[str, Run]]:
    """At most so many, evenly chosen, both ends included."""
    if len(items) <= most:
        return items
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]


def _opened(path: Path) -> Picture:
    with Image.open(path) as picture:
        return np.array(picture.convert("RGB"))
