"""Where data sets come from: what is stated here is what torchvision carries. And names are imported when needed."""

import pytest

import lightning_cv.datasets
from lightning_cv.datasets.sources import Archive, data_set


def archives(name: str) -> list[Archive]:
    return [archive for part in data_set(name).parts for archive in part.archives]


def facts(name: str) -> list[tuple[str, tuple[str, ...], str]]:
    return [(archive.name, archive.urls, archive.checksum) for archive in archives(name)]


@pytest.mark.parametrize(
    ("name", "keys"), [("voc2007", ("2007", "2007-test")), ("voc2011", ("2011",)), ("voc2012", ("2012",))]
)
def test_voc_is_torchvisions(name, keys):
    from torchvision.datasets.voc import DATASET_YEAR_DICT

    entries = [DATASET_YEAR_DICT[key] for key in keys]
    assert facts(name) == [(entry["filename"], (entry["url"],), f"md5:{entry['md5']}") for entry in entries]
    [(place, inside)] = data_set(name).parts[0].places.items()
    assert {inside} == {entry["base_dir"] for entry in entries}
    assert place == f"VOCdevkit/VOC{name.removeprefix('voc')}"


def test_sbd_is_torchvisions():
    from torchvision.datasets import SBDataset

    assert facts("sbd") == [(SBDataset.filename, (SBDataset.url,), f"md5:{SBDataset.md5}")]


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_mnist_is_torchvisions(name):
    from torchvision import datasets

    source = {"mnist": datasets.MNIST, "fashion-mnist": datasets.FashionMNIST}[name]
    assert facts(name) == [
        (file, tuple(mirror + file for mirror in source.mirrors), f"md5:{md5}") for file, md5 in source.resources
    ]


def test_celeba_is_torchvisions():
    from torchvision.datasets import CelebA

    stated = [(archive.urls[0].partition("id=")[2].partition("&")[0], archive) for archive in archives("celeba")]
    assert [(file_id, archive.checksum, archive.name) for file_id, archive in stated] == [
        (file_id, f"md5:{md5}", file) for file_id, md5, file in CelebA.file_list
    ]


def test_every_name_of_the_package_is_there():
    assert set(lightning_cv.datasets.__all__) == set(lightning_cv.datasets._MODULE_OF)
    for name in lightning_cv.datasets.__all__:
        getattr(lightning_cv.datasets, name)
    with pytest.raises(AttributeError, match=r"'lightning_cv\.datasets' has no attribute 'nothing'"):
        lightning_cv.datasets.nothing  # noqa: B018
