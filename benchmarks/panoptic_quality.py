"""Images/s of our panoptic quality beside panopticapi's algorithm in one process, in turn, on the same drawn arrays.

Ours counts images in as many threads as there are cores, as `lightning-cv evaluate` does. The peer is the port in
`tests/oracles/panoptic.py`: sorted unique pairs of ids and loops over dictionaries. Both must give the same figures.
Reading of PNG files is left out.
"""

import argparse
import os
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from oracles.panoptic import averages, count_image, draw_image, new_tallies

from lightning_cv.metrics.panoptic import PanopticImage, panoptic_counts, panoptic_quality

CLASSES = 133
PEER = "panopticapi (port)"


def ours(images):
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        counts = list(pool.map(lambda image: panoptic_counts(*image[0], CLASSES, ""), images))
    return panoptic_quality(counts, np.ones(CLASSES, bool)).all


def peers(images):
    tallies = new_tallies()
    for _, plain in images:
        count_image(*plain, tallies)
    return averages(tallies, range(CLASSES))


def divided(pixels, segments):
    labels, crowd = zip(*segments.values(), strict=True) if segments else ((), ())
    ids = np.array(list(segments), np.int64)
    return PanopticImage(pixels, ids, np.array(labels, np.int64), np.array(crowd, bool))


def draw(number: int, size: tuple[int, int], regions: int, patches: int):
    rng = np.random.default_rng(0)
    for _ in range(number):
        true, true_segments, guess, segments = draw_image(rng, *size, CLASSES, regions, patches)
        plain = true.astype(np.int32), true_segments, guess.astype(np.int32), segments  # as our reader gives them
        yield (divided(*plain[2:]), divided(*plain[:2])), plain


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--size", type=int, nargs=2, default=(480, 640), metavar=("H", "W"))
    parser.add_argument("--regions", type=int, default=25, help="painted over one another (default: %(default)s)")
    parser.add_argument("--patches", type=int, default=400, help="that make edges ragged (default: %(default)s)")
    parser.add_argument("--pairs", type=int, default=3)
    options = parser.parse_args()
    images = list(draw(options.images, options.size, options.regions, options.patches))
    seconds: dict[str, list[float]] = {"lightning_cv": [], PEER: []}
    for pair in range(1, options.pairs + 1):
        figures = []
        for (name, mine), measure in zip(seconds.items(), (ours, peers), strict=True):
            begun = time.perf_counter()
            figures.append(measure(images))
            mine.append(time.perf_counter() - begun)
            print(f"pair {pair}: {name} {options.images / mine[-1]:.0f} images/s", flush=True)
        assert np.allclose(*figures, rtol=0, atol=1e-12), figures
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print(", ".join(f"{name} {options.images / value:.0f} images/s" for name, value in medians.items()))
    print(f"ratio of medians {medians[PEER] / medians['lightning_cv']:.1f}")
    print(f"PQ {figures[0].pq:.6f} over {figures[0].classes} classes from both")


if __name__ == "__main__":
    main()
