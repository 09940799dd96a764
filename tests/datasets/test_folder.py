"""A folder of pictures: which files count, how they are divided, and what becomes of broken ones."""

import numpy as np
import pytest
from PIL import Image

from lightning_cv.datasets.errors import DataError
from lightning_cv.datasets.folder import FolderImages, find_pictures, read_picture, split_pictures
from lightning_cv.datasets.repairs import Repairs

NAMES = ["B.PNG", "a.jpg", "deep/d.bmp", "deep/er/c.webp", "e.jpeg"]


def picture(seed, size=(20, 10)):
    return np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    for seed, name in enumerate(NAMES):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(seed)).save(path, lossless=True, quality=95)
    for name in ("notes.txt", ".hidden.png", "deep/scores.csv", ".cache/x.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("no picture")
    return tmp_path


def test_pictures_are_found_at_any_depth_and_sorted(folder):
    assert find_pictures(folder) == NAMES
    assert find_pictures(str(folder)) == NAMES


def test_a_folder_without_pictures(tmp_path):
    with pytest.raises(DataError, match=r"no folder .*nowhere"):
        find_pictures(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"holds no pictures.*\.webp"):
        find_pictures(tmp_path)


def test_pictures_come_back_as_they_are(folder):
    images = FolderImages(folder, NAMES, Repairs())
    for index in (0, 2, 3):  # without loss
        np.testing.assert_array_equal(images[index]["image"], picture(index))
    assert (images[3]["image_id"], images[3]["label"], len(images)) == ("deep/er/c.webp", 0, 5)


def test_other_kinds_of_pictures_become_rgb(tmp_path):
    grey = np.arange(200, dtype=np.uint8).reshape(10, 20)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "grey.png"), np.repeat(grey[..., None], 3, axis=2))
    Image.fromarray(grey).convert("P").save(tmp_path / "palette.png")
    assert read_picture(tmp_path / "palette.png").shape == (10, 20, 3)
    Image.fromarray(np.dstack([picture(1), grey])).save(tmp_path / "alpha.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "alpha.png"), picture(1))
    Image.fromarray(grey.astype(np.uint16) * 200).save(tmp_path / "deep.png")
    with pytest.raises(DataError, match="more than 8 bits a channel"):
        read_picture(tmp_path / "deep.png")


def test_pictures_are_turned_as_their_exif_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by 90 degrees
    Image.fromarray(picture(0)).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(read_picture(tmp_path / "turned.png"), np.rot90(picture(0), -1))


@pytest.fixture
def broken(folder):
    """Two of the five cannot be read."""
    path = folder / "deep/d.bmp"
    path.write_bytes(path.read_bytes()[:200])
    (folder / "e.jpeg").write_text("no picture")
    return folder


@pytest.mark.parametrize("shrink", [None, lambda image: image[:4, :4]])
def test_broken_pictures_are_left_out_and_counted(broken, shrink):
    repairs = Repairs()
    images = FolderImages(broken, NAMES, repairs, shrink)
    assert images.names == [NAMES[0], NAMES[1], NAMES[3]]
    assert repairs.counts == {"picture that cannot be read left out": 2}
    assert "d.bmp" in next(iter(repairs.first.values()))
    image = images[2]["image"]
    np.testing.assert_array_equal(image, picture(3) if shrink is None else picture(3)[:4, :4])


def test_strict_stops_at_the_first_broken_picture(broken):
    with pytest.raises(DataError, match=r"d\.bmp.*strict"):
        FolderImages(broken, NAMES, Repairs(strict=True))


def test_unchecked_pictures_are_errors_in_their_turn(broken):
    images = FolderImages(broken, NAMES, Repairs(), check=False)
    assert len(images) == 5
    with pytest.raises(DataError, match=r"e\.jpeg"):
        images[4]


def test_nothing_readable_is_an_error(broken):
    with pytest.raises(DataError, match="none of 2 pictures"):
        FolderImages(broken, [NAMES[2], NAMES[4]], Repairs())


def test_kept_pictures_are_copies(folder):
    images = FolderImages(folder, NAMES, Repairs(), shrink=lambda image: image[::2, ::2])
    images[0]["image"][:] = 0
    np.testing.assert_array_equal(images[0]["image"], picture(0)[::2, ::2])


def test_parts_are_disjoint_and_the_same_every_time():
    names = [f"{number:03d}.png" for number in range(100)]
    parts = split_pictures(names, 0.1, 0.2)
    assert {part: len(chosen) for part, chosen in parts.items()} == {"val": 10, "test": 20, "train": 70}
    assert sorted(name for chosen in parts.values() for name in chosen) == names
    assert all(chosen == sorted(chosen) for chosen in parts.values())
    assert split_pictures(names, 0.1, 0.2) == parts


@pytest.mark.parametrize(("count", "shares"), [(3, (0.1, 0.1)), (3, (0.6, 0.3)), (4, (0.5, 0.4)), (12, (0.45, 0.45))])
def test_small_folders_still_have_three_parts(count, shares):
    parts = split_pictures([str(number) for number in range(count)], *shares)
    assert min(len(chosen) for chosen in parts.values()) >= 1
    assert sum(len(chosen) for chosen in parts.values()) == count


def test_what_cannot_be_divided():
    with pytest.raises(DataError, match="at least 3"):
        split_pictures(["a", "b"], 0.1, 0.1)
    for shares in ((0.0, 0.1), (0.5, 0.5), (-0.1, 0.2)):
        with pytest.raises(ValueError, match="between 0 and 1"):
            split_pictures(list("abcdef"), *shares)
