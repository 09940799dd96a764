"""Noise as a function of counters: the same for an image in whichever batch, process or order it comes.

Letters: N images; D numbers an image.
"""

import math
import zlib
from collections.abc import Sequence

import torch
from torch import Tensor


def seeds_of(image_ids: Sequence[str], stream: int, device: torch.device) -> Tensor:
    """A seed for each image, int64 (N,), a function of its id and of what the noise is for."""
    ids = [zlib.crc32(image_id.encode()) for image_id in image_ids]
    return torch.tensor(ids, dtype=torch.int64, device=device) + (stream << 32)


def drawn_seeds(images: Tensor) -> Tensor:
    """A seed for each image (N, ...) from the global generator, int64 (N,): for training."""
    return torch.randint(2**62, (len(images),)).to(images.device)


def uniform_noise(seeds: Tensor, count: int) -> Tensor:
    """`count` numbers of each seed (N,), float32 (N, count), evenly spread over 0 to 1, without 1.

    Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators": SplitMix64, 24 bits of each number.
    """
    return (_bits(seeds, count) >> 40 & 0xFFFFFF).float() * 2.0**-24


def normal_noise(seeds: Tensor, count: int) -> Tensor:
    """`count` standard normal numbers of each seed (N,), float32 (N, count).

    Box and Muller 1958: two from each 64-bit number, one of whose halves gives the radius and one the angle.
    """
    bits = _bits(seeds, (count + 1) // 2)  # (N, D / 2)
    radius = ((bits >> 32 & 0xFFFFFFFF).float() + 0.5).mul(2.0**-32).log().mul(-2).clamp(min=0).sqrt()
    angle = (bits & 0xFFFFFFFF).float() * (2 * math.pi * 2.0**-32)
    return torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)[:, :count]


def _bits(seeds: Tensor, count: int) -> Tensor:
    """Random 64-bit numbers, int64 (N, count), of a generator that starts at each scrambled seed (N,)."""
    steps = torch.arange(1, count + 1, device=seeds.device) * _signed(0x9E3779B97F4A7C15)
    return _scrambled(_scrambled(seeds)[:, None] + steps)


def _scrambled(state: Tensor) -> Tensor:
    """SplitMix64's finaliser; multiplication wraps."""
    state = (state ^ _shifted(state, 30)) * _signed(0xBF58476D1CE4E5B9)
    state = (state ^ _shifted(state, 27)) * _signed(0x94D049BB133111EB)
    return state ^ _shifted(state, 31)


def _shifted(state: Tensor, bits: int) -> Tensor:
    """To the right, zeros coming in: int64's own shift repeats the sign."""
    return state >> bits & ((1 << (64 - bits)) - 1)


def _signed(number: int) -> int:
    """The int64 with the bits of an unsigned number."""
    return number - (1 << 64) if number >> 63 else number
