"""The statistics of tables, against closed forms, published examples, integrals and simulation."""

import math

import numpy as np
import pytest
from scipy import integrate, stats

from lib.report.bootstrap import two_level
from lib.report.statistics import holm, minimal_effect, paired, pooled_sd, power, student, welch
from tests.helpers import student as oracle

FEW, MANY = [90.1, 91.4, 90.7, 92.0], [89.0, 90.2, 88.1]

# Additional hours of sleep with two drugs (Student 1908); the numbers are those of R's documentation of
# t.test.
DRUG_1 = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
DRUG_2 = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def test_the_oracle_agrees_with_closed_forms_and_printed_tables():
    for t in (0.3, 1.0, 4.3):
        assert oracle.within(t, 1) == pytest.approx(2 / math.pi * math.atan(t), abs=1e-12)
        assert oracle.within(t, 2) == pytest.approx(t / math.sqrt(2 + t**2), abs=1e-12)
    printed = {1: 12.706, 2: 4.303, 3: 3.182, 10: 2.228, 30: 2.042}  # 97.5 % quantiles
    assert {df: oracle.limit(0.95, df) for df in printed} == pytest.approx(printed, abs=5e-4)


def test_welchs_test_of_the_sleep_data_is_as_published():
    got = welch(DRUG_1, DRUG_2)
    assert (got.mean, got.low, got.high) == pytest.approx((-1.58, -3.3654832, 0.2054832), abs=1e-7)
    assert got.p == pytest.approx(0.07939, abs=5e-6)


def test_the_paired_test_of_the_sleep_data_is_as_published():
    got = paired(DRUG_1, DRUG_2)
    assert (got.mean, got.low, got.high) == pytest.approx((-1.58, -2.4598858, -0.7001142), abs=1e-7)
    assert got.p == pytest.approx(0.002833, abs=5e-7)


def test_three_runs_have_the_interval_of_the_closed_form():
    # With two degrees of freedom P(|T| < t) = t / sqrt(2 + t^2), so t = 0.95 sqrt(2 / (1 - 0.95^2)).
    values = [80.0, 81.0, 83.0]
    half = 0.95 * math.sqrt(2 / (1 - 0.95**2)) * math.sqrt(7 / 3 / 3)
    got, gap = student(values), paired(values, [79.0, 79.0, 79.0])
    mean = 244 / 3
    assert got == pytest.approx((mean, math.sqrt(7 / 3), mean - half, mean + half))
    t = (mean - 79) / math.sqrt(7 / 9)
    assert gap == pytest.approx((mean - 79, mean - 79 - half, mean - 79 + half, 1 - t / math.sqrt(2 + t**2)))


def test_the_interval_of_a_mean_is_students():
    got = student(noise(10, 20, 5))
    known = [oracle.interval(runs) for runs in noise(10, 20, 5)]
    np.testing.assert_allclose(np.stack([got.low, got.high], -1), known, rtol=1e-9)
    assert student(FEW)[:2] == pytest.approx((91.05, math.sqrt(2.05 / 3)))


def test_the_interval_and_p_value_of_a_difference_are_welchs():
    values, baseline = noise(0, 20, 3), 3 * noise(1, 20, 5)
    known = [oracle.welch(*runs) for runs in zip(values, baseline, strict=True)]
    np.testing.assert_allclose(np.stack(welch(values, baseline)[1:], -1), known, rtol=1e-9)


def test_a_paired_difference_is_students_test_of_the_differences_between_seeds():
    values, baseline = noise(2, 20, 4), noise(3, 20, 4)
    known = [oracle.paired(*runs) for runs in zip(values, baseline, strict=True)]
    np.testing.assert_allclose(np.stack(paired(values, baseline)[1:], -1), known, rtol=1e-9)


def test_an_interval_contains_zero_exactly_where_p_is_above_its_level():
    got = welch(noise(4, 500, 3) + 1, noise(5, 500, 3))
    assert (((got.low <= 0) & (got.high >= 0)) == (got.p >= 0.05)).all()
    assert 20 < (got.p < 0.05).sum() < 480


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("values", "baseline"), [([91.0], FEW), (FEW, [91.0]), ([91.4] * 3, [90.7] * 3)])
def test_without_spread_there_is_a_difference_but_no_interval_and_no_warning(values, baseline):
    got = welch(values, baseline)
    assert got.mean == pytest.approx(np.mean(values) - np.mean(baseline))
    assert np.isnan([got.low, got.high, got.p]).all()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("values", [[91.0], [91.4] * 3])
def test_one_run_or_equal_runs_have_a_mean_but_no_interval(values):
    got, gap = student(values), paired(values, [90.0] * len(values))
    assert (got.mean, gap.mean) == pytest.approx((values[0], values[0] - 90))
    assert np.isnan([got.low, got.high, gap.low, gap.high, gap.p]).all()
    assert np.isnan(got.sd) if len(values) == 1 else got.sd == pytest.approx(0)


def test_rows_without_spread_do_not_change_the_rows_with_it():
    rows = np.array([FEW, [91.4] * 4, FEW])
    got, alone = welch(rows, [[90.7] * 4]), welch(FEW, [90.7] * 4)
    np.testing.assert_array_equal(got.p, [alone.p, np.nan, alone.p])


def test_against_runs_without_spread_only_the_spread_of_the_others_counts():
    got = welch(FEW, [90.0, 90.0, 90.0])
    assert (got.low, got.high) == pytest.approx([end - 90 for end in oracle.interval(FEW)])


@pytest.mark.parametrize(
    ("p", "adjusted"),
    [
        ([0.01], [0.01]),
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),  # 3 x 0.01, 2 x 0.03, and 0.04 may not fall below it
        ([0.5, 0.6], [1.0, 1.0]),
        ([0.02, 0.001, 0.02, 0.9], [0.06, 0.004, 0.06, 0.9]),
        ([0.02, float("nan"), 0.03], [0.04, float("nan"), 0.04]),  # nan is not a test
    ],
)
def test_holm_multiplies_the_smallest_p_by_the_number_of_tests_and_the_next_by_one_less(p, adjusted):
    np.testing.assert_allclose(holm(p), adjusted)


def test_holm_adjusts_many_tables_at_once():
    p = np.random.default_rng(6).uniform(size=(10, 5))
    np.testing.assert_allclose(holm(p), [holm(table) for table in p])


def test_the_pooled_standard_deviation_is_that_within_groups():
    assert pooled_sd([[0, 2], [100, 102]]) == pytest.approx(2**0.5)
    assert pooled_sd([[0, 2], [5]]) == pytest.approx(2**0.5)
    assert np.isnan(pooled_sd([[1], [2]]))


def test_power_against_a_known_mean_is_that_of_a_normal_over_the_root_of_a_chi_square():
    effect, n = 2.5, 4
    limit, shift = stats.t.isf(0.025, n - 1), effect * n**0.5

    def beyond(quantile: float) -> float:  # given the estimated spread at this quantile
        bound = limit * (stats.chi2.ppf(quantile, n - 1) / (n - 1)) ** 0.5
        return stats.norm.sf(bound - shift) + stats.norm.cdf(-bound - shift)

    assert power(effect, 1.0, n, 10**7) == pytest.approx(integrate.quad(beyond, 0, 1)[0], abs=1e-3)


@pytest.mark.parametrize(("n", "m", "alpha"), [(3, 3, 0.05), (5, 5, 0.05), (3, 5, 0.05 / 6), (2, 2, 0.05)])
def test_welchs_test_finds_the_minimal_detectable_effect_in_80_percent_of_tables(n, m, alpha):
    effect = minimal_effect(0.3, n, m, alpha)
    found = welch(0.3 * noise(7, 20_000, n) + effect, 0.3 * noise(8, 20_000, m)).p < alpha
    assert found.mean() == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize(("n", "alpha"), [(3, 0.05), (5, 0.05 / 6), (2, 0.05)])
def test_the_paired_test_finds_the_minimal_detectable_effect_in_80_percent_of_tables(n, alpha):
    effect = minimal_effect(0.3, n, None, alpha)
    found = paired(0.3 * noise(7, 20_000, n) + effect, np.zeros((20_000, n))).p < alpha
    assert found.mean() == pytest.approx(0.8, abs=0.01)


def test_single_runs_and_runs_without_spread_have_no_minimal_effect():
    assert np.isnan(
        [
            minimal_effect(1.0, 1, 3),
            minimal_effect(0.0, 3, 3),
            minimal_effect(1.0, 1, None),
            minimal_effect(np.nan, 3, 3),
        ]
    ).all()


SPREADS = {
    "equal": np.ones(7),
    "unequal": np.array([1, 0.5, 0.5, 1, 1.5, 2, 2]),
}


@pytest.mark.parametrize("n", [3, 5])
@pytest.mark.parametrize("spreads", SPREADS)
def test_tables_without_an_effect_rarely_show_one(n, spreads):
    runs = SPREADS[spreads][:, None] * noise(9 + n, 2000, 7, n)  # six rows and their baseline
    for test in (welch, paired):
        adjusted = holm(test(runs[:, 1:], runs[:, :1]).p)
        assert (adjusted < 0.05).any(1).mean() <= 0.06


@pytest.mark.parametrize("n", [3, 5])
@pytest.mark.parametrize("spreads", SPREADS)
def test_intervals_cover_the_true_value_in_95_percent_of_cases(n, spreads):
    runs = SPREADS[spreads][:, None] * noise(11 + n, 10_000, 7, n)
    mean, difference = student(runs), welch(runs[:, 1:], runs[:, :1])
    assert 0.945 < _covers_zero(mean).mean() < 0.955
    # With three seeds and equal spreads Welch's interval is a little too wide.
    assert (_covers_zero(difference).mean(0) > 0.94).all()
    assert (_covers_zero(difference).mean(0) < (0.97 if n == 3 else 0.96)).all()


def _covers_zero(found) -> np.ndarray:
    return (found.low <= 0) & (found.high >= 0)


def worlds(seed: int, count: int, seeds: int, images: int, luck: float):
    """Runs of two settings with their true accuracies; images differ in difficulty, seeds in luck."""
    rng = np.random.default_rng(seed)
    own = 0.3  # standard deviation of how much harder an image is for one of the settings
    for _ in range(count):
        difficulty = 2 * rng.normal(size=images)
        for level in (1.5, 1.3):
            margin = level + difficulty + own * rng.normal(size=images)
            margin = margin + luck * rng.normal(size=(seeds, 1)) + rng.normal(size=(seeds, images))
            truth = stats.norm.cdf(level / (1 + 2**2 + own**2 + luck**2) ** 0.5)
            yield margin > 0, truth


@pytest.mark.parametrize("luck", [0.0, 0.1, 0.3])
def test_two_level_intervals_cover_the_true_value_over_seeds_and_images(luck):
    runs = list(worlds(17, 240, seeds=3, images=200, luck=luck))
    single, difference, seeds_only = [], [], []
    for (right, truth), (other, other_truth) in zip(runs[::2], runs[1::2], strict=True):
        alone, against = two_level(right, draws=100), two_level(right, other, draws=100)
        single.append(alone.low <= truth <= alone.high)
        difference.append(against.low <= truth - other_truth <= against.high)
        naive = student(right.mean(1))
        seeds_only.append(naive.low <= truth <= naive.high)
    assert 0.91 <= np.mean(single) <= 0.98
    assert 0.91 <= np.mean(difference) <= 0.98
    assert luck > 0.1 or np.mean(seeds_only) < 0.9  # why images are the second level


def test_the_two_level_interval_of_equal_runs_is_that_of_a_binomial_proportion():
    right = np.tile(np.arange(1000) < 900, (3, 1))
    got = two_level(right)
    half = 1.96 * (0.9 * 0.1 / 1000) ** 0.5
    assert got.mean == pytest.approx(0.9)
    assert (got.low, got.high) == pytest.approx((0.9 - half, 0.9 + half), abs=0.1 * half)


def test_the_two_level_interval_of_equally_hard_images_is_students_over_seeds():
    right = np.random.default_rng(19).uniform(size=(4, 1000)) < np.array([[0.5], [0.6], [0.7], [0.65]])
    known, got = student(right.mean(1)), two_level(right)
    assert (got.low, got.high) == pytest.approx((known.low, known.high), abs=0.01)


def test_pairing_by_seed_removes_the_common_effect_of_seeds_from_the_two_level_interval():
    rng = np.random.default_rng(20)
    margin = rng.normal(size=500) + rng.normal(size=(4, 1)) + 0.1 * rng.normal(size=(4, 500))
    apart = two_level(margin > -0.2, margin > 0)
    together = two_level(margin > -0.2, margin > 0, paired=True)
    assert together.mean == pytest.approx(apart.mean)
    assert together.sd < apart.sd / 3


def test_two_level_intervals_are_reproducible_and_need_two_seeds():
    right = np.random.default_rng(21).uniform(size=(3, 100)) < 0.8
    assert two_level(right) == two_level(right)
    with pytest.raises(ValueError, match="seeds must be at least 2"):
        two_level(right[:1])
