import hashlib

import pytest
import torch

from lightning_cv.datasets.checksum import checksum_of_files, checksum_of_names, checksum_of_tensors
from lightning_cv.datasets.errors import DataError


def write(folder, **files):
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return [folder / name for name in files]


def test_files_count_by_name_content_and_order_wherever_they_lie(tmp_path):
    one = write(tmp_path / "here/Main", a="1", b="2")
    same = write(tmp_path / "there/Main", a="1", b="2")
    expected = hashlib.sha256(
        b"Main/a\n" + hashlib.sha256(b"1").digest() + b"Main/b\n" + hashlib.sha256(b"2").digest()
    ).hexdigest()
    assert checksum_of_files(one) == checksum_of_files(same) == expected[:16]
    others = [
        write(tmp_path / "content/Main", a="1", b="3"),
        write(tmp_path / "name/Main", a="1", c="2"),
        write(tmp_path / "folder/Other", a="1", b="2"),
        one[::-1],
        one[:1],
    ]
    assert len({checksum_of_files(files) for files in [one, *others]}) == 6


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.xml cannot be read"):
        checksum_of_files([tmp_path / "gone.xml"])


def test_names_count_with_sizes_and_not_with_contents(tmp_path):
    (one,), (same,), (other,) = (
        write(tmp_path / folder, a=text) for folder, text in (("x", "11"), ("y", "22"), ("z", "333"))
    )
    sums = [checksum_of_names(path.parent, [path]) for path in (one, same, other)]
    assert sums[0] == sums[1] != sums[2]


def test_tensors_count_by_shape_type_and_values():
    one = torch.arange(6).reshape(2, 3)
    assert checksum_of_tensors([one]) == checksum_of_tensors([one.t().contiguous().t()])
    others = [one.reshape(3, 2), one.int(), one + 1, one[:1]]
    assert len({checksum_of_tensors([tensor]) for tensor in [one, *others]}) == 5
    assert checksum_of_tensors([one, one]) != checksum_of_tensors([one])
