"""Contracts: bounds and units in annotations, checked wherever a value comes from."""

import math
import typing
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

import pytest
import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Le, Lt, MinLen
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from lib.config.cli import parse
from lib.config.schema import SECTIONS
from lib.core.contracts import (
    EPOCH,
    TIME,
    Count,
    Decay,
    Epoch,
    Fraction,
    Positive,
    PositiveTime,
    Probability,
    Time,
    alternatives,
    rule,
    satisfies,
    split,
    unit_of,
    validated,
)
from lib.core.errors import BadInput, where
from lib.core.facts import Facts
from lib.core.fields import REQUIRED, Field, fields_of
from lib.core.registry import REGISTRIES, Entry, Registry
from tests.helpers.contracts import values_within


@pytest.mark.parametrize(
    ("kind", "inside", "outside", "words"),
    [
        (Positive, (1e-30, 5.0), (0.0, -1.0), "above 0"),
        (Count, (1, 7), (0, -2), "at least 1"),
        (Probability, (0.0, 0.5, 1.0), (-0.1, 1.1), "from 0 to 1"),
        (Fraction, (0.1, 1.0), (0.0, 1.5), "above 0 and at most 1"),
        (Decay, (0.0, 0.999), (1.0, -0.1), "at least 0 and below 1"),
        (Positive | None, (None, 2.0), (0.0,), "above 0"),
        (tuple[Decay, Decay], ((0.9, 0.99),), ((0.9, 1.0), (-0.1, 0.5)), "at least 0 and below 1"),
        (tuple[PositiveTime, ...], ((), (0.5, 60.0)), ((0.5, 0.0),), "above 0"),
        (Annotated[tuple[int, ...], MinLen(1)], ((3,),), ((),), "at least 1 long"),
        (Literal["a", "b"], ("a",), ("c",), ""),
        (float, (-1.0, 0.0), (), ""),
    ],
    ids=str,
)
def test_bounds_are_kept_and_described(kind, inside, outside, words):
    assert all(satisfies(value, kind) for value in inside)
    assert not any(satisfies(value, kind) for value in outside)
    assert rule(kind) == words


def test_a_unit_is_found_in_the_items_of_a_tuple_and_beside_none():
    assert [unit_of(k) for k in (Time, Time | None, tuple[PositiveTime, ...])] == [TIME] * 3
    assert unit_of(Epoch | None) == EPOCH
    assert unit_of(float) is unit_of(Positive) is unit_of(tuple[int, ...]) is None


def test_functions_classes_and_dataclasses_check_their_arguments():
    @validated
    def function(base: object, rho: Positive = 0.05, mode: Literal["a", "b"] = "a"):
        return rho

    @validated
    class Plain:
        def __init__(self, rho: Positive):
            self.rho = rho

    class Child(Plain):
        def __init__(self, rho: float, eta: float):
            super().__init__(rho)

    @validated
    @dataclass(frozen=True)
    class Data:
        rho: Positive = 0.05

    assert function(None) == 0.05 and Plain(1.0).rho == Data(rho=1.0).rho == 1.0
    for build in (partial(function, None), Plain, Data, partial(Child, eta=1.0)):
        with pytest.raises(ValueError, match=r"rho must be above 0, got -1.0"):
            build(rho=-1.0)
    with pytest.raises(ValueError, match=r"mode must be one of a, b, got 'c'"):
        function(None, mode="c")


def test_a_misspelt_fact_fails_where_it_is_written():
    registry = Registry("toy", "models", facts=Facts)
    with pytest.raises(TypeError, match="papr"):
        registry.register("toy", lambda: None, papr="Author 2026")


def test_where_adds_the_place_to_a_value_error_once():
    with pytest.raises(BadInput, match=r"^outer: no$"), where("outer"):
        raise ValueError("no")
    with pytest.raises(BadInput, match=r"^inner: no$"), where("outer"), where("inner"):
        raise ValueError("no")


# Every registered thing


def cases() -> list[tuple[str, Entry]]:
    """An entry for each function or class that is registered; others share its annotations."""
    found = {}
    for registry in REGISTRIES.values():
        for entry in registry.entries():
            function = registry.function(entry.form)
            found.setdefault((registry.kind, getattr(function, "func", function)), entry)
    return [pytest.param(entry, id=f"{entry.kind} {entry.form}") for entry in found.values()]


def value_outside(kind: Any) -> list[Any]:
    """Values that just miss a bound of the annotation."""
    inner, metadata = split(kind)
    if len(parts := alternatives(inner)) > 1:
        # A value that misses one member of a union may be a value of another.
        return [value for part in parts for value in value_outside(part) if not satisfies(value, kind)]
    if typing.get_origin(inner) is tuple:
        items = typing.get_args(inner)
        size = 2 if items[-1] is ... else len(items)
        return [(value,) * size for value in value_outside(items[0])]
    step = 1 if inner is int else 1e-3
    missed = {Gt: lambda b: b.gt, Ge: lambda b: b.ge - step, Lt: lambda b: b.lt, Le: lambda b: b.le + step}
    return [inner(missed[type(bound)](bound)) for bound in metadata if type(bound) in missed]


@pytest.mark.parametrize("entry", cases())
def test_a_value_outside_of_its_bounds_is_refused_by_name(entry):
    function = REGISTRIES[entry.kind].function(entry.form)
    function = getattr(function, "func", function)
    required = {name: None for name, f in fields_of(function).items() if f.default is REQUIRED}
    for field in fields_of(function).values():
        for value in value_outside(field.type):
            with pytest.raises(ValueError, match=rf"^{field.name} must be .*, got ") as refused:
                field.parse(value)
            assert "\n" not in str(refused.value)
            with pytest.raises(ValueError, match=rf"^{field.name} must be "):  # built by hand
                function(**required | {field.name: value})


@pytest.mark.parametrize("name", SECTIONS)
def test_a_setting_outside_of_its_bounds_is_refused_in_one_line_that_names_it(name):
    section = SECTIONS[name]
    settings = [(f"{name}.{f.name}", f, []) for f in section.fields.values()]
    for entry in section.registry.entries() if section.registry else ():
        if entry.placeholders:
            continue
        key = f"{name}.{entry.name}" if section.is_tricks else name
        chosen = [] if section.is_tricks else [f"{name}.name={entry.name}"]
        settings += [(f"{key}.{f.name}", f, chosen) for f in entry.fields.values()]
    for key, field, chosen in settings:
        for value in value_outside(field.type)[:1]:
            text = ",".join(map(str, value)) if isinstance(value, tuple) else value
            with pytest.raises(BadInput) as refused:
                parse([*chosen, f"{key}={text}"]).config()
            assert str(refused.value).startswith(f"{key} (command line): {field.name} must be ")
            assert "\n" not in str(refused.value)


class Two(nn.Module):
    """A model small enough to build anything around it."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.norm(self.conv(x)).mean((2, 3)))


def supplied(kind: str) -> dict[str, Any]:
    """What the program supplies to the entries of a kind."""
    model = Two()
    return {
        "model": {"num_classes": 3, "in_channels": 3, "image_size": 32},
        "optimizer": {"params": [{"params": list(model.parameters())}]},
        "wrapper": {"base": torch.optim.SGD(model.parameters(), lr=0.1), "model": model, "total": 40},
        "average": {"model": model, "steps_per_epoch": 10, "total": 40},
        "view": {"model": model},
        "distillation": {"base": F.cross_entropy, "epochs": 10.0},
        "selection": {"learner": lambda name: None},
    }.get(kind, {})


BUILT = (
    "augmentation", "average", "distillation", "loss", "model", "optimizer", "schedule", "view", "wrapper",
)  # fmt: skip


@pytest.mark.parametrize("entry", [case for case in cases() if case.values[0].kind in BUILT])
@settings(max_examples=4, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_values_within_their_bounds_build_or_break_a_rule_that_is_named(entry, data):
    fields = {name: f for name, f in entry.fields.items() if f.default is not REQUIRED}
    if entry.placeholders or not fields:
        return
    field: Field = data.draw(st.sampled_from(list(fields.values())))
    value = data.draw(values_within(field.type))
    assert field.parse(value) == value
    with torch.device("meta") if entry.kind == "model" else torch.device("cpu"):
        given = supplied(entry.kind)
        error = error_of(entry, **given, **{field.name: value})
    # A rule over several arguments, which no annotation states, names one of them first.
    assert error is None or str(error).split(" ")[0] in (*entry.fields, *given)


def error_of(entry: Entry, **arguments: Any) -> ValueError | None:
    try:
        entry.build(**arguments)
    except ValueError as error:
        return error
    return None


def test_numbers_that_floats_cannot_hold_are_refused():
    field = Field("lr", Positive, 0.1, "")
    for value in ("nan", "inf", "1e39", math.inf):
        with pytest.raises(ValueError, match="expected a number"):
            field.parse(value)
