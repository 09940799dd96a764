"""Two gloo processes with unequal shares, one of them empty, must give what one process gives."""

import os

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from lightning_cv.metrics.detection import VOCMeanAP
from lightning_cv.metrics.likelihood import LikelihoodMeans
from lightning_cv.metrics.segmentation import SegmentationIoU


def images(count):
    generator = torch.Generator().manual_seed(3)
    for number in range(count):
        true = torch.rand(3, 4, generator=generator) * 20
        true[:, 2:] = true[:, :2] + 5 + true[:, 2:]
        boxes = true + torch.randn(3, 4, generator=generator)
        scores = torch.randint(0, 3, (3,), generator=generator) / 2
        labels = torch.randint(1, 3, (3,), generator=generator)
        target = {"image_id": f"{number:02}", "boxes": true, "labels": labels,
                  "difficult": torch.rand(3, generator=generator) < 0.2, "original_size": (50, 50)}  # fmt: skip
        yield {"boxes": boxes, "scores": scores, "labels": labels}, target


def figures(chosen):
    """All metrics of the images chosen: detections of these, masks and terms of as many."""
    detection, masks, likelihood = VOCMeanAP(2), SegmentationIoU(3), LikelihoodMeans(2)
    for number, (found, target) in enumerate(images(7)):
        if number not in chosen:
            continue
        detection.update([found], [target], (50, 50))
        pixels = torch.arange(12).reshape(1, 3, 4)
        masks.update((pixels + number) % 3, (pixels * (number + 1)) % 3)
        terms = torch.tensor([float(number)])
        likelihood.update({"elbo": -terms, "reconstruction": terms, "kl": terms, "kl_per_dim": terms.repeat(1, 2),
                           "mean": terms.repeat(1, 2)})  # fmt: skip
    return [detection.compute().item(), masks.compute().item(), likelihood.compute().elbo.item()]


def run(rank, port, shares, queue):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    for share in shares:
        queue.put((rank, figures(share[rank])))
    error = None
    try:
        VOCMeanAP(1).evaluate_once(lambda _: 1 / 0)
    except ZeroDivisionError as caught:
        error = str(caught)
    queue.put((rank, error))
    queue.close()
    queue.join_thread()
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_uneven_processes_agree_with_one():
    shares = [((0, 1, 2, 3, 4), (5, 6)), ((), (0, 1, 2, 3, 4, 5, 6))]
    context = mp.get_context("forkserver")  # imports torch once for both
    context.set_forkserver_preload(
        ["lightning_cv.cli.fit", "lightning_cv.metrics.detection", "lightning_cv.metrics.segmentation"]
    )
    queue = context.Queue()
    port = 20000 + os.getpid() % 20000
    processes = [context.Process(target=run, args=(rank, port, shares, queue)) for rank in range(2)]
    for process in processes:
        process.start()
    answers = [queue.get(timeout=60) for _ in range(6)]
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    alone = figures(range(7))
    for rank in range(2):
        first, second, error = [answer for who, answer in answers if who == rank]
        assert first == pytest.approx(alone)
        assert second == pytest.approx(alone)
        assert error == "division by zero"  # an error on the first process reaches all instead of leaving them waiting


def test_a_repeated_image_from_another_process_counts_once():
    whole, padded = VOCMeanAP(2), VOCMeanAP(2)
    for found, target in images(5):
        whole.update([found], [target], (50, 50))
    for found, target in [*images(5), *images(2)]:
        padded.update([found], [target], (50, 50))
    assert padded.compute() == whole.compute()
