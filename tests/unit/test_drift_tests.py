"""Measures and chances against scipy's, and the adjustment for many tests."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import jensenshannon

from upkeep.adapters import drift_tests
from upkeep.routines.model._drift_tests import adjusted

COUNTS = st.lists(st.integers(0, 500), min_size=2, max_size=12).filter(lambda c: sum(c) > 0)


@settings(deadline=None)
@given(COUNTS, st.integers(0, 10_000))
def test_measures_are_those_of_scipy(before: list[int], seed: int):
    """Jensen-Shannon and chi-square equal scipy's within 1e-9."""
    now = np.random.default_rng(seed).multinomial(400, np.array(before) / sum(before)) + 1
    old = np.array(before)
    assert drift_tests.jensen_shannon(old, now) == pytest.approx(jensenshannon(old, now), abs=1e-9)
    expected = stats.chi2_contingency(np.stack([old, now]), correction=False)
    assert drift_tests.chi_square(old, now) == pytest.approx((expected.statistic, expected.pvalue), abs=1e-9)


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(0, 60), st.integers(61, 5000), st.integers(61, 5000))
def test_shares_are_compared_by_a_valid_test(before: int, now: int, of_before: int, of_now: int):
    """Fisher's exact test, its smaller tail doubled: never more certain than a tail allows; chi-square for many."""
    p = drift_tests.share_p(before, of_before, now, of_now)
    less, more = (
        stats.fisher_exact([[now, of_now - now], [before, of_before - before]], side).pvalue
        for side in ("less", "greater")
    )
    if min(of_before, of_now) * (before + now) < 25 * (of_before + of_now):
        assert p == pytest.approx(min(1.0, 2 * min(less, more)), abs=1e-9)
    else:
        assert p == pytest.approx(min(1.0, 2 * min(less, more)), abs=0.12)


@pytest.mark.parametrize("n", [50, 300, 5000])
def test_ks_chances_are_near_scipys(n: int):
    """The limit distribution with Stephens' correction is off by less than 0.01 where a test decides."""
    for d in np.linspace(1.1, 2.5, 9) / np.sqrt(n / 2):
        expected = stats.distributions.kstwo.sf(d, round(n / 2))
        assert drift_tests.ks_p(d, n, n) == pytest.approx(expected, abs=0.012)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_many_tests_are_adjusted_as_scipy_does(p: list[float]):
    """Benjamini-Hochberg."""
    found = adjusted({(str(n), "missing"): value for n, value in enumerate(p)})
    expected = stats.false_discovery_control(p)
    assert [found[str(n), "missing"] for n in range(len(p))] == pytest.approx(list(expected), abs=1e-12)


def test_the_psi_of_chance_stays_below_its_floor():
    """Of two samples of one distribution, one in a hundred is above: 10 and 50 classes, few and many rows."""
    rng = np.random.default_rng(0)
    for classes, m, n in ((10, 5000, 300), (10, 300, 300), (50, 5000, 2000)):
        shares = np.full(classes, 1 / classes)
        above = sum(
            drift_tests.psi(rng.multinomial(m, shares), rng.multinomial(n, shares))
            > drift_tests.psi_floor(classes, m, n)
            for _ in range(2000)
        )
        assert above <= 2000 * 0.025, (classes, m, n, above)


def test_pooling_keeps_all_rows_and_looks_at_neither_side_alone():
    """No row is lost; a category is pooled by both samples, so that its own chance does not decide."""
    rng = np.random.default_rng(0)
    for k in (2, 30, 400, 3000):
        old, new = rng.multinomial(5000, np.full(k, 1 / k)), rng.multinomial(400, np.full(k, 1 / k))
        keys = [str(n) for n in range(k)]
        before, now = drift_tests.pooled(old, new, keys)
        assert (before.sum(), now.sum()) == (5000, 400) and len(before) >= min(k, 20)
        swapped = drift_tests.pooled(new, old, keys)
        assert list(map(sorted, swapped)) == [sorted(now), sorted(before)]
