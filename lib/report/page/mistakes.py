"""The most confident mistakes of one run as a section of the page."""

import base64
import io
from collections.abc import Sequence

from PIL import Image
from torch import Tensor

from ..mistakes import Mistake
from .markup import Markup, tag


def mistakes_section(mistakes: Sequence[Mistake]) -> Markup:
    """Each image with the evidence for the predicted class next to it; empty without mistakes."""
    if not mistakes:
        return Markup("")
    about = "Left the image, right its parts with evidence for the predicted class (Grad-CAM)."
    figures = [tag("figure", *map(_image, (m.image, m.evidence)), _caption(m)) for m in mistakes]
    heading = tag("h2", "Most confident mistakes")
    grid = tag("div", *figures, class_="mistakes")
    return tag("section", heading, tag("p", about, class_="soft"), grid, id="mistakes")


def _caption(mistake: Mistake) -> Markup:
    certain = f"{mistake.predicted} {mistake.percent:.1f} %"
    rest = f"is {mistake.true}, test image {mistake.index}"
    return tag("figcaption", tag("b", certain), " ", tag("small", rest))


def _image(pixels: Tensor) -> Markup:
    """An image (3, H, W) uint8 as an element that needs no other file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(buffer, format="png")
    data = base64.b64encode(buffer.getvalue()).decode()
    return Markup(f'<img alt="" src="data:image/png;base64,{data}">')
