"""MNIST and Fashion-MNIST as grey, static and dynamic images."""

from pathlib import Path

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser, set_parsing_settings

from lightning_cv.contracts import Draw
from lightning_cv.datamodules import DataModule, FashionMNISTDataModule, MNISTDataModule, small_images
from lightning_cv.datasets.errors import DataError
from lightning_cv.datasets.mnist import FASHION_CLASSES
from lightning_cv.datasets.small_writers import write_mnist

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    write_mnist(root, {"train": 200, "test": 30})
    write_mnist(root, {"train": 40, "test": 20}, seed=1, fashion=True)
    return str(root)


def images_of(module, split, epoch=0):
    chosen = {"train": module.train_set, "val": module.val_set, "test": module.test_set}[split]()
    return chosen[[Draw(epoch, index) for index in range(len(chosen))]]["images"]


def test_static_images_never_change(root):
    one, other = (MNISTDataModule(root, binarization="static") for _ in range(2))
    other.seed = 9
    for split in ("train", "val", "test"):
        assert set(images_of(one, split).unique().tolist()) == {0, 1}
        assert torch.equal(images_of(one, split), images_of(other, split, epoch=3))


def test_dynamic_images_change_with_the_epoch_in_training_only(root):
    module, static = MNISTDataModule(root, binarization="dynamic"), MNISTDataModule(root, binarization="static")
    first, second = images_of(module, "train", 0), images_of(module, "train", 1)
    assert set(first.unique().tolist()) == {0, 1}
    assert not torch.equal(first, second)
    assert torch.equal(first, images_of(module, "train", 0))
    for split in ("val", "test"):
        assert torch.equal(images_of(module, split, 0), images_of(module, split, 5))
        assert torch.equal(images_of(module, split), images_of(static, split))


def test_dynamic_images_have_the_grey_ones_as_their_mean(root):
    module, grey = MNISTDataModule(root, binarization="dynamic"), MNISTDataModule(root)
    mean = sum(images_of(module, "train", epoch) for epoch in range(64)) / 64
    expected = images_of(grey, "train")
    assert (mean - expected).abs().mean() < 0.04
    error = (expected * (1 - expected) / 64).sqrt()
    assert ((mean - expected).abs() <= 6 * error + 1e-6).all()


def test_the_seed_of_the_run_reaches_the_draw(root):
    modules = [MNISTDataModule(root, binarization="dynamic") for _ in range(2)]
    modules[1].seed = 1
    assert not torch.equal(*(images_of(module, "train") for module in modules))


def test_worker_processes_and_batch_sizes_change_nothing(root):
    seen = []
    for workers, batch_size in ((0, 60), (2, 60), (0, 90)):
        module = MNISTDataModule(root, binarization="dynamic", batch_size=batch_size, num_workers=workers)
        module.seed = 7
        module.setup("fit")
        images = {}
        loader = module.train_dataloader()
        for epoch in range(2):
            loader.sampler.set_epoch(epoch)
            for batch in loader:
                images |= {
                    (epoch, name): image for name, image in zip(batch["image_ids"], batch["images"], strict=True)
                }
        seen.append(images)
    assert len(seen[0]) == 2 * 180
    for other in seen[1:]:
        assert other.keys() == seen[0].keys()
        assert all(torch.equal(other[key], image) for key, image in seen[0].items())


def test_what_binarization_cannot_be():
    with pytest.raises(ValueError, match="one of grey, static, dynamic, got 'otsu'"):
        MNISTDataModule("nowhere", binarization="otsu")


@pytest.mark.parametrize("kind", [MNISTDataModule, FashionMNISTDataModule])
def test_images_are_stretched_if_asked_for_and_padded_otherwise(kind, root):
    padded, stretched = images_of(kind(root), "val"), images_of(kind(root, resize="stretch"), "val")
    assert padded.shape == stretched.shape
    original = images_of(kind(root, size=28), "val")
    assert torch.equal(padded[..., 2:-2, 2:-2], original)
    wanted = torch.nn.functional.interpolate(original, size=(32, 32), mode="bilinear", antialias=True)
    assert (stretched - wanted).abs().max() < 1.5 / 255  # Pillow rounds to bytes, after each of its two passes
    assert padded.sum() == pytest.approx(original.sum().item(), rel=1e-5)


def test_what_resize_cannot_be(root):
    with pytest.raises(ValueError, match="one of pad, stretch, got 'crop'"):
        MNISTDataModule(root, resize="crop")
    with pytest.raises(ValueError, match=r"data\.resize stretch mixes black and white: data\.binarization static"):
        MNISTDataModule(root, binarization="static", resize="stretch")


@pytest.mark.parametrize("share", [-0.1, 1.0, 1.5, float("nan")])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ValueError, match=r"data\.val_fraction must be at least 0 and less than 1"):
        MNISTDataModule("nowhere", val_fraction=share)


@pytest.mark.parametrize(
    ("share", "empty", "full"), [(0.0, "val", "train"), (1e-6, "val", "train"), (0.999, "train", "val")]
)
def test_a_share_that_leaves_no_image_is_named_where_one_is_needed(root, share, empty, full):
    module = MNISTDataModule(root, val_fraction=share, batch_size=4)
    module.setup("fit")
    loaders = {"train": module.train_dataloader, "val": module.val_dataloader}
    with pytest.raises(DataError, match=rf"MNIST in {root} has no image for {empty}: data\.val_fraction is {share:g}"):
        loaders[empty]()
    assert len(next(iter(loaders[full]()))["images"]) == 4


def test_fashion_mnist(root):
    module = FashionMNISTDataModule(root, batch_size=12)
    module.setup("fit")
    module.setup("test")
    train, val, test = module.train_set(), module.val_set(), module.test_set()
    assert len(train) + len(val) == 40
    assert 2 <= len(val) <= 6  # a tenth of every class, rounded
    assert len(test) == 20
    assert module.class_names == FASHION_CLASSES
    assert next(iter(module.train_dataloader()))["images"].shape == (12, 1, 32, 32)
    assert MNISTDataModule(root).class_names == tuple("0123456789")
    with pytest.raises(DataError, match="lightning-cv data get fashion-mnist --root nowhere"):
        FashionMNISTDataModule("nowhere").setup("fit")


@pytest.mark.parametrize(("kind", "name"), [(MNISTDataModule, "mnist"), (FashionMNISTDataModule, "fashion-mnist")])
def test_files_are_fetched_if_asked_for(kind, name, root, monkeypatch):
    asked = []
    monkeypatch.setattr(small_images, "fetch", lambda *arguments: asked.append(arguments))
    kind(root).prepare_data()
    assert asked == []
    kind(root, download=True).prepare_data()
    assert asked == [(name, root)]


def test_from_yaml(monkeypatch):
    monkeypatch.setenv("LIGHTNING_CV_DATA", "elsewhere")
    set_parsing_settings(omegaconf_absolute_to_relative_paths=True)
    parser = ArgumentParser(parser_mode="omegaconf+", exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_subclass_arguments(DataModule, "data")
    block = str(EXPERIMENTS / "_base/fashion_mnist.yaml")
    module = parser.instantiate(parser.parse_args(["--config", block, "--data.binarization=static"])).data
    assert type(module) is FashionMNISTDataModule
    assert (module.root, module.size, module.binarization) == ("elsewhere", 32, "static")


@pytest.mark.data
def test_real_mnist_batches_are_black_and_white(shared_data):
    module = MNISTDataModule(str(shared_data), binarization="dynamic", batch_size=128)
    module.setup("fit")
    batch = next(iter(module.train_dataloader()))
    assert set(np.unique(batch["images"])) == {0, 1}
    grey = MNISTDataModule(str(shared_data)).train_set()
    draws = [Draw(0, index) for index in range(5000)]
    assert (module.train_set()[draws]["images"].mean() - grey[draws]["images"].mean()).abs() < 1e-3
