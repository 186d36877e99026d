"""Values drawn from annotations."""

import typing
from typing import Annotated, Any

from annotated_types import Ge, Gt, Interval, MinLen
from hypothesis import strategies as st

from lib.core.contracts import EPOCH, TIME, alternatives, split

SMALL = 12  # largest number drawn, unless a bound asks for more


def values_within(kind: Any) -> st.SearchStrategy:
    """Values of an annotation within its bounds, and small."""
    inner, metadata = split(kind)
    if len(parts := alternatives(inner)) > 1:
        return st.one_of(*(st.none() if part is type(None) else values_within(part) for part in parts))
    if typing.get_origin(inner) is tuple:
        items = typing.get_args(inner)
        if items[-1] is not ...:
            return st.tuples(*map(values_within, items))
        shortest = max([bound.min_length for bound in metadata if isinstance(bound, MinLen)], default=0)
        return st.lists(values_within(items[0]), min_size=shortest, max_size=3).map(tuple)
    if inner not in (int, float):
        return st.from_type(inner)
    bounds = [bound for bound in metadata if bound not in (TIME, EPOCH)]
    lowest = [
        getattr(bound, "gt", getattr(bound, "ge", None)) for bound in bounds if isinstance(bound, Gt | Ge)
    ]
    limit = Interval(ge=None if lowest else -SMALL, le=max(lowest, default=0) + SMALL)
    return st.from_type(Annotated[inner, *bounds, *limit])
