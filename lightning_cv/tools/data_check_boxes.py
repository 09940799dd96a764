"""What can be wrong with a box."""

import math

Corners = tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels, far edge excluded."""


def box_problem(corners: Corners, width: float, height: float, slack: float = 0.0) -> str:
    """What is wrong with a box in a picture of this size, in a few words; "" where nothing is.

    Args:
        corners: of the box.
        width, height: of the picture in pixels; infinite where unknown.
        slack: pixels by which a box may reach out of its picture.

    >>> box_problem((0, 0, 10, 10), 10, 10), box_problem((4, 4, 4, 8), 10, 10), box_problem((0, 0, 11, 5), 10, 10)
    ('', 'box without area', 'box reaching out of its picture')
    """
    x1, y1, x2, y2 = corners
    if not all(math.isfinite(value) for value in corners):
        return "box with coordinates that are no numbers"
    if x2 < x1 or y2 < y1:
        return "box with swapped corners"
    if x2 == x1 or y2 == y1:
        return "box without area"
    if x2 <= 0 or y2 <= 0 or x1 >= width or y1 >= height:
        return "box outside its picture"
    if min(x1, y1) < -slack or x2 > width + slack or y2 > height + slack:
        return "box reaching out of its picture"
    return ""
