"""COCO's run-length masks, decoded just far enough to see that they fit their picture."""

from typing import Any

EMPTY = "mask without a pixel"
"""No fault of a prediction: the official evaluators count it as a false positive."""


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
        runs = decode_runs(counts) if isinstance(counts, str) else counts
        if isinstance(runs, list) and min(runs, default=0) >= 0 and sum(runs) == width * height:
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
    return runs
