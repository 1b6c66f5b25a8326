"""BM25 over arrays: what a term is worth depends on how long texts are, not on the order in which they stand."""

from __future__ import annotations

import numpy as np

from memoturn.models import bm25


def test_the_scale_of_a_text_does_not_depend_on_the_order_of_the_others() -> None:
    """Sessions stand in an order that differs from process to process; beyond 2**24 sums of 32 bits depend on it."""
    words = (np.arange(200_001) * 7919 % 1009 + 1).astype(np.float32)
    shuffled = np.random.default_rng(7).permutation(len(words))
    in_order, in_another = bm25.scale(words, 0.75), bm25.scale(words[shuffled], 0.75)
    assert (in_order[shuffled] == in_another).all()


def test_longer_texts_and_frequent_terms_are_worth_less_each() -> None:
    scale = bm25.scale(np.array([1, 2, 3], np.float32), 0.75)
    assert (np.diff(scale) > 0).all()
    assert bm25.rarity(100, 1) > bm25.rarity(100, 50) > 0
    times = np.array([0, 1, 2, 4], np.float32)
    worth = bm25.worth(times, np.full(4, 1.2, np.float32), bm25.rarity(100, 3))
    assert worth[0] == 0
    assert (np.diff(worth, 2) < 0).all()
    assert len(bm25.scale(np.zeros(0, np.float32), 0.75)) == 0
