"""What a launcher of trials is: processes of this machine, or jobs of a cluster. The sweep's loop knows nothing else.

A launcher gets trials that are already claimed, starts them, and says what became of them. It writes no state.
"""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from lightning_cv.errors import UserError

Outcome = Literal["finished", "failed", "interrupted"]


class Job(NamedTuple):
    """One start of one trial."""

    trial: str
    """Id of the trial: the name of its folder and its id in W&B."""
    number: int
    """Its place in the sweep, from 0."""
    command: list[str]
    environment: dict[str, str]
    """What is set beside the environment that the launcher itself has: never the whole of it, which holds secrets."""
    folder: Path
    log: Path
    """Standard output and error go to its end: a trial that is started again has the log of all of its starts."""


class Ended(NamedTuple):
    """How a trial's processes ended."""

    outcome: Outcome
    """finished: exit status 0. failed: by itself, with another status or a signal. interrupted: by what is no fault of
    the trial, such as `stop`, pre-emption or a node that was lost; it is started again without being counted."""
    reason: str
    """For people: exit status 2, killed by SIGKILL, pre-empted."""


class NotTaken(UserError):
    """The cluster refuses the jobs: none of them is there, now or later."""


class Handle(Protocol):
    """A trial that was started."""

    @property
    @abstractmethod
    def node(self) -> str:
        """Where it runs, for people; empty where that is not known yet."""

    @property
    @abstractmethod
    def reference(self) -> str:
        """What another launcher can find it by, if this one dies: a process and when it began, or the id of a job."""

    @abstractmethod
    def poll(self) -> Ended | None:
        """None while it runs or waits in a queue; asked some times a second, it must not block."""

    @abstractmethod
    def stop(self, now: bool = False) -> None:
        """Ask it to end, with time to save; at once if `now`. `poll` says when it has: interrupted."""


class Launcher(Protocol):
    """Starts trials."""

    @property
    @abstractmethod
    def room(self) -> int:
        """How many trials it takes now: free places of a machine, or as many as may wait in the cluster's queue."""

    @abstractmethod
    def references(self, count: int) -> list[str]:
        """What the next `start`, of so many trials, makes them findable by before it comes back.

        They are kept before it is called: it may never come back, and its jobs be there. Empty where what was started
        ends with the launcher.
        """

    @abstractmethod
    def start(self, jobs: Sequence[Job], references: Sequence[str]) -> list[Handle]:
        """Start at most `room` trials, in one go where that is cheaper (an array of jobs); a handle each.

        Raises:
            NotTaken: none was started. After any other error some may have been.
        """

    @abstractmethod
    def recover(self, reference: str) -> Handle | None:
        """Take over what a launcher that is no more has started.

        Returns:
            A handle where it goes on, or None once nothing of it runs any more: processes of this machine are ended
            first, since nobody can read their exit status.
        """
