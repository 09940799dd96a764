"""Every preset: among those that are fuzzed, and the same with and without loader processes."""

import importlib
import inspect
import pkgutil

import numpy as np
import pytest
import torch
from transform_scenes import Samples, class_scene, coordinates, one_thread, panoptic_scene, scene
from transform_tables import AUTOENCODER, DETECTION, PANOPTIC, SEGMENTATION

from lightning_cv import transforms
from lightning_cv.contracts import Draw
from lightning_cv.datamodules.base import BatchDataset
from lightning_cv.datamodules.batches import collate_detection, collate_segmentation
from lightning_cv.datamodules.batches_panoptic import collate_panoptic
from lightning_cv.datamodules.folder import collate_images
from lightning_cv.transforms import warp_region

KINDS = [
    (DETECTION, scene, collate_detection),
    (SEGMENTATION, class_scene, collate_segmentation),
    (PANOPTIC, panoptic_scene, collate_panoptic),
    (AUTOENCODER, coordinates, collate_images),
]
FUZZED_FUNCTIONS = {"warp_region"}
HELPERS = {"image_tensor", "restore_boxes", "stretch"}
"""Exported functions that are no presets: their tests are by hand."""


def is_preset(value):
    """Whether it is a class whose objects are called with a sample."""
    return (
        inspect.isclass(value)
        and not inspect.isabstract(value)
        and any("__call__" in vars(base) for base in value.__mro__)
    )


def written_presets():
    """The presets of all modules, whether `lightning_cv.transforms` exports them or not."""
    for module in pkgutil.iter_modules(transforms.__path__, "lightning_cv.transforms."):
        for value in vars(importlib.import_module(module.name)).values():
            if is_preset(value) and value.__module__ == module.name:
                yield value


def test_every_preset_is_fuzzed():
    fuzzed = {type(preset) for table, *_ in KINDS for preset in table.values()}
    exported = {name: getattr(transforms, name) for name in transforms.__all__}
    assert {name for name, value in exported.items() if is_preset(value) and value not in fuzzed} == set()
    assert {value.__qualname__ for value in written_presets() if value not in fuzzed} == set()
    assert {name for name, value in exported.items() if inspect.isfunction(value)} == FUZZED_FUNCTIONS | HELPERS


def test_a_preset_is_told_from_what_else_is_exported():
    names = {name for name in transforms.__all__ if is_preset(getattr(transforms, name))}
    assert {"SSDTrain", "Mosaic", "SegmentationEval"} <= names
    assert names.isdisjoint({"MEAN_COLOUR", "DetectionTransform", "EvalTransform", "PreparedMask", "stretch"})
    assert "PanopticTrain" in {preset.__name__ for preset in written_presets()}


def a_warped_region(sample, seed):
    """R-CNN's crop around a random middle, as a data set would make it."""
    x, y = np.random.default_rng(seed).uniform(0, 80, 2)
    return torch.from_numpy(warp_region(sample["image"], (x - 20, y - 30, x + 20, y + 30), 64, 8))


class AllPresets(torch.utils.data.Dataset):
    """Batches of any preset by its name, so that the processes of one loader serve them all."""

    def __init__(self):
        self.sets = {
            name: BatchDataset(Samples(make, 8), preset, collate, seed=2)
            for table, make, collate in KINDS
            for name, preset in table.items()
        }
        self.sets["warp"] = BatchDataset(Samples(scene, 8), a_warped_region, torch.stack, seed=2)

    def __getitem__(self, request):
        name, draws = request
        return name, self.sets[name][draws]


NAMES = [*(name for table, *_ in KINDS for name in table), "warp"]


@pytest.fixture(scope="module")
@one_thread()
def batches():
    """By preset, four batches without processes and the same with four, under all draws of two epochs."""
    found = {name: ([], []) for name in NAMES}
    draws = [[Draw(epoch, index + k, 13 * index) for k in range(2)] for epoch in (0, 1) for index in (1, 5)]
    requests = [(name, few) for few in draws for name in NAMES]
    for place, workers in enumerate((0, 4)):
        loader = torch.utils.data.DataLoader(
            AllPresets(), sampler=requests, batch_size=None, collate_fn=lambda served: served, num_workers=workers
        )
        for name, batch in loader:
            found[name][place].append(batch)
    return found


def tensors_of(batch):
    """All tensors of a batch by their place in it, and all else as it is."""
    if isinstance(batch, dict):
        return {(key, *at): value for key in batch for at, value in tensors_of(batch[key]).items()}
    if isinstance(batch, list):
        return {(at, *rest): value for at, one in enumerate(batch) for rest, value in tensors_of(one).items()}
    return {(): batch}


@pytest.mark.parametrize("preset", NAMES)
def test_the_same_with_and_without_workers(preset, batches):
    alone, served = (tensors_of(one) for one in batches[preset])
    assert alone.keys() == served.keys()
    for at, value in alone.items():
        equal = torch.equal(value, served[at]) if isinstance(value, torch.Tensor) else value == served[at]
        assert equal, at
    assert len({at[0] for at in alone}) == 4
