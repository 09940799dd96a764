"""Nets of published size are built without memory and have the parameters that the papers or releases say."""

import pytest
from experiment_nets import LARGE, parameter_counts

COUNTS = {
    # VGG-16's 14,714,688 convolutions, fc6 and fc7 as convolutions, scores, and a filter for each pair of classes
    "segmentation/fcn8s_voc": 134_489_759,
    "segmentation/fcn16s_voc": 134_815_994,
    "segmentation/fcn32s_voc": 136_152_917,
    # Noh et al. 2015 say "about 252M"
    "segmentation/deconvnet_stage1_voc": 251_805_653,
    "segmentation/deconvnet_stage2_voc": 251_805_653,
    # torchvision's ssd300_vgg16 of 21 classes has as many
    "detection/ssd300_voc": 26_285_486,
    # SSD300 with four stages of stride 2 and a kernel of 4: worked out layer by layer in models/test_ssd_vgg.py
    "detection/ssd512_voc": 27_188_676,
    # 24 convolutions with batch norm, 50,176 x 4096 and 4096 x 1470 connections with biases
    "detection/yolo_v1_voc": 271_716_734,
    # the numbers of the released 789,312,988 bytes without header and running statistics
    "detection/yolo_v1_released_voc": 197_301_875,
    # Redmon's yolov2-tiny-voc.cfg, likewise: 63,471,556 bytes
    "detection/yolo_v2_tiny_voc": 15_861_773,
    # two hourglasses of 92,134,400 each; the released code prints this number as it starts
    "detection/cornernet_coco": 201_035_212,
}


def test_every_experiment_of_published_size_is_counted() -> None:
    found = {name for name, count in parameter_counts().items() if count > LARGE}
    assert found == set(COUNTS)


@pytest.mark.parametrize("name", COUNTS)
def test_a_published_net_has_its_parameters(name: str) -> None:
    assert parameter_counts()[name] == COUNTS[name]
