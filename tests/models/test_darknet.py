"""The trunks, layer by layer, and the binary files: one written by hand, and there and back."""

import struct

import numpy as np
import pytest
import torch
from torch import nn

from lightning_cv.models import ExtractionBackbone, TinyDarknetBackbone, TinyYOLOv2, YOLOv1
from lightning_cv.models.backbones.darknet import DarknetConv
from lightning_cv.models.backbones.darknet_file import darknet_tensors, fill, read_darknet, write_darknet


def shapes_of(layers, x):
    """Channels and side after every layer."""
    shapes = []
    for layer in layers:
        x = layer(x)
        shapes.append((x.shape[1], x.shape[2]))
    return shapes


def test_tiny_darknet_has_the_layers_of_the_table():
    with torch.device("meta"):
        trunk, images = TinyDarknetBackbone(), torch.rand(1, 3, 416, 416)
    assert shapes_of(trunk.layers, images) == [
        *[(16, 416), (16, 208), (32, 208), (32, 104), (64, 104), (64, 52)],
        *[(128, 52), (128, 26), (256, 26), (256, 13), (512, 13), (512, 13), (1024, 13)],
    ]
    assert (trunk.out_channels, trunk.strides) == ([1024], [32])


def test_extraction_has_the_layers_of_the_figure():
    with torch.device("meta"):
        trunk, images = ExtractionBackbone(), torch.rand(1, 3, 448, 448)
    convs = [(layer, s) for layer, s in zip(trunk.layers, shapes_of(trunk.layers, images), strict=True)]
    found = [(layer.conv.kernel_size[0], *s) for layer, s in convs if isinstance(layer, DarknetConv)]
    assert found == [
        (7, 64, 224), (3, 192, 112), (1, 128, 56), (3, 256, 56), (1, 256, 56), (3, 512, 56),
        *[(1, 256, 28), (3, 512, 28)] * 4, (1, 512, 28), (3, 1024, 28),
        *[(1, 512, 14), (3, 1024, 14)] * 2, (3, 1024, 14), (3, 1024, 7), (3, 1024, 7), (3, 1024, 7),
    ]  # fmt: skip
    assert (trunk.out_channels, trunk.strides) == ([1024], [64])


@pytest.mark.parametrize("trunk", [TinyDarknetBackbone, ExtractionBackbone])
@pytest.mark.parametrize("halvings", range(1, 7))
def test_later_halvings_can_be_left_out(trunk, halvings):
    net = trunk(width=1, halvings=halvings).eval()
    (found,) = net(torch.rand(1, 3, 75, 130))
    stride = 2**halvings
    assert net.strides == [stride]
    assert found.shape == (1, net.out_channels[0], -(-75 // stride), -(-130 // stride))


def test_the_last_pool_looks_at_each_cell_and_its_neighbours_right_and_below():
    pool = TinyDarknetBackbone(width=1).layers[11]
    values = torch.tensor([[[[-1.0, -2, -9], [-3, -4, -5], [-6, -7, -8]]]])
    assert pool(values)[0, 0].tolist() == [[-1, -2, -5], [-3, -4, -5], [-6, -7, -8]]
    repeated = torch.nn.functional.pad(values, (0, 1, 0, 1), mode="replicate")
    assert pool(values).equal(torch.nn.functional.max_pool2d(repeated, 2, 1))
    assert pool(values.bfloat16()).equal(pool(values).bfloat16())


@pytest.mark.parametrize("trunk", [TinyDarknetBackbone, ExtractionBackbone])
def test_odd_sizes_are_refused(trunk):
    with pytest.raises(ValueError, match="halvings 1 to 6, got 4 and 7"):
        trunk(width=4, halvings=7)
    with pytest.raises(ValueError, match="width is at least 1"):
        trunk(width=0)


# --- files


class Small(nn.Module):
    """A convolution with batch norm and one without."""

    def __init__(self):
        super().__init__()
        self.first, self.last = DarknetConv(3, 2, 3), nn.Conv2d(2, 5, 1)


def test_a_file_written_by_hand_is_read_into_its_places(tmp_path):
    biases, scales, means, variances = [0.1, 0.2], [1.5, 2.5], [-1.0, 1.0], [4.0, 9.0]
    filters = np.arange(2 * 3 * 3 * 3, dtype=np.float32).reshape(2, 3, 3, 3)
    last_biases, last = [1.0, 2, 3, 4, 5], np.arange(10, dtype=np.float32).reshape(5, 2, 1, 1)
    numbers = [*biases, *scales, *means, *variances, *filters.flat, *last_biases, *last.flat]
    body = struct.pack(f"<{len(numbers)}f", *numbers)
    for header in (struct.pack("<4i", 0, 1, 0, 640), struct.pack("<3iq", 0, 2, 5, 640)):
        (tmp_path / "small.weights").write_bytes(header + body)
        content = read_darknet(tmp_path / "small.weights")
        assert content.seen == 640
        net = Small()
        fill(list(darknet_tensors(net)), content.values)
        norm = net.first.norm
        assert norm.bias.tolist() == pytest.approx(biases)
        assert norm.weight.tolist() == scales
        assert norm.running_mean.tolist() == means
        assert norm.running_var.tolist() == variances
        assert net.first.conv.weight.equal(torch.from_numpy(filters))
        assert net.last.bias.tolist() == last_biases
        assert net.last.weight.equal(torch.from_numpy(last))


@pytest.mark.parametrize(
    "build",
    [
        lambda: TinyYOLOv2(TinyDarknetBackbone(width=2), 3, channels=8),
        lambda: YOLOv1(ExtractionBackbone(width=2), 3, side=2, hidden=5),
        lambda: YOLOv1(ExtractionBackbone(width=2), 3, side=2, boxes=3, local_filters=4),
    ],
    ids=["tiny v2", "v1", "v1 local"],
)
def test_a_net_goes_into_a_file_and_comes_back(build, tmp_path):
    net, other = build(), build()
    for parameter in net.parameters():
        nn.init.normal_(parameter)
    write_darknet(net, tmp_path / "net.weights", seen=77)
    content = read_darknet(tmp_path / "net.weights")
    tensors = list(darknet_tensors(other))
    assert content.seen == 77
    assert len(content.values) == sum(tensor.numel() for tensor in tensors)
    fill(tensors, content.values)
    for (name, ours), theirs in zip(net.state_dict().items(), other.state_dict().values(), strict=True):
        assert ours.equal(theirs), name


def test_all_parameters_are_in_the_file():
    net = YOLOv1(ExtractionBackbone(width=2), 3, side=2, boxes=3, local_filters=4)
    listed = {id(tensor) for tensor in darknet_tensors(net)}
    assert all(id(parameter) in listed for parameter in net.parameters())


def test_files_that_are_none_are_named(tmp_path):
    def refused(content, words):
        (tmp_path / "odd.weights").write_bytes(content)
        with pytest.raises(ValueError, match=words):
            read_darknet(tmp_path / "odd.weights")

    refused(b"", "odd.weights is no file of darknet's weights")
    refused(b"\x89PNG\r\n\x1a\n" * 8, "odd.weights is no file of darknet's weights")
    refused(struct.pack("<3i", 0, 2, 0), "header of 20 bytes is missing")
    refused(struct.pack("<3iq", 0, 2, 0, 1) + bytes(7), "odd.weights is cut off: 7 bytes")
    with pytest.raises(ValueError, match="no darknet weights at"):
        read_darknet(tmp_path / "missing.weights")


def test_a_trunk_begins_from_a_file_that_goes_on_after_it(tmp_path):
    whole = TinyYOLOv2(TinyDarknetBackbone(width=2), 3, channels=8)
    write_darknet(whole, tmp_path / "net.weights")
    trunk = TinyDarknetBackbone(width=2, weights=str(tmp_path / "net.weights"))
    assert all(a.equal(b) for a, b in zip(darknet_tensors(trunk), darknet_tensors(whole.backbone), strict=True))
    with pytest.raises(ValueError, match=r"TinyDarknetBackbone: .*net.weights holds .* numbers, this trunk has"):
        TinyDarknetBackbone(width=16, weights=str(tmp_path / "net.weights"))
    with pytest.raises(ValueError, match="TinyDarknetBackbone: no weights at nowhere"):
        TinyDarknetBackbone(weights="nowhere")


def test_the_first_twenty_convolutions_of_yolo_v1_are_enough(tmp_path):
    donor = ExtractionBackbone(width=2)
    write_darknet(donor.layers[:24], tmp_path / "extraction.conv.weights")  # 20 convolutions and 4 pools
    trunk = ExtractionBackbone(width=2, weights=str(tmp_path / "extraction.conv.weights"))
    ours, theirs = list(darknet_tensors(trunk)), list(darknet_tensors(donor))
    assert all(a.equal(b) for a, b in zip(ours[:100], theirs[:100], strict=True))
    assert not ours[-1].equal(theirs[-1])


def test_a_trunk_begins_from_a_checkpoint(tmp_path):
    donor = TinyDarknetBackbone(width=2)
    torch.save({"state_dict": {f"net.backbone.{k}": v for k, v in donor.state_dict().items()}}, tmp_path / "a.ckpt")
    trunk = TinyDarknetBackbone(width=2, weights=str(tmp_path / "a.ckpt"))
    assert all(a.equal(b) for a, b in zip(darknet_tensors(trunk), darknet_tensors(donor), strict=True))
