"""Import and a fast fit open no connection beyond this machine."""

import subprocess
import sys
from pathlib import Path

GUARDED = """
import socket, sys
reached = []
original = socket.socket.connect
def watched(self, address):
    outside = self.family in (socket.AF_INET, socket.AF_INET6)
    if outside and not str(address[0]).startswith(("127.", "::1", "localhost")):
        reached.append(address)
        raise OSError(f"no network in tests: {address}")
    return original(self, address)
socket.socket.connect = socket.socket.connect_ex = watched
lookup = socket.getaddrinfo
def watched_lookup(host, *rest, **more):
    if host not in (None, "127.0.0.1", "localhost", "::1", b"127.0.0.1", socket.gethostname()):
        reached.append(host)
        raise OSError(f"no network in tests: {host}")
    return lookup(host, *rest, **more)
socket.getaddrinfo = watched_lookup
import lightning_cv.models, lightning_cv.transforms
from lightning_cv.cli import main
status = main(["fit", "--config", "vae/beta_vae_digits", "--trainer.max_epochs=1", "--trainer.limit_train_batches=2",
               "--trainer.limit_val_batches=1", "--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"])
print("status", status, "reached", reached)
"""


def test_import_and_a_fast_fit_stay_on_this_machine(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", GUARDED], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "status 0 reached []" in done.stdout, done.stdout[-2000:] + done.stderr[-2000:]
