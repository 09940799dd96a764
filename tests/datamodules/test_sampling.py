"""Orders as functions of counters: started anywhere they go on as if never interrupted."""

import itertools
from types import SimpleNamespace

import pytest

from lightning_cv.contracts import Draw
from lightning_cv.datamodules import DigitsDataModule
from lightning_cv.datamodules.sampling import CounterBatchSampler


def batches(epochs, **settings):
    """The batches of the first epochs, one after another, without interruption."""
    sampler = CounterBatchSampler(**settings)
    order = []
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        order.append(list(sampler))
    return order


def resumed(start, epochs, stale=False, **settings):
    """What comes when training goes on after `start` batches; `stale` passes an epoch too early, as Lightning does."""
    sampler = CounterBatchSampler(start=start, **settings)
    order = []
    for epoch in range(sampler.start_epoch, epochs):
        sampler.set_epoch(max(0, epoch - 1) if stale and epoch == sampler.start_epoch else epoch)
        order += list(sampler)
    return order


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize(
    ("size", "batch_size", "world_size"), [(23, 4, 1), (23, 4, 2), (8, 4, 1), (5, 8, 1), (24, 3, 2)]
)
@pytest.mark.parametrize("stale", [False, True])
def test_starting_anywhere_gives_the_tail(size, batch_size, world_size, drop_last, stale):
    if drop_last and size // world_size < batch_size:
        pytest.skip("no full batch")
    for rank in range(world_size):
        settings = {
            "size": size, "batch_size": batch_size, "seed": 3, "shuffle": True, "drop_last": drop_last,
            "rank": rank, "world_size": world_size,
        }  # fmt: skip
        whole = list(itertools.chain(*batches(4, **settings)))
        for start in range(len(whole)):
            assert resumed(start, 4, stale, **settings) == whole[start:]


def test_starting_anywhere_with_fewer_batches_an_epoch_than_there_are():
    settings = {"size": 40, "batch_size": 4, "seed": 1, "shuffle": True}
    whole = list(itertools.chain(*(epoch[:3] for epoch in batches(4, limit=3, **settings))))
    assert [batch[0].batch for batch in whole] == list(range(12))
    for start in range(len(whole)):
        sampler = CounterBatchSampler(start=start, limit=3, **settings)
        tail = []
        for epoch in range(sampler.start_epoch, 4):
            sampler.set_epoch(epoch)
            left = 3 - (sampler.start_batch if epoch == sampler.start_epoch else 0)
            tail += list(sampler)[:left]
        assert tail == whole[start:]


def test_a_checkpoint_on_the_last_batch_goes_on_with_the_next_epoch():
    settings = {"size": 12, "batch_size": 4, "seed": 0, "shuffle": True}
    sampler = CounterBatchSampler(start=3, **settings)
    sampler.set_epoch(0)  # what the trainer still believes
    assert list(sampler) == batches(2, **settings)[1]
    assert {draw.epoch for batch in sampler for draw in batch} == {1}


def test_every_epoch_and_seed_has_its_own_order():
    first, second = batches(2, size=50, batch_size=50, seed=0, shuffle=True)
    other = batches(1, size=50, batch_size=50, seed=1, shuffle=True)[0]
    orders = [[draw.index for draw in batch] for (batch,) in (first, second, other)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert orders[0] != orders[1] != orders[2] != orders[0]


@pytest.mark.parametrize("size", [23, 24])
def test_ranks_share_an_epoch_without_overlap_and_in_equal_parts(size):
    parts = [list(CounterBatchSampler(size, 4, seed=5, shuffle=True, rank=rank, world_size=2)) for rank in range(2)]
    first, second = ({draw.index for batch in part for draw in batch} for part in parts)
    assert not first & second
    assert len(first) == len(second) == size // 2
    assert len(parts[0]) == len(parts[1])


@pytest.mark.parametrize(("size", "world_size"), [(7, 1), (7, 2), (5, 3), (2, 2)])
def test_evaluation_sees_every_sample_exactly_once(size, world_size):
    seen = []
    for rank in range(world_size):
        sampler = CounterBatchSampler(size, 2, rank=rank, world_size=world_size)
        read = list(sampler)
        assert len(read) == len(sampler)
        seen += [draw.index for batch in read for draw in batch]
    assert sorted(seen) == list(range(size))


def test_in_order_by_hand():
    assert list(CounterBatchSampler(3, 2)) == [[Draw(0, 0, 0), Draw(0, 1, 0)], [Draw(0, 2, 1)]]
    assert list(CounterBatchSampler(3, 2, drop_last=True)) == [[Draw(0, 0), Draw(0, 1)]]


@pytest.mark.parametrize(("size", "batch_size"), [(0, 2), (3, 0)])
def test_nothing_to_sample(size, batch_size):
    with pytest.raises(ValueError, match=f"got {size} and {batch_size}"):
        CounterBatchSampler(size, batch_size)


def test_no_full_batch():
    with pytest.raises(ValueError, match="do not fill one batch of 8"):
        CounterBatchSampler(10, 8, shuffle=True, drop_last=True, world_size=2)


def test_a_trainer_that_would_share_out_the_samples_again_is_refused():
    connector = SimpleNamespace(use_distributed_sampler=True)
    trainer = SimpleNamespace(global_rank=1, world_size=2, _accelerator_connector=connector)
    data = DigitsDataModule(size=8)
    data.trainer = trainer
    with pytest.raises(ValueError, match="use_distributed_sampler=False"):
        data.val_dataloader()
    connector.use_distributed_sampler = False
    assert len(data.val_dataloader()) == 3  # of 64 images each, in one of two processes: 135 of 270


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_all_processes_say_that_there_are_too_few_samples(rank):
    with pytest.raises(ValueError, match=r"2 sample\(s\) cannot be shared out to 3 processes"):
        CounterBatchSampler(2, 4, rank=rank, world_size=3)
    assert len(CounterBatchSampler(3, 4, rank=rank, world_size=3)) == 1
