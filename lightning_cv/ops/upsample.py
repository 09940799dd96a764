"""Upsampling: bilinear, as a kernel for transposed convolution and to a given size; bed of nails. Letter: f, factor."""

import torch
import torch.nn.functional as F
from torch import Tensor


def bilinear_kernel(factor: int) -> Tensor:
    """Weights (2f, 2f) with which a transposed convolution of stride f and padding f/2 interpolates; f even or 1.

    Long, Shelhamer and Darrell 2015, section 3.3 (initial value of the upsampling filters). The weights that meet at
    any one output pixel sum to 1.

    >>> bilinear_kernel(2)[0]
    tensor([0.0625, 0.1875, 0.1875, 0.0625])
    """
    if factor < 1 or (factor != 1 and factor % 2):
        raise ValueError(f"bilinear_kernel: the factor must be 1 or even (padding is half of it), got {factor}")
    if factor == 1:
        return torch.ones(1, 1)
    distance = (torch.arange(2 * factor) + 0.5 - factor).abs() / factor
    ramp = 1 - distance  # (2f,)
    return torch.outer(ramp, ramp)  # (2f, 2f)


def resize_bilinear(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps (N, C, *size) of maps (N, C, H, W): pixels are areas, so corners are not aligned."""
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


def bed_of_nails(maps: Tensor, factor: int = 2) -> Tensor:
    """Maps (N, C, f*H, f*W) of maps (N, C, H, W): each value at the upper left of its f x f cells, zeros elsewhere.

    >>> bed_of_nails(torch.tensor([[[[1, 2], [3, 4]]]]))[0, 0].tolist()
    [[1, 0, 2, 0], [0, 0, 0, 0], [3, 0, 4, 0], [0, 0, 0, 0]]
    """
    if factor < 1:
        raise ValueError(f"bed_of_nails: the factor must be at least 1, got {factor}")
    height, width = maps.shape[-2:]
    spread = maps.new_zeros(*maps.shape[:-2], height * factor, width * factor)
    spread[..., ::factor, ::factor] = maps
    return spread
