import os

import pytest
import torch

from lightning_cv.cli.gpus import hide_missing_gpus


@pytest.mark.parametrize(
    ("found", "set_before", "after"), [(0, None, ""), (0, "1", "1"), (2, None, None), (2, "0,1", "0,1")]
)
def test_only_where_there_is_none_and_nobody_said_otherwise(monkeypatch, found, set_before, after):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: found)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if set_before is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", set_before)
    hide_missing_gpus()
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == after
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
