"""What a trial gets of a cluster: `cluster.yaml`, and the flags that go before it."""

import re
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from lightning_cv.cli.experiments import read_yaml
from lightning_cv.errors import UserError

FILE = Path("cluster.yaml")
_MOST_AHEAD_S = 90


@dataclass(frozen=True)
class Cluster:
    """One trial's share.

    Args:
        partition: of SLURM, or several with commas between them, of which it takes one; None for its default.
        time: limit of a job in minutes, or as `hours:minutes:seconds`. A run that needs longer saves ahead of it and
            goes on in the next turn.
        nodes: machines of a trial.
        gpus: of each machine.
        tasks: processes on each machine that SLURM starts; one for each GPU where there are several machines, else 1,
            and Lightning starts the others.
        cpus: cores of each process.
        memory: of each machine, such as 16GB; None for the partition's default.
        parallelism: trials at once.
        queue: jobs waiting and running at most, where the cluster limits how many a user may submit, or an array has.
        account, qos, constraint: as sbatch has them.
        source: where these are from, for messages.
    """

    partition: str | None = None
    time: int | str = 60
    nodes: int = 1
    gpus: int = 0
    tasks: int | None = None
    cpus: int = 1
    memory: str | None = None
    parallelism: int = 256
    queue: int = 1000
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    source: str = "flags"

    def __post_init__(self) -> None:
        for name, least in (("nodes", 1), ("gpus", 0), ("tasks", 1), ("cpus", 1), ("parallelism", 1), ("queue", 1)):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
                raise UserError(f"{self.source}: {name}: a whole number from {least} up is expected, got {value!r}")
        if self.memory is not None and not re.fullmatch(r"\d+(\.\d+)?[KMGT]B?", str(self.memory)):
            raise UserError(f"{self.source}: memory: a size such as 16GB is expected, got {self.memory!r}")
        if self.minutes < 1:
            raise UserError(f"{self.source}: time: at least a minute is expected, got {self.time!r}")

    @property
    def minutes(self) -> int:
        """The time limit."""
        text = str(self.time)
        found = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d+):(\d+)", text) or re.fullmatch(r"()()(\d+)()", text)
        if found is None:
            raise UserError(f"{self.source}: time: minutes or hours:minutes:seconds are expected, got {self.time!r}")
        days, hours, minutes, seconds = (int(number or 0) for number in found.groups())
        return (days * 24 + hours) * 60 + minutes + (seconds > 0)

    def parameters(self) -> dict[str, Any]:  # Any: submitit's
        """The same as submitit calls it."""
        tasks = self.tasks or (max(1, self.gpus) if self.nodes > 1 else 1)
        ahead = min(_MOST_AHEAD_S, self.minutes * 60 // 2)
        chosen = {
            "partition": self.partition,
            "time": self.minutes,
            "nodes": self.nodes,
            "ntasks_per_node": tasks,
            "gpus_per_node": self.gpus or None,
            "cpus_per_task": self.cpus,
            "mem": self.memory,
            "array_parallelism": self.parallelism,
            "account": self.account,
            "qos": self.qos,
            "constraint": self.constraint,
            "signal_delay_s": ahead,
            "additional_parameters": {"requeue": True},
        }
        return {name: value for name, value in chosen.items() if value is not None}


def read_cluster(file: Path | None, flags: dict[str, Any]) -> Cluster:  # Any: values of flags
    """The cluster of a file, `./cluster.yaml` by default if there is one, with the flags that were given on top."""
    place = file or (FILE if FILE.is_file() else None)
    content = read_yaml(place) if place else {}
    known = [field.name for field in fields(Cluster) if field.name != "source"]
    for key in content:
        if key not in known:
            near = get_close_matches(str(key), known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            raise UserError(f"{place}: no key {key}; {hint}")
    if place and "time" in content:  # YAML 1.1 reads 2:00:00 as a number to the base of 60
        content["time"] = yaml.load(place.read_text(), Loader=yaml.BaseLoader)["time"]
    given = {name: value for name, value in flags.items() if value is not None}
    return replace(Cluster(**content, source=str(place or "flags")), **given)
