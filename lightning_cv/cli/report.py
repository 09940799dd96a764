"""`lightning-cv report`: one page about all runs below a folder, finished or not."""

import argparse
import sys
from pathlib import Path

from lightning_cv.errors import UserError


def main(argv: list[str]) -> int:
    """Read the runs, write the page; 0 when all runs are whole, 1 when some are not."""
    options = _parser().parse_args(argv)
    from lightning_cv.cli.sweep_runs import read_runs
    from lightning_cv.tools.sweep_report import sweep_of, write_sweep_report
    from lightning_cv.tools.sweep_table import Monitor

    runs = read_runs(options.folders)
    metric = Monitor(options.metric, "min" if options.minimize else "max") if options.metric else None
    if metric and not any(metric.name in run.figures for run in runs):
        known = sorted({key for run in runs for key in run.figures if key.startswith(("val/", "test/"))})
        raise UserError(f"--metric {metric.name}: no run has such a figure; there are {', '.join(known) or 'none'}")
    out: Path = options.out or options.folders[0] / "report"
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {out}: {error.strerror}; choose another with --out") from error
    title = options.title or " and ".join(folder.resolve().name for folder in options.folders)
    page = write_sweep_report(sweep_of(runs, metric), out, title)
    partial = [run for run in runs if run.state != "finished" or run.notes]
    for run in partial:
        print(f"{run.name}: {run.state}{''.join(f'; {note}' for note in run.notes)}", file=sys.stderr)
    print(f"{len(runs) - len(partial)} of {len(runs)} runs are whole\nreport: {page}\ntable: {out / 'runs.csv'}")
    return 1 if partial else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lightning-cv report",
        description="Compare runs: which settings differ, what came out, curves against each swept setting with their "
        "spread over seeds, how much each setting mattered, pictures lined up. One HTML file, a CSV, and PNGs.",
    )
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="runs, or folders with runs below them")
    parser.add_argument("--out", type=Path, help="folder of the report (default: FOLDER/report)")
    parser.add_argument("--metric", help="figure that runs are compared by (default: their best checkpoint's)")
    parser.add_argument("--minimize", action="store_true", help="the smallest --metric is the best")
    parser.add_argument("--title", help="of the page (default: the folder's name)")
    return parser
