"""Processes that meet by gloo, for tests of what they do together."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

Work = Callable[[int, Path], None]
"""What a process does, from its rank and the folder for what it leaves behind."""


def run_together(work: Work, folder: Path, count: int = 2, preload: Sequence[str] = ()) -> None:
    """Have processes of one thread each do this, at most two minutes; `preload` are modules imported once for all."""
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    processes = [context.Process(target=_join, args=(work, rank, count, folder)) for rank in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0


def _join(work: Work, rank: int, count: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=count)
    work(rank, folder)
    dist.destroy_process_group()
