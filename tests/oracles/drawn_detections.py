"""Drawn detections and objects: most detections sit near an object, some have another class, some lie anywhere."""

import numpy as np

from lightning_cv.metrics.voc import ImageResult


def draw_results(rng, images, classes, ties=False):
    return [draw_result(rng, classes, ties) for _ in range(images)]


def draw_result(rng, classes, ties):
    true = rng.integers(0, 30, (rng.integers(0, 6), 4)).astype(float)
    true[:, 2:] = true[:, :2] + rng.integers(4, 20, (len(true), 2))
    true_labels = rng.integers(1, classes + 1, len(true))
    near = rng.integers(0, len(true), rng.integers(0, 12)) if len(true) else np.zeros(0, int)
    boxes = true[near] + rng.integers(-3, 4, (len(near), 4))
    labels = np.where(rng.random(len(near)) < 0.7, true_labels[near], rng.integers(1, classes + 1, len(near)))
    anywhere = rng.integers(0, 30, (rng.integers(0, 3), 4)).astype(float)
    boxes = np.concatenate([boxes, anywhere])
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    labels = np.concatenate([labels, rng.integers(1, classes + 1, len(anywhere))])
    scores = rng.integers(0, 4, len(boxes)) / 4 if ties else rng.random(len(boxes))
    difficult = rng.random(len(true)) < 0.2
    return ImageResult(boxes, scores, labels, true, true_labels, difficult, (60, 60))
