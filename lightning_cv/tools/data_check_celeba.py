"""CelebA's lists and aligned pictures, read independently of the data set that training uses."""

from pathlib import Path

from lightning_cv.tools.data_check_findings import Findings, compare_splits
from lightning_cv.tools.data_check_layout import celeba_folder
from lightning_cv.tools.data_check_look import look_at

PICTURES = "img_align_celeba"
SIZE = (178, 218)
"""Width and height of an aligned picture in pixels."""

PARTITIONS = ("train", "val", "test")
"""What 0, 1 and 2 of the partition file mean."""

_WITH_HEADER = {"list_attr_celeba.txt": 40, "list_bbox_celeba.txt": 4, "list_landmarks_align_celeba.txt": 10}
_WITHOUT_HEADER = {"list_eval_partition.txt": 1, "identity_CelebA.txt": 1}
_NEEDED = ("list_eval_partition.txt", "list_attr_celeba.txt")


def check_celeba(root: Path, findings: Findings, jobs: int) -> None:
    """Checks the pictures and that every list that is there has one good row a picture."""
    folder = celeba_folder(root)
    assert folder is not None
    paths = sorted(path for path in (folder / PICTURES).glob("*") if path.is_file())
    looks = {path.name: look for path, look in look_at(paths, "picture", jobs, "pictures").items()}
    findings.looked_at("pictures", len(looks))
    for name, look in looks.items():
        if look.error:
            findings.problem("picture that cannot be read", folder / PICTURES / name, look.error)
        elif (look.width, look.height) != SIZE:
            findings.problem("picture of another size than 178 x 218", folder / PICTURES / name, look.size)
    lists: dict[str, dict[str, list[int]]] = {}
    for name, columns in (_WITHOUT_HEADER | _WITH_HEADER).items():
        path = folder / name
        if path.is_file():
            lists[name] = read_rows(path, columns, findings, header=name in _WITH_HEADER)
            _check_names(path, lists[name], set(looks), findings)
            _check_values(path, lists[name], findings)
        elif name in _NEEDED:
            findings.problem("missing list", path)
    partition = lists.get("list_eval_partition.txt", {})
    splits = {
        split: {name: looks[name].digest for name, row in partition.items() if row == [number] and name in looks}
        for number, split in enumerate(PARTITIONS)
    }
    compare_splits(splits, findings)


def read_rows(path: Path, columns: int, findings: Findings, header: bool) -> dict[str, list[int]]:
    """The numbers of every picture in a list; those with a header state the number of rows and the columns' names."""
    lines = path.read_text(errors="replace").splitlines()
    if header:
        stated, names = (lines[0].strip(), lines[1].split()) if len(lines) > 1 else ("", [])
        lines = lines[2:]
        rows = sum(bool(line.strip()) for line in lines)
        if stated != str(rows) or len(names) not in (columns, columns + 1):  # some name the first column too
            detail = f"says {stated!r} rows and has {rows}, names {len(names)} columns of {columns}"
            findings.problem("header that does not fit its list", path, detail)
    table: dict[str, list[int]] = {}
    for line in lines:
        name, *values = line.split() or [""]
        if not name:
            continue
        try:
            numbers = [int(value) for value in values]
        except ValueError:
            numbers = []
        if len(numbers) != columns:
            findings.problem("row that cannot be read", path, line.strip()[:60])
        elif name in table:
            findings.problem("id twice in a list", path, name)
        else:
            table[name] = numbers
    findings.looked_at("lists", 1)
    return table


def _check_names(path: Path, table: dict[str, list[int]], pictures: set[str], findings: Findings) -> None:
    for name in sorted(table.keys() - pictures):
        findings.problem("missing picture", path, f"lists {name}")
    for name in sorted(pictures - table.keys()):
        findings.problem("picture that a list does not have", path, name)


def _check_values(path: Path, table: dict[str, list[int]], findings: Findings) -> None:
    for name, row in table.items():
        if path.name == "list_attr_celeba.txt" and not set(row) <= {-1, 1}:
            findings.problem("attribute that is neither -1 nor 1", path, name)
        elif path.name == "list_eval_partition.txt" and row[0] not in range(len(PARTITIONS)):
            findings.problem("partition that is not 0, 1 or 2", path, f"{name} has {row[0]}")
        elif path.name == "list_bbox_celeba.txt" and min(row[2:]) <= 0:
            findings.problem("box without area", path, f"{name} has {row}")
