"""Thousands of run-length masks looked at together: what is found equals the reading of one character after another."""

import random
import time

import numpy as np
import pytest
from pycocotools import mask as rle

from lightning_cv.tools import data_check_rle
from lightning_cv.tools.data_check_rle import EMPTY, decode_runs, mask_problem, sound_masks

SIZES = [(1, 1), (3, 5), (30, 40), (200, 7), (97, 131)]


def text_of(mask):
    return rle.encode(np.asfortranarray(mask, np.uint8))["counts"].decode()


def broken(text, rng):
    """The text with a character taken out, put in, or changed into any other; sometimes as it is."""
    place, character = rng.randrange(len(text)), chr(rng.randrange(40, 125))
    return rng.choice([
        text,
        text[:place],
        text[:place] + text[place + 1 :],
        text[:place] + character + text[place:],
        text[:place] + character + text[place + 1 :],
        text + text,
        text + character,
    ])  # fmt: skip


def drawn_masks(seed, number=3000):
    rng, pixels = random.Random(seed), np.random.default_rng(seed)
    for _ in range(number):
        height, width = rng.choice(SIZES)
        grain = rng.choice([1, 4, 50])
        coarse = pixels.random((height // grain + 1, width // grain + 1)) < rng.choice([0.0, 0.05, 0.5, 1.0])
        text = text_of(np.kron(coarse, np.ones((grain, grain)))[:height, :width])
        yield {"size": [height, width], "counts": broken(text, rng)}, (height, width)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("together", [1 << 15, 500])
def test_together_they_are_judged_as_one_by_one(monkeypatch, seed, together):
    monkeypatch.setattr(data_check_rle, "TOGETHER", together)
    pairs = [pair for pair in drawn_masks(seed) if len(pair[0]["counts"]) < together]
    one_by_one = [mask_problem(code, width=size[1], height=size[0]) for code, size in pairs]
    assert list(sound_masks(pairs)) == [
        problem == "" and len(decode_runs(code["counts"])) > 2
        for (code, _), problem in zip(pairs, one_by_one, strict=True)
    ]
    assert {"", EMPTY, "run-length mask whose runs do not fill its picture"} == set(one_by_one)
    for (code, size), problem in zip(pairs, one_by_one, strict=True):
        if problem == "":  # pycocotools reads such a text, and it has a pixel
            mask = rle.decode({"size": code["size"], "counts": code["counts"].encode()})
            assert mask.shape == size
            assert mask.any()


ONE = {"size": [2, 3], "counts": "123"}
STRANGE = {
    "no mask": (None, (2, 3)),
    "polygon": ([[1, 2, 3, 4, 5, 6]], (2, 3)),
    "list of runs": (ONE | {"counts": [1, 2, 3]}, (2, 3)),
    "no counts": ({"size": [2, 3]}, (2, 3)),
    "empty text": (ONE | {"counts": ""}, (2, 3)),
    "other letters": (ONE | {"counts": "12é"}, (2, 3)),
    "character below": (ONE | {"counts": "12/"}, (2, 3)),
    "character above": (ONE | {"counts": "12p"}, (2, 3)),
    "cut off": (ONE | {"counts": "123P"}, (2, 3)),
    "other size": (ONE, (3, 2)),
    "unknown size": (ONE, None),
    "huge size": ({"size": [1 << 62, 1 << 62], "counts": "123"}, (1 << 62, 1 << 62)),
    "negative run": (ONE | {"counts": "1N8"}, (2, 3)),  # 1, -2, 8 have the right sum, and so has the next
    "negative difference": (ONE | {"counts": "1234N"}, (2, 3)),
    "without a pixel": (ONE | {"counts": "6"}, (2, 3)),
    "two runs": (ONE | {"counts": "15"}, (2, 3)),
    "nothing in it": (ONE | {"counts": "600"}, (2, 3)),
    "long number": (ONE | {"counts": "1PPPPPPPPPP05"}, (2, 3)),
}


@pytest.mark.parametrize("name", STRANGE)
def test_strange_masks_between_good_ones_are_left_to_the_slow_reading(name):
    good = (ONE, (2, 3))
    assert list(sound_masks([good, STRANGE[name], good, STRANGE[name]])) == [True, False, True, False]


def test_nothing_to_look_at():
    assert list(sound_masks([])) == []


def test_a_text_that_ends_within_a_number_is_refused():
    """pycocotools would read on behind the end of the text."""
    assert decode_runs("123") == [1, 2, 3]
    with pytest.raises(ValueError, match="ends within a number"):
        decode_runs("123P")
    assert mask_problem(ONE | {"counts": "123P"}, width=3, height=2) == (
        "run-length mask whose runs do not fill its picture"
    )


def test_reading_them_together_is_much_faster():
    rows, columns = np.mgrid[:480, :640]
    ellipse = ((rows - 200) / 90) ** 2 + ((columns - 300) / 120) ** 2 < 1
    pairs = [({"size": [480, 640], "counts": text_of(ellipse)}, (480, 640))] * 1000
    begun = time.perf_counter()
    assert all(sound_masks(pairs))
    together = time.perf_counter() - begun
    begun = time.perf_counter()
    assert not any(mask_problem(code, width=640, height=480) for code, _ in pairs[:100])
    assert 10 * (time.perf_counter() - begun) > 2 * together
