import zlib

import numpy as np
import pytest
import torch
from scipy import stats

from lightning_cv.ops.noise import drawn_seeds, normal_noise, seeds_of, uniform_noise

MASK = (1 << 64) - 1


def splitmix_slowly(seed, count):
    """SplitMix64 with Python's whole numbers, from a seed that is scrambled first."""

    def scrambled(state):
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
        return state ^ (state >> 31)

    start = scrambled(seed & MASK)
    return [scrambled((start + step * 0x9E3779B97F4A7C15) & MASK) for step in range(1, count + 1)]


@pytest.mark.parametrize("seed", [0, 1, 2**62, -1, -(2**63)])
def test_uniform_noise_is_splitmix(seed):
    slow = [number >> 40 for number in splitmix_slowly(seed, 50)]
    fast = uniform_noise(torch.tensor([seed]), 50)[0] * 2**24
    assert fast.tolist() == slow


def test_an_images_noise_does_not_depend_on_its_batch():
    together = normal_noise(torch.tensor([5, 9, 12]), 7)
    assert torch.equal(normal_noise(torch.tensor([9]), 7)[0], together[1])
    assert not torch.equal(together[0], together[1])


@pytest.mark.parametrize("count", [1000, 999])
def test_noise_has_its_distribution(count):
    normal, uniform = (noise(torch.arange(100), count) for noise in (normal_noise, uniform_noise))
    assert normal.shape == uniform.shape == (100, count)
    assert stats.kstest(normal.flatten(), "norm").pvalue > 0.01
    assert stats.kstest(uniform.flatten(), "uniform").pvalue > 0.01
    assert uniform.max() < 1
    for values in (normal, uniform):
        table = np.corrcoef(values.numpy())  # seeds next to each other are unrelated: 1 / sqrt(1000) apart
        assert abs(table[~np.eye(100, dtype=bool)]).max() < 5.5 / count**0.5
    halves = np.corrcoef(normal[:, : count // 2].flatten(), normal[:, -(count // 2) :].flatten())  # radius and angle
    assert abs(halves[0, 1]) < 0.02


def test_seeds_are_those_of_the_ids_and_of_what_they_are_for():
    seeds = seeds_of(["a", "b"], 3, torch.device("cpu"))
    assert seeds.tolist() == [zlib.crc32(b"a") + (3 << 32), zlib.crc32(b"b") + (3 << 32)]
    assert seeds_of([], 0, torch.device("cpu")).shape == (0,)
    assert normal_noise(seeds_of([], 0, torch.device("cpu")), 4).shape == (0, 4)


def test_drawn_seeds_follow_the_global_generator():
    images = torch.zeros(3, 1, 2, 2)
    torch.manual_seed(1)
    first = drawn_seeds(images)
    torch.manual_seed(1)
    assert torch.equal(first, drawn_seeds(images))
    assert len(set(first.tolist())) == 3
