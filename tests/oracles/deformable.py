"""Deformable attention as equation 3 of Zhu et al. 2021 has it: one query, head, map and place after the other."""

import math


def attend(values, sizes, places, weights):
    """Lists: values [cell][head][channel] of all maps, places [query][head][map][place] = (x, y), weights likewise.

    Returns [query][head * channel].
    """
    out = []
    for query_places, query_weights in zip(places, weights, strict=True):
        row = []
        for head in range(len(query_places)):
            total = [0.0] * len(values[0][head])
            start = 0
            for level, (height, width) in enumerate(sizes):
                for (x, y), weight in zip(query_places[head][level], query_weights[head][level], strict=True):
                    for channel in range(len(total)):

                        def cell(r, c, channel=channel, start=start, height=height, width=width, head=head):
                            inside = 0 <= r < height and 0 <= c < width
                            return values[start + r * width + c][head][channel] if inside else 0.0

                        total[channel] += weight * bilinear(cell, y * height - 0.5, x * width - 0.5)
                start += height * width
            row += total
        out.append(row)
    return out


def bilinear(cell, y, x):
    top, left = math.floor(y), math.floor(x)
    down, right = y - top, x - left
    return (
        cell(top, left) * (1 - down) * (1 - right)
        + cell(top, left + 1) * (1 - down) * right
        + cell(top + 1, left) * down * (1 - right)
        + cell(top + 1, left + 1) * down * right
    )
