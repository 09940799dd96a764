"""The folder in which a data set is fetched, with several at its door."""

import threading

from lightning_cv.datasets.fetch import _workshop


def test_a_workshop_is_for_one_at_a_time_and_comes_and_goes(tmp_path):
    """What one removes, another may be looking at: the folder and the lock."""
    root, inside, done = tmp_path / "root", [], []

    def work() -> None:
        for _ in range(200):
            with _workshop(root, "toy"):
                inside.append(threading.get_ident())
                assert set(inside) == {threading.get_ident()}
                inside.clear()
        done.append(True)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(done) == 4
    assert not root.exists() or list(root.iterdir()) == []
