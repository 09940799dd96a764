"""VOC average precision as the devkit's text says it: one sorted list of detections, plain loops, no arrays."""

import math


def overlap(a, b, inclusive):
    extra = 1 if inclusive else 0
    width = min(a[2], b[2]) - max(a[0], b[0]) + extra
    height = min(a[3], b[3]) - max(a[1], b[1]) + extra
    if width <= 0 or height <= 0:
        return 0.0
    area_a = (a[2] - a[0] + extra) * (a[3] - a[1] + extra)
    area_b = (b[2] - b[0] + extra) * (b[3] - b[1] + extra)
    return width * height / (area_a + area_b - width * height)


def average_precision(detections, objects, threshold=0.5, kind="area", strict=False, inclusive=False):
    """detections: (image, score, box) in any order; objects: (image, box, difficult). One class."""
    to_find = sum(1 for _, _, difficult in objects if not difficult)
    if to_find == 0:
        return math.nan
    taken = set()
    true_positives = false_positives = 0
    curve = []
    for image, _, box in sorted(detections, key=lambda detection: -detection[1]):  # sorted() is stable
        best, best_overlap = None, 0.0
        for number, (other, true_box, _) in enumerate(objects):
            if other == image and overlap(box, true_box, inclusive) > best_overlap:
                best, best_overlap = number, overlap(box, true_box, inclusive)
        enough = best is not None and (best_overlap > threshold if strict else best_overlap >= threshold)
        if enough and objects[best][2]:
            continue
        if enough and best not in taken:
            taken.add(best)
            true_positives += 1
        else:
            false_positives += 1
        curve.append((true_positives / to_find, true_positives / (true_positives + false_positives)))
    if kind == "11point":
        levels = [i * 0.1 for i in range(11)]
        return sum(max((p for r, p in curve if r >= level), default=0.0) for level in levels) / 11
    area, last = 0.0, 0.0
    for recall in sorted({r for r, _ in curve}):
        area += (recall - last) * max(p for r, p in curve if r >= recall)
        last = recall
    return area
