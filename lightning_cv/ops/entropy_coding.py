"""Whole numbers as bytes, as few as their frequencies allow. Letters: N rows; L columns, a table each; K symbols.

Duda 2013, "Asymmetric numeral systems", range variant: the bytes are one large number, which a symbol of probability p
multiplies by about 1/p. Decoding runs the same sums backwards, so nothing is lost and nothing is rounded.
"""

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

PRECISION = 16
SLOTS = 1 << PRECISION
"""Probabilities are whole multiples of 1 / SLOTS."""

WORD = 32
LOWEST = 1 << WORD
"""The state lies in LOWEST to LOWEST**2 - 1; what does not fit leaves it in words of 32 bits."""

ESCAPED_BITS = 2 * PRECISION
"""A number that the table does not know follows the escape as it is."""


class SymbolTable:
    """Probability of each known whole number and of the escape, as intervals of `SLOTS` slots.

    Each known number and the escape get a slot first, so that none is impossible; the others go by the counts.

    Args:
        symbols: the known numbers (K,), ascending. None at all is allowed: then everything escapes.
        counts: how often each occurred (K,), at least 1. The escape counts as one occurrence.
    """

    def __init__(self, symbols: Ints, counts: Ints) -> None:
        if symbols.shape != counts.shape or symbols.ndim != 1:
            raise ValueError(f"one count a symbol is needed, got shapes {symbols.shape} and {counts.shape}")
        if (np.diff(symbols) <= 0).any() or (counts < 1).any():
            raise ValueError("symbols must ascend and their counts be at least 1")
        if len(symbols) >= SLOTS // 2:
            raise ValueError(f"{len(symbols)} different symbols are too many for {SLOTS} slots: use a larger step")
        self.symbols = symbols
        self.widths = _widths(np.append(counts, 1))  # (K + 1,), the escape last
        self.starts = np.cumsum(self.widths) - self.widths  # (K + 1,)

    @classmethod
    def fit(cls, values: Ints) -> "SymbolTable":
        """The table of the numbers (N,) that occurred."""
        return cls(*np.unique(values, return_counts=True))

    def positions(self, values: Ints) -> Ints:
        """Where in the table each number stands, same shape; K is the escape."""
        if not len(self.symbols):
            return np.zeros_like(values)
        found = np.searchsorted(self.symbols, values).clip(max=len(self.symbols) - 1)
        return np.where(self.symbols[found] == values, found, len(self.symbols))


def encode(values: Ints, tables: Sequence[SymbolTable]) -> bytes:
    """The numbers (N, L) row by row, each under its column's table; no bytes for no numbers.

    >>> table = SymbolTable.fit(np.array([0, 0, 0, 1]))
    >>> decode(encode(np.array([[0], [7]]), [table]), 2, [table]).tolist()
    [[0], [7]]
    """
    starts, widths = _intervals(values, tables)
    if not starts:
        return b""
    state, words = LOWEST, []
    for start, width in zip(reversed(starts), reversed(widths), strict=True):
        if state >= width << (2 * WORD - PRECISION):
            words.append(state & (LOWEST - 1))
            state >>= WORD
        state = (state // width << PRECISION) + start + state % width
    return state.to_bytes(8, "big") + np.array(words[::-1], dtype=">u4").tobytes()


def decode(code: bytes, rows: int, tables: Sequence[SymbolTable]) -> Ints:
    """The numbers (rows, L) that `encode` wrote.

    Raises:
        ValueError: the bytes are not the code of so many numbers under these tables.
    """
    values = np.zeros((rows, len(tables)), dtype=np.int64)
    if not values.size:
        if code:
            raise ValueError(f"{len(code)} bytes are no code of no numbers")
        return values
    reader = _Reader(code)
    known = [(table.symbols.tolist(), table.starts.tolist(), table.widths.tolist()) for table in tables]
    for row in range(rows):
        for column, (symbols, starts, widths) in enumerate(known):
            position = bisect_right(starts, reader.state & (SLOTS - 1)) - 1
            reader.advance(starts[position], widths[position])
            values[row, column] = symbols[position] if position < len(symbols) else reader.escaped()
    reader.finish()
    return values


class _Reader:
    """The decoder's state and the words that it has not taken in yet."""

    def __init__(self, code: bytes) -> None:
        if len(code) < 8 or len(code) % 4:
            raise ValueError(f"{len(code)} bytes are no whole code")
        self.state = int.from_bytes(code[:8], "big")
        self._words = iter(np.frombuffer(code[8:], dtype=">u4").tolist())

    def advance(self, start: int, width: int) -> None:
        """Take out the symbol whose interval the state lies in."""
        self.state = width * (self.state >> PRECISION) + (self.state & (SLOTS - 1)) - start
        if self.state < LOWEST:
            word = next(self._words, None)
            if word is None:
                raise ValueError("the code ends too soon")
            self.state = self.state << WORD | word

    def escaped(self) -> int:
        """A number as it is: two halves, each one of SLOTS equally wide intervals."""
        number = 0
        for _ in range(2):
            half = self.state & (SLOTS - 1)
            self.advance(half, 1)
            number = number << PRECISION | half
        return number - (1 << (ESCAPED_BITS - 1))

    def finish(self) -> None:
        """Nothing may be left, and the state must be the encoder's first."""
        if self.state != LOWEST or next(self._words, None) is not None:
            raise ValueError("the code is of other numbers, or damaged")


def _intervals(values: Ints, tables: Sequence[SymbolTable]) -> tuple[list[int], list[int]]:
    """Start and width of each symbol's interval in reading order, those of an escaped number's halves after it."""
    columns = _columns(values, tables)
    found = [table.positions(column) for column, table in zip(columns, tables, strict=True)]
    starts = _reading_order([table.starts[at] for at, table in zip(found, tables, strict=True)])
    widths = _reading_order([table.widths[at] for at, table in zip(found, tables, strict=True)])
    unknown = _reading_order([at == len(table.symbols) for at, table in zip(found, tables, strict=True)])
    places = np.flatnonzero(unknown)
    numbers = _reading_order(columns)[places] + (1 << (ESCAPED_BITS - 1))
    if ((numbers < 0) | (numbers >= 1 << ESCAPED_BITS)).any():
        raise ValueError(f"numbers of more than {ESCAPED_BITS} bits cannot be coded")
    halves = np.stack([numbers >> PRECISION, numbers & (SLOTS - 1)], axis=1).ravel()
    after = np.repeat(places + 1, 2)
    return np.insert(starts, after, halves).tolist(), np.insert(widths, after, 1).tolist()


def _columns(values: Ints, tables: Sequence[SymbolTable]) -> list[Ints]:
    if values.ndim != 2 or values.shape[1] != len(tables):
        raise ValueError(f"expected numbers (N, {len(tables)}), a column a table, got shape {values.shape}")
    return list(values.T)


def _reading_order(columns: Sequence[Ints]) -> Ints:
    return np.stack(columns, axis=1).ravel() if columns else np.zeros(0, dtype=np.int64)


def _widths(counts: Ints) -> Ints:
    """Slots of each symbol, at least 1, together `SLOTS`; what rounding leaves goes to the most frequent."""
    widths: Ints = 1 + counts * (SLOTS - len(counts)) // counts.sum()
    widths[counts.argmax()] += SLOTS - widths.sum()
    return widths
