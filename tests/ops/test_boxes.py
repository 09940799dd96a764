import math

import pytest
import torch
from oracles.detection import decode_one, iou_of
from torchvision.models.detection._utils import BoxCoder

from lightning_cv.ops.boxes import (
    DELTA_SCALE,
    clip_boxes,
    decode_deltas,
    encode_deltas,
    from_centre_form,
    iou,
    to_centre_form,
)


def random_boxes(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 50
    return torch.cat([corner, corner + 1 + torch.rand(count, 2, generator=generator) * 40], dim=1)


def test_centre_form_of_a_hand_example_and_back():
    boxes = torch.tensor([[10.0, 20.0, 30.0, 26.0]])
    assert to_centre_form(boxes).tolist() == [[20.0, 23.0, 20.0, 6.0]]
    assert from_centre_form(to_centre_form(boxes)).tolist() == boxes.tolist()


def test_iou_equals_the_loop():
    boxes, others = random_boxes(7), random_boxes(5, seed=1)
    expected = [[iou_of(a, b) for b in others.tolist()] for a in boxes.tolist()]
    torch.testing.assert_close(iou(boxes, others), torch.tensor(expected))


def test_iou_in_half_precision_input_does_not_overflow():
    wide = torch.tensor([[0.0, 0.0, 1000.0, 1000.0]], dtype=torch.float16)
    assert iou(wide, wide).tolist() == [[1.0]]


def test_empty_boxes_keep_their_shapes():
    none, one = torch.zeros(0, 4), random_boxes(1)
    assert iou(none, one).shape == (0, 1)
    assert iou(one, none).shape == (1, 0)
    assert encode_deltas(none, none).shape == (0, 4)
    assert decode_deltas(none, none).shape == (0, 4)
    assert clip_boxes(none, 5, 5).shape == (0, 4)


def test_deltas_of_a_hand_example():
    anchor = torch.tensor([[0.0, 0.0, 10.0, 20.0]])
    box = torch.tensor([[1.0, 5.0, 21.0, 25.0]])  # centre (11, 15) against (5, 10), twice as wide, as high
    expected = torch.tensor([[0.6, 0.25, math.log(2), 0.0]])
    torch.testing.assert_close(encode_deltas(box, anchor, scale=(1, 1, 1, 1)), expected)
    torch.testing.assert_close(encode_deltas(box, anchor), expected / torch.tensor(DELTA_SCALE))


def test_decoding_undoes_encoding():
    boxes, anchors = random_boxes(20), random_boxes(20, seed=2)
    torch.testing.assert_close(decode_deltas(encode_deltas(boxes, anchors), anchors), boxes, atol=1e-4, rtol=1e-4)


def test_decoding_equals_the_loop():
    deltas, anchors = torch.randn(9, 4), random_boxes(9)
    expected = [decode_one(d, a, list(DELTA_SCALE)) for d, a in zip(deltas.tolist(), anchors.tolist(), strict=True)]
    torch.testing.assert_close(decode_deltas(deltas, anchors), torch.tensor(expected), atol=1e-4, rtol=1e-4)


def test_both_directions_equal_torchvisions_coder():
    coder = BoxCoder(weights=tuple(1 / s for s in DELTA_SCALE))
    boxes, anchors, deltas = random_boxes(6), random_boxes(6, seed=3), torch.randn(6, 4)
    torch.testing.assert_close(encode_deltas(boxes, anchors), coder.encode_single(boxes, anchors), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        decode_deltas(deltas, anchors), coder.decode_single(deltas, anchors)[:, :], atol=1e-4, rtol=1e-4
    )


def test_a_side_grows_at_most_sixty_two_and_a_half_times():
    anchor = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
    decoded = decode_deltas(torch.tensor([[0.0, 0.0, 1e9, 1e9]]), anchor)
    torch.testing.assert_close(decoded, torch.tensor([[-61.5, -61.5, 63.5, 63.5]]), atol=1e-3, rtol=0)


def test_decoding_has_a_gradient_and_is_float32_under_autocast():
    deltas = torch.zeros(3, 4, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        decoded = decode_deltas(deltas.bfloat16(), random_boxes(3))
    assert decoded.dtype == torch.float32
    decoded.sum().backward()
    assert deltas.grad is not None
    assert deltas.grad.abs().sum() > 0


def test_clipping_cuts_to_the_image():
    boxes = torch.tensor([[-5.0, 2.0, 30.0, 40.0], [50.0, 1.0, 60.0, 3.0]])
    assert clip_boxes(boxes, height=10, width=20).tolist() == [[0, 2, 20, 10], [20, 1, 20, 3]]


@pytest.mark.parametrize("scale", [(0.1, 0.1, 0.2, 0.2), (1.0, 1.0, 1.0, 1.0)])
def test_encoding_has_a_gradient_to_the_boxes(scale):
    boxes = random_boxes(2).requires_grad_()
    encode_deltas(boxes, random_boxes(2, seed=5), scale).sum().backward()
    assert boxes.grad is not None
    assert torch.isfinite(boxes.grad).all()
