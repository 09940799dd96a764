import pytest
import torch
import torch.nn.functional as F

from lightning_cv.ops.dense_inference import Averaged, Tiles, tile_starts


def brightness(images):
    """A look that says of each pixel how red and how green it is: no neighbour matters."""
    return images[:, :2]


def test_looking_once_at_the_image_itself_changes_nothing():
    images = torch.rand(2, 3, 9, 13)
    assert torch.equal(Averaged((1.0,), flip=False)(brightness, images), brightness(images))
    torch.testing.assert_close(Averaged((1.0,))(brightness, images), brightness(images))
    torch.testing.assert_close(Tiles(4, 3)(brightness, images), brightness(images))


def test_the_mean_of_two_sizes_and_their_mirror_images_by_loops():
    images, sizes = torch.rand(1, 3, 10, 8), []
    weights = torch.rand(2, 3, 3, 3)

    def look(seen):
        sizes.append(tuple(seen.shape[-2:]))
        return F.conv2d(seen, weights, padding=1)

    found = Averaged((1.0, 1.5), multiple=1)(look, images)
    assert sizes == [(10, 8), (10, 8), (15, 12), (15, 12)]
    expected = []
    for size in ((10, 8), (15, 12)):
        seen = F.interpolate(images, size, mode="bilinear")
        for mirrored in (False, True):
            maps = F.conv2d(seen.flip(-1) if mirrored else seen, weights, padding=1)
            expected.append(F.interpolate(maps.flip(-1) if mirrored else maps, (10, 8), mode="bilinear"))
    torch.testing.assert_close(found, torch.stack(expected).mean(0))


def test_sizes_are_rounded_to_what_the_net_can_take():
    """By 1.5, 96 px are 144 px, which nets of stride 32 refuse; the image itself is not touched."""
    sizes = []

    def picky(seen):
        sizes.append(tuple(seen.shape[-2:]))
        if len(sizes) > 1 and any(side % 32 for side in sizes[-1]):
            raise RuntimeError(f"Wrong input shape {sizes[-1]}")
        return brightness(seen)

    found = Averaged((1.0, 0.5, 0.75, 1.25, 1.5, 0.1), flip=False)(picky, torch.rand(1, 3, 96, 70))
    # 48 x 35, 72 x 52.5, 120 x 87.5, 144 x 105 and 9.6 x 7 in steps of 32, half a step to the even one
    assert sizes == [(96, 70), (64, 32), (64, 64), (128, 96), (128, 96), (32, 32)]
    assert found.shape == (1, 2, 96, 70)


def test_a_rounded_size_comes_back_to_the_same_place():
    """A ramp is a ramp at every size, so the mean of looks at it is the ramp, up to the border."""
    ramp = ((torch.arange(96) + 0.5) / 96).expand(1, 3, 96, 96)
    found = Averaged((0.5, 0.75, 1.0, 1.25, 1.5, 1.75))(brightness, ramp)
    torch.testing.assert_close(found[..., 4:-4], ramp[:, :2, :, 4:-4], atol=1e-5, rtol=0)


def test_a_library_s_net_that_is_particular_about_sizes_takes_all_of_the_defaults():
    smp = pytest.importorskip("segmentation_models_pytorch")
    net = smp.DeepLabV3Plus("tu-resnet10t", encoder_weights=None, decoder_channels=8, classes=3).eval()
    with torch.no_grad():
        found = Averaged()(lambda seen: net(seen).softmax(1), torch.rand(1, 3, 96, 96))
    assert found.shape == (1, 3, 96, 96)
    torch.testing.assert_close(found.sum(1), torch.ones(1, 96, 96))


def test_each_pixel_is_the_mean_of_the_tiles_that_cover_it():
    images = torch.rand(1, 3, 7, 5)
    seen = []

    def numbered(tile):
        seen.append(tuple(tile.shape[-2:]))
        return torch.full((1, 1, *tile.shape[-2:]), float(len(seen)))

    found = Tiles(4, 3)(numbered, images)[0, 0]
    assert seen == [(4, 4)] * 4  # rows begin at 0 and 3, columns at 0 and 1
    assert found[0].tolist() == [1, 1.5, 1.5, 1.5, 2]
    assert found[3].tolist() == [2, 2.5, 2.5, 2.5, 3]  # the row that all four share
    assert found[6].tolist() == [3, 3.5, 3.5, 3.5, 4]


def test_a_small_image_is_one_tile_and_tiles_may_be_averaged_themselves():
    sizes = []

    def look(seen):
        sizes.append(tuple(seen.shape[-2:]))
        return brightness(seen)

    Tiles(16, 16)(look, torch.rand(1, 3, 5, 16))
    Tiles(4, 4, within=Averaged((2.0,), flip=False, multiple=1))(look, torch.rand(1, 3, 4, 8))
    assert sizes == [(5, 16), (8, 8), (8, 8)]


@pytest.mark.parametrize(("side", "size", "step"), [(1, 1, 1), (20, 7, 3), (21, 7, 7), (5, 9, 2), (100, 33, 32)])
def test_tiles_cover_every_pixel_and_stay_inside(side, size, step):
    covered = {pixel for start in tile_starts(side, size, step) for pixel in range(start, min(start + size, side))}
    assert covered == set(range(side))
    assert max(tile_starts(side, size, step)) + size <= max(side, size)


def test_bad_settings_are_named():
    for scales in ((), (1.0, 0.0)):
        with pytest.raises(ValueError, match="scales must be numbers above 0"):
            Averaged(scales)
    with pytest.raises(ValueError, match="multiple must be at least 1, got 0"):
        Averaged(multiple=0)
    with pytest.raises(ValueError, match="step must be from 1 to size, got size 4 and step 5"):
        Tiles(4, 5)
