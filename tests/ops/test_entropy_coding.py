"""The coder: what goes in comes out, and no shorter or longer code than the frequencies ask for."""

import numpy as np
import pytest
from scipy.stats import entropy

from lightning_cv.ops.entropy_coding import ESCAPED_BITS, SLOTS, SymbolTable, decode, encode


def geometric(seed, rows, columns):
    """Numbers whose columns have different spreads, negative ones among them."""
    generator = np.random.default_rng(seed)
    return np.stack([generator.normal(0, 0.3 * (2 + c), rows).round().astype(np.int64) for c in range(columns)], axis=1)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 5), (2, 1), (1000, 3), (4001, 7)])
def test_what_was_encoded_is_decoded(rows, columns):
    train, values = geometric(0, 500, columns), geometric(1, rows, columns)
    tables = [SymbolTable.fit(column) for column in train.T]
    assert np.array_equal(decode(encode(values, tables), rows, tables), values)


def test_nothing_takes_no_bytes():
    table = SymbolTable.fit(np.array([3, 4]))
    assert encode(np.zeros((0, 1), dtype=np.int64), [table]) == b""
    assert decode(b"", 0, [table]).shape == (0, 1)
    assert encode(np.zeros((5, 0), dtype=np.int64), []) == b""
    assert decode(b"", 5, []).shape == (5, 0)
    with pytest.raises(ValueError, match="4 bytes are no code of no numbers"):
        decode(b"abcd", 0, [table])


def test_an_alphabet_of_one_symbol_costs_the_end_of_the_code_and_no_more():
    table = SymbolTable(np.array([5]), np.array([10**6]))
    code = encode(np.full((1000, 1), 5), [table])
    assert len(code) == 8
    assert (decode(code, 1000, [table]) == 5).all()


@pytest.mark.parametrize("known", [[], [0], [-3, 0, 9]])
def test_numbers_that_the_table_does_not_know_escape(known):
    table = SymbolTable.fit(np.array(known, dtype=np.int64))
    values = np.array([[0], [1], [-(2**31)], [2**31 - 1], [-3], [12345]])
    assert np.array_equal(decode(encode(values, [table]), len(values), [table]), values)


def test_an_empty_table_costs_the_bits_of_the_numbers_themselves():
    table = SymbolTable.fit(np.zeros(0, dtype=np.int64))
    values = np.arange(1000)[:, None]
    assert ESCAPED_BITS * 1000 <= 8 * len(encode(values, [table])) <= ESCAPED_BITS * 1000 + 64


def test_the_code_is_as_long_as_the_cross_entropy_within_one_percent():
    train, values = geometric(0, 20_000, 4), geometric(1, 20_000, 4)
    tables = [SymbolTable.fit(column) for column in train.T]
    bits = 0.0
    for i in range(4):
        known = np.arange(-40, 41)
        p = np.array([(values[:, i] == k).mean() for k in known])
        q = np.array([(train[:, i] == k).sum() for k in known])
        q = q / (len(train) + 1)
        seen = (p > 0) & (q > 0)
        bits -= len(values) * float((p[seen] * np.log2(q[seen])).sum())
        bits += len(values) * float(p[q == 0].sum()) * (ESCAPED_BITS + np.log2(len(train)))
    size = 8 * len(encode(values, tables))
    assert size == pytest.approx(bits, rel=0.01)


def test_the_right_table_reaches_the_entropy_and_a_wrong_one_costs_the_divergence():
    p, q = np.array([0.5, 0.25, 0.125, 0.125]), np.array([0.25, 0.25, 0.25, 0.25])
    counts = (p * 80_000).astype(np.int64)
    values = np.random.default_rng(0).permutation(np.repeat(np.arange(4), counts))[:, None]
    right, wrong = SymbolTable(np.arange(4), counts), SymbolTable(np.arange(4), (q * 80_000).astype(np.int64))
    assert 8 * len(encode(values, [right])) / 80_000 == pytest.approx(1.75, rel=1e-3)
    assert 8 * len(encode(values, [wrong])) / 80_000 == pytest.approx(1.75 + entropy(p, q, base=2), rel=1e-3)


def test_the_slots_are_all_given_out_and_nobody_goes_without():
    for counts in ([1], [10**9, 1], [1] * 30_000, [3] * 7):
        table = SymbolTable(np.arange(len(counts)), np.array(counts))
        assert table.widths.sum() == SLOTS
        assert table.widths.min() >= 1
        assert table.starts[0] == 0


def test_damaged_codes_and_other_tables_are_noticed():
    values = geometric(0, 200, 2)
    tables = [SymbolTable.fit(column) for column in values.T]
    code = encode(values, tables)
    with pytest.raises(ValueError, match=r"ends too soon|no whole code"):
        decode(code[:12], 200, tables)
    with pytest.raises(ValueError, match="7 bytes are no whole code"):
        decode(code[:7], 200, tables)
    with pytest.raises(ValueError, match="other numbers, or damaged"):
        decode(code + b"\0\0\0\0", 200, tables)
    with pytest.raises(ValueError, match="other numbers, or damaged"):
        decode(code, 199, tables)


def test_bad_tables_and_numbers_are_refused():
    with pytest.raises(ValueError, match="ascend"):
        SymbolTable(np.array([2, 1]), np.array([1, 1]))
    with pytest.raises(ValueError, match="at least 1"):
        SymbolTable(np.array([1, 2]), np.array([1, 0]))
    with pytest.raises(ValueError, match="one count a symbol"):
        SymbolTable(np.array([1, 2]), np.array([1]))
    with pytest.raises(ValueError, match="use a larger step"):
        SymbolTable.fit(np.arange(SLOTS))
    table = SymbolTable.fit(np.array([0]))
    with pytest.raises(ValueError, match="a column a table"):
        encode(np.zeros((3, 2), dtype=np.int64), [table])
    with pytest.raises(ValueError, match="more than 32 bits"):
        encode(np.array([[2**40]]), [table])
