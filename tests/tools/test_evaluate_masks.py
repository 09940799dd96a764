"""Predicted masks: those that cannot be, and one without a pixel: a false positive, as pycocotools counts it."""

import contextlib
import io
import json

import numpy as np
import pytest
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from test_evaluate import a_result, coco, refused, scores


def test_an_empty_mask_counts_against_precision(tmp_path, capsys):
    pixels = np.zeros((10, 20), np.uint8)
    pixels[2:5, 3:5] = 1
    triangle = rle.merge(rle.frPyObjects([[1, 1, 5, 1, 5, 5]], 10, 20))
    results = [
        a_result(score=score, segmentation={"size": [10, 20], "counts": code["counts"].decode()})
        for score, code in ((0.9, rle.encode(np.asfortranarray(0 * pixels))), (0.8, triangle))
    ]
    arguments = coco(tmp_path, results, "--iou-type", "segm")
    found = scores(capsys, *arguments)["figures"]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(tmp_path / "truth.json"))
        bare = [{key: value for key, value in one.items() if key != "bbox"} for one in results]
        evaluation = COCOeval(truth, truth.loadRes(json.loads(json.dumps(bare))), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert found["segm_AP"] == pytest.approx(evaluation.stats[0], abs=1e-9)
    assert 0 < found["segm_AP"] < 0.5


def test_masks_of_another_size_or_kind(tmp_path, capsys):
    mask = rle.encode(np.asfortranarray(np.ones((5, 5), np.uint8)))
    result = a_result(segmentation={"size": [5, 5], "counts": mask["counts"].decode()})
    refused(capsys, coco(tmp_path, [result], "--iou-type", "segm"), "results[0]", "another size", "10 x 20")
    for counts in ("", "abc", "P00"):
        result = a_result(segmentation={"size": [10, 20], "counts": counts})
        refused(capsys, coco(tmp_path, [result], "--iou-type", "segm"), "results[0]", "do not fill its picture")
    refused(capsys, coco(tmp_path, [a_result()], "--iou-type", "segm"), "results[0]", "compressed RLE")
