"""What a sweep's launcher costs: 1,000 trials that do nothing, against their commands started one after the other.

`python benchmarks/sweep_overhead.py`, with --jobs N for more at once, --method random or bayes for a
search. And what `sweep status` takes.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SWEEP = """\
program: "true"
command: ["${{program}}", "${{args}}"]
method: {method}
run_cap: {trials}
metric: {{name: x, goal: minimize}}
parameters: {{number: {{min: 1, max: {largest}}}, size: {{values: [{sizes}]}}}}
"""
COMMAND = [sys.executable, "-m", "lightning_cv", "sweep"]


def bare(trials: int) -> float:
    """Seconds of the commands alone."""
    begun = time.perf_counter()
    for number in range(1, trials + 1):
        subprocess.run(["true", f"--number={number}"], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def timed(words: list[str], folder: Path) -> tuple[float, str]:
    """Seconds of one of our commands, its start included, and what it said."""
    begun = time.perf_counter()
    done = subprocess.run([*COMMAND, *words], cwd=folder, check=True, capture_output=True, text=True)
    return time.perf_counter() - begun, done.stdout


def processor_seconds() -> float:
    """Of all children that have ended, theirs included."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--method", choices=["grid", "random", "bayes"], default="grid")
    options = parser.parse_args()
    os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        # a search that has drawn most points of a small grid would measure its redraws
        largest, sizes = (options.trials, "1") if options.method == "grid" else (1000 * options.trials, "1, 2, 3")
        sweep = SWEEP.format(trials=options.trials, method=options.method, largest=largest, sizes=sizes)
        (folder / "s.yaml").write_text(sweep)
        alone = bare(options.trials)
        used = processor_seconds()
        swept, _ = timed(["s.yaml", "--jobs", str(options.jobs)], folder)
        used = processor_seconds() - used
        again, _ = timed(["s.yaml"], folder)
        status, said = timed(["status", "runs/sweeps/s", "--json"], folder)
        table, _ = timed(["status", "runs/sweeps/s"], folder)
        assert json.loads(said)["states"] == {"finished": options.trials}
    overhead = 1000 * (swept - alone) / options.trials
    print(f"{options.trials} trials of a {options.method} sweep, {options.jobs} at once, {os.cpu_count()} cores")
    print(f"commands alone {alone:.2f} s, sweep {swept:.2f} s: {overhead:.2f} ms a trial (at most 20 are allowed)")
    print(f"processor time of the sweep and its commands {used:.2f} s: {1000 * used / options.trials:.2f} ms a trial")
    print(f"the finished sweep again {again:.2f} s; status --json {status:.2f} s, as a table {table:.2f} s (at most 1)")
    return 0 if overhead <= 20 and max(status, table) < 1 else 1


if __name__ == "__main__":
    raise SystemExit(main())
