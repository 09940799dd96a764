import torch

from lightning_cv.contracts import Placement
from lightning_cv.ops.segments import drop_empty, in_file_pixels


def test_empty_segments_are_dropped_and_the_others_numbered_anew():
    found = {
        "segments": torch.tensor([[0, 3, 3], [1, 1, 0]]),
        "labels": torch.tensor([7, 8, 9]),
        "scores": torch.tensor([0.1, 0.2, 0.3]),
    }
    kept = drop_empty(found)
    assert kept["segments"].tolist() == [[0, 2, 2], [1, 1, 0]]
    assert kept["labels"].tolist() == [7, 9]
    assert kept["scores"].tolist() == torch.tensor([0.1, 0.3]).tolist()
    nothing = drop_empty({"segments": torch.zeros(2, 2, dtype=torch.int64), "labels": torch.zeros(0).long()})
    assert nothing["labels"].tolist() == []


def test_the_files_pixels_by_a_loop():
    segments = torch.randint(0, 4, (11, 13), generator=torch.Generator().manual_seed(0))
    found = {"segments": segments, "labels": torch.tensor([1, 2, 3])}
    for placement, size in (
        (Placement(0.5, 0.5), (20, 26)),  # larger, and the image's last row is padding
        (Placement(2.0, 1.5, left=1.0, top=2.0), (6, 6)),
        (Placement(1.0, 1.0), (11, 13)),
    ):
        moved = in_file_pixels(found, placement, size)
        for y in range(size[0]):
            for x in range(size[1]):
                row = int((y + 0.5) * placement.y_scale + placement.top)
                column = int((x + 0.5) * placement.x_scale + placement.left)
                number = segments[min(row, 10), min(column, 12)].item()
                label = found["labels"][number - 1].item() if number else 0
                new = moved["segments"][y, x].item()
                assert (moved["labels"][new - 1].item() if new else 0) == label
