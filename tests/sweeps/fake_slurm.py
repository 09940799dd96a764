"""Commands of SLURM that keep jobs in a folder and run none: what tests write there is what `squeue` says."""

import sys
from pathlib import Path

SCRIPT = """#!{python} -S
import os, re, signal, sys
from pathlib import Path

place, words = Path("{place}"), sys.argv[1:]
queue, calls = place / "queue", place / "calls"
with calls.open("a") as file:
    file.write(" ".join(["{name}", *words]) + "\\n")
moods = (place / "mood").read_text().split() if (place / "mood").exists() else []
if "{name}" == "squeue":
    if "silent" in moods:
        sys.exit(1)
    print(queue.read_text(), end="")
elif "{name}" == "sbatch":
    text = Path(words[0]).read_text()
    if "full" in moods:
        sys.exit("sbatch: error: Batch job submission failed: Invalid qos specification")
    number = 5 + calls.read_text().count("sbatch ")
    comment = re.search("--comment=(.*)", text)[1]
    array = re.search("--array=0-(.*)%", text)
    jobs = [f"{{number}}_{{task}}" for task in range(int(array[1]) + 1)] if array else [str(number)]
    if "lost" not in moods:
        with queue.open("a") as file:
            file.write("".join(f"{{job}}|PENDING||{{comment}}\\n" for job in jobs))
    if "kill" in moods:
        os.kill(os.getppid(), signal.SIGKILL)
    if "busy" in moods:
        sys.exit("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation")
    print(f"Submitted batch job {{number}}")
elif "{name}" == "scancel":
    lines = [line.split("|") for line in queue.read_text().splitlines()]
    lines = [[line[0], "CANCELLED", *line[2:]] if line[0] in words else line for line in lines]
    queue.write_text("".join("|".join(line) + "\\n" for line in lines))
elif "{name}" == "sinfo":
    print("main")
"""


class FakeSlurm:
    """The commands, in `folder/bin`, and what is known of them."""

    def __init__(self, folder: Path) -> None:
        self.bin, self.folder = folder / "bin", folder
        self.bin.mkdir(parents=True)
        for name in ("sbatch", "squeue", "scancel", "scontrol", "sinfo", "srun"):
            script = self.bin / name
            script.write_text(SCRIPT.format(python=sys.executable, place=folder, name=name))
            script.chmod(0o755)
        (folder / "queue").touch()
        (folder / "calls").touch()

    def mood(self, *words: str) -> None:
        """How it is from now on. silent: no answer; full: refuses; busy: takes jobs without saying so; lost: takes
        none; kill: kills who submits."""
        (self.folder / "mood").write_text(" ".join(words))

    def calls(self, name: str) -> list[str]:
        """Arguments of all calls of a command."""
        lines = (self.folder / "calls").read_text().splitlines()
        return [line.partition(" ")[2] for line in lines if line.split()[0] == name]

    def states(self) -> dict[str, str]:
        lines = (self.folder / "queue").read_text().splitlines()
        return {line.split("|")[0]: line.split("|")[1] for line in lines}

    def become(self, job: str, state: str) -> None:
        """A job's state, from now on."""
        lines = [line.split("|") for line in (self.folder / "queue").read_text().splitlines()]
        lines = [[job, state, *line[2:]] if line[0] == job else line for line in lines]
        (self.folder / "queue").write_text("".join("|".join(line) + "\n" for line in lines))
