"""The maximum over windows, by a slow loop over pixels; the product of two nets, by hand."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from jsonargparse import ArgumentParser
from torch import nn

from lightning_cv.ops.dense_inference import Averaged, DenseInference, Tiles
from lightning_cv.ops.net_product import NetProduct, ScoreProduct
from lightning_cv.ops.proposal_file import Listed, write_proposals
from lightning_cv.ops.window_inference import FileWindows, GridWindows, WindowMax, WindowSource
from lightning_cv.tasks import SegModule


class These(WindowSource):
    def __init__(self, boxes):
        self.boxes = torch.tensor(boxes, dtype=torch.int64).reshape(-1, 4)

    def __call__(self, height, width, image_id):
        return self.boxes


def scorer():
    torch.manual_seed(0)
    return nn.Conv2d(3, 4, 3, padding=1)


BOXES = [[0, 0, 7, 5], [3, 2, 9, 9], [2, 0, 6, 12], [4, 4, 5, 5]]


def loop_over_pixels(net, images, boxes, size):
    expected = torch.zeros(len(images), 4, *images.shape[-2:])
    for number, image in enumerate(images):
        for x1, y1, x2, y2 in boxes:
            seen = F.interpolate(image[None, :, y1:y2, x1:x2], (size, size), mode="bilinear")
            scores = F.interpolate(net(seen), (y2 - y1, x2 - x1), mode="bilinear")[0]
            for y in range(y1, y2):
                for x in range(x1, x2):
                    for k in range(4):
                        expected[number, k, y, x] = max(expected[number, k, y, x], scores[k, y - y1, x - x1])
    return expected


@pytest.mark.parametrize("at_once", [1, 3, 16])
@torch.no_grad()
def test_each_pixel_has_the_largest_score_of_its_windows_and_none_below_zero(at_once):
    net, images = scorer(), torch.randn(2, 3, 12, 10)
    found = WindowMax(8, These(BOXES), at_once)(net, images)
    torch.testing.assert_close(found, loop_over_pixels(net, images, BOXES, 8))
    assert (found[..., :, 9] == 0).all()  # no window is there
    assert (found == 0).float().mean() > 0.2


@torch.no_grad()
def test_without_a_window_all_scores_are_zero():
    found = WindowMax(8, These([]))(scorer(), torch.randn(2, 3, 12, 10))
    assert found.shape == (2, 4, 12, 10)
    assert found.abs().max() == 0


def test_a_grid_covers_the_image_with_squares_of_each_size():
    boxes = GridWindows((0.5, 1.0), 0.5)(20, 30, None).tolist()
    assert boxes[0] == [0, 0, 30, 20]
    sides = {(x2 - x1, y2 - y1) for x1, y1, x2, y2 in boxes[1:]}
    assert sides == {(10, 10), (20, 20)}
    # 10 px, every 5: rows at 0, 5, 10, columns at 0, 5, ..., 20; 20 px, every 10: columns at 0 and 10
    assert len(boxes) == 1 + 3 * 5 + 2
    for side in (10, 20):
        covered = torch.zeros(20, 30)
        for x1, y1, x2, y2 in boxes[1:]:
            if x2 - x1 == side:
                covered[y1:y2, x1:x2] += 1
        assert covered.min() >= 1
    assert GridWindows((1.0,), 1.0, whole=False)(1, 1, None).tolist() == [[0, 0, 1, 1]]


def written(folder, boxes):
    with (folder / "p.npz").open("wb") as out:
        write_proposals(out, {name: Listed(np.array(part, np.float32), (12, 20)) for name, part in boxes.items()})
    return folder / "p.npz"


def test_windows_of_a_file_are_the_best_large_ones_enlarged_and_cut(tmp_path):
    boxes = [[2, 2, 6, 4], [0, 0, 10, 10], [0, 0, 3, 3], [4, 4, 14, 12], [5, 5, 15, 12]]
    file = written(tmp_path, {"a": boxes})
    found = FileWindows(str(file), most=3, smallest=3.5, context=1.2)(12, 20, "a")
    # the first is 2.4 pixels high, the third 3.6, of which the image has less, the last is one too many
    assert found.tolist() == [[0, 0, 11, 11], [0, 0, 4, 4], [3, 3, 15, 12]]
    with pytest.raises(ValueError, match="no proposals for image b; GridWindows needs none"):
        FileWindows(str(file))(12, 20, "b")


def test_the_task_takes_logits_of_windows_and_hands_ids_on(tmp_path):
    file, ids = written(tmp_path, {"a": BOXES[:2], "b": BOXES[2:]}), ["a", "b"]
    inference = WindowMax(8, FileWindows(str(file), context=1.0))
    net, images = scorer(), torch.randn(2, 3, 12, 10)
    task = SegModule(net, torch.optim.SGD, inference=inference)
    with torch.no_grad():
        found = task.logits_of(images, ids)
        expected = [loop_over_pixels(net, images[:1], BOXES[:2], 8), loop_over_pixels(net, images[1:], BOXES[2:], 8)]
    torch.testing.assert_close(found, torch.cat(expected))


def test_the_product_of_two_nets_by_hand(tmp_path):
    """Probabilities 0.6, 0.4 and 0.2, 0.8: products 0.12 and 0.32, that is 3 to 8."""
    one, other = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 1)
    for net, shares in ((one, (0.6, 0.4)), (other, (0.2, 0.8))):
        nn.init.zeros_(net.weight)
        net.bias.data = torch.tensor(shares).log() + 5.0  # a constant on all scores of a net does not matter
    trained = {f"net.{name}": value for name, value in other.state_dict().items()}
    torch.save({"state_dict": trained | {"auxiliary.head.bias": torch.zeros(2)}}, tmp_path / "b.ckpt")
    product = NetProduct(nn.Conv2d(3, 2, 1), str(tmp_path / "b.ckpt"))
    task = SegModule(one, torch.optim.SGD, inference=product)
    found = task.probabilities(task.logits_of(torch.rand(1, 3, 4, 4)))
    torch.testing.assert_close(found[0, :, 2, 2], torch.tensor([3 / 11, 8 / 11]))
    assert not [name for name, _ in task.named_parameters() if "inference" in name]


@torch.no_grad()
def test_each_net_of_a_product_has_its_own_way_to_look():
    one, other, images = scorer(), nn.Conv2d(3, 4, 5, padding=2), torch.randn(1, 3, 12, 10)
    first, second = WindowMax(8, These(BOXES)), Averaged((1.0,))
    found = NetProduct(other, first=first, second=second)(one, images).softmax(1)
    mean = second(lambda seen: other(seen).softmax(1), images)
    expected = first(one, images).softmax(1) * mean
    torch.testing.assert_close(found, expected / expected.sum(1, keepdim=True), rtol=1e-3, atol=1e-5)


def test_the_product_of_scores_by_hand():
    """The release's: of scores (2, 3, -1) and (4, 1, -5) the products 8, 3 and 0, not the 5 of two that are below."""
    one, other = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
    for net, scores in ((one, (2.0, 3.0, -1.0)), (other, (4.0, 1.0, -5.0))):
        nn.init.zeros_(net.weight)
        net.bias.data = torch.tensor(scores)
    images = torch.rand(1, 3, 12, 10)
    with torch.no_grad():
        found = ScoreProduct(other)(one, images)
        windows = ScoreProduct(other, first=WindowMax(8, These([[0, 0, 10, 6]])))(one, images)
    assert found[0, :, 5, 5].tolist() == [8, 3, 0]
    assert windows[0, :, 5, 5].tolist() == [8, 3, 0]
    assert not windows[..., 6:, :].any()  # no window is there: background


def test_what_cannot_be_is_refused(tmp_path):
    with pytest.raises(ValueError, match="ScoreProduct multiplies scores, Averaged averages probabilities"):
        ScoreProduct(nn.Conv2d(3, 2, 1), second=Averaged((1.0,)))
    with pytest.raises(ValueError, match="of the same classes"):
        ScoreProduct(nn.Conv2d(3, 3, 1))(nn.Conv2d(3, 2, 1), torch.rand(1, 3, 4, 4))
    with pytest.raises(ValueError, match="of the same classes"):
        NetProduct(nn.Conv2d(3, 3, 1))(nn.Conv2d(3, 2, 1), torch.rand(1, 3, 4, 4))
    with pytest.raises(ValueError, match="no weights at"):
        NetProduct(nn.Conv2d(3, 3, 1), str(tmp_path / "none"))
    torch.save(nn.Conv2d(3, 2, 1).state_dict(), tmp_path / "small.ckpt")
    with pytest.raises(ValueError, match="is not a checkpoint of Conv2d"):
        NetProduct(nn.Conv2d(3, 3, 1), str(tmp_path / "small.ckpt"))
    with pytest.raises(ValueError, match="within must look at probabilities, which WindowMax does not"):
        Tiles(4, 4, within=WindowMax(4))
    for bad in ({"shares": (0.0,)}, {"step": 0.0}, {"shares": (), "whole": False}):
        with pytest.raises(ValueError, match="GridWindows"):
            GridWindows(**bad)
    with pytest.raises(ValueError, match="WindowMax"):
        WindowMax(0)
    with pytest.raises(ValueError, match="FileWindows"):
        FileWindows("x", most=0)


def test_a_configuration_can_build_them():
    net = {"class_path": "lightning_cv.models.FullResolution", "init_args": {"num_classes": 3, "width": 2, "depth": 1}}
    place = "lightning_cv.ops.window_inference."
    grid = {"class_path": f"{place}GridWindows", "init_args": {"shares": [0.5], "whole": False}}
    windows = {"class_path": f"{place}WindowMax", "init_args": {"size": 8, "windows": grid}}
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(DenseInference, "inference")
    for kind in ("lightning_cv.ops.net_product.NetProduct", "lightning_cv.ops.net_product.ScoreProduct"):
        product = {"class_path": kind, "init_args": {"net": net, "first": windows}}
        built = parser.instantiate(parser.parse_object({"inference": product})).inference
        assert built.first.windows.shares == (0.5,)
        with torch.no_grad():
            assert built(nn.Conv2d(3, 3, 1), torch.rand(1, 3, 16, 16)).shape == (1, 3, 16, 16)
