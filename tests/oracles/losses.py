"""Losses of masks and boxes pixel by pixel and pair by pair, written from the definitions of the papers alone."""

import math
from itertools import product

VOID = 255


def pixels(logits, masks):
    """Each label's counted pixels as (probability, logit, true) triples, and whether the classes exclude each other."""
    images, channels, height, width = logits.shape
    labels = masks.ndim == 4
    softmax = not labels and channels > 1
    rows = [[] for _ in range(channels)]
    for n, y, x in product(range(images), range(height), range(width)):
        scores = [logits[n, k, y, x].item() for k in range(channels)]
        for k in range(channels):
            truth = masks[n, k, y, x].item() if labels else masks[n, y, x].item()
            if truth == VOID:
                continue
            if softmax:
                probability = 1 / sum(math.exp(other - scores[k]) for other in scores)
            else:
                probability = 1 / (1 + math.exp(-scores[k]))
            rows[k].append((probability, scores[k], truth == k if softmax else truth == 1))
    return rows, softmax


def focal_loop(logits, masks, gamma=0.0, alpha=None):
    """Sum of -alpha_t (1 - p_t)^gamma log p_t by the number of pixels; alpha by class, or (off, on)."""
    rows, softmax = pixels(logits, masks)
    total = count = 0
    for k, row in enumerate(rows):
        for probability, _, true in row:
            if softmax and not true:
                continue  # a pixel speaks once, through its true class
            of_truth = probability if true else 1 - probability
            weight = 1 if alpha is None else alpha[k if softmax else int(true)]
            total -= weight * (1 - of_truth) ** gamma * math.log(of_truth)
            count += 1
    return total / count


def tversky_loop(logits, masks, alpha, beta):
    """1 - TP / (TP + alpha FP + beta FN), mean over labels with a true pixel."""
    losses = []
    for row in pixels(logits, masks)[0]:
        hits = sum(p for p, _, true in row if true)
        alarms = sum(p for p, _, true in row if not true)
        misses = sum(1 - p for p, _, true in row if true)
        if any(true for _, _, true in row):
            losses.append(1 - hits / (hits + alpha * alarms + beta * misses))
    return sum(losses) / len(losses)


def jaccard_of_wrong(wrong, truth):
    """1 - IoU of a label when the pixels `wrong` are mistaken: |wrong| / |truth and wrong together|."""
    return len(wrong) / len(truth | wrong) if truth | wrong else 0.0


def lovasz_loop(logits, masks):
    """Sum of errors in decreasing order times the growth of the Jaccard loss of the set so far."""
    rows, softmax = pixels(logits, masks)
    losses = []
    for row in rows:
        truth = {i for i, (_, _, true) in enumerate(row) if true}
        if not row or (softmax and not truth):
            continue
        if softmax:
            errors = [1 - p if true else p for p, _, true in row]
        else:
            errors = [max(0.0, 1 - (logit if true else -logit)) for _, logit, true in row]
        loss, wrong = 0.0, set()
        for i in sorted(range(len(row)), key=lambda i: -errors[i]):
            loss += errors[i] * (jaccard_of_wrong(wrong | {i}, truth) - jaccard_of_wrong(wrong, truth))
            wrong = wrong | {i}
        losses.append(loss)
    return sum(losses) / len(losses)


def iou_of_pair(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    common = max(0.0, width) * max(0.0, height)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common
    return common / union, union


def hull(a, b):
    """Width and height of the smallest box around both."""
    return max(a[2], b[2]) - min(a[0], b[0]), max(a[3], b[3]) - min(a[1], b[1])


def iou_loop(predicted, true):
    return sum(1 - iou_of_pair(a, b)[0] for a, b in zip(predicted, true, strict=True))


def giou_loop(predicted, true):
    total = 0.0
    for a, b in zip(predicted, true, strict=True):
        iou, union = iou_of_pair(a, b)
        width, height = hull(a, b)
        total += 1 - (iou - (width * height - union) / (width * height))
    return total


def diou_of_pair(a, b):
    width, height = hull(a, b)
    apart = ((a[0] + a[2] - b[0] - b[2]) / 2) ** 2 + ((a[1] + a[3] - b[1] - b[3]) / 2) ** 2
    return 1 - iou_of_pair(a, b)[0] + apart / (width**2 + height**2)


def diou_loop(predicted, true):
    return sum(diou_of_pair(a, b) for a, b in zip(predicted, true, strict=True))


def ciou_loop(predicted, true, alphas=None):
    """The trade-off of each pair is a constant to the gradient: given in `alphas`, it is not worked out."""
    total = 0.0
    for i, (a, b) in enumerate(zip(predicted, true, strict=True)):
        angles = [math.atan((box[2] - box[0]) / (box[3] - box[1])) for box in (a, b)]
        v = 4 / math.pi**2 * (angles[0] - angles[1]) ** 2
        alpha = ciou_alpha(a, b, v) if alphas is None else alphas[i]
        total += diou_of_pair(a, b) + alpha * v
    return total


def ciou_alpha(a, b, v=None):
    if v is None:
        angles = [math.atan((box[2] - box[0]) / (box[3] - box[1])) for box in (a, b)]
        v = 4 / math.pi**2 * (angles[0] - angles[1]) ** 2
    return v / (1 - iou_of_pair(a, b)[0] + v) if v else 0.0
