import pytest
import torch

from lightning_cv.ops.corruptions import BoxMask, GaussianNoise, RandomMask, SaltAndPepper, spoil

ALL = [GaussianNoise(0.2), SaltAndPepper(0.3), BoxMask(), RandomMask(0.4)]
SEEDS = torch.arange(200)


def grey(channels=1, side=16):
    return torch.full((200, channels, side, side), 0.5)


@pytest.mark.parametrize("corruption", ALL, ids=lambda corruption: type(corruption).__name__)
def test_each_image_is_spoilt_by_its_own_seed_and_stays_an_image(corruption):
    images = torch.rand(200, 3, 16, 12, generator=torch.Generator().manual_seed(0))
    kept = images.clone()
    spoilt = corruption(images, SEEDS)
    assert torch.equal(images, kept)
    assert spoilt.images.shape == images.shape
    assert spoilt.images.min() >= 0
    assert spoilt.images.max() <= 1
    alone = corruption(images[7:8], SEEDS[7:8])
    assert torch.equal(alone.images[0], spoilt.images[7])
    assert not torch.equal(corruption(images, SEEDS + 1000).images, spoilt.images)
    assert (spoilt.hidden is not None) == corruption.hides
    if spoilt.hidden is not None:
        assert torch.equal(alone.hidden[0], spoilt.hidden[7])
        shown = ~spoilt.hidden.expand_as(images)
        assert torch.equal(spoilt.images[shown], images[shown])
        assert (spoilt.images[~shown] == 0.5).all()
    assert corruption(images[:0], SEEDS[:0]).images.shape == (0, 3, 16, 12)


def test_noise_has_the_asked_for_deviation():
    noise = GaussianNoise(0.1)(grey(3), SEEDS).images - 0.5
    assert noise.std().item() == pytest.approx(0.1, rel=0.01)
    assert noise.mean().item() == pytest.approx(0.0, abs=0.001)
    channels = noise.transpose(0, 1).flatten(1)
    assert torch.corrcoef(channels)[0, 1].abs() < 0.02


def test_salt_and_pepper_come_in_equal_shares_for_all_channels_at_once():
    spoilt = SaltAndPepper(0.3)(grey(3), SEEDS).images
    assert (spoilt == 1).float().mean().item() == pytest.approx(0.15, abs=0.005)
    assert (spoilt == 0).float().mean().item() == pytest.approx(0.15, abs=0.005)
    assert torch.equal(spoilt[:, 0], spoilt[:, 2])


def test_a_random_mask_hides_its_share():
    hidden = RandomMask(0.4)(grey(), SEEDS).hidden
    assert hidden.shape == (200, 1, 16, 16)
    assert hidden.float().mean().item() == pytest.approx(0.4, abs=0.01)


def test_a_box_mask_is_one_rectangle_of_the_asked_for_sides_anywhere():
    hidden = BoxMask(0.25, 0.5)(grey(), SEEDS).hidden[:, 0]
    corners = set()
    for mask in hidden:
        rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
        assert mask.sum() == len(rows) * len(columns)
        assert mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        assert 4 <= len(rows) <= 8
        assert 4 <= len(columns) <= 8
        corners |= {rows[0].item(), 15 - rows[-1].item()}
    assert {0, 5, 10} <= corners  # up to both edges
    assert BoxMask(0.01, 0.02)(grey(), SEEDS).hidden.flatten(1).sum(1).eq(1).all()  # a pixel at least


def test_no_corruption_is_the_image_itself():
    images = grey()
    assert spoil(None, images, SEEDS).images is images
    assert spoil(ALL[0], images, SEEDS).images is not images


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GaussianNoise(0.0), "corruption.sigma must be positive, got 0.0"),
        (lambda: SaltAndPepper(1.0), "corruption.share must be between 0 and 1, got 1.0"),
        (lambda: RandomMask(0.0), "corruption.share must be between 0 and 1, got 0.0"),
        (lambda: RandomMask(0.5, fill=2.0), "corruption.fill must be within 0 and 1, got 2.0"),
        (lambda: BoxMask(0.6, 0.5), "smallest must not exceed largest, got 0.6 and 0.5"),
    ],
)
def test_bad_settings_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
