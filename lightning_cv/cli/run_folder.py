"""One folder a run: where it lies and what it says of itself; `RunLock` keeps a second process out."""

import json
import os
import platform
import secrets
import shutil
import subprocess
import sys
import zlib
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from lightning_cv.errors import UserError
from lightning_cv.locks import LOCK, is_locked
from lightning_cv.locks import RunLock as RunLock

CONFIG, ENVIRONMENT, CHECKPOINTS = "config.yaml", "env.json", "checkpoints"
METRICS, SECONDS = "metrics.csv", "seconds.json"
NOT_A_NUMBER, ERROR = "not_a_number*.json", "error.txt"
SHARED_RUN = "LIGHTNING_CV_RUN_DIR"
"""Environment variable by which the first process of a distributed run tells the others its folder."""
TRIAL_FOLDER = "LIGHTNING_CV_TRIAL_DIR"
"""Environment variable by which a sweep tells a trial its folder: `fit` makes its run there."""

_PACKAGES = ("lightning-cv", "torch", "torchvision", "lightning", "torchmetrics", "timm", "wandb", "albumentations")
_MOST_OF_A_DIFF = 1_000_000


def new_run_folder(root: Path, task: str, experiment: str) -> Path:
    """Make `root/task/experiment/<run id>`, the id being date, time and four hex digits, or that of a launcher's job.

    A job's folder is the same when its launcher starts it again: `goes_on_in` then says whether to go on in it.

    Raises:
        UserError: the folder cannot be made.
    """
    parent, job = root / task / experiment, _job_id()
    if job and (not is_first_process() or (restarts() and (parent / job / CONFIG).exists())):
        return parent / job  # which the first process makes, or made before
    while True:
        moment = f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        folder = parent / (job or moment)
        try:
            make_run_folder(folder)
        except FileExistsError:
            if job and _is_one_of_several():
                raise UserError(
                    f"{folder} is there already: the same command again in one job; go on with `resume`"
                ) from None
            job = None
            continue
        return folder


def goes_on_in(folder: Path) -> bool:
    """Whether a launcher started this process again, and its run lies in the folder."""
    return restarts() > 0 and (folder / CONFIG).is_file()


def has_checkpoints(folder: Path) -> bool:
    """Whether a run's folder holds any."""
    return any((folder / CHECKPOINTS).glob("*.ckpt"))


def restarts() -> int:
    """How many times the launcher, SLURM or torchrun, has started this job again."""
    counts = (os.environ.get(name) for name in ("SLURM_RESTART_COUNT", "TORCHELASTIC_RESTART_COUNT"))
    return sum(int(count) for count in counts if count and count.isdigit())


def make_run_folder(folder: Path) -> None:
    """Make a run's folder, which must be new or empty: nothing that was there is ever written over.

    Raises:
        FileExistsError: something lies in it. UserError: it cannot be made.
    """
    if (folder / CONFIG).exists():
        raise FileExistsError(f"{folder} holds a run already; go on with `lightning-cv resume {folder}`")
    try:
        there = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        if there and not (_is_ours_again() and _is_unbegun(folder)):
            raise FileExistsError(f"{folder} is not empty, {there[0]} lies in it: a run needs a folder of its own")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CHECKPOINTS).mkdir(exist_ok=bool(there))
    except FileExistsError as error:
        if error.errno is None:
            raise
        raise UserError(f"cannot make the run folder {folder}: {error.strerror}; choose another") from error
    except OSError as error:
        raise UserError(f"cannot make the run folder {folder}: {error.strerror}; choose another with --runs") from error


def _is_ours_again() -> bool:
    """Whether this folder is nobody else's: a launcher or a sweep starts one process for it at a time."""
    return restarts() > 0 or TRIAL_FOLDER in os.environ


def _is_unbegun(folder: Path) -> bool:
    """Whether a start that was killed before it wrote its settings is all that lies in a folder."""
    names = {path.name for path in folder.iterdir()}
    return names <= {CHECKPOINTS, LOCK} and not any((folder / CHECKPOINTS).glob("*"))


def discard_unbegun(folder: Path) -> None:
    """Remove a run's folder in which no step was made; one that holds anything else than a start writes is kept."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if not names <= {CONFIG, ENVIRONMENT, CHECKPOINTS, METRICS, SECONDS, LOCK, "wandb"}:
        return
    if (folder / CHECKPOINTS).is_dir() and any((folder / CHECKPOINTS).iterdir()):
        return
    if (folder / METRICS).is_file() and len((folder / METRICS).read_text().splitlines()) > 1:
        return
    shutil.rmtree(folder, ignore_errors=True)


def evaluation_folder(run: Path, verb: str) -> Path:
    """A new folder for an evaluation inside the run it evaluates."""
    number = 1
    while True:
        folder = run / f"{verb}-{number}"
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            number += 1
        except OSError as error:
            raise UserError(f"cannot make {folder}: {error.strerror}") from error


def run_of(ckpt: str | None) -> Path | None:
    """The run folder a checkpoint lies in."""
    folder = Path(ckpt).resolve().parent.parent if ckpt else None
    return folder if folder and (folder / CONFIG).is_file() else None


def is_first_process() -> bool:
    """Whether this process is the one that writes, as the launcher's environment says before there is a trainer."""
    from lightning.fabric.utilities.rank_zero import rank_zero_only  # heavy, and only a run needs it

    return int(getattr(rank_zero_only, "rank", 0)) == 0


def _job_id() -> str | None:
    """An id that all processes of a launcher's job agree on without talking to each other, now and when it restarts.

    It holds the command: one job may train several times.
    """
    command = f"{zlib.crc32(' '.join(sys.argv[1:]).encode()):08x}"
    if "SLURM_JOB_ID" in os.environ:
        return f"slurm-{os.environ['SLURM_JOB_ID']}.{os.environ.get('SLURM_STEP_ID', 'batch')}-{command}"
    if "TORCHELASTIC_RUN_ID" in os.environ:
        run = os.environ["TORCHELASTIC_RUN_ID"]
        meeting = f"-{os.environ.get('MASTER_PORT', '0')}" if run == "none" else ""  # torchrun's id unless given one
        return f"elastic-{run}{meeting}-{command}"
    return None


def _is_one_of_several() -> bool:
    """Whether a launcher started more processes than this one, which look for the run in the folder of the job."""
    return any(int(os.environ.get(name) or 1) > 1 for name in ("SLURM_NTASKS", "WORLD_SIZE"))


def environment(command: list[str], seed: int) -> dict[str, Any]:
    """What a run's figures depend on besides its configuration. Never environment variables: they hold secrets."""
    import torch  # heavy, and only a run needs it

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    return {
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": command,
        "code": [_code_version(place) for place in _checkouts()],
        "packages": {name: _version(name) for name in _PACKAGES},
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "device": device,
        "threads": torch.get_num_threads(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "seed": seed,
    }


def commit() -> str | None:
    """The commit of the checkout that the package lies in; None where it lies in none."""
    return _git(str(Path(__file__).resolve().parents[2]), "rev-parse", "HEAD")


def write_json(path: Path, content: Any) -> None:  # Any: whatever JSON can hold
    """Write atomically, so that a reader never sees half a file."""
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(json.dumps(content, indent=2) + "\n")
    os.replace(temporary, path)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _checkouts() -> list[str]:
    """The git checkouts that the package and the working folder are in."""
    places = (str(Path(__file__).resolve().parents[2]), os.getcwd())
    tops = [_git(place, "rev-parse", "--show-toplevel") for place in places]
    return list(dict.fromkeys(top for top in tops if top))


def _code_version(checkout: str) -> dict[str, str | None]:
    diff = _git(checkout, "diff", "HEAD")
    return {"commit": _git(checkout, "rev-parse", "HEAD"), "uncommitted_diff": diff[:_MOST_OF_A_DIFF] if diff else diff}


def _git(place: str, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", place, *arguments], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def state_of(folder: Path, is_done: bool) -> Literal["finished", "running", "stopped", "failed"]:
    """How the run of a folder stands; `is_done` says that it has results."""
    if is_locked(folder):
        return "running"
    if is_done:
        return "finished"
    return "failed" if any(folder.glob(NOT_A_NUMBER)) or (folder / ERROR).exists() else "stopped"
