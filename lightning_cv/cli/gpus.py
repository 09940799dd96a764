"""What torch asks about GPUs on a machine that has none."""

import os

import torch


def hide_missing_gpus() -> None:
    """Tell torch by CUDA_VISIBLE_DEVICES that there is no GPU, where it finds none and the variable is not set.

    Lightning lets torch look through NVIDIA's library, which is searched for on disk until it is found; every step of
    every optimizer looks, 0.1 to 0.3 ms each, as much as a small layer.
    """
    if torch.cuda.device_count() == 0:
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
