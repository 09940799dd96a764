"""Import and a fast fit, with W&B's native process, open no connection beyond this machine."""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from ipaddress import ip_address
from pathlib import Path

import pytest

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


PROC = Path("/proc")
on_linux = pytest.mark.skipif(not PROC.joinpath("self/net/tcp").exists(), reason="reads Linux's /proc")


def marked(mark: str) -> set[int]:
    """Processes with a text in their environment: a command and all that it started, also what it has let go of."""
    found = set()
    for place in PROC.glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # it has ended since, or is another user's
            if mark.encode() in place.read_bytes():
                found.add(int(place.parent.name))
    return found


def environment(mark: str) -> dict[str, str]:
    """This process's environment with a mark, and without the W&B service that an earlier test may have begun."""
    own = {name: value for name, value in os.environ.items() if not (name.startswith("WANDB") and "SERVICE" in name)}
    return own | {"LIGHTNING_CV_WATCHED": mark}


def far_ends(pids: set[int]) -> set[str]:
    """Addresses that sockets of these processes are connected to, or are connecting to: TCP and UDP."""
    own, rows = set(), set()
    for pid in pids:
        try:
            own |= {str(link.readlink()) for link in (PROC / str(pid) / "fd").iterdir()}
            for table in ("tcp", "tcp6", "udp", "udp6"):
                rows |= set((PROC / str(pid) / "net" / table).read_text().splitlines()[1:])
        except OSError:  # it has ended since
            continue
    columns = [row.split() for row in rows]
    remotes = {c[2].partition(":")[0] for c in columns if f"socket:[{c[9]}]" in own}
    return {str(address_of(remote)) for remote in remotes if int(remote, 16)}


def address_of(text: str):
    """An address as the kernel's tables write it: 32-bit words, each in this machine's byte order."""
    words = [int(text[i : i + 8], 16).to_bytes(4, sys.byteorder) for i in range(0, len(text), 8)]
    address = ip_address(b"".join(words))
    return getattr(address, "ipv4_mapped", None) or address


@on_linux
@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_the_watch_sees_connections_of_a_grandchild(family: socket.AddressFamily, host: str) -> None:
    try:
        server = socket.create_server((host, 0), family=family)
    except OSError:
        pytest.skip(f"no {host} here")
    inner = f"import socket, time; s = socket.create_connection(({host!r}, {server.getsockname()[1]})); time.sleep(30)"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    mark = secrets.token_hex(8)
    with server, subprocess.Popen([sys.executable, "-c", outer], env=environment(mark)):
        connection, _ = server.accept()
        pids = marked(mark)
        assert len(pids) == 2
        assert far_ends(pids) == {host}
        connection.close()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)


@on_linux
def test_import_and_a_fast_fit_stay_on_this_machine(tmp_path: Path) -> None:
    """Covered in two ways: Python's own connections and look-ups of names, each of them, in the fit's process; and, for
    all processes that it starts, W&B's native `wandb-core` among them, the sockets that Linux lists, looked at 50 times
    a second. A connection of a native process that is refused within that time could be missed.
    """
    seen, names = set(), set()
    output, mark, command = tmp_path / "output.txt", secrets.token_hex(8), [sys.executable, "-c", GUARDED]
    with output.open("w") as log:
        child = subprocess.Popen(command, cwd=tmp_path, env=environment(mark), stdout=log, stderr=log)
        while child.poll() is None:
            pids = marked(mark)
            seen |= far_ends(pids)
            for pid in pids:
                with contextlib.suppress(OSError):  # it has ended since
                    names.add((PROC / str(pid) / "comm").read_text().strip())
            time.sleep(0.02)
    assert "status 0 reached []" in output.read_text(), output.read_text()[-4000:]
    assert any("wandb-core" in name for name in names), f"W&B's process was not seen among {names}"
    assert [address for address in seen if not ip_address(address).is_loopback] == []
