"""Merging of masks pixel by pixel, as the papers and panopticapi describe it: lists and loops."""


def heuristic(masks, labels, scores, is_thing, score, overlap, least_area):
    """Panoptic FPN's. Returns a list of (label, score) and the number of each pixel's segment, rows of a list."""
    height, width = len(masks[0]), len(masks[0][0])
    canvas = [[0] * width for _ in range(height)]
    found = []
    ranked = sorted((q for q in range(len(masks)) if is_thing[q]), key=lambda q: -scores[q])
    for q in ranked:
        if scores[q] < score:
            break
        area = sum(masks[q][y][x] for y in range(height) for x in range(width))
        taken = sum(masks[q][y][x] and canvas[y][x] > 0 for y in range(height) for x in range(width))
        if area == 0 or taken / area > overlap or taken == area:
            continue
        found.append((labels[q], scores[q]))
        paint(canvas, masks[q], len(found))
    for q in range(len(masks)):
        if is_thing[q]:
            continue
        left = sum(masks[q][y][x] and canvas[y][x] == 0 for y in range(height) for x in range(width))
        if left == 0 or left < least_area:
            continue
        found.append((labels[q], scores[q]))
        paint(canvas, masks[q], len(found))
    return found, canvas


def mask_wise(masks, labels, scores, is_thing, score, thing_overlap, stuff_overlap):
    """Panoptic SegFormer's, as `heuristic` returns it."""
    height, width = len(masks[0]), len(masks[0][0])
    canvas = [[0] * width for _ in range(height)]
    found = []
    for q in sorted(range(len(masks)), key=lambda q: -scores[q]):
        if scores[q] < score:
            continue
        area = sum(masks[q][y][x] for y in range(height) for x in range(width))
        taken = sum(masks[q][y][x] and canvas[y][x] > 0 for y in range(height) for x in range(width))
        limit = thing_overlap if is_thing[q] else stuff_overlap
        if area == 0 or taken / area > limit or taken == area:
            continue
        found.append((labels[q], scores[q]))
        paint(canvas, masks[q], len(found))
    return found, canvas


def paint(canvas, mask, number):
    for y, row in enumerate(mask):
        for x, inside in enumerate(row):
            if inside and canvas[y][x] == 0:
                canvas[y][x] = number
