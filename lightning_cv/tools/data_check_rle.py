"""COCO's run-length masks, decoded just far enough to see that they fit their picture."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

EMPTY = "mask without a pixel"
"""No fault of a prediction: the official evaluators count it as a false positive."""

Pair = tuple[object, tuple[int, int] | None]
"""A segmentation as a file holds it, and the height and width of its picture, None where they are not known."""

LONGEST = 8
"""Characters of a number that `sound_masks` reads: 40 bits, more than any picture has pixels."""

TOGETHER = 1 << 15
"""Characters that `sound_masks` reads at once: few enough for a processor's cache, and for sums of 64 bits."""


def mask_problem(code: dict[str, Any], width: int, height: int) -> str:  # Any: whatever a file holds
    """What is wrong with a run-length mask of a picture of this size, in a few words; "" where nothing is.

    >>> mask_problem({"size": [2, 3], "counts": [1, 2, 3]}, width=3, height=2)
    ''
    >>> mask_problem({"size": [3, 2], "counts": [1, 2, 3]}, width=3, height=2)
    'run-length mask of another size than its picture'
    """
    size, counts = code.get("size"), code.get("counts")
    if size != [height, width]:
        return "run-length mask of another size than its picture"
    try:
        runs: Any = decode_runs(counts) if isinstance(counts, str) else counts
        lengths = isinstance(runs, list) and all(isinstance(run, int) and run >= 0 for run in runs)
        if lengths and sum(runs) == width * height:
            return "" if any(runs[1::2]) else EMPTY
    except (TypeError, ValueError):
        pass
    return "run-length mask whose runs do not fill its picture"


def decode_runs(text: str) -> list[int]:
    """Lengths of the runs in a compressed mask, background first.

    pycocotools' format: six bits a character from "0" on, the sixth says that the number goes on, the fifth of the last
    character is its sign; from the fourth number on, the difference to the one two before is stored.

    >>> decode_runs("123")
    [1, 2, 3]
    >>> decode_runs("1232")
    [1, 2, 3, 4]
    >>> decode_runs("P12")
    [32, 2]
    """
    runs: list[int] = []
    number, shift = 0, 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            raise ValueError(f"no character of a run-length mask: {character!r}")
        number |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            number -= 1 << shift
        runs.append(number + runs[-2] if len(runs) > 2 else number)
        number, shift = 0, 0
    if shift:
        raise ValueError("a run-length mask that ends within a number")
    return runs


def sound_masks(pairs: Iterable[Pair]) -> Iterator[bool]:
    """Whether each mask is a compressed one that `mask_problem` finds nothing wrong with, thousands decoded together.

    False says no more than that `mask_problem` must look: at masks of other forms, broken ones, those of fewer than
    three runs, with numbers of more than `LONGEST` characters, or of `TOGETHER` characters.

    >>> list(sound_masks([({"size": [2, 3], "counts": "123"}, (2, 3)), ({"size": [2, 3], "counts": "124"}, (2, 3))]))
    [True, False]
    """
    texts: list[str] = []
    areas: list[int] = []
    waiting = 0
    for code, size in pairs:
        text, area = _text_and_area(code, size)
        if waiting + len(text) > TOGETHER:
            yield from _fills(texts, areas)
            texts, areas, waiting = [], [], 0
        texts.append(text)
        areas.append(area)
        waiting += len(text) + 1
    yield from _fills(texts, areas)


def _text_and_area(code: object, size: tuple[int, int] | None) -> tuple[str, int]:
    """Text of a compressed mask and the pixels it must fill; nothing and -1 for a mask that is not looked at here."""
    if size is None or not isinstance(code, dict) or code.get("size") != [*size]:
        return "", -1
    text, area = code.get("counts"), size[0] * size[1]
    if not isinstance(text, str) or not text.isascii() or len(text) >= TOGETHER or not 0 < area < 1 << 35:
        return "", -1
    return text, area


def _fills(texts: list[str], areas: list[int]) -> list[bool]:
    """Whether the runs of each text are lengths, add up to the area and have a pixel between them.

    A "0" is put behind each text: a number of its own behind a whole text, the end of a number that was cut off.
    """
    if not texts:
        return []
    bits = np.frombuffer("".join(text + "0" for text in texts).encode(), np.uint8) - np.uint8(48)
    stops = np.cumsum([len(text) + 1 for text in texts]) - 1  # the added characters
    ends = np.flatnonzero(bits & 32 == 0)  # the last character of each number
    lengths = np.diff(ends, prepend=-1)
    last = np.searchsorted(ends, stops)  # the added number of each text
    first = np.append(0, last[:-1] + 1)
    numbers = _numbers(bits, ends, lengths)
    sound = last - first >= 3  # fewer numbers are read faster one by one
    strange = [np.flatnonzero(bits > 63), ends[lengths > LONGEST], stops[lengths[last] > 1]]
    sound[np.searchsorted(stops, np.concatenate(strange))] = False
    area, total = np.array(areas), numbers[first]
    sound &= (total >= 0) & (total <= area)
    # from the fourth on, a number is the difference to the run two before: runs are sums of every other number
    columns = np.append(numbers, np.zeros(2 + len(numbers) % 2, np.int64)).reshape(-1, 2)
    for parity in (0, 1):
        sums = np.append(0, columns[:, parity].cumsum())
        is_object = first % 2 != parity  # the runs of pixels: the second, the fourth, ...
        begin, end = (first + 2 - is_object) // 2, (last + 1 - parity) // 2  # without the first number
        pieces, before = np.stack([begin + 1, end + 1], axis=1).ravel(), sums[begin]
        sound &= np.minimum.reduceat(sums, pieces)[::2] >= before
        sound &= np.maximum.reduceat(sums, pieces)[::2] <= before + area
        filled = np.add.reduceat(sums, pieces)[::2] - (end - begin) * before
        sound &= ~is_object | (filled > 0)
        total += filled
    found: list[bool] = (sound & (total == area)).tolist()
    return found


def _numbers(bits: NDArray[np.uint8], ends: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The stored numbers: five bits a character, the lowest first, and the highest bit is the sign."""
    numbers = ((bits[ends] & 31 ^ 16).astype(np.int64)) - 16
    longer = np.flatnonzero(lengths > 1)
    for place in range(1, LONGEST):
        longer = longer[lengths[longer] > place]
        numbers[longer] = (numbers[longer] << 5) | (bits[ends[longer] - place] & 31)
    return numbers
