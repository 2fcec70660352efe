"""Exact comparison of two samples, in memory and in parts, against scipy; and how far a stored profile is off."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from scipy.spatial.distance import jensenshannon

from upkeep.adapters import drift_exact, profile_spill
from upkeep.adapters.drift_compare import Comparison
from upkeep.adapters.profile_build import QUANTILES, builder
from upkeep.core.drift import ColumnDrift, ColumnProfile

FINITE = st.floats(-1e6, 1e6, allow_nan=False) | st.integers(-3, 3).map(float)
SAMPLES = hnp.arrays(np.float64, st.integers(1, 80), elements=FINITE)


def pair(rng: np.random.Generator, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Return two samples of a kind that needs care."""
    return {
        "normal": lambda: (rng.normal(size=30_000), rng.normal(0.1, 1, 20_000)),
        "heavy": lambda: (rng.lognormal(0, 2, 30_000), rng.lognormal(0, 2, 10_000)),
        "few values": lambda: (rng.integers(0, 5, 30_000) * 1.0, rng.integers(0, 6, 10_000) * 1.0),
        "ties": lambda: (
            rng.integers(0, 300, 30_000) / 7,
            np.where(rng.random(9000) < 0.5, 3.0, rng.normal(size=9000)),
        ),
        "constant": lambda: (np.full(9000, 7.0), np.full(8000, 7.0)),
        "apart": lambda: (rng.normal(size=9000), rng.normal(100, 1, 9000)),
    }[kind]()


def compared(old: np.ndarray, new: np.ndarray, folder: Path) -> drift_exact.Exact:
    one, two = (drift_exact.Sample(np.array_split(side, 9), folder / name) for side, name in ((old, "a"), (new, "b")))
    return drift_exact.numbers(one, two)


def check(old: np.ndarray, new: np.ndarray, found: drift_exact.Exact) -> None:
    both = np.concatenate([old, new])
    values = np.unique(both)
    bins = np.histogram_bin_edges(both, "sturges")
    counts = [np.histogram(side, bins)[0] for side in (old, new)]
    if len(values) <= 20:
        counts = [np.array([(side == v).sum() for v in values]) for side in (old, new)]
    scale = max(1.0, float(np.abs(both).max()))
    assert found.ks == pytest.approx(stats.ks_2samp(old, new, method="asymp").statistic, abs=1e-9)
    assert found.wasserstein / scale == pytest.approx(stats.wasserstein_distance(old, new) / scale, abs=1e-9)
    assert found.normalised * max(old.std(), 0.001) == pytest.approx(found.wasserstein, rel=1e-9, abs=1e-9)
    assert found.jensen_shannon == pytest.approx(jensenshannon(*counts), abs=1e-9)


@pytest.mark.parametrize("part", [2_000_000, 2500])
@pytest.mark.parametrize("kind", ["normal", "heavy", "few values", "ties", "constant", "apart"])
def test_exact_values_are_scipys(kind: str, part: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """In memory, and in a dozen parts by way of the disk: within 1e-9 of scipy; nothing is left on the disk but two."""
    monkeypatch.setattr(profile_spill, "PART", part)
    monkeypatch.setattr(drift_exact, "PART", part)
    monkeypatch.setattr(drift_exact, "_SLICE", part // 8)
    old, new = pair(np.random.default_rng(4), kind)
    check(old, new, compared(old, new, tmp_path))
    assert {p.name for p in tmp_path.iterdir()} <= {"a", "b"}


def test_sorting_takes_memory_for_its_parts_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """However many numbers there are, and however often one of them occurs."""
    monkeypatch.setattr(profile_spill, "PART", 20_000)
    monkeypatch.setattr(profile_spill, "_SAMPLE", 5_000)
    rng = np.random.default_rng(2)
    values = np.where(rng.random(400_000) < 0.4, 0.0, rng.exponential(1, 400_000))
    spill = profile_spill.Spill(tmp_path / "a")
    spill.add(values)
    spill.close()
    assert np.array_equal(np.concatenate(list(spill.ordered())), np.sort(values))
    tracemalloc.start()
    try:
        for _ in spill.ordered():
            pass
        assert tracemalloc.get_traced_memory()[1] < values.nbytes / 2
    finally:
        tracemalloc.stop()


@settings(deadline=None, max_examples=60)
@given(SAMPLES, SAMPLES)
def test_exact_values_are_scipys_for_anything(
    tmp_path_factory: pytest.TempPathFactory, old: np.ndarray, new: np.ndarray
):
    """Small samples with ties, single values and wide gaps."""
    check(old, new, compared(old, new, tmp_path_factory.mktemp("exact")))


def stored(old: np.ndarray, new: np.ndarray, folder: Path) -> tuple[ColumnProfile, ColumnDrift]:
    """Return the profile of one sample and how the other differs from it."""
    with builder(folder) as made:
        for part in np.array_split(old, 5):
            made.add(pa.record_batch({"x": part}))
        profile = made.profiles()
    comparison = Comparison(profile)
    for part in np.array_split(new, 5):
        comparison.add(pa.record_batch({"x": part}))
    return profile["x"], comparison.drifts()[0]


@pytest.mark.parametrize("kind", ["normal", "heavy", "few values", "ties", "constant", "apart"])
def test_a_stored_profile_is_off_by_what_is_stated(kind: str, tmp_path: Path):
    """KS by no more than what lies between two edges, a thousandth; Wasserstein by a hundredth of it."""
    old, new = pair(np.random.default_rng(4), kind)
    profile, drift = stored(old, new, tmp_path)
    assert drift.distribution is not None
    effects = {e.method: e.value for e in drift.distribution.effects}
    between = max(profile.between) / profile.values
    assert between <= 1 / QUANTILES + 1 / profile.values
    exact = stats.ks_2samp(old, new, method="asymp").statistic
    assert exact - between - 1e-12 <= effects["KS"] <= exact + 1e-12
    low, high = profile.fences or (-np.inf, np.inf)
    if profile.std > 3 * (high - low) / 7 / 1.349:
        old, new, scale = np.clip(old, low, high), np.clip(new, low, high), (high - low) / 7 / 1.349
    else:
        scale = profile.std or 7.0
    expected = stats.wasserstein_distance(old, new) / scale
    assert effects["Wasserstein"] == pytest.approx(expected, rel=0.01, abs=2e-4)


def test_few_numbers_are_kept_as_they_are(tmp_path: Path):
    """A reference of up to a thousand numbers is stored whole: KS is scipy's then."""
    rng = np.random.default_rng(0)
    old, new = rng.normal(size=900), rng.normal(0.2, 1, 500)
    _, drift = stored(old, new, tmp_path)
    assert drift.distribution is not None
    assert drift.distribution.effects[1].value == pytest.approx(stats.ks_2samp(old, new).statistic, abs=1e-12)


def test_evidentlys_psi():
    """Empty classes get 0.0001, or a millionth of the least when that is smaller."""
    assert drift_exact.evidently_psi(np.array([50, 50]), np.array([50, 50])) == 0
    found = drift_exact.evidently_psi(np.array([90, 10]), np.array([100, 0]))
    assert found == pytest.approx((0.9 - 1) * np.log(0.9) + (0.1 - 0.0001) * np.log(0.1 / 0.0001))
