"""Intervals and paired tests against known values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from agent.stats import auc, mcnemar, wilson


@given(st.integers(1, 500), st.data())
def test_wilson_agrees_with_scipy(trials, data):
    wins = data.draw(st.integers(0, trials))
    low, high = wilson(wins, trials)
    reference = stats.binomtest(wins, trials).proportion_ci(method="wilson")
    assert low == pytest.approx(reference.low, abs=1e-9)
    assert high == pytest.approx(reference.high, abs=1e-9)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_mcnemar_is_the_exact_binomial_test(pairs):
    ours, theirs, p = mcnemar([a for a, _ in pairs], [b for _, b in pairs])
    assert ours == sum(a and not b for a, b in pairs)
    if ours + theirs:
        assert p == pytest.approx(stats.binomtest(ours, ours + theirs).pvalue, abs=1e-9)
    else:
        assert p == 1.0


def test_area_under_the_curve_is_how_often_one_kind_is_above_the_other():
    assert auc([3, 4], [1, 2]) == 1
    assert auc([1, 2], [3, 4]) == 0
    assert auc([1, 3], [2, 3]) == (0 + 0 + 1 + 0.5) / 4
    rng = np.random.default_rng(0)
    assert auc(rng.normal(1, 1, 2000), rng.normal(0, 1, 2000)) == pytest.approx(0.760, abs=0.02)
    with pytest.raises(ValueError, match="both kinds; got 0 and 2"):
        auc([], [1, 2])
