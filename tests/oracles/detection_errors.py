"""The split of detection errors of Bolya et al. 2020 in loops: dictionaries, one image after the other.

Also the confusion of classes, and nothing but plain lists.
"""

from bisect import bisect_left

from oracles.detection import iou_of

KINDS = ("classification", "localization", "both", "duplicate", "background", "missed")


def rows(image, most=None):
    found = [
        {"box": box, "score": score, "label": label}
        for box, score, label in zip(image.boxes.tolist(), image.scores.tolist(), image.labels.tolist(), strict=True)
    ]
    found.sort(key=lambda row: -row["score"])
    objects = [
        {"box": box, "label": label, "difficult": difficult, "taken": False, "aimed": False}
        for box, label, difficult in zip(
            image.true_boxes.tolist(), image.true_labels.tolist(), image.difficult.tolist(), strict=True
        )
    ]
    return found[:most], objects


def best_of(row, objects):
    return max(objects, key=lambda other: iou_of(row["box"], other["box"]), default=None)


def overlap_of(row, objects):
    best = best_of(row, objects)
    return 0.0 if best is None else iou_of(row["box"], best["box"])


def judge(image, high, low, most):
    found, everything = rows(image, most)
    objects = [o for o in everything if not o["difficult"]]
    difficult = [o for o in everything if o["difficult"]]
    for row in found:
        row["kind"] = None
        for name, pool in (("hit", objects), ("excused", difficult)):
            free = [o for o in pool if o["label"] == row["label"] and not o["taken"]]
            if row["kind"] is None and overlap_of(row, free) >= high:
                best_of(row, free)["taken"] = True
                row["kind"] = name
    for row in found:
        own = [o for o in objects if o["label"] == row["label"]]
        other = [o for o in objects if o["label"] != row["label"]]
        row["becomes"] = None
        if row["kind"] is not None:
            continue
        if own and low <= overlap_of(row, own) <= high:
            row["kind"], aim = "localization", best_of(row, own)
        elif other and overlap_of(row, other) >= high:
            row["kind"], aim = "classification", best_of(row, other)
        elif overlap_of(row, [o for o in own if o["taken"]]) >= high:
            row["kind"] = "duplicate"
            continue
        else:
            row["kind"] = "background" if overlap_of(row, objects) <= low else "both"
            continue
        if not aim["taken"] and not aim["aimed"]:
            row["becomes"] = aim["label"]
            aim["aimed"] = True
    return found, objects


def precision_of(points, objects):
    """101-point average precision of one class from (score, right) and a number of objects."""
    if objects == 0:
        return 0.0
    recalls, precisions, hits = [], [], 0
    for rank, (_, right) in enumerate(sorted(points, key=lambda point: -point[0]), start=1):
        hits += right
        recalls.append(hits / objects)
        precisions.append(hits / rank)
    total = 0.0
    for step in range(101):
        start = bisect_left(recalls, step / 100)
        total += max(precisions[start:], default=0.0)
    return total / 101


def split(images, classes, high=0.5, low=0.1, most=100):
    """(AP, counts by kind, costs by kind)."""
    found, objects = [], []
    for image in images:
        more, there = judge(image, high, low, most)
        found += more
        objects += there
    missed = [o for o in objects if not o["taken"] and not o["aimed"]]
    counts = {kind: sum(row["kind"] == kind for row in found) for kind in KINDS} | {"missed": len(missed)}

    def mean_precision(mended=None):
        values = []
        for label in range(1, classes + 1):
            wanted = sum(o["label"] == label for o in objects)
            if wanted == 0:
                continue
            if mended == "missed":
                wanted -= sum(o["label"] == label for o in missed)
            points = []
            for row in found:
                if row["kind"] == "excused":
                    continue
                if row["kind"] == mended:
                    if row["becomes"] == label:
                        points.append((row["score"], True))
                elif row["label"] == label:
                    points.append((row["score"], row["kind"] == "hit"))
            if wanted or points:
                values.append(precision_of(points, wanted))
        return sum(values) / len(values) if values else 0.0

    ap = mean_precision()
    return ap, counts, {kind: mean_precision(kind) - ap for kind in KINDS}


def confusion(images, classes, threshold, score):
    matrix = [[0] * (classes + 1) for _ in range(classes + 1)]
    for image in images:
        found, objects = rows(image)
        for row in found:
            if row["score"] < score:
                continue
            free = [o for o in objects if not o["taken"] and not o["difficult"]]
            if overlap_of(row, free) >= threshold:
                aim = best_of(row, free)
                aim["taken"] = True
                matrix[aim["label"] - 1][row["label"] - 1] += 1
            elif overlap_of(row, [o for o in objects if o["difficult"]]) < threshold:
                matrix[classes][row["label"] - 1] += 1
        for o in objects:
            if not o["taken"] and not o["difficult"]:
                matrix[o["label"] - 1][classes] += 1
    return matrix
