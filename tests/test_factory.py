"""Building a run: what one build sets in the process does not affect the next one."""

import os

import pytest
import torch

from lib.config.cli import parse
from lib.core.errors import BadInput
from lib.factory import augmenting, build
from lib.factory.device import set_deterministic

SMALL = "--dataset synthetic --data.size 8 --data.classes 2 --data.image_size 8 --bs 4 --model resnet20"
CUBLAS = "CUBLAS_WORKSPACE_CONFIG"


@pytest.fixture(autouse=True)
def fast_kernels():
    yield
    set_deterministic(False)


def kernels_after(line: str) -> tuple[bool, bool, str | None]:
    build(parse(f"{SMALL} {line}".split()).config(), torch.device("cpu"), note=pytest.fail)
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.backends.cudnn.benchmark,
        os.environ.get(CUBLAS),
    )


def test_a_build_without_deterministic_is_fast_after_one_with_it():
    assert CUBLAS not in os.environ
    assert kernels_after("") == (False, True, None)
    assert kernels_after("--deterministic") == (True, False, ":4096:8")
    assert kernels_after("") == (False, True, None)


def test_a_workspace_of_the_user_is_kept(monkeypatch):
    monkeypatch.setenv(CUBLAS, ":16:8")
    monkeypatch.setattr("lib.factory.device._CUBLAS_OF_THE_USER", ":16:8")
    assert kernels_after("--deterministic") == (True, False, ":16:8")
    assert kernels_after("") == (False, True, ":16:8")


def test_an_error_of_the_user_within_a_check_passes_unchanged():
    with pytest.raises(BadInput, match=r"^cannot read cat.png$"), augmenting((3, 8, 8)):
        raise BadInput("cannot read cat.png")
    with (
        pytest.raises(BadInput, match="cannot be augmented so: too small"),
        augmenting((3, 8, 8)),
    ):
        raise ValueError("too small")
