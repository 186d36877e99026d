"""YAML files of any content are read or refused in one line: settings, grids, and the settings of a run."""

from pathlib import Path

import pytest
import yaml
from hypothesis import strategies as st

import scripts.grid
import train
from lib.config.schema import SECTIONS
from lib.core.registry import REGISTRIES
from tests.helpers.fuzz import damaged, ending
from tests.helpers.runs import TINY

CONFIGS = Path(train.__file__).parent / "configs"
NAMES = sorted({name for registry in REGISTRIES.values() for name in registry.names() if "<" not in name})
FIELDS = sorted({field for section in SECTIONS.values() for field in section.fields})
GRID_KEYS = ("base", "axes", "rows", "seeds", "baseline", "name", "columns", "include", "exclude")


def trees(keys: tuple[str, ...]) -> st.SearchStrategy:
    """What YAML can hold, with keys that are likely to mean something."""
    leaf = st.none() | st.booleans() | st.integers(-3, 300) | st.floats() | st.text(max_size=8) | st.dates()
    leaf |= st.sampled_from(NAMES) | st.binary(max_size=3)
    key = (
        st.sampled_from(keys)
        | st.sampled_from([*SECTIONS, *FIELDS, *NAMES])
        | st.text(max_size=5)
        | st.integers()
    )
    nested = st.recursive(
        leaf, lambda part: st.lists(part, max_size=3) | st.dictionaries(key, part, max_size=4), max_leaves=8
    )
    return st.dictionaries(st.sampled_from(keys), nested, max_size=4)


def texts(keys: tuple[str, ...], folder: Path) -> st.SearchStrategy[bytes]:
    """The bytes of a tree, of a damaged file, or of no file at all."""
    files = [path.read_bytes() for path in sorted(folder.rglob("*.yaml"))]
    dumped = trees(keys).map(
        lambda tree: yaml.dump(tree, allow_unicode=True).encode("utf-8", "surrogatepass")
    )
    return (
        dumped
        | damaged(files)
        | st.binary(max_size=30)
        | st.text("{}[]:-,&*!|>%@`\"'#?\n\t ab1~<", max_size=30).map(str.encode)
    )


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("scripts.grid.estimate", lambda *known: "")
    return tmp_path


def test_a_file_of_settings_with_any_content_ends_in_one_line(tried, place):
    Path("tiny.yaml").write_text(TINY)

    def check(content: bytes) -> str:
        Path("any.yaml").write_bytes(content)
        return ending(train.main, ["--config", "any.yaml,tiny.yaml", "--offline=true", "--dry-run"])

    tried(texts(tuple(SECTIONS), CONFIGS), check, short=100, long=1500)


def test_a_grid_with_any_content_ends_in_one_line(tried, place):
    def check(content: bytes) -> str:
        Path("any.yaml").write_bytes(content)
        return ending(scripts.grid.main, ["any.yaml", "--dry-run"])

    tried(texts(GRID_KEYS, CONFIGS / "grids"), check, short=40, long=600)
