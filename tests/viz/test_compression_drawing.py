import numpy as np
import pytest

from lightning_cv.viz.compression import COLOURS, CodecPoint, compression_curves


def shows(drawn, colour):
    """Whether a picture has pixels of an HTML colour."""
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return bool((drawn == wanted).all(axis=-1).any())


def test_each_codec_has_its_colour_and_each_data_set_its_panel():
    lossy = [CodecPoint("net", 0.1 * i, 20.0 + i) for i in (1, 2)]
    lossless = [CodecPoint("zlib", 2.0, float("inf"))]
    one, both = compression_curves({"a": lossy}), compression_curves({"a": lossy, "b": [*lossy, *lossless]})
    assert both.shape[1] > 1.7 * one.shape[1]
    assert shows(one, COLOURS[0])
    assert not shows(one, COLOURS[1])
    assert shows(both[:, both.shape[1] // 2 :], COLOURS[0])
    half = both[: both.shape[0] * 3 // 4]  # without the legend
    assert not shows(half[:, : both.shape[1] // 2 - 40], COLOURS[1])


def test_nothing_to_draw_is_refused():
    for panels in ({}, {"a": []}):
        with pytest.raises(ValueError, match="no points to draw"):
            compression_curves(panels)
