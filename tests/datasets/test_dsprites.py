"""dSprites: the drawn shapes beside formulas, published images and trained nets; the packed file in all its states."""

import math
import multiprocessing
import zipfile
from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from torch.nn import functional

from lightning_cv.datasets import dsprites
from lightning_cv.datasets.dsprites import (
    FACTOR_SIZES,
    NUM_SPRITES,
    ORIGINAL_FILE,
    Look,
    factor_values,
    factors_of,
    open_sprites,
    prepare_sprites,
    render_sprites,
    rows_of,
    sprites_file,
    unpack_sprites,
)
from lightning_cv.datasets.errors import DataError

SQUARE, ELLIPSE, HEART = range(3)
AREAS = {SQUARE: 368.6, ELLIPSE: 289.5, HEART: 225.3}  # pixels at scale 1, measured on the original images


# --- what is drawn


@pytest.mark.parametrize("shape", AREAS)
def test_areas_follow_the_scale(shape):
    for index, scale in enumerate(np.linspace(0.5, 1, 6)):
        area = render_sprites(Look(shape, index, 7)).sum(axis=(2, 3)).mean()
        assert area == pytest.approx(AREAS[shape] * scale**2, rel=0.03)


@pytest.mark.parametrize("shape", AREAS)
def test_the_first_and_the_last_orientation_are_twins(shape):
    for scale in (0, 1, 5):
        np.testing.assert_array_equal(render_sprites(Look(shape, scale, 0)), render_sprites(Look(shape, scale, 39)))


@pytest.mark.parametrize("shape", AREAS)
def test_no_shape_touches_the_frame(shape):
    for orientation in range(0, 40, 6):
        sprites = render_sprites(Look(shape, 5, orientation))
        assert not sprites[:, :, [0, -1], :].any()
        assert not sprites[:, :, :, [0, -1]].any()
        assert sprites.any(axis=(2, 3)).all()


def test_x_is_the_column_and_y_the_row():
    sprites = render_sprites(Look(SQUARE, 2, 11))
    for x, y in ((0, 0), (31, 0), (0, 31), (20, 9)):
        rows, columns = np.nonzero(sprites[x, y])
        assert columns.mean() + 0.5 == pytest.approx(16 + 32 * x / 31, abs=0.3)
        assert rows.mean() + 0.5 == pytest.approx(16 + 32 * y / 31, abs=0.3)


def test_shapes_turn_counter_clockwise():
    long_axis = render_sprites(Look(ELLIPSE, 5, 4))[0, 0]  # 37 degrees
    assert long_axis[16 - 5, 16 + 7]  # right and up
    assert not long_axis[16 + 5, 16 + 7]
    tip = render_sprites(Look(HEART, 5, 10))[0, 0]  # 92 degrees: the tip, at first below, points to the right
    columns = np.nonzero(tip.any(axis=0))[0]
    assert tip[:, columns[-4:]].sum() < tip[:, columns[:4]].sum()


def inside_slowly(shape, dx, dy, scale, angle):
    """Whether a point lies in a shape, and whether it lies far from its edge; by plain arithmetic, one at a time."""
    u = (math.cos(angle) * dx - math.sin(angle) * dy) / scale
    v = (math.sin(angle) * dx + math.cos(angle) * dy) / scale
    excess = max(abs(u), abs(v)) - 9.6 if shape == SQUARE else (math.hypot(u / 12.77, v / 7.21) - 1) * 7.21
    return excess <= 0, abs(excess) > 0.02


@pytest.mark.parametrize("look", [Look(SQUARE, 0, 0), Look(SQUARE, 3, 13), Look(ELLIPSE, 5, 33), Look(ELLIPSE, 1, 5)])
def test_pixels_beside_a_loop(look):
    sprites = render_sprites(look)
    scale, angle = 0.5 + 0.1 * look.scale, 2 * math.pi * look.orientation / 39
    clear = 0
    for x, y in ((0, 0), (31, 31), (8, 23), (17, 2)):
        for row in range(64):
            for column in range(64):
                offsets = column + 0.5 - 16 - 32 * x / 31, row + 0.5 - 16 - 32 * y / 31
                expected, sure = inside_slowly(look.shape, *offsets, scale, angle)
                clear += sure
                assert sprites[x, y, row, column] == expected or not sure
    assert clear > 4 * 64 * 64 * 0.99


def test_a_centre_on_an_edge_counts_on_one_side_only():
    # centre 24.258, half a side 5.76: edges at 18.498, which is 18.5 in steps of 1/256, and at 30.018
    square = render_sprites(Look(SQUARE, 1, 0))
    assert np.flatnonzero(square[3, 8].any(axis=1)).tolist() == list(range(19, 30))  # the upper edge: as published
    assert np.flatnonzero(square[8, 3].any(axis=0)).tolist() == list(range(18, 30))  # the left edge


# --- the grid of factors


def test_image_numbers_and_factors_are_inverse():
    rows = np.random.default_rng(0).integers(0, NUM_SPRITES, 500)
    factors = factors_of(rows)
    np.testing.assert_array_equal(rows_of(factors), rows)
    assert (factors < FACTOR_SIZES).all()
    shape, scale, orientation, x, y = factors[7].tolist()
    assert ((((shape * 6 + scale) * 40 + orientation) * 32 + x) * 32 + y) == rows[7]
    assert factors_of(np.array([0, 1, 32, 1024])).tolist() == [
        [0] * 5,
        [0, 0, 0, 0, 1],
        [0, 0, 0, 1, 0],
        [0, 0, 1, 0, 0],
    ]


def test_factor_values_in_the_units_of_the_original():
    ends = factor_values(np.array([[0] * 5, [2, 5, 39, 31, 31]]))
    np.testing.assert_allclose(ends, [[1, 0.5, 0, 0, 0], [3, 1, 2 * math.pi, 1, 1]])
    assert factor_values(np.array([[1, 1, 13, 0, 31]]))[0, 2] == pytest.approx(2 * math.pi / 3)


# --- the packed file


LOOKS = (Look(0, 0, 0), Look(2, 5, 17))


@pytest.fixture
def few(monkeypatch):
    """Two looks are the whole set; counts how often they are drawn."""
    drawn = []

    def looks():
        drawn.append(1)
        for look in LOOKS:
            yield np.packbits(render_sprites(look).reshape(-1, 64 * 64), axis=1)

    monkeypatch.setattr(dsprites, "NUM_SPRITES", len(LOOKS) * 1024)
    monkeypatch.setattr(dsprites, "_drawn_looks", looks)
    return drawn


def test_sprites_are_packed_once(tmp_path, few):
    path = prepare_sprites(tmp_path / "data")
    assert path == sprites_file(tmp_path / "data")
    assert prepare_sprites(tmp_path / "data") == path
    assert len(few) == 1
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    sprites = unpack_sprites(np.asarray(open_sprites(tmp_path / "data")))
    np.testing.assert_array_equal(sprites[1024 + 5], render_sprites(LOOKS[1])[0, 5])


DAMAGES = {
    "cut": lambda content: content[:-100],
    "longer header than file": lambda content: content[:64],
    "nothing": lambda content: b"",
    "something else": lambda content: b"x" * len(content),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_file_is_told_and_made_anew(tmp_path, few, kind):
    path = prepare_sprites(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(DAMAGES[kind](whole))
    with pytest.raises(DataError, match="delete it, and it is made anew") as caught:
        open_sprites(tmp_path)
    assert str(path) in str(caught.value)
    prepare_sprites(tmp_path)
    assert path.read_bytes() == whole


def test_a_file_of_another_size_is_told(tmp_path, few, monkeypatch):
    prepare_sprites(tmp_path)
    monkeypatch.setattr(dsprites, "NUM_SPRITES", 5)
    with pytest.raises(DataError, match=r"holds uint8 \(2048, 512\)"):
        open_sprites(tmp_path)


def test_no_file_is_told(tmp_path):
    with pytest.raises(DataError, match=r"no file .*prepare_data"):
        open_sprites(tmp_path)


def test_an_interruption_leaves_nothing(tmp_path, few, monkeypatch):
    def broken():
        yield np.zeros((1024, 512), np.uint8)
        raise KeyboardInterrupt

    monkeypatch.setattr(dsprites, "_drawn_looks", broken)
    with pytest.raises(KeyboardInterrupt):
        prepare_sprites(tmp_path)
    assert list((tmp_path / "dsprites").iterdir()) == []


def test_a_place_that_cannot_be_written(tmp_path, few):
    (tmp_path / "dsprites").write_text("in the way")
    with pytest.raises(DataError, match="cannot be written"):
        prepare_sprites(tmp_path)


def write_original(folder, images, compression=zipfile.ZIP_DEFLATED):
    """A file like the original, with as many images as given."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ORIGINAL_FILE
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, array in (("imgs", images), ("latents_classes", np.zeros((len(images), 6), np.int64))):
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, array)
    return path


@pytest.fixture
def images(few):
    rng = np.random.default_rng(0)
    few.clear()
    return rng.integers(0, 2, (2048, 64, 64), dtype=np.uint8)


def test_the_original_is_used_once_it_is_there(tmp_path, few, images):
    drawn = prepare_sprites(tmp_path)
    write_original(tmp_path / "dsprites", images)
    packed = prepare_sprites(tmp_path)
    assert packed != drawn
    np.testing.assert_array_equal(unpack_sprites(np.asarray(open_sprites(tmp_path))), images)
    assert len(few) == 1


def test_broken_originals(tmp_path, images):
    folder = tmp_path / "dsprites"
    path = write_original(folder, images, zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    flipped = content.copy()
    flipped[5000] ^= 1
    for wrong in (content[: len(content) // 2], b"no archive", flipped):
        path.write_bytes(wrong)
        with pytest.raises(DataError, match="is not dSprites' original file") as caught:
            prepare_sprites(tmp_path)
        assert str(path) in str(caught.value)
        assert [file.name for file in folder.iterdir()] == [ORIGINAL_FILE]
    for array in (images[:7], images.astype(np.int16), np.asfortranarray(images)):
        write_original(folder, array)
        with pytest.raises(DataError, match="imgs holds"):
            prepare_sprites(tmp_path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("other.npy", b"")
    with pytest.raises(DataError, match=r"imgs\.npy"):
        prepare_sprites(tmp_path)


def test_two_processes_at_once(tmp_path, few):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=prepare_sprites, args=(tmp_path,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert [path.name for path in (tmp_path / "dsprites").iterdir()] == [sprites_file(tmp_path).name]
    assert len(open_sprites(tmp_path)) == 2048


# --- the whole set and the published one


@pytest.mark.slow
def test_the_whole_set_has_the_mean_of_the_original(tmp_path):
    prepare_sprites(tmp_path)
    packed = open_sprites(tmp_path)
    white = sum(int(np.unpackbits(packed[first : first + 8192]).sum()) for first in range(0, NUM_SPRITES, 8192))
    assert white / (NUM_SPRITES * 64 * 64) == pytest.approx(0.0424944, rel=2e-4)  # the mean that disent publishes


@pytest.mark.data
def test_the_labelled_images_of_the_original(shared_data):
    with np.load(shared_data / "golden/dsprites_real12" / ORIGINAL_FILE) as original:
        images, values = original["imgs"], original["latents_values"]
    grids = (np.arange(1, 4), np.linspace(0.5, 1, 6), np.linspace(0, 2 * math.pi, 40), *[np.linspace(0, 1, 32)] * 2)
    differences = []
    for image, factors in zip(images, values[:, 1:], strict=True):
        *look, x, y = (int(np.abs(grid - value).argmin()) for grid, value in zip(grids, factors, strict=True))
        differences.append(int((render_sprites(Look(*look))[x, y] != image.astype(bool)).sum()))
    assert len(differences) == 12
    assert max(differences) <= 1, differences


@pytest.mark.slow
@pytest.mark.data
def test_the_frames_of_the_authors_animation(shared_data):
    with Image.open(shared_data / "golden/dsprites_real12/dsprites.gif") as animation:
        frames = np.stack([np.array(frame.convert("L")) > 127 for frame in ImageSequence.Iterator(animation)])
    frames = np.unique(frames, axis=0)  # without labels: each is compared with every look of about its area
    areas = frames.sum(axis=(1, 2))
    middles = np.array([np.argwhere(frame).mean(axis=0)[::-1] + 0.5 for frame in frames])  # x, y
    best = np.full(len(frames), 64 * 64)
    for shape, scale, orientation in product(*map(range, FACTOR_SIZES[:3])):
        area = AREAS[shape] * (0.5 + 0.1 * scale) ** 2
        candidates = np.flatnonzero(np.abs(areas - area) < 0.11 * area + 4)
        sprites = render_sprites(Look(shape, scale, orientation)) if len(candidates) else None
        for frame in candidates.tolist():
            drift = np.argwhere(sprites[15, 15]).mean(axis=0)[::-1] + 0.5 - (16 + 32 * 15 / 31)
            x, y = np.floor((middles[frame] - drift - 16) / 32 * 31).astype(int)
            near = sprites[max(x - 1, 0) : x + 3, max(y - 1, 0) : y + 3]
            best[frame] = min(best[frame], int((near != frames[frame]).sum(axis=(2, 3)).min(initial=64 * 64)))
    assert len(best) == 254
    assert best.max() <= 2
    assert (best == 0).sum() >= 251


class TrainedVAE:
    """A net of the public repository disentangling-vae, from its state dict alone."""

    def __init__(self, path):
        self.state = torch.load(path, weights_only=True)

    def _of(self, name):
        return self.state[f"{name}.weight"], self.state[f"{name}.bias"]

    def encode(self, images):
        hidden = images
        for name in ("conv1", "conv2", "conv3", "conv_64"):
            hidden = functional.conv2d(hidden, *self._of(f"encoder.{name}"), stride=2, padding=1).relu()
        hidden = hidden.flatten(1)
        for name in ("lin1", "lin2"):
            hidden = functional.linear(hidden, *self._of(f"encoder.{name}")).relu()
        both = functional.linear(hidden, *self._of("encoder.mu_logvar_gen"))
        return both[:, 0::2], both[:, 1::2]

    def decode(self, latent):
        hidden = latent
        for name in ("lin1", "lin2", "lin3"):
            hidden = functional.linear(hidden, *self._of(f"decoder.{name}")).relu()
        hidden = hidden.view(-1, 32, 4, 4)
        for name in ("convT_64", "convT1", "convT2"):
            hidden = functional.conv_transpose2d(hidden, *self._of(f"decoder.{name}"), stride=2, padding=1).relu()
        return functional.conv_transpose2d(hidden, *self._of("decoder.convT3"), stride=2, padding=1)


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "reconstruction", "kl"),
    [
        ("VAE_dsprites", 4.051941, 22.786762),
        ("betaH_dsprites", 14.351521, 13.292660),
        ("betaB_dsprites", 34.205143, 25.037064),
    ],
)
def test_trained_nets_see_the_images_they_were_trained_on(shared_data, name, reconstruction, kl):
    sprites = render_sprites(Look(SQUARE, 0, 0)).reshape(1024, 1, 64, 64)[:1000]
    images = torch.from_numpy(sprites).to(torch.float32)
    net = TrainedVAE(shared_data / f"golden/disvae_models/{name}.pt")
    with torch.no_grad():
        mean, log_var = net.encode(images)
        errors = functional.binary_cross_entropy_with_logits(net.decode(mean), images, reduction="sum")
    divergence = 0.5 * (mean.square() + log_var.exp() - log_var - 1).sum()
    assert errors.item() / 1000 == pytest.approx(reconstruction, abs=1e-3)
    assert divergence.item() / 1000 == pytest.approx(kl, abs=1e-3)
