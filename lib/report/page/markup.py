"""HTML from Python: elements whose text is escaped unless it is markup already."""

import html


class Markup(str):
    """Text that is HTML. Whatever else is put into an element is escaped."""


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """An element, as `tag("td", text, data_sort=1, class_="n")`; None as a child or an attribute is none."""
    told = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{html.escape(str(value))}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    return Markup(f"<{name}{told}>{join(*children)}</{name}>")


def join(*children: object) -> Markup:
    """Elements and texts after one another."""
    texts = (
        child if isinstance(child, Markup) else html.escape(str(child))
        for child in children
        if child is not None
    )
    return Markup("".join(texts))
