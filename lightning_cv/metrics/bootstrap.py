"""How far figures of a data set would move with other images of the same kind. Letters: N images, F figures."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from lightning_cv.metrics.voc import Floats


def bootstrap_interval(
    figures: Callable[[NDArray[np.int64]], Floats], images: int, draws: int = 1000, share: float = 0.95, seed: int = 0
) -> Floats:
    """Lower and upper ends (2, F) of the percentile intervals that hold `share` of the figures of `draws` resamples.

    Efron 1979; Efron and Tibshirani 1993, "An introduction to the bootstrap", chapter 13: N images are drawn from the N
    with replacement, the figures made of these, and so on. Of a net that stays as it is: what another training would
    give is not in it. Figures that are NaN for a draw are left out of their interval.

    Args:
        figures: of the times (N,) that each image was drawn, the figures (F,).
        images: N.
    """
    if images < 1 or draws < 1 or not 0 < share < 1:
        raise ValueError(
            f"bootstrap_interval: images and draws are at least 1, share is between 0 and 1, got {images}, {draws} and "
            f"{share}"
        )
    rng = np.random.default_rng(seed)
    drawn = [figures(np.bincount(rng.integers(images, size=images), minlength=images)) for _ in range(draws)]
    ends: Floats = np.nanquantile(np.stack(drawn), [(1 - share) / 2, (1 + share) / 2], axis=0)
    return ends
