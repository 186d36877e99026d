"""HTML elements from Python, with text escaped unless it is already markup."""

import html


class Markup(str):
    """Text that is HTML; any other text in an element is escaped."""


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """An element, as `tag("td", text, data_sort=1, class_="n")`, without children and attributes of None."""
    written = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{html.escape(str(value))}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    return Markup(f"<{name}{written}>{join(*children)}</{name}>")


def join(*children: object) -> Markup:
    """Concatenate elements and texts."""
    texts = (c if isinstance(c, Markup) else html.escape(str(c)) for c in children if c is not None)
    return Markup("".join(texts))
