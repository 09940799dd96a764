"""`lightning-cv data get` on a machine without a network: soon told, and nothing slow is imported for it."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lightning_cv.datasets.fetch import FETCHABLE

SLOW_LOOKUP = """
import socket, time
socket.getaddrinfo = lambda *arguments, **more: time.sleep(60)
"""


@pytest.mark.slow  # it waits for an answer
@pytest.mark.parametrize("name", ["voc2007", "mnist"])  # one server, and the most mirrors that any data set has
def test_a_lookup_that_never_answers_is_told_within_ten_seconds(tmp_path, name):
    (tmp_path / "sitecustomize.py").write_text(SLOW_LOOKUP)
    paths = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    root, began = tmp_path / "data", time.monotonic()
    command = [sys.executable, "-m", "lightning_cv", "data", "get", name, "--root", str(root)]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, check=False)
    assert time.monotonic() - began < 10
    assert done.returncode == 2, done.stderr
    assert "cannot be fetched" in done.stderr
    assert "no answer within" in done.stderr
    assert "is this machine connected to the network?" in done.stderr
    assert "Traceback" not in done.stderr
    assert not root.exists()


NOTHING_SLOW = """
import shutil, sys
from types import SimpleNamespace
from lightning_cv.datasets import download, fetch
shutil.disk_usage = lambda path: SimpleNamespace(free=2**40)
def refuse(urls, *rest):
    raise ConnectionError("no network")
fetch.download = refuse
from lightning_cv.cli import main
for name in sys.argv[2:]:
    assert main(["data", "get", name, "--yes", "--root", sys.argv[1]]) == 2, name
print([name for name in ("torch", "torchvision", "numpy", "lightning", "cv2") if name in sys.modules])
"""


def test_fetching_imports_neither_torch_nor_torchvision(tmp_path):
    command = [sys.executable, "-c", NOTHING_SLOW, str(tmp_path), *FETCHABLE]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert done.stdout.strip() == "[]", done.stderr
    assert done.stderr.count("no network") == len(FETCHABLE)
