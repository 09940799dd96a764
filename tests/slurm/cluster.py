"""A private SLURM of two nodes on the loopback device: real daemons, set up in one folder, ended by their pid files.

Needs Debian's `slurmctld slurmd slurm-client munge` and root. `python tests/slurm/cluster.py FOLDER` keeps one up until
Ctrl-C, to try things by hand; with `--try` it is taken down at once: the exit status says whether it was up.
"""

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "sbatch", "scontrol", "squeue", "scancel", "sinfo")
NODES = ("n1", "n2")

CONF = """
ClusterName=loopback
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={ctld}
SlurmUser=root
SlurmdUser=root
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
AuthType=auth/munge
AuthInfo=socket={folder}/munge/munge.sock,cred_expire=5
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdSpoolDir={folder}/spool-%n
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
JobRequeue=1
KillWait=20
SlurmdTimeout=10
MinJobAge=86400
SchedulerParameters=sched_interval=1,bf_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
GresTypes=gpu
{nodes}
PartitionName=main Nodes=n1,n2 Default=YES PriorityTier=10 PreemptMode=OFF MaxTime=60 State=UP
PartitionName=low Nodes=n1,n2 PriorityTier=1 PreemptMode=REQUEUE GraceTime=20 MaxTime=60 State=UP
"""
NODE = "NodeName={name} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} CPUs=2 RealMemory=8000 Gres=gpu:2"


def missing() -> str | None:
    """Why no cluster can be brought up here; None where it can."""
    absent = [program for program in PROGRAMS if _which(program) is None]
    if absent:
        return f"no {', '.join(absent)}: apt-get install --no-install-recommends slurmctld slurmd slurm-client munge"
    return None if os.geteuid() == 0 else "the daemons need root"


class Cluster:
    """The daemons, and their commands. `up` and `down`, or a `with` block."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}
        for name in [
            name for name in self.environment if name.startswith(("SLURM_", "SBATCH_")) and name != "SLURM_CONF"
        ]:
            del self.environment[name]

    def __enter__(self) -> "Cluster":
        try:
            self.up()
        except BaseException:
            self.down()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    def up(self) -> None:
        """Write the files, start the daemons, wait for the nodes."""
        for name in ("munge", "state", *(f"spool-{node}" for node in NODES)):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        gpus = self._stand_in_gpus()
        ports = _free_ports(1 + len(NODES))
        nodes = [NODE.format(name=name, port=port) for name, port in zip(NODES, ports[1:], strict=True)]
        conf = CONF.format(folder=self.folder, ctld=ports[0], nodes="\n".join(nodes))
        if not gpus:
            conf = conf.replace(" Gres=gpu:2", "").replace("GresTypes=gpu\n", "")
        (self.folder / "slurm.conf").write_text(conf)
        self._start_munge()
        self._start("slurmctld", "-i")
        for node in NODES:
            self.start_node(node)
        self.wait(lambda: self.output("sinfo", "-h", "-N", "-p", "main", "-o", "%T").split() == ["idle"] * 2, 30)

    def down(self) -> None:
        """End every job, then the daemons, each by the pid file it wrote."""
        if (self.folder / "slurmctld.pid").exists():
            subprocess.run(
                ["scancel", "-u", "root"], env=self.environment, capture_output=True, timeout=20, check=False
            )
            self.output("scancel", "--signal=KILL", "-u", "root", check=False)
        pids = [self._end(self.folder / f"slurmd-{node}.pid") for node in NODES]
        pids += [self._end(self.folder / "slurmctld.pid"), self._end(self.folder / "munge" / "munged.pid")]
        self.wait(lambda: not any(_alive(pid) for pid in pids if pid), 20)

    def start_node(self, node: str) -> None:
        """Start the daemon of a node."""
        self._start("slurmd", "-N", node)

    def kill_node(self, node: str) -> None:
        """A node is lost: its daemon and all that runs under it are killed."""
        pid = int((self.folder / f"slurmd-{node}.pid").read_text())
        steps = self.output("pgrep", "-f", "slurmstepd: .*", check=False).split()
        os.kill(pid, signal.SIGKILL)
        for step in steps:
            self._kill_tree(int(step), node)

    def sbatch(self, script: str, *options: str) -> str:
        """Submit a script; the job's number."""
        (self.folder / "jobs").mkdir(exist_ok=True)
        file = self.folder / "jobs" / f"job{len(list((self.folder / 'jobs').glob('*.sh')))}.sh"
        file.write_text("#!/bin/bash\n" + script)
        return self.submit(file, options)

    def submit(self, file: Path, options: Sequence[str] = (), arguments: Sequence[str] = (), **variables: str) -> str:
        """Submit a file with arguments and environment variables; what it prints is kept for `said`."""
        (self.folder / "jobs").mkdir(exist_ok=True)
        kept = ["--parsable", "--open-mode=append", f"--output={self.folder}/jobs/slurm-%j.out"]
        command = ["sbatch", *kept, *options, str(file), *arguments]
        return self.output(*command, **variables).strip().split(";")[0]

    def facts(self, job: str) -> dict[str, str]:
        """What `scontrol show job` says."""
        words = self.output("scontrol", "show", "job", "-o", job).split()
        return dict(word.partition("=")[::2] for word in words if "=" in word)

    def said(self, job: str) -> str:
        """What a job has written so far, over all its starts."""
        file = self.folder / "jobs" / f"slurm-{job}.out"
        return file.read_text() if file.exists() else ""

    def finished(self, job: str, seconds: float = 600) -> dict[str, str]:
        """The facts of a job once it has ended for good."""
        ends = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "DEADLINE")
        try:
            self.wait(lambda: self.facts(job)["JobState"] in ends, seconds)
        except TimeoutError as error:
            raise TimeoutError(f"job {job}: {self.facts(job)}\n{self.said(job)}") from error
        return self.facts(job)

    def output(self, *command: str, check: bool = True, **variables: str) -> str:
        """What a command of SLURM prints."""
        environment = self.environment | variables
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr}{done.stdout}")
        return done.stdout

    def wait(self, condition: Callable[[], Any], seconds: float) -> None:
        """Until the condition holds."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                logs = "".join(f"{log.name}: {log.read_text()[-1500:]}\n" for log in self.folder.glob("*.log"))
                raise TimeoutError(f"not within {seconds} s\n{logs}")
            time.sleep(0.2)

    def _stand_in_gpus(self) -> bool:
        """Two device nodes that SLURM hands out as GPUs; False where none may be made."""
        devices = self.folder / "gpus"
        devices.mkdir(exist_ok=True)
        try:
            for number in (0, 1):
                if not (devices / f"gpu{number}").exists():
                    os.mknod(devices / f"gpu{number}", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        except PermissionError:
            return False
        (self.folder / "gres.conf").write_text(f"Name=gpu File={devices}/gpu[0-1]\n")
        return True

    def _start_munge(self) -> None:
        place = self.folder / "munge"
        key = place / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        files = {"key-file": key, "socket": place / "munge.sock", "pid-file": place / "munged.pid"}
        files |= {"log-file": place / "munged.log", "seed-file": place / "munged.seed"}
        self._start("munged", "--force", *(f"--{name}={file}" for name, file in files.items()))
        self.wait((place / "munge.sock").exists, 10)

    def _start(self, program: str, *arguments: str) -> None:
        command = [_which(program) or program, *arguments]
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=30, check=False, cwd=self.folder
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr}{done.stdout}")

    def _end(self, pid_file: Path) -> int | None:
        try:
            pid = int(pid_file.read_text())
            os.kill(pid, signal.SIGTERM)
        except (FileNotFoundError, ValueError, ProcessLookupError):
            return None
        return pid

    def _kill_tree(self, step: int, node: str) -> None:
        """Kill a step's daemon and what it started, where it is of this cluster and node."""
        try:
            environment = Path(f"/proc/{step}/environ").read_bytes()
            children = [int(pid) for pid in self.output("pgrep", "-P", str(step), check=False).split()]
        except OSError:
            return
        if f"SLURM_CONF={self.folder}/slurm.conf".encode() not in environment:
            return
        mine = [pid for pid in children if f"SLURMD_NODENAME={node}\0".encode() in _environment_of(pid)]
        if not mine:
            return
        os.kill(step, signal.SIGKILL)
        for pid in mine:
            for inner in self.output("pgrep", "-P", str(pid), check=False).split():
                os.kill(int(inner), signal.SIGKILL)
            os.kill(pid, signal.SIGKILL)


def _environment_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def _which(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _alive(pid: int) -> bool:
    try:
        return "(zombie)" not in Path(f"/proc/{pid}/status").read_text().partition("State:")[2][:20]
    except OSError:
        return False


if __name__ == "__main__":
    if reason := missing():
        sys.exit(reason)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with Cluster(Path(sys.argv[1]).resolve()) as cluster:
        if "--try" not in sys.argv:
            print(f"export SLURM_CONF={cluster.folder}/slurm.conf", flush=True)
            signal.pause()
