"""Nets of published size are built without memory and have the parameters that the papers or releases say."""

import pytest
from experiment_nets import EXPERIMENTS, LARGE, parameter_counts

from lightning_cv.cli.experiments import experiment_name, read_yaml, with_bases

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
    # VGG-16's 14,714,688, fc6 and fc7 102,764,544 + 16,781,312, and 4097 weights for each of 21 classes and 80 deltas
    "detection/fast_rcnn_vgg16_voc": 134_674_341,
    "detection/fast_rcnn_vgg16_voc0712": 134_674_341,
    # that, a 3x3 convolution of 512 channels, and 513 weights for each of 9 scores and 36 deltas of a cell
    "detection/faster_rcnn_vgg16_voc": 137_057_234,
    "detection/faster_rcnn_vgg16_voc0712": 137_057_234,
    # torchvision's 41,755,286 and 44,401,393 with 91 outputs, less 10 of 5 x 1025 weights (and of 257 for masks), less
    # 4 x 1025 for the background's box (and 257 for its mask); with 53,120 of batch norms, which torchvision calls no
    # parameters
    "detection/faster_rcnn_r50_fpn_coco": 41_755_286 - 10 * 5 * 1025 - 4 * 1025 + 53_120,
    "instance/mask_rcnn_r50_fpn_coco": 44_401_393 - 10 * (5 * 1025 + 257) - 4 * 1025 - 257 + 53_120,
    # that Mask R-CNN; four maps to 128 channels by 3x3 without bias, three convolutions of 128 to 128 more, a group
    # norm each; 54 outputs
    "panoptic/panoptic_fpn_r50_coco_1x": 44_396_336 + 4 * 9 * 256 * 128 + 3 * 9 * 128 * 128 + 7 * 2 * 128 + 54 * 129,
    "panoptic/panoptic_fpn_r50_coco_3x": 44_396_336 + 4 * 9 * 256 * 128 + 3 * 9 * 128 * 128 + 7 * 2 * 128 + 54 * 129,
    # see models/test_segformer.py, where it is compared with the paper's 51.0 million
    "panoptic/panoptic_segformer_r50_coco_12e": 50_659_212,
    "panoptic/panoptic_segformer_r50_coco_24e": 50_659_212,
}


def test_every_experiment_of_published_size_is_counted() -> None:
    found = {name for name, count in parameter_counts().items() if count > LARGE}
    assert found == set(COUNTS)


@pytest.mark.parametrize("name", COUNTS)
def test_a_published_net_has_its_parameters(name: str) -> None:
    assert parameter_counts()[name] == COUNTS[name]


@pytest.mark.parametrize("name", [name for name in COUNTS if name.startswith("detection/") and "voc" in name])
def test_published_figures_of_voc_2007_are_means_of_eleven_points(name: str) -> None:
    """The area under the curve, the default, is another figure: on VOC 2007 the higher one by some points."""
    (path,) = (path for path in EXPERIMENTS if experiment_name(path) == name)
    files = [read_yaml(file) for file in with_bases(path)]
    callbacks = [block for file in files for block in file.get("trainer", {}).get("callbacks+", [])]
    metrics = [block for block in callbacks if block["class_path"].endswith(".DetectionMetrics")]
    assert [block.get("init_args") for block in metrics] == [{"kind": "11point"}]
    assert "11-point" in files[-1]["target"]["source"]
