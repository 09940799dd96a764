"""`lightning-cv sweep`: run a W&B sweep file here, and see, cancel or retry its trials."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_cv.errors import UserError
from lightning_cv.sweeps.folder import SWEEP, Agreement, SweepFolder, Trial

if TYPE_CHECKING:
    from lightning_cv.sweeps.launcher import Launcher
    from lightning_cv.sweeps.spec import Sweep  # reads YAML, which `status` has no time for

SWEEPS = Path("runs/sweeps")


def main(argv: list[str]) -> int:
    """Run a sweep, or one of `status`, `cancel`, `retry` on the folder of one."""
    verbs: dict[str, Callable[[list[str]], int]] = {"status": _status, "cancel": _cancel, "retry": _retry}
    if argv and argv[0] in verbs:
        return verbs[argv[0]](argv[1:])
    return _run(argv)


def _run(argv: list[str]) -> int:
    options = _parser().parse_args(argv)
    from lightning_cv.sweeps.check import refuse_settings
    from lightning_cv.sweeps.command import command_line, path_with_interpreter
    from lightning_cv.sweeps.local import refuse_missing_program
    from lightning_cv.sweeps.run import SweepLoop, states_of
    from lightning_cv.sweeps.search import Search
    from lightning_cv.sweeps.spec import read_sweep, refuse_size

    for name, least in (("jobs", 1), ("threads", 1), ("retries", 0), ("count", 1)):
        value = getattr(options, name)
        if value is not None and value < least:
            raise UserError(f"--{name} must be at least {least}, got {value}")
    file = find_sweep(options.file)
    sweep = read_sweep(file)
    if options.count is not None:
        sweep = sweep._replace(run_cap=options.count)
    refuse_size(sweep, options.yes)
    folder = SweepFolder(options.folder or SWEEPS / sweep.name)
    if not (folder.path / SWEEP).exists():  # one that was begun has passed
        line = command_line(sweep.command, sweep.program, {})
        refuse_missing_program(line, path_with_interpreter(), sweep.file)
        refuse_settings(sweep)
    launcher, at_once = _launcher(options, folder, sweep)
    agreement = folder.agree(sweep, options.threads, options.seed)
    search = None
    if sweep.method != "grid" or sweep.stopping is not None:
        search = Search(sweep, folder.journal, agreement.seed)
    states_of(folder, sweep.size)  # what is damaged is told before anything starts
    loop = SweepLoop(sweep, folder, agreement, launcher, options.retries, search)
    print(f"sweep {sweep.name}: {sweep.size} trials in {folder.path}, {at_once} at once", flush=True)
    interrupted = loop.run()
    states = states_of(folder, sweep.size)
    print(f"sweep {sweep.name}: " + ", ".join(f"{count} {state}" for state, count in states.most_common()))
    if loop.held:
        others = ", ".join(folder.living()) or "one that died just now, whose trials are free in two minutes"
        print(f"{len(loop.held)} trials are with another launcher: {others}")
    if interrupted:
        print("the same command goes on with it", file=sys.stderr)
        return 130
    if states["failed"]:
        print(f"look into {folder.logs}, then: lightning-cv sweep retry {folder.path}", file=sys.stderr)
        return 1
    print(f"next: lightning-cv report {folder.path}")
    return 0


def _launcher(options: argparse.Namespace, folder: SweepFolder, sweep: "Sweep") -> "tuple[Launcher, int]":
    """The launcher that was asked for, and how many trials it runs at once."""
    if options.launcher == "slurm":
        from lightning_cv.sweeps.cluster import read_cluster
        from lightning_cv.sweeps.slurm import SlurmLauncher

        flags = {name: getattr(options, name) for name in ("partition", "time", "nodes", "memory", "queue")}
        gpus = _count(options.gpus) if options.gpus else None
        cluster = read_cluster(options.cluster, flags | {"gpus": gpus, "parallelism": options.jobs})
        # a search learns from trials that have ended: it draws no more than run at once
        most = None if sweep.method == "grid" else cluster.parallelism
        return SlurmLauncher(cluster, folder.path, sweep.name, most), cluster.parallelism
    from lightning_cv.sweeps.local import LocalLauncher, visible_gpus

    shared = options.gpus.split(",") if options.gpus else visible_gpus()
    jobs = options.jobs or max(1, len(shared))
    return LocalLauncher(jobs, shared, options.grace), jobs


def _count(gpus: str) -> int:
    if not gpus.isdigit():
        raise UserError(f"--gpus is a number of GPUs a machine with --launcher slurm, got {gpus}")
    return int(gpus)


def _status(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="lightning-cv sweep status", description="How the trials of a sweep stand.")
    _add_place(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    options = parser.parse_args(argv)
    from lightning_cv.sweeps.status import as_json, rows_of, table

    folder, agreement = _open(options.place)
    rows = rows_of(folder, agreement)
    print(json.dumps(as_json(agreement, rows), indent=1) if options.json else table(agreement, rows))
    return 0


def _cancel(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="lightning-cv sweep cancel",
        description="Leave trials out: those at work are asked to save and end, the others are not started.",
    )
    _add_place(parser)
    parser.add_argument("trials", nargs="*", metavar="TRIAL", help="id or number of a trial (default: all unfinished)")
    options = parser.parse_args(argv)
    folder, agreement = _open(options.place)
    chosen = _chosen(folder, agreement, options.trials)
    left = [number for number, trial in chosen if trial is None or trial.state not in ("finished", "pruned")]
    for number in left:
        folder.wish(number, wanted=False)
    print(f"{len(left)} trials cancelled; `lightning-cv sweep retry` takes it back")
    return 0


def _retry(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="lightning-cv sweep retry",
        description="Let the next launch start trials that failed or were cancelled, with all their retries.",
    )
    _add_place(parser)
    parser.add_argument("trials", nargs="*", metavar="TRIAL", help="id or number of a trial (default: all such trials)")
    options = parser.parse_args(argv)
    folder, agreement = _open(options.place)
    count = 0
    with folder.alive():
        for number, trial in _chosen(folder, agreement, options.trials):
            unwanted = folder.is_cancelled(number)
            again = trial is not None and trial.state in ("failed", "cancelled", "interrupted") and bool(trial.point)
            if not (unwanted or again):
                continue
            folder.wish(number, wanted=True)
            if trial is not None and again:
                claim = folder.claim(number)
                if claim is None:
                    continue  # somebody is at work on it
                folder.write(replace(trial, state="waiting", failures=0, reason="", claim=claim))
            count += 1
    print(f"{count} trials will run again: launch the sweep as before")
    return 0


def find_sweep(name: str) -> Path:
    """The file of a sweep: a path, or its name among ./experiments/sweeps or those of the package."""
    from lightning_cv.cli.experiments import shipped_experiments

    own = f"{name.removesuffix('.yaml').removeprefix('experiments/').removeprefix('sweeps/')}.yaml"
    places = [Path(name), *(root / "sweeps" / own for root in (Path("experiments"), shipped_experiments()))]
    for place in places:
        if place.is_file():
            return place
    known = ", ".join(sorted(path.stem for path in (shipped_experiments() / "sweeps").glob("*.yaml")))
    raise UserError(f"no sweep file {name}; the package has {known}")


def _open(place: Path) -> tuple[SweepFolder, Agreement]:
    """The folder of a sweep, given itself or by its file."""
    if not place.is_dir():
        from lightning_cv.sweeps.spec import read_sweep  # a YAML file is slow to read

        place = SWEEPS / read_sweep(find_sweep(str(place))).name
    folder = SweepFolder(place)
    return folder, folder.agreement()


def _chosen(folder: SweepFolder, agreement: Agreement, asked: Sequence[str]) -> list[tuple[int, Trial | None]]:
    trials = [(number, folder.read(number)) for number in range(agreement.size)]
    if not asked:
        return trials
    names = {str(number + 1): number for number, _ in trials} | {trial.id: n for n, trial in trials if trial}
    for name in asked:
        if name not in names:
            raise UserError(
                f"{folder.path} has no trial {name}; a trial is named by its number or its id, see `status`"
            )
    return [trials[names[name]] for name in dict.fromkeys(asked)]


def _add_place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("place", type=Path, metavar="FOLDER|FILE", help="folder of the sweep, or its file")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lightning-cv sweep",
        description="Run the trials of a W&B sweep file, each in a folder of its own. The same command again goes on: "
        "finished trials are skipped, interrupted ones resumed; several launchers may share one folder. "
        "Also: sweep status, sweep cancel, sweep retry FOLDER|FILE.",
    )
    parser.add_argument("file", metavar="FILE", help="sweep file, or the name of one, such as beta_dsprites")
    parser.add_argument(
        "--launcher",
        choices=["local", "slurm"],
        default="local",
        help="local: processes of this machine; slurm: arrays of jobs, which this command submits and watches",
    )
    parser.add_argument("--jobs", type=int, help="trials at once (default: one a GPU, else 1)")
    parser.add_argument("--gpus", metavar="IDS", help="GPUs to share out, such as 0,1 (default: all that are visible)")
    parser.add_argument("--threads", type=int, help="threads a trial; kept in the sweep's folder (default 1)")
    parser.add_argument("--seed", type=int, help="of random and bayes; kept in the sweep's folder (default 0)")
    parser.add_argument("--folder", type=Path, help=f"of the sweep (default {SWEEPS}/NAME)")
    parser.add_argument("--retries", type=int, default=1, help="starts after a failure (default %(default)s)")
    parser.add_argument("--count", type=int, help="trials in all, instead of the file's run_cap")
    parser.add_argument(
        "--grace", type=float, default=30.0, metavar="S", help="seconds to save in (default %(default)g)"
    )
    slurm = parser.add_argument_group("with --launcher slurm", "what a trial gets; --jobs is how many run at once")
    slurm.add_argument("--cluster", type=Path, metavar="FILE", help="these and more (default ./cluster.yaml if there)")
    slurm.add_argument("--partition", help="of the cluster (default: the cluster's own)")
    slurm.add_argument("--time", metavar="LIMIT", help="minutes or hours:minutes:seconds of a job (default 60)")
    slurm.add_argument(
        "--nodes", type=int, help="machines of a trial (default 1); --gpus N is how many each of them has"
    )
    slurm.add_argument("--memory", help="of each machine, such as 16GB")
    slurm.add_argument("--queue", type=int, help="jobs waiting and running at most (default 1000)")
    parser.add_argument("--yes", action="store_true", help="run more than 10,000 trials")
    return parser
