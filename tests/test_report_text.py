"""Numbers and durations as text."""

import pytest

from lib.report.text import aligned, count, duration, number, p_value, petaflop


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (66, "1 min 06 s"),
        (3599.6, "1 h 00 min"),
        (11_100, "3 h 05 min"),
        (86_400 * 2 + 3600 * 4, "2 d 04 h"),
        (None, "–"),
        (float("nan"), "–"),
        ("long", "–"),
    ],
)
def test_a_duration_has_its_two_largest_units(seconds, text):
    assert duration(seconds) == text


def test_a_missing_or_invalid_number_is_a_dash():
    for value in (None, float("nan"), float("inf"), "many", [1], True):
        assert {number(value), petaflop(value), p_value(value)} == {"–"}


def test_numbers_have_fixed_decimals_and_large_costs_no_exponent():
    assert (number(1234.567), number(272_474, ",.0f")) == ("1,234.57", "272,474")
    assert (petaflop(2.54e13), petaflop(4.321e17), petaflop(1.2345e19)) == ("0.0254", "432", "12,345")
    assert (p_value(0.0004), p_value(0.0005), p_value(0.25)) == ("< 0.001", "< 0.001", "0.250")


def test_a_noun_is_plural_unless_there_is_one():
    assert [count(n, "run") for n in (0, 1, 2000)] == ["0 runs", "1 run", "2,000 runs"]


def test_numbers_are_aligned_on_the_right():
    assert aligned([("name", "n"), ("a", "10")]) == "name   n\na     10"
