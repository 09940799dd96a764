"""Gloo processes with unequal shares, some of them empty, must give what one process gives: every metric there is."""

import inspect
import os
import pkgutil
from importlib import import_module

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torchmetrics import Metric

from lightning_cv import metrics
from lightning_cv.metrics.confusion import DetectionConfusion
from lightning_cv.metrics.detection import COCOMaskAP, COCOMeanAP, DetectionRecords, VOCMeanAP
from lightning_cv.metrics.errors import DetectionErrors
from lightning_cv.metrics.likelihood import LikelihoodMeans
from lightning_cv.metrics.localization import LocalizationAccuracy
from lightning_cv.metrics.multilabel import MultilabelOverlap
from lightning_cv.metrics.panoptic import PanopticImage, PanopticQuality
from lightning_cv.metrics.proposals import ProposalRecall
from lightning_cv.metrics.reconstruction import ReconstructionQuality
from lightning_cv.metrics.records import ImageRecords
from lightning_cv.metrics.segmentation import SegmentationIoU

MODULES = [f"lightning_cv.metrics.{module.name}" for module in pkgutil.iter_modules(metrics.__path__)]
IMAGES = range(7)
NONE_FOUND = {"boxes": torch.zeros(0, 4), "scores": torch.zeros(0), "labels": torch.zeros(0, dtype=torch.int64)}

FEEDERS = {
    DetectionRecords: lambda: DetectionRecords(2),
    VOCMeanAP: lambda: VOCMeanAP(2),
    COCOMeanAP: lambda: COCOMeanAP(2),
    COCOMaskAP: lambda: COCOMaskAP(2),
    DetectionErrors: lambda: DetectionErrors(2),
    DetectionConfusion: lambda: DetectionConfusion(2, score=0.4),
    ProposalRecall: lambda: ProposalRecall([1, 2, 3]),
    LocalizationAccuracy: LocalizationAccuracy,
    PanopticQuality: lambda: PanopticQuality([True, False, True]),
    SegmentationIoU: lambda: SegmentationIoU(3),
    MultilabelOverlap: lambda: MultilabelOverlap(2),
    LikelihoodMeans: lambda: LikelihoodMeans(2),
    ReconstructionQuality: ReconstructionQuality,
}
"""How each metric is made; `feed` gives it an image."""


def objects(number):
    """Detections and target of an image."""
    generator = torch.Generator().manual_seed(number)
    true = torch.rand(3, 4, generator=generator) * 20
    true[:, 2:] = true[:, :2] + 5 + true[:, 2:]
    scores = torch.randint(0, 3, (3,), generator=generator) / 2
    labels = torch.randint(1, 3, (3,), generator=generator)
    boxes = true + torch.randn(3, 4, generator=generator)
    target = {"image_id": f"{number:02}", "boxes": true, "labels": labels.flip(0) if number % 3 == 0 else labels,
              "difficult": torch.rand(3, generator=generator) < 0.2, "original_size": (50, 50)}  # fmt: skip
    return {"boxes": boxes, "scores": scores, "labels": labels}, target


def with_masks(objects):
    """The same with masks that fill the boxes, as far as they lie in the picture."""
    places = torch.arange(50) + 0.5
    boxes = objects["boxes"]
    columns = (places > boxes[:, :1]) & (places < boxes[:, 2:3])  # (N, 50)
    rows = (places > boxes[:, 1:2]) & (places < boxes[:, 3:])
    return objects | {"masks": rows[:, :, None] & columns[:, None]}


def divided(pixels):
    ids = np.unique(pixels[pixels > 0])
    return PanopticImage(pixels, ids, ids % 3, ids == 4)


def feed(metric, number, predicted):
    """Count an image; where nothing is predicted, as far as a metric can take that."""
    found, target = objects(number)
    if not predicted:
        found = NONE_FOUND
    name, pixels = target["image_id"], torch.arange(12).reshape(1, 3, 4)
    image = torch.rand(1, 1, 12, 14, generator=torch.Generator().manual_seed(number))
    if isinstance(metric, COCOMaskAP):
        metric.update([with_masks(found)], [with_masks(target)], (50, 50))
    elif isinstance(metric, DetectionRecords):
        metric.update([found], [target], (50, 50))
    elif isinstance(metric, ProposalRecall):
        metric.update([found["boxes"]], [found["scores"]], [target], (50, 50))
    elif isinstance(metric, LocalizationAccuracy):
        guess, _ = objects(number)
        boxes = guess["boxes"] if predicted else torch.zeros(3, 4)
        metric.update(boxes[:1], guess["labels"][:1], target["boxes"][:1], target["labels"][:1], [name])
    elif isinstance(metric, PanopticQuality):
        truth = (pixels[0] * (number + 1)) % 5
        guess = torch.where(pixels[0] > number, truth, 0) if predicted else torch.zeros_like(truth)
        metric.update([divided(guess.numpy())], [divided(truth.numpy())], [name])
    elif isinstance(metric, SegmentationIoU):
        metric.update((pixels + number) % 3 if predicted else 0 * pixels, (pixels * (number + 1)) % 3, [name])
    elif isinstance(metric, MultilabelOverlap):
        scores = (pixels / 12 + number / 7) % 1 if predicted else torch.zeros(1, 3, 4)
        metric.update(torch.stack([scores, 1 - scores], 1), torch.stack([pixels % 2, pixels % 3 % 2], 1), [name])
    elif isinstance(metric, LikelihoodMeans):
        terms = torch.tensor([float(number)])
        twice = terms.repeat(1, 2)
        likelihood = {"elbo": -terms, "reconstruction": terms, "kl": terms, "iwae_64": -terms}
        metric.update(likelihood | {"kl_per_dim": twice, "mean": twice, "log_var": twice / 9}, [name], 12)
    else:
        assert isinstance(metric, ReconstructionQuality)
        terms = {"reconstruction": torch.tensor([float(number)])}
        metric.update((image + 0.1 * predicted).clamp(0, 1), image.flip(3), [name], terms, image > 0.7)


def numbers(value):
    """All numbers of a result, in order."""
    if isinstance(value, dict):
        return [number for name in sorted(value) for number in numbers(value[name])]
    if isinstance(value, torch.Tensor | np.ndarray):
        return value.reshape(-1).tolist()
    return [number for part in value for number in numbers(part)] if isinstance(value, tuple) else [float(value)]


def figures(chosen, predicted=True):
    """What every metric makes of the images chosen."""
    answers = {}
    for kind, make in FEEDERS.items():
        metric = make()
        for number in chosen:
            feed(metric, number, predicted)
        answers[kind.__name__] = numbers(metric.compute())
    return answers


class Unsendable(Exception):
    """Not rebuilt from its arguments, as pickle would."""

    def __init__(self, what, why):
        super().__init__(f"{what.__name__} of {why.__name__}")


def raise_(error):
    raise error


def run(rank, world_size, port, cases, queue):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world_size)
    answers = [figures(shares[rank], predicted) for shares, predicted in cases]
    last = {}
    for kind, make in FEEDERS.items():
        grown = make()
        for number in IMAGES:
            if rank == 0:  # the others have nothing new and still take part
                feed(grown, number, True)
            last[kind.__name__] = numbers(grown.compute())
    errors = []
    for evaluate in (lambda _: 1 / 0, lambda _: raise_(Unsendable(len, torch.nn.Linear))):
        try:
            VOCMeanAP(1).evaluate_once(evaluate)
        except Exception as caught:
            errors.append(str(caught))
    queue.put((rank, answers, last, errors))
    queue.close()
    queue.join_thread()
    dist.destroy_process_group()


SHARES = {
    1: [(tuple(IMAGES),)],
    2: [((0, 1, 2, 3, 4), (5, 6)), ((), tuple(IMAGES)), (tuple(range(11)), tuple(range(11, 21)))],
    3: [((0, 1, 2, 3), (), (4, 5, 6)), ((), (6, 5, 4, 3, 2, 1, 0), ())],
}


def images(shares):
    """All that are divided, which are the first few."""
    together = sorted(number for share in shares for number in share)
    assert together == list(range(len(together)))
    return together


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_uneven_processes_agree_with_one(world_size):
    cases = [(shares, predicted) for predicted in (True, False) for shares in SHARES[world_size]]
    context = mp.get_context("forkserver")  # imports torch once for all
    context.set_forkserver_preload(MODULES)
    queue = context.Queue()
    port = 20000 + (os.getpid() + 7 * world_size) % 20000
    processes = [context.Process(target=run, args=(rank, world_size, port, cases, queue)) for rank in range(world_size)]
    for process in processes:
        process.start()
    answers = [queue.get(timeout=120) for _ in processes]
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    counts = {len(images(shares)) for shares, _ in cases}
    alone = {(count, predicted): figures(range(count), predicted) for count in counts for predicted in (True, False)}
    for rank, found, last, errors in answers:
        for name, values in alone[len(IMAGES), True].items():
            assert last[name] == pytest.approx(values, nan_ok=True), name
        for (shares, predicted), result in zip(cases, found, strict=True):
            for name, values in alone[len(images(shares)), predicted].items():
                assert result[name] == pytest.approx(values, nan_ok=True), (name, rank, shares, predicted)
        own = "len of Linear" if rank == 0 else "Unsendable: len of Linear"
        assert errors == ["division by zero", own]  # an error on the first process reaches all, who would wait else


def test_every_metric_is_among_those_that_are_tried():
    classes = {
        member
        for name in MODULES
        for _, member in inspect.getmembers(import_module(name), inspect.isclass)
        if issubclass(member, Metric) and member.__module__.startswith("lightning_cv")
    }
    assert classes - {ImageRecords} == set(FEEDERS)


def test_the_figures_that_are_compared_tell_images_apart():
    whole, part = figures(IMAGES), figures(range(5))
    assert all(whole[name] != part[name] for name in whole)


@pytest.mark.parametrize("kind", FEEDERS)
def test_a_repeated_image_counts_once(kind):
    once, padded = FEEDERS[kind](), FEEDERS[kind]()
    for number in range(5):
        feed(once, number, True)
    for number in (0, 1, 2, 3, 4, 0, 1):
        feed(padded, number, True)
    assert numbers(padded.compute()) == pytest.approx(numbers(once.compute()), nan_ok=True)
    padded.reset()
    assert padded.records == {}


def test_calling_a_metric_forgets_nothing():
    metric = VOCMeanAP(2)
    for number in range(3):
        found, target = objects(number)
        assert metric([found], [target], (50, 50)) is None
    assert sorted(metric.records) == ["00", "01", "02"]
