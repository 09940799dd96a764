"""The losses of YOLO v1 and YOLOv2 in loops over cells, written from the papers and what the released code does.

Boxes here are centre x, y, width, height in shares of the image, as darknet's labels are.
"""

import math

import numpy as np


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def overlap_1d(a, wa, b, wb):
    return min(a + wa / 2, b + wb / 2) - max(a - wa / 2, b - wb / 2)


def centre_iou(a, b):
    w, h = overlap_1d(a[0], a[2], b[0], b[2]), overlap_1d(a[1], a[3], b[1], b[3])
    if w <= 0 or h <= 0:
        return 0.0
    return w * h / (a[2] * a[3] + b[2] * b[3] - w * h)


def region_box(row, anchor, i, j, width, height):
    """The box of one predictor: column i, row j."""
    return (
        (i + sigmoid(row[0])) / width,
        (j + sigmoid(row[1])) / height,
        math.exp(row[2]) * anchor[0] / width,
        math.exp(row[3]) * anchor[1] / height,
    )


def region_loop(outputs, truths, anchors, pull):
    """Loss terms of outputs (N, H, W, A, 5 + K) for truths, a list of (box, class from 0) an image."""
    images, height, width, count, size = outputs.shape
    terms = dict.fromkeys(("box", "object", "no_object", "class", "prior"), 0.0)
    for b in range(images):
        costs = {}  # of each predictor, overwritten as darknet overwrites its deltas
        for j in range(height):
            for i in range(width):
                for n in range(count):
                    row = outputs[b, j, i, n]
                    box = region_box(row, anchors[n], i, j, width, height)
                    best = max((centre_iou(box, truth) for truth, _ in truths[b]), default=0.0)
                    cost = {"no_object": 0.0 if best > 0.6 else 0.5 * sigmoid(row[4]) ** 2}
                    prior = [0.5 - sigmoid(row[0]), 0.5 - sigmoid(row[1]), -row[2], -row[3]]
                    cost["prior"] = 0.5 * pull * sum(miss**2 for miss in prior)
                    costs[j, i, n] = cost
        for truth, name in truths[b]:
            i, j = int(truth[0] * width), int(truth[1] * height)
            shapes = [centre_iou((0, 0, a[0] / width, a[1] / height), (0, 0, *truth[2:])) for a in anchors]
            n = int(np.argmax(shapes))
            row = outputs[b, j, i, n]
            aims = [
                truth[0] * width - i - sigmoid(row[0]),
                truth[1] * height - j - sigmoid(row[1]),
                math.log(truth[2] * width / anchors[n][0]) - row[2],
                math.log(truth[3] * height / anchors[n][1]) - row[3],
            ]
            overlap = centre_iou(region_box(row, anchors[n], i, j, width, height), truth)
            logits = row[5:]
            costs[j, i, n] = {
                "box": 0.5 * (2 - truth[2] * truth[3]) * sum(miss**2 for miss in aims),
                "object": 0.5 * 5 * (overlap - sigmoid(row[4])) ** 2,
                "class": math.log(sum(math.exp(v) for v in logits)) - logits[name],
            }
        for cost in costs.values():
            for term, value in cost.items():
                terms[term] += value / images
    assert size > 5
    return terms


def grid_loop(outputs, truths, side, boxes, classes):
    """Loss terms of flat outputs (N, S*S*(K + 5B)) for truths as above."""
    terms = dict.fromkeys(("box", "object", "no_object", "class"), 0.0)
    cells = side * side
    for flat, objects in zip(outputs, truths, strict=True):
        first = {}
        for truth, name in objects:
            first.setdefault(int(truth[1] * side) * side + int(truth[0] * side), (truth, name))
        for cell in range(cells):
            sure = [flat[cells * classes + cell * boxes + b] for b in range(boxes)]
            free = set(range(boxes))
            if cell in first:
                truth, name = first[cell]
                names = flat[cell * classes : (cell + 1) * classes]
                terms["class"] += sum(0.5 * ((k == name) - names[k]) ** 2 for k in range(classes))
                start = cells * (classes + boxes) + cell * boxes * 4
                rows = [flat[start + 4 * b : start + 4 * b + 4] for b in range(boxes)]
                column, line = cell % side, cell // side
                found = [((r[0] + column) / side, (r[1] + line) / side, r[2] ** 2, r[3] ** 2) for r in rows]
                ious = [centre_iou(box, truth) for box in found]
                far = [math.dist(box, truth) for box in found]
                best = int(np.argmax(ious)) if max(ious) > 0 else int(np.argmin(far))
                free.remove(best)
                terms["object"] += 0.5 * (ious[best] - sure[best]) ** 2
                aims = (truth[0] * side - column, truth[1] * side - line, math.sqrt(truth[2]), math.sqrt(truth[3]))
                terms["box"] += 0.5 * 5 * sum((aim - r) ** 2 for aim, r in zip(aims, rows[best], strict=True))
            terms["no_object"] += sum(0.5 * 0.5 * sure[b] ** 2 for b in free)
    return {term: value / len(outputs) for term, value in terms.items()}
