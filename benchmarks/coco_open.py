"""Opening a json of the size of COCO train2017: our packed arrays beside pycocotools, each in a fresh process.

The file is made up: as many images and objects as train2017, polygons of 8 to 36 points, one object in 86 a crowd.
Memory of a loader's worker is what it shares with no other process, after it read some samples with their masks.
"""

import argparse
import contextlib
import io
import json
import math
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

IMAGES, OBJECTS = 118_287, 860_001
HEIGHT, WIDTH = 480, 640
WORKERS, READS = 2, 400


def make_folder(root: Path, images: int) -> int:
    """A COCO folder of one picture under many names; bytes of its json."""
    from PIL import Image

    Image.effect_noise((WIDTH, HEIGHT), 60).convert("RGB").save(root / "picture.jpg")
    (root / "train2017").mkdir()
    (root / "annotations").mkdir()
    rng = random.Random(0)
    objects = [_object(rng, crowd=number % 86 == 0) for number in range(86 * 25)]
    path = root / "annotations" / "instances_train2017.json"
    with path.open("w") as file:
        file.write('{"info": {}, "licenses": [], "images": [')
        for number in range(images):
            name = f"{number:012d}.jpg"
            os.symlink(root / "picture.jpg", root / "train2017" / name)
            file.write(", " * (number > 0) + _image(number, name))
        file.write('], "annotations": [')
        for number in range(round(OBJECTS * images / IMAGES)):
            image, category = rng.randrange(images), rng.randrange(1, 81)
            head = f'"id": {number + 1}, "image_id": {image}, "category_id": {category}'
            file.write(", " * (number > 0) + f"{{{head}, {objects[number % len(objects)]}}}")
        categories = [{"id": number, "name": f"class {number}", "supercategory": "any"} for number in range(1, 81)]
        file.write(f'], "categories": {json.dumps(categories)}}}')
    return path.stat().st_size


def _image(number: int, name: str) -> str:
    urls = {"coco_url": f"http://images.example.org/train2017/{name}", "flickr_url": "http://farm.example.org/4_z.jpg"}
    entry = {"license": 3, "file_name": name, "height": HEIGHT, "width": WIDTH, "id": number} | urls
    return json.dumps(entry | {"date_captured": "2013-11-14 11:18:45"})


def _object(rng: random.Random, crowd: bool) -> str:
    """Box, area, crowd mark and mask of an object, as json without braces."""
    x, y, radius = rng.uniform(120, WIDTH - 120), rng.uniform(120, HEIGHT - 120), rng.uniform(8, 110)
    if crowd:
        counts = [WIDTH * HEIGHT // 200] * 200
        mask: object = {"size": [HEIGHT, WIDTH], "counts": [*counts, WIDTH * HEIGHT - sum(counts)]}
    else:
        points = rng.randrange(8, 37)
        mask = [[]]
        for number in range(points):
            angle, reach = 2 * math.pi * number / points, radius * rng.uniform(0.5, 1)
            mask[0] += [round(x + reach * math.cos(angle), 2), round(y + reach * math.sin(angle), 2)]
    box = [round(value, 2) for value in (x - radius, y - radius, 2 * radius, 2 * radius)]
    entry = {"bbox": box, "area": round(radius**2, 3), "iscrowd": int(crowd), "segmentation": mask}
    return json.dumps(entry)[1:-1]


def unshared() -> float:
    """Megabytes that only this process has."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024


def resident() -> float:
    """Megabytes of this process that are in memory, shared or not."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


class Ours:
    """Our reader, masks included."""

    def __init__(self, root: Path) -> None:
        from lightning_cv.datasets.coco import CocoDetection

        self.begin = lambda: setattr(self, "data", CocoDetection(root, "train", with_masks=True))

    def read(self, number: int) -> None:
        self.data[number]


class Peer:
    """pycocotools as torchvision's `CocoDetection` uses it, masks included."""

    def __init__(self, root: Path) -> None:
        from PIL import Image
        from pycocotools.coco import COCO

        self.root, self.open_image = root, Image.open
        self.begin = lambda: setattr(self, "data", COCO(root / "annotations" / "instances_train2017.json"))

    def read(self, number: int) -> None:
        ids = self.data.getAnnIds(imgIds=number)
        self.open_image(self.root / "train2017" / self.data.imgs[number]["file_name"]).convert("RGB")
        for entry in self.data.loadAnns(ids):
            self.data.annToMask(entry)


class Nothing:
    """A loader's worker that reads nothing."""

    def __init__(self, root: Path) -> None:
        self.begin = lambda: None

    def read(self, number: int) -> None:
        pass


class Usage:
    """A data set whose samples are the unshared megabytes of the process that read them."""

    def __init__(self, reader: Ours | Peer | Nothing, images: int) -> None:
        self.reader, self.images = reader, images

    def __len__(self) -> int:
        return READS * WORKERS

    def __getitem__(self, index: int) -> float:
        self.reader.read(index * 7919 % self.images)
        return unshared() if index >= len(self) - 2 * WORKERS else 0.0


def measure(kind: str, root: Path, images: int) -> dict[str, float]:
    """Seconds and megabytes of opening, and megabytes of a worker; in this process."""
    from torch.utils.data import DataLoader

    reader = {"first": Ours, "again": Ours, "peer": Peer, "nothing": Nothing}[kind](root)
    before, begun = resident(), time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        reader.begin()
    seconds, grown = time.perf_counter() - begun, resident() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
    loader = DataLoader(Usage(reader, images), batch_size=None, num_workers=WORKERS, multiprocessing_context="fork")
    return {"seconds": seconds, "grown": grown, "peak": peak, "worker": max(loader)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=IMAGES, help="objects go with them (default: %(default)s)")
    parser.add_argument("--measure", nargs=2, metavar=("KIND", "ROOT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        kind, root = options.measure
        print(json.dumps(measure(kind, Path(root), options.images)))
        return
    rows = {
        "ours, first time (cache written)": "first",
        "ours, again": "again",
        "pycocotools.COCO": "peer",
        "(a worker that reads nothing)": "nothing",
    }
    with tempfile.TemporaryDirectory() as folder:
        size = make_folder(Path(folder), options.images)
        print(
            f"{options.images:,} images, {OBJECTS * options.images // IMAGES:,} objects, json of {size / 1e6:,.0f} MB"
        )
        print(f"{'':34} open [s]  memory [MB]  peak [MB]  each worker [MB]")
        for title, kind in rows.items():
            command = [sys.executable, __file__, "--images", str(options.images), "--measure", kind, folder]
            found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
            figures = f"{found['seconds']:8.2f} {found['grown']:12.0f} {found['peak']:10.0f} {found['worker']:17.0f}"
            print(f"{title:34} {figures}", flush=True)


if __name__ == "__main__":
    main()
