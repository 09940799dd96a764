"""What tests of sweeps share."""

from pathlib import Path

import pytest
from launched import Sweeping


@pytest.fixture
def sweeping(tmp_path: Path) -> Sweeping:
    """A folder to launch sweeps in."""
    return Sweeping(tmp_path)
