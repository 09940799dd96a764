"""Which samples make which batch: a function of (seed, epoch, batch), so that a resumed run sees the same order."""

import math
from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

from lightning_cv.contracts import Draw
from lightning_cv.ops.counters import mix


class CounterBatchSampler(Sampler[list[Draw]]):
    """Batches of `Draw`s for one of `world_size` processes, starting anywhere.

    Shuffled (training), every process gets the same number of batches: the order is cut into equal shares, the last
    few samples of an epoch's order are left out. In order (evaluation), every sample is seen exactly once over all
    processes, which may then differ by one sample.

    Args:
        size: number of samples of the data set.
        batch_size: samples of a batch, in each process.
        seed: of the order; `shuffle=False` ignores it.
        drop_last: leave out an epoch's last batch when it is short.
        start: the number of batches already seen since training began; the first epoch iterated goes on from there.
            `limit` is the number of batches of an epoch that this counts in, when less than all are used.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = False,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
        start: int = 0,
        limit: int | None = None,
    ) -> None:
        if size < 1 or batch_size < 1:
            raise ValueError(f"a sampler needs samples and a batch size of at least 1, got {size} and {batch_size}")
        if size < world_size:  # said by every process, not only by those that would have none
            raise ValueError(f"{size} sample(s) cannot be shared out to {world_size} processes: use fewer devices")
        self.size, self.batch_size, self.seed = size, batch_size, seed
        self.shuffle, self.drop_last = shuffle, drop_last
        self.rank, self.world_size = rank, world_size
        if len(self) == 0:
            raise ValueError(
                f"{size} samples over {world_size} process(es) do not fill one batch of {batch_size}: "
                "lower the batch size or keep the last, short batch"
            )
        self.start = start
        self.batches_of_epoch = min(limit or len(self), len(self))
        self.start_epoch, self.start_batch = divmod(start, self.batches_of_epoch)
        self.epoch = self.start_epoch

    @property
    def sampler(self) -> "CounterBatchSampler":
        """Where Lightning looks for `set_epoch`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Next epoch to iterate. Never before the one training resumed in: Lightning passes a stale epoch there."""
        self.epoch = max(epoch, self.start_epoch)

    def _share(self) -> int:
        if self.shuffle:
            return self.size // self.world_size
        return len(range(self.rank, self.size, self.world_size))

    def __len__(self) -> int:
        batches = self._share() / self.batch_size
        return math.floor(batches) if self.drop_last else math.ceil(batches)

    def __iter__(self) -> Iterator[list[Draw]]:
        epoch = self.epoch
        order = torch.arange(self.size)
        if self.shuffle:
            order = torch.randperm(self.size, generator=torch.Generator().manual_seed(mix(self.seed, epoch)))
        mine = order[self.rank :: self.world_size][: self._share()].tolist()
        first = self.start_batch if epoch == self.start_epoch else 0
        for batch in range(first, len(self)):
            chosen = mine[batch * self.batch_size : (batch + 1) * self.batch_size]
            number = epoch * self.batches_of_epoch + batch
            yield [Draw(epoch, index, number) for index in chosen]
