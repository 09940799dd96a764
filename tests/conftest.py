"""Nothing a test does leaves this machine: W&B is offline and points at a closed port, hub folders are temporary."""

import atexit
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ["WANDB_BASE_URL"] = "http://127.0.0.1:9"
os.environ["WANDB_MODE"] = "offline"
os.environ["WANDB_ERROR_REPORTING"] = "false"
os.environ["WANDB_SILENT"] = "true"
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
for _hub in ("TORCH_HOME", "HF_HOME"):
    os.environ[_hub] = tempfile.mkdtemp(prefix="lightning-cv-hub-")
    atexit.register(shutil.rmtree, os.environ[_hub], ignore_errors=True)

import torch  # noqa: E402

from lightning_cv import interrupts  # noqa: E402

torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else 2)  # several workers share the cores

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
"""Real samples beside the project; tests marked `data` skip where they are absent."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs real files where there are none, and what needs an accelerator where there is none."""
    for item in items:
        if item.get_closest_marker("data") and not SHARED_DATA.is_dir():
            item.add_marker(pytest.mark.skip(reason=f"no real samples at {SHARED_DATA}"))
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(autouse=True)
def signals_are_left_alone() -> Iterator[None]:
    """What a command run within a test does with signals ends with the test, as it would with the command's process."""
    before = {number: signal.getsignal(number) for number in interrupts.SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    interrupts.forget()


@pytest.fixture
def shared_data() -> Path:
    """The folder of real samples."""
    return SHARED_DATA
