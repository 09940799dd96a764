from types import SimpleNamespace

import pytest
import torch

from lightning_cv.callbacks import NMSPreview
from lightning_cv.contracts import LabelMap
from lightning_cv.models import (
    FPN,
    SSD,
    CornerNet,
    ExtractionBackbone,
    SmallBackbone,
    StackedHourglass,
    TinyDarknetBackbone,
    TinyYOLOv2,
    YOLOv1,
)


def nets():
    torch.manual_seed(0)
    backbone = StackedHourglass((8, 8), (1, 1), 1, stem=8, out_channels=8)
    return [
        SSD(FPN(SmallBackbone(width=4), channels=8), 2).eval(),
        CornerNet(backbone, 2, hidden=8, tag_distance=100.0).eval(),
        YOLOv1(ExtractionBackbone(width=4, halvings=4), 2, side=4, hidden=32).eval(),
        TinyYOLOv2(TinyDarknetBackbone(width=4, max_channels=32), 2, channels=32).eval(),
    ]


@pytest.mark.parametrize("net", nets(), ids=["ssd", "cornernet", "yolo v1", "yolo v2"])
def test_the_first_images_are_drawn_from_the_nets_candidates(net):
    trainer = SimpleNamespace(datamodule=SimpleNamespace(label_map=LabelMap(("a", "b"), 1, (1, 2))))
    module = SimpleNamespace(net=net, device=torch.device("cpu"))
    preview = NMSPreview(count=2, score_threshold=0.0, most=5)
    preview.setup(trainer, module, "fit")
    drawn = preview.draw(preview.items({}, {"images": torch.rand(3, 3, 64, 64)}, room=2), trainer, module)
    assert drawn.shape[0] > 2 * 384  # two images, each enlarged to 6 times its size
    assert drawn.shape[1] > 2 * 384


def test_a_net_without_candidates_is_refused():
    with pytest.raises(ValueError, match=r"Linear has no candidates\(images\)"):
        NMSPreview().setup(None, SimpleNamespace(net=torch.nn.Linear(1, 1)), "fit")


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="iou_threshold < 1"):
        NMSPreview(iou_threshold=1.0)
