"""Pairs are what `numpy.unique` of columns finds, for any numbers that ids may be."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from napari_unet.core.pairs import count_pairs

# A few numbers, so that pairs repeat, and the largest that an id can be.
numbers = st.sampled_from([0, 1, 2, 3, 2**31 - 1])
pairs = st.lists(st.tuples(numbers, numbers, st.integers(1, 9)), min_size=1)


@given(pairs)
def test_pairs_are_counted_as_columns_are(drawn):
    first, second, weight = np.array(drawn, np.int64).T
    columns, counts = np.unique(np.stack([first, second]), axis=1, return_counts=True)
    a, b, n = count_pairs(first.astype(np.int32), second.astype(np.int32))
    assert np.array_equal(np.stack([a, b]), columns)
    assert np.array_equal(n, counts)

    *_, weighed = count_pairs(first, second, weight)
    expected = [weight[(first == x) & (second == y)].sum() for x, y in columns.T]
    assert weighed.tolist() == expected


def test_no_pairs():
    none = np.zeros(0, np.int32)
    assert all(found.size == 0 for found in count_pairs(none, none))
