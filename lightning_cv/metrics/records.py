"""Figures of a whole data set from one record an image, kept by image id and evaluated once."""

import pickle
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import torch.distributed as dist
from torchmetrics import Metric

Record = TypeVar("Record")
Result = TypeVar("Result")


class ImageRecords(Metric, Generic[Record]):
    """One record an image, by image id: an image passed in twice counts once.

    A subclass's `update` writes into `records`. `evaluate_once` gathers the records of all processes as one Python
    object a process (not as tensors, whose number would have to agree), lets the first process evaluate, and hands
    every process its result. A process without images takes part, and one without new images evaluates anew all the
    same: torchmetrics' store of the last result would leave the others waiting for it.
    """

    full_state_update = False
    higher_is_better: bool | None = True

    def __init__(self, **kwargs: Any) -> None:  # kwargs: torchmetrics' own settings
        super().__init__(sync_on_compute=False, compute_with_cache=False, **kwargs)
        self.records: dict[str, Record] = {}

    def forward(self, *args: Any, **kwargs: Any) -> None:  # Any: what the subclass's update takes
        """The same as `update`: torchmetrics would forget all earlier images, and evaluate at every batch."""
        self.update(*args, **kwargs)

    def evaluate_once(self, evaluate: Callable[[list[Record]], Result]) -> Result:
        """What `evaluate` makes of the records of all processes, ordered by image id."""
        parts = gathered(self.records)
        return on_first_process(lambda: evaluate(_in_order(parts)))

    def compute(self) -> Any:  # Any: subclasses give a tensor or a named tuple
        """Number of different images seen by all processes."""
        return self.evaluate_once(len)

    def reset(self) -> None:
        """Forget all images."""
        super().reset()
        self.records = {}


def gathered(part: Record) -> list[Record]:
    """What every process hands in, in the order of their ranks, on the first process; nothing on the others."""
    if not (dist.is_available() and dist.is_initialized()):
        return [part]
    parts: list[Any] = [None] * dist.get_world_size()
    is_first = dist.get_rank() == 0
    dist.gather_object(part, parts if is_first else None, dst=0)
    return parts if is_first else []


def on_first_process(evaluate: Callable[[], Result]) -> Result:
    """What `evaluate` returns on the first process, handed to every process; an error of it is raised on all."""
    if not (dist.is_available() and dist.is_initialized()):
        return evaluate()
    # result, error: an error on the first process must not leave the others waiting
    answer: list[Any] = [None, None]
    own: Exception | None = None
    if dist.get_rank() == 0:
        try:
            answer[0] = evaluate()
        except Exception as error:
            own, answer[1] = error, _sendable(error)
    dist.broadcast_object_list(answer, src=0)
    if own is not None:
        raise own
    if answer[1] is not None:
        raise answer[1]
    result: Result = answer[0]
    return result


def _sendable(error: Exception) -> Exception:
    """The error, or one with its kind and text if it does not survive the way to another process."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # a class of anybody's, rebuilt by whatever its constructor does
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _in_order(parts: Sequence[dict[str, Record]]) -> list[Record]:
    merged = {image_id: record for part in parts for image_id, record in part.items()}
    return [merged[image_id] for image_id in sorted(merged)]
