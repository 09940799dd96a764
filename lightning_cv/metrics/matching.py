"""Who takes which object, best score first. Letters: D detections, G objects of an image."""

import numpy as np
from numpy.typing import NDArray

from lightning_cv.metrics.voc import Floats

NOBODY = -1


def take_in_turn(overlaps: Floats, threshold: float) -> NDArray[np.int64]:
    """Object that each detection takes, (D,), or NOBODY, from overlaps (D, G), best score first.

    A detection takes the object it overlaps most among those still free, if by `threshold`, which is above 0. It may
    fall back on its second best, which VOC's rule (`voc.judge`) does not let it.

    >>> take_in_turn(np.array([[0.9, 0.6], [0.8, 0.5], [0.7, 0.4]]), 0.5).tolist()
    [0, 1, -1]
    """
    taken = np.full(len(overlaps), NOBODY, dtype=np.int64)
    free = np.ones(overlaps.shape[1], dtype=bool)
    for d in np.flatnonzero(overlaps.max(1, initial=0.0) >= threshold):
        row = np.where(free, overlaps[d], 0.0)
        best = int(row.argmax())
        if row[best] >= threshold:
            taken[d], free[best] = best, False
    return taken
