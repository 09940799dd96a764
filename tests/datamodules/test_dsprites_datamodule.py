"""dSprites as a data module, on a packed file in which only a few looks are drawn."""

import numpy as np
import pytest
import torch

from lightning_cv.contracts import Draw
from lightning_cv.datamodules import DSpritesDataModule
from lightning_cv.datamodules import dsprites as module_of_dsprites
from lightning_cv.datasets.dsprites import FACTOR_SIZES, NUM_SPRITES, Look, render_sprites, rows_of, sprites_file
from lightning_cv.datasets.errors import DataError

LOOKS = (Look(0, 0, 0), Look(1, 3, 12), Look(2, 5, 39))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A packed file whose other sprites are black: holes that take no room on the disk."""
    root = tmp_path_factory.mktemp("data")
    path = sprites_file(root)
    path.parent.mkdir()
    packed = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(NUM_SPRITES, 512))
    for look in LOOKS:
        first = rows_of(np.array([[*look, 0, 0]]))[0]
        packed[first : first + 1024] = np.packbits(render_sprites(look).reshape(1024, -1), axis=1)
    packed.flush()
    return str(root)


def of_look(root, number, **settings):
    look = LOOKS[number]
    fixed = {"shape": look.shape, "scale": look.scale, "orientation": look.orientation}
    return DSpritesDataModule(root, fixed=fixed, held_out=100, **settings)


def test_splits_divide_all_sprites(root):
    module = DSpritesDataModule(root)
    module.prepare_data()
    module.setup("fit")
    rows = [module.split(name).rows for name in ("train", "val", "test")]
    assert [len(part) for part in rows] == [NUM_SPRITES - 20_000, 10_000, 10_000]
    np.testing.assert_array_equal(np.sort(np.concatenate(rows)), np.arange(NUM_SPRITES))
    assert all((np.diff(part) > 0).all() for part in rows)
    np.testing.assert_array_equal(DSpritesDataModule(root).split("val").rows, rows[1])


def test_a_batch_holds_the_sprites_and_what_they_are_of(root):
    module = of_look(root, 1, batch_size=16)
    module.prepare_data()
    module.setup("fit")
    batch = next(iter(module.train_dataloader()))
    assert batch["images"].shape == (16, 1, 64, 64)
    assert batch["labels"].tolist() == [1] * 16
    assert module.class_names == ("square", "ellipse", "heart")
    sprites = render_sprites(LOOKS[1])
    for image, factors, image_id in zip(batch["images"], batch["factors"].tolist(), batch["image_ids"], strict=True):
        *fixed, x, y = factors
        assert fixed == [0, 0, 0]  # held at one index, which counts as 0 of 1
        np.testing.assert_array_equal(image[0], sprites[x, y])
        assert int(image_id.removeprefix("dsprites_")) == rows_of(np.array([[*LOOKS[1], x, y]]))[0]


def test_every_sprite_of_a_look_is_in_one_split(root):
    module = of_look(root, 2)
    seen = [name for split in (module.train_set(), module.val_set(), module.test_set()) for name in everything(split)]
    assert len(seen) == len(set(seen)) == 1024
    assert module.train_set().factor_sizes == (1, 1, 1, 32, 32)
    assert DSpritesDataModule(root).train_set().factor_sizes == FACTOR_SIZES


def everything(split):
    return split[[Draw(0, index) for index in range(len(split))]]["image_ids"]


def test_32_pixels_are_means_of_four(root):
    small, whole = (of_look(root, 2, size=size).val_set() for size in (32, 64))
    draws = [Draw(0, index) for index in range(100)]
    images = whole[draws]["images"]
    means = (images[..., ::2, ::2] + images[..., 1::2, ::2] + images[..., ::2, 1::2] + images[..., 1::2, 1::2]) / 4
    torch.testing.assert_close(small[draws]["images"], means)
    assert set(means.unique().tolist()) == {0, 0.25, 0.5, 0.75, 1}


def test_images_by_their_factors(root):
    everything_else = DSpritesDataModule(root).train_set()
    factors = np.array([[*LOOKS[0], 4, 30], [*LOOKS[2], 0, 1]])
    images = everything_else.with_factors(factors)
    np.testing.assert_array_equal(images[0, 0], render_sprites(LOOKS[0])[4, 30])
    np.testing.assert_array_equal(images[1, 0], render_sprites(LOOKS[2])[0, 1])
    fixed = of_look(root, 2).train_set()
    np.testing.assert_array_equal(fixed.with_factors(np.array([[0, 0, 0, 0, 1]])), images[1:])
    for wrong in ([0, 1, 0, 0, 0], [0, 0, 0, 0, -1]):
        with pytest.raises(ValueError, match=r"lie below \(1, 1, 1, 32, 32\)"):
            fixed.with_factors(np.array([wrong]))


def test_worker_processes_change_nothing(root):
    read = []
    for workers in (0, 2):
        module = of_look(root, 1, batch_size=100, num_workers=workers)
        module.seed = 3
        module.setup("fit")
        batches = [*module.train_dataloader(), *module.val_dataloader()]
        read.append([(batch["image_ids"], batch["images"].sum(dim=(1, 2, 3)).tolist()) for batch in batches])
    assert read[0] == read[1]
    assert len(read[0]) == 8 + 1


def test_a_missing_file_is_told_in_setup(tmp_path):
    with pytest.raises(DataError, match="prepare_data"):
        DSpritesDataModule(str(tmp_path)).setup("fit")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 48}, "64 or 32 pixels"),
        ({"fixed": {"colour": 0}}, "not 'colour'"),
        ({"fixed": {"scale": 6}}, "indices 0 to 5, got 6"),
        ({"fixed": {"shape": 0, "scale": 0, "orientation": 0}, "held_out": 512}, "some of the 1024 sprites"),
        ({"held_out": 0}, "held_out"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(ValueError, match=message):
        DSpritesDataModule("nowhere", **settings)


def test_the_original_is_fetched_if_asked_for(root, monkeypatch):
    asked = []
    monkeypatch.setattr(module_of_dsprites, "fetch", lambda *arguments: asked.append(arguments))
    DSpritesDataModule(root).prepare_data()
    assert asked == []
    DSpritesDataModule(root, download=True).prepare_data()
    assert asked == [("dsprites", root)]


def test_any_picture_can_be_prepared(root):
    picture = np.full((50, 30, 3), 51, np.uint8)
    torch.testing.assert_close(DSpritesDataModule(root, size=32).prepare_image(picture), torch.full((1, 32, 32), 0.2))
