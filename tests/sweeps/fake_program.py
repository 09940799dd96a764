"""A program for sweeps to run: it notes when it begins and ends, and does what its parameters say. Standard library."""

import json
import os
import signal
import sys
import time
from pathlib import Path


def note(what: str) -> None:
    with open(os.environ["NOTES"], "a") as file:  # one write of one line, which other programs' lines do not mix with
        file.write(
            json.dumps({"what": what, "id": os.environ["WANDB_RUN_ID"], "at": time.time(), "argv": sys.argv[1:]}) + "\n"
        )


def main() -> int:
    asked = dict(word.removeprefix("--").split("=", 1) for word in sys.argv[1:] if "=" in word)
    if asked.get("deaf") == "True":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note("begins")
    place = Path(os.environ["LIGHTNING_CV_TRIAL_DIR"])
    keys = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "WANDB_RUN_ID", "WANDB_RUN_GROUP")
    seen = {key: os.environ.get(key) for key in keys}
    (place / "seen.json").write_text(json.dumps(seen | {"cores": sorted(os.sched_getaffinity(0))}))
    values = json.loads(asked.get("curve", "[]"))
    for epoch, value in enumerate(values):
        fresh = not (place / "metrics.csv").exists()
        with (place / "metrics.csv").open("a") as file:
            file.write(("step,epoch,val/x\n" if fresh else "") + f"{epoch},{epoch},{value}\n")
        time.sleep(float(asked.get("pause", 0)))
    time.sleep(float(asked.get("sleep", 0)))
    note("ends")
    return int(asked.get("status", 0))


if __name__ == "__main__":
    raise SystemExit(main())
