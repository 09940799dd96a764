"""Overlap and non-maximum suppression as things to look at. Letters: A candidates, K classes; H, W in px."""

import numpy as np
import torch
from torch import Tensor

from lightning_cv.contracts import Candidates, Detections, LabelMap
from lightning_cv.ops.boxes import iou
from lightning_cv.ops.nms import KEPT, Decay, soft_nms, suppressors
from lightning_cv.viz.boxes import Tag, draw_tags
from lightning_cv.viz.canvas import (
    GAP,
    Colour,
    Picture,
    below,
    beside,
    class_colour,
    enlarge,
    magnification,
    picture,
    text_line,
)

ROOMY = 400
"""Shorter side in px to which small images are enlarged: many boxes lie close together."""


def best_candidates(candidates: Candidates, index: int, score_threshold: float, most: int = 40) -> Detections:
    """The best pairs of a box and a class of one image of a batch, best first, at most `most`, CPU float32."""
    boxes, scores = candidates.boxes[index].float().cpu(), candidates.scores[index].float().cpu()  # (A, 4), (A, K)
    values, places = scores.flatten().topk(min(most, scores.numel()))
    values, places = values[values >= score_threshold], places[values >= score_threshold]
    classes = scores.shape[1]
    return {"boxes": boxes[places // classes], "scores": values, "labels": places % classes + 1}


def nms_picture(image: Tensor | Picture, candidates: Detections, iou_threshold: float, label_map: LabelMap) -> Picture:
    """Candidates before and after greedy NMS of each class, side by side.

    Left: a kept box is solid and numbered; a box that goes is dashed, in the colour of the one that removes it. Below
    stands who removes whom: the score of each removed box, and its overlap with the kept one; kept boxes that remove
    none are counted in a last line. Right: what stays.
    """
    boxes, scores, labels = candidates["boxes"], candidates["scores"], candidates["labels"]
    by = suppressors(boxes, scores, labels, iou_threshold)
    kept = (by == KEPT).nonzero()[:, 0]
    overlaps, tags, lines = iou(boxes, boxes), [], []
    for number, best in enumerate(kept.tolist(), start=1):
        gone = (by == best).nonzero()[:, 0].tolist()
        tags.append(_tag(boxes[best], str(number), class_colour(number)))
        tags += [_tag(boxes[box], "", class_colour(number), dashed=True) for box in gone]
        if gone:
            removed = ", ".join(f"{scores[box]:.0%} (IoU {overlaps[box, best]:.2f})" for box in gone)
            lines.append(f"{number}: {label_map.name(int(labels[best]))} {scores[best]:.0%} removes {removed}")
    if alone := len(kept) - len(lines):
        lines.append(f"{alone} others remove none" if lines else "nothing overlaps by more")
    left = _drawn(image, tags)
    stays = Detections(boxes=boxes[kept], scores=scores[kept], labels=labels[kept])
    right = _labelled(image, stays, label_map)
    halves = [
        _under(f"before NMS: {len(boxes)} boxes", left),
        _under(f"after NMS at IoU {iou_threshold:g}: {len(kept)} boxes", right),
    ]
    width = halves[0].shape[1] * 2 + GAP
    return below([beside(halves), *(text_line(line, width) for line in lines)], gap=0)


def soft_nms_picture(
    image: Tensor | Picture, candidates: Detections, decay: Decay, label_map: LabelMap, score_threshold: float = 0.3
) -> Picture:
    """What soft-NMS leaves of candidates, with the weakened scores; boxes below `score_threshold` are dashed."""
    found = soft_nms(candidates["boxes"], candidates["scores"], candidates["labels"], decay, score_threshold=0.0)
    return _under(
        f"after soft-NMS: {int((found['scores'] >= score_threshold).sum())} boxes of at least {score_threshold:.0%}",
        _labelled(image, found, label_map, score_threshold),
    )


def iou_picture(box: Tensor, other: Tensor, side: int = ROOMY) -> Picture:
    """Two boxes (4,), in px of a square of `side`, on white: what they share is filled, its share of both written."""
    canvas = np.full((side, side, 3), 255, dtype=np.uint8)
    x1, y1 = (round(float(value)) for value in torch.maximum(box[:2], other[:2]))
    x2, y2 = (round(float(value)) for value in torch.minimum(box[2:], other[2:]))
    canvas[y1 : max(y1, y2), x1 : max(x1, x2)] = (255, 221, 150)
    tags = [_tag(box, "", class_colour(1)), _tag(other, "", class_colour(4))]
    return _under(f"IoU {iou(box[None], other[None]).item():.2f}", draw_tags(canvas, tags))


def overlap_and_nms_picture(
    image: Tensor | Picture, candidates: Detections, iou_threshold: float, decay: Decay, label_map: LabelMap
) -> Picture:
    """One figure of the two topics: three overlaps above, candidates before and after both kinds of NMS below."""
    base = torch.tensor([40.0, 40.0, 240.0, 240.0])
    overlaps = [iou_picture(base, base + shift) for shift in (120.0, 60.0, 20.0)]
    greedy = nms_picture(image, candidates, iou_threshold, label_map)
    soft = soft_nms_picture(image, candidates, decay, label_map)
    figure = below([beside(overlaps), beside([greedy, soft])], gap=2 * GAP)
    return np.pad(figure, ((GAP, GAP), (GAP, GAP), (0, 0)), constant_values=255)


def _tag(box: Tensor, text: str, colour: Colour, *, dashed: bool = False) -> Tag:
    x1, y1, x2, y2 = box.tolist()
    return Tag((x1, y1, x2, y2), text, colour, dashed)


def _drawn(image: Tensor | Picture, tags: list[Tag]) -> Picture:
    """Tags in px of the image on the enlarged image."""
    small = picture(image)
    factor = magnification(small, ROOMY)
    return draw_tags(enlarge(small, factor), [_scaled(tag, factor) for tag in tags])


def _scaled(tag: Tag, factor: int) -> Tag:
    x1, y1, x2, y2 = tag.box
    return tag._replace(box=(x1 * factor, y1 * factor, x2 * factor, y2 * factor))


def _labelled(image: Tensor | Picture, found: Detections, label_map: LabelMap, score_threshold: float = 0.0) -> Picture:
    """Detections with class and score, on an image that is as large as `_drawn` makes it; weak ones bare and dashed."""
    boxes, names = found["boxes"], [label_map.name(label) for label in found["labels"].tolist()]
    tags = []
    for box, name, score, label in zip(boxes, names, found["scores"].tolist(), found["labels"].tolist(), strict=True):
        weak = score < score_threshold
        tags.append(_tag(box, "" if weak else f"{name} {score:.0%}", class_colour(label), dashed=weak))
    return _drawn(image, tags)


def _under(heading: str, drawn: Picture) -> Picture:
    return below([text_line(heading, drawn.shape[1]), drawn], gap=0)
