"""Scoring boxes or masks on a set of COCO val2017's size: ours beside raw faster-coco-eval and pycocotools.

5,000 images, 36,781 objects of 80 classes, 100 detections an image, half of them near an object. All three, each in a
process of its own, read the same json files; the twelve figures must agree to 1e-9. With `--iou-type segm` every
object and detection is a compressed run-length mask: the ellipse in its box, or, one in four, the box itself.
"""

import argparse
import contextlib
import io
import json
import math
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

IMAGES, OBJECTS, DETECTIONS, CLASSES = 5_000, 36_781, 100, 80
HEIGHT, WIDTH = 480, 640
CIRCLE = [(math.cos(n * math.pi / 12), math.sin(n * math.pi / 12)) for n in range(24)]


def encode(box: list[float], *, is_ellipse: bool) -> dict[str, object]:
    """The run-length mask of a box x, y, width, height, or of the ellipse in it."""
    from pycocotools import mask as rle

    x, y, width, height = box
    polygon = [x, y, x + width, y, x + width, y + height, x, y + height]
    if is_ellipse:
        polygon = [
            value for across, down in CIRCLE for value in (x + width * (1 + across) / 2, y + height * (1 + down) / 2)
        ]
    (code,) = rle.frPyObjects([polygon], HEIGHT, WIDTH)
    return code


def give_masks(entries: list[dict[str, object]], *, are_results: bool) -> None:
    """Masks in the place of a result's box, and beside an object's, whose area becomes that of the mask."""
    from pycocotools import mask as rle

    for number, entry in enumerate(entries):
        code = encode(entry.pop("bbox") if are_results else entry["bbox"], is_ellipse=number % 4 > 0)  # type: ignore[arg-type]
        if not are_results:
            entry["area"] = float(rle.area(code))
        entry["segmentation"] = {"size": code["size"], "counts": code["counts"].decode()}  # type: ignore[attr-defined]


def make_files(folder: Path, images: int, iou_type: str) -> None:
    """`truth.json` and `results.json`."""
    rng = random.Random(0)

    def box() -> list[float]:
        return [
            round(v, 2) for v in (rng.uniform(0, 500), rng.uniform(0, 350), rng.uniform(8, 140), rng.uniform(8, 130))
        ]

    objects: list[list[dict[str, object]]] = [[] for _ in range(images)]
    for number in range(OBJECTS * images // IMAGES):
        image, corners = rng.randrange(images), box()
        entry = {"id": number + 1, "image_id": image + 1, "category_id": rng.randrange(1, CLASSES + 1)}
        objects[image].append(
            entry | {"bbox": corners, "area": corners[2] * corners[3], "iscrowd": int(number % 86 == 0)}
        )
    results = []
    for image, there in enumerate(objects, start=1):
        for number in range(DETECTIONS):
            near = there[number % len(there)] if there and number % 2 else None
            corners = [v + rng.gauss(0, 6) for v in near["bbox"]] if near else box()  # type: ignore[attr-defined]
            corners[2:] = [max(1.0, side) for side in corners[2:]]
            category = near["category_id"] if near else rng.randrange(1, CLASSES + 1)
            results.append({"image_id": image, "category_id": category, "bbox": [round(v, 2) for v in corners],
                            "score": round(rng.random(), 5)})  # fmt: skip
    declared = [{"id": n + 1, "height": HEIGHT, "width": WIDTH, "file_name": f"{n}.jpg"} for n in range(images)]
    categories = [{"id": n, "name": str(n)} for n in range(1, CLASSES + 1)]
    annotations = [entry for there in objects for entry in there]
    if iou_type == "segm":
        give_masks(annotations, are_results=False)
        give_masks(results, are_results=True)
    truth = {"images": declared, "annotations": annotations, "categories": categories}
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "results.json").write_text(json.dumps(results))


def ours(truth: Path, results: Path, iou_type: str) -> list[float]:
    """What `lightning-cv evaluate coco` does, its checks of every entry included."""
    from lightning_cv.tools.evaluate import parse
    from lightning_cv.tools.evaluate_coco import instances

    scores = instances(parse(["coco", "--gt", str(truth), "--pred", str(results), "--iou-type", iou_type]))
    return list(scores.figures.values())


def faster(truth: Path, results: Path, iou_type: str) -> list[float]:
    """faster-coco-eval as its own documentation uses it."""
    from faster_coco_eval import COCO, COCOeval_faster

    known = COCO(str(truth))
    evaluation = COCOeval_faster(known, known.loadRes(str(results)), iouType=iou_type)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return [float(value) for value in evaluation.stats[:12]]


def pycoco(truth: Path, results: Path, iou_type: str) -> list[float]:
    """pycocotools."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    known = COCO(str(truth))
    evaluation = COCOeval(known, known.loadRes(str(results)), iou_type)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return [float(value) for value in evaluation.stats]


KINDS = {"ours": ours, "faster-coco-eval": faster, "pycocotools": pycoco}


def measure(kind: str, iou_type: str, folder: Path) -> dict[str, object]:
    """Seconds, peak megabytes beyond those of the imports, and the twelve figures; in this process."""
    import faster_coco_eval  # noqa: F401
    import pycocotools.cocoeval  # noqa: F401

    import lightning_cv.tools.evaluate_coco  # noqa: F401

    before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        figures = KINDS[kind](folder / "truth.json", folder / "results.json", iou_type)
    seconds = time.perf_counter() - begun
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {"seconds": seconds, "peak": peak, "figures": figures}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=IMAGES, help="objects go with them (default: %(default)s)")
    parser.add_argument("--iou-type", choices=("bbox", "segm"), default="bbox", help="boxes or masks (%(default)s)")
    parser.add_argument("--measure", nargs=2, metavar=("KIND", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        kind, folder = options.measure
        print(json.dumps(measure(kind, options.iou_type, Path(folder))))
        return
    found: dict[str, dict[str, object]] = {}
    with tempfile.TemporaryDirectory() as folder:
        make_files(Path(folder), options.images, options.iou_type)
        print(f"{options.images:,} images, {DETECTIONS * options.images:,} detections, {options.iou_type}")
        for kind in KINDS:
            command = [sys.executable, __file__, "--iou-type", options.iou_type, "--measure", kind, folder]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found[kind] = json.loads(done.stdout.splitlines()[-1])
            print(f"{kind:18} {found[kind]['seconds']:7.1f} s  {found[kind]['peak']:7.0f} MB")
    figures = [one["figures"] for one in found.values()]
    gap = max(abs(a - b) for other in figures[1:] for a, b in zip(figures[0], other, strict=True))  # type: ignore[call-overload]
    print(f"largest difference of a figure: {gap:.1e}")


if __name__ == "__main__":
    main()
