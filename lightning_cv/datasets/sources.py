"""Where public data sets come from: addresses of the official archives, checksums, sizes and licences.

Addresses and MD5 sums of VOC, MNIST, Fashion-MNIST, CelebA and SBD are those that torchvision carries, stated here
because its import takes seconds; a test compares them.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

FETCHABLE = ("voc2007", "voc2011", "voc2012", "sbd", "coco2017", "mnist", "fashion-mnist", "celeba", "dsprites")
"""The data sets that can be fetched."""


class Archive(NamedTuple):
    """A file on a server: its name here, mirrors, checksum ("md5:..." or "sha256:...") and size in bytes, about."""

    name: str
    urls: tuple[str, ...]
    checksum: str
    size: int


class Part(NamedTuple):
    """What is fetched and put in its place together.

    `places` maps paths below the data root to paths in the unpacked archives; `unpacked` is in bytes, about;
    `inner` are archives in the archives; a data set is complete without its optional parts. `proof` are paths below the
    data root that only a whole part has, each with any of the `endings`; where there are none, the places are.
    """

    name: str
    archives: tuple[Archive, ...]
    places: dict[str, str]
    unpacked: int
    inner: tuple[str, ...] = ()
    optional: bool = False
    proof: tuple[str, ...] = ()
    endings: tuple[str, ...] = ("",)

    @property
    def packed(self) -> int:
        """Bytes of its archives, about."""
        return sum(archive.size for archive in self.archives)

    def lacks(self, root: Path) -> list[str]:
        """The proofs that are not below a data root; none where the part is whole."""
        return [path for path in self.proof or self.places if not self._is_proven(root / path)]

    def _is_proven(self, path: Path) -> bool:
        return any(is_there(path.with_name(f"{path.name}{ending}")) for ending in self.endings)


class DataSet(NamedTuple):
    """A public data set; `folder` is its place below the data root, `asks` whether its licence must be agreed to."""

    name: str
    title: str
    folder: str
    licence: str
    parts: tuple[Part, ...]
    asks: bool = False

    def chosen(self, names: Sequence[str]) -> tuple[Part, ...]:
        """The parts of these names, in the data set's order; all where there are none."""
        known = [part.name for part in self.parts]
        unknown = [name for name in names if name not in known]
        if unknown:
            raise ValueError(f"{self.name} has no part {unknown[0]!r}; its parts are {', '.join(known)}")
        return tuple(part for part in self.parts if part.name in names or not names)


def is_there(place: Path) -> bool:
    """Whether there is a file, or a folder with something in it."""
    return place.is_file() or (place.is_dir() and any(place.iterdir()))


def data_set(name: str) -> DataSet:
    """Everything about one of `FETCHABLE`."""
    builders: dict[str, Callable[[], DataSet]] = {
        "voc2007": lambda: _voc("2007"),
        "voc2011": lambda: _voc("2011", inside="TrainVal/"),
        "voc2012": lambda: _voc("2012"),
        "sbd": _sbd,
        "coco2017": _coco,
        "mnist": _mnist,
        "fashion-mnist": _fashion,
        "celeba": _celeba,
        "dsprites": _dsprites,
    }
    if name not in builders:
        raise ValueError(f"no data set {name!r} to fetch; known are {', '.join(FETCHABLE)}")
    return builders[name]()


_VOC = {
    "2007": (
        ("VOCtrainval_06-Nov-2007.tar", "c52e279531787c972589f7e41ab4ae64", 460_032_000),
        ("VOCtest_06-Nov-2007.tar", "b6e924de25625d8de591ea690078ad9f", 451_020_800),
    ),
    "2011": (("VOCtrainval_25-May-2011.tar", "6c3384ef61512963050cb5d687e5bf1e", 1_740_000_000),),
    "2012": (("VOCtrainval_11-May-2012.tar", "6cd6e144f989b92b3379bac3b3de84fd", 1_999_639_040),),
}
"""Name, MD5 sum and bytes of each year's archives. Test annotations are public of 2007 only."""


def _voc(year: str, inside: str = "") -> DataSet:
    """The folder of a year; `inside` is where it lies in the archives."""
    site = f"https://thor.robots.ox.ac.uk/pascal/VOC/voc{year}/"
    archives = tuple(Archive(name, (site + name,), f"md5:{md5}", size) for name, md5, size in _VOC[year])
    place = f"VOCdevkit/VOC{year}"
    lists = ["trainval", "test"] if year == "2007" else ["trainval"]  # each archive brings one
    proof = [f"{place}/{name}" for name in ("Annotations", "JPEGImages", "SegmentationClass", "SegmentationObject")]
    proof += [f"{place}/ImageSets/{kind}/{name}.txt" for kind in ("Main", "Segmentation") for name in lists]
    unpacked = sum(archive.size for archive in archives)
    part = Part("all", archives, {place: inside + place}, unpacked, proof=tuple(proof))
    licence = "the images are under Flickr's terms of use; cite Everingham et al., IJCV 2010"
    return DataSet(f"voc{year}", f"PASCAL VOC {year}", place, licence, (part,))


def _sbd() -> DataSet:
    """Differs from torchvision: the list train_noval.txt, whose server is gone, is left to the reader to derive."""
    site = "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/"
    archive = Archive("benchmark.tgz", (f"{site}benchmark.tgz",), "md5:82b4d87ceb2ed10f6038a1cba92111cb", 1_420_000_000)
    inside = "benchmark_RELEASE/dataset"
    places = {f"sbd/{name}": f"{inside}/{name}" for name in ("img", "cls", "inst", "train.txt", "val.txt")}
    licence = "the images are PASCAL VOC's, under Flickr's terms of use; cite Hariharan et al., ICCV 2011"
    part = Part("all", (archive,), places, 2_000_000_000)
    return DataSet("sbd", "Semantic Boundaries Dataset", "sbd", licence, (part,))


_IDX_PARTS = (
    ("train-images", "train-images-idx3-ubyte", 47_040_016),
    ("train-labels", "train-labels-idx1-ubyte", 60_008),
    ("test-images", "t10k-images-idx3-ubyte", 7_840_016),
    ("test-labels", "t10k-labels-idx1-ubyte", 10_008),
)
"""Name of the part, file and unpacked bytes."""


def _mnist() -> DataSet:
    mirrors = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/")
    files = (
        ("f68b3c2dcbeaaa9fbdd348bbdeb94873", 9_912_422),
        ("d53e105ee54ea40749a09fcbcd1e9432", 28_881),
        ("9fb629c4189551a2d022fa330f9573f3", 1_648_877),
        ("ec29112dd5afa0611ce80d1b7f02629c", 4_542),
    )
    licence = "CC BY-SA 3.0; LeCun, Cortes and Burges 1998"
    return DataSet("mnist", "MNIST", "MNIST/raw", licence, _idx(mirrors, files, "MNIST/raw"))


def _fashion() -> DataSet:
    mirrors = ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",)
    files = (
        ("8d4fb7e6c68d591d4c3dfef9ec88bf0d", 26_421_880),
        ("25c81989df183df01b3e8a0aad5dffbe", 29_515),
        ("bef4ecab320f06d8554ea6380940ec79", 4_422_102),
        ("bb300cfdad3c16e7a12a480ee83cd310", 5_148),
    )
    parts = _idx(mirrors, files, "FashionMNIST/raw")
    return DataSet("fashion-mnist", "Fashion-MNIST", "FashionMNIST/raw", "MIT; Xiao, Rasul and Vollgraf 2017", parts)


def _idx(mirrors: Sequence[str], files: Sequence[tuple[str, int]], folder: str) -> tuple[Part, ...]:
    """A part for each of the four files, so that those which are missing can be fetched alone; .gz is read as well.

    Args:
        mirrors: addresses of folders.
        files: MD5 sum and packed bytes of each of `_IDX_PARTS`.
        folder: their place below the data root.
    """
    parts = []
    for (part, file, unpacked), (md5, size) in zip(_IDX_PARTS, files, strict=True):
        name = f"{file}.gz"
        archive = Archive(name, tuple(mirror + name for mirror in mirrors), f"md5:{md5}", size)
        parts.append(Part(part, (archive,), {f"{folder}/{file}": file}, unpacked, endings=("", ".gz")))
    return tuple(parts)


_COCO_SITE = "http://images.cocodataset.org"  # the site's certificate belongs to another name; checksums protect
_COCO_LICENCE = "annotations CC BY 4.0, the images are under Flickr's terms of use; cite Lin et al., ECCV 2014"
_COCO_SUMS = {
    "zips/train2017.zip": "69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929",
    "zips/val2017.zip": "4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05",
    "annotations/annotations_trainval2017.zip": "113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268",
    "annotations/panoptic_annotations_trainval2017.zip": (
        "c05f76d2129b6b561eb70efe16e7006df62f73fb92889132d373b9d90e31a370"
    ),
}


def _coco() -> DataSet:
    """Captions and keypoints lie in the same archive as the instances and are left out."""
    jsons = [f"annotations/instances_{split}2017.json" for split in ("train", "val")]
    panoptic = [f"annotations/panoptic_{split}2017" for split in ("train", "val")]
    inner = tuple(f"{folder}.zip" for folder in panoptic)
    parts = (
        _coco_part("train", "zips/train2017.zip", 19_336_861_798, ["train2017"], 19_500_000_000),
        _coco_part("val", "zips/val2017.zip", 815_585_330, ["val2017"], 830_000_000),
        _coco_part("annotations", "annotations/annotations_trainval2017.zip", 252_907_541, jsons, 850_000_000),
        _coco_part(
            "panoptic",
            "annotations/panoptic_annotations_trainval2017.zip",
            860_725_834,
            [*panoptic, *[f"{folder}.json" for folder in panoptic]],
            2_000_000_000,
            inner,
        ),
    )
    return DataSet("coco2017", "COCO 2017", "coco", _COCO_LICENCE, parts)


def _coco_part(
    name: str, address: str, size: int, places: list[str], unpacked: int, inner: tuple[str, ...] = ()
) -> Part:
    checksum = f"sha256:{_COCO_SUMS[address]}"
    archive = Archive(address.rpartition("/")[2], (f"{_COCO_SITE}/{address}",), checksum, size)
    return Part(name, (archive,), {f"coco/{place}": place for place in places}, unpacked, inner)


_CELEBA_LICENCE = (
    "CelebA is available for non-commercial research purposes only. Its images come from the internet and are not the "
    "property of its authors. You agree not to reproduce, duplicate, copy, sell, trade, resell or exploit any portion "
    "of the images or derived data for commercial purposes, and not to further copy, publish or distribute any portion "
    "of it, except copies within one site of one organization. The whole agreement: "
    "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html. Cite Liu et al., ICCV 2015"
)
_CELEBA_IDS = {
    "img_align_celeba.zip": ("0B7EVK8r0v71pZjFTYXZWM3FlRnM", "00d2c5bc6d35e252742224ab0c1e8fcb"),
    "list_attr_celeba.txt": ("0B7EVK8r0v71pblRyaVFSWGxPY0U", "75e246fa4810816ffd6ee81facbd244c"),
    "identity_CelebA.txt": ("1_ee_0u7vcNLOfNLegJRHmolfH5ICW-XS", "32bd1bd63d3c78cd57e08160ec5ed1e2"),
    "list_bbox_celeba.txt": ("0B7EVK8r0v71pbThiMVRxWXZ4dU0", "00566efa6fedff7a56946cd1c10f1c16"),
    "list_landmarks_align_celeba.txt": ("0B7EVK8r0v71pd0FJY3Blby1HUTQ", "cc24ecafdb5b50baae59b03474781f8c"),
    "list_eval_partition.txt": ("0B7EVK8r0v71pY0NSMzRuSXJEVkk", "d32c9cbf5e040fd4025c592c306e6668"),
}
"""Number on the file service and MD5 sum."""

_CELEBA_PARTS = {
    "img_align_celeba.zip": ("images", 1_443_490_838),
    "list_attr_celeba.txt": ("attributes", 26_721_026),
    "identity_CelebA.txt": ("identities", 3_400_000),
    "list_bbox_celeba.txt": ("boxes", 6_100_000),
    "list_landmarks_align_celeba.txt": ("landmarks", 12_156_055),
    "list_eval_partition.txt": ("partition", 2_836_386),
}


def _celeba() -> DataSet:
    """Its authors keep it on a file service that sends large files only to those who confirm."""
    parts = []
    for name, (file_id, md5) in _CELEBA_IDS.items():
        part, size = _CELEBA_PARTS[name]
        url = f"https://drive.usercontent.google.com/download?id={file_id}&export=download&confirm=t"
        inside = name.removesuffix(".zip")
        archive = Archive(name, (url,), f"md5:{md5}", size)
        unpacked = 1_900_000_000 if part == "images" else size
        optional = part in ("boxes", "landmarks")
        parts.append(Part(part, (archive,), {f"celeba/{inside}": inside}, unpacked, optional=optional))
    return DataSet("celeba", "CelebA", "celeba", _CELEBA_LICENCE, tuple(parts), asks=True)


def _dsprites() -> DataSet:
    name = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
    url = f"https://github.com/google-deepmind/dsprites-dataset/raw/master/{name}"
    archive = Archive(name, (url,), "md5:7da33b31b13a06f4b04a70402ce90c2e", 27_000_000)
    part = Part("all", (archive,), {f"dsprites/{name}": name}, 27_000_000)
    return DataSet("dsprites", "dSprites", "dsprites", "Apache 2.0; cite Matthey et al. 2017", (part,))
