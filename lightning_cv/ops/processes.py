"""What a loss that is no mean over images needs of the batches of all training processes, with gradients.

DistributedDataParallel averages the processes' gradients. With a loss on each process that reads the others' batches
through this file, and whose mean over processes is the loss of the joint batch, what it averages to is the gradient of
one process with the joint batch. Without other processes nothing is copied or sent. All processes have batches of one
size, as training samplers see to. Letters: P processes; M images of a process's batch.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor


class JointBatch(NamedTuple):
    """The rows of all processes, in the order of their ranks, and where one's own begin."""

    values: tuple[Tensor, ...]  # (P * M, ...) each
    first: int  # own rows are first to first + M


def process_count() -> int:
    """P; 1 without torch.distributed."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def mean_over_processes(value: Tensor) -> Tensor:
    """The mean of the processes' values, same shape; the gradient flows to the own value as if it were the mean.

    What follows is the same on all processes, so that its gradient g is, too. The mean hands g / P to each value; the
    P losses together hand it g, which is what DDP's division by P expects.
    """
    processes = process_count()
    if processes == 1:
        return value
    mean = value.detach().clone()
    dist.all_reduce(mean)
    return value + (mean / processes - value.detach())


def joint_batch(values: Sequence[Tensor]) -> JointBatch:
    """Tensors (M, ...) of one shape with the other processes' rows, (P * M, ...), through which gradients reach all."""
    if process_count() == 1:
        return JointBatch(tuple(values), 0)
    stacked = torch.stack(list(values), dim=1)  # (M, len(values), ...): one message rather than several
    joint: Tensor = _Gathered.apply(stacked)
    return JointBatch(joint.unbind(1), dist.get_rank() * len(stacked))


class _Gathered(torch.autograd.Function):
    """Rows of all processes; backwards, what the losses of all processes ask of the own rows, summed."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:  # Any: torch's context
        own = own.contiguous()
        parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, own)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # Any: torch's context
        gradient = gradient.contiguous().clone()
        dist.all_reduce(gradient)
        return gradient.chunk(dist.get_world_size())[dist.get_rank()]
