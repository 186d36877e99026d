"""A path that cannot be used ends a program in one line, whatever it is that is wrong with it."""

import importlib
import os
import re
from pathlib import Path

import pytest

import train
from tests.helpers.refusals import exit_code_of, one_line


@pytest.fixture(params=["long", "nul", "loop", "dangling", "below a file", "pipe", "unreadable", "/dev/zero"])
def bad_path(request, tmp_path, monkeypatch) -> str:
    """A path at which nothing can be read and nothing written."""
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "there"
    if request.param == "loop":
        place.symlink_to(place)
    elif request.param == "dangling":
        place.symlink_to("/proc/no/such/place")
    elif request.param == "pipe":
        os.mkfifo(place)
    elif request.param == "below a file":
        place.write_text("")
        return f"{place}/there"
    elif request.param == "unreadable":
        if os.geteuid() == 0:
            pytest.skip("everything is readable to root")
        place.mkdir(mode=0)
        return f"{place}/there"
    elif request.param == "/dev/zero":  # it has no end
        place.symlink_to(request.param)
    return {"long": "x" * 400, "nul": "x\0"}.get(request.param, str(place))


SMALL = "--data synthetic --data.size 64 --data.image-size 8 --model resnet20 --epochs 1 --bs 16 --device cpu"


@pytest.mark.parametrize("flag", ["--config", "--evaluate", "--output-dir", "--init-from", "--kd --teacher"])
def test_train_names_a_path_that_it_cannot_use(bad_path, flag, capfd):
    code = train.main([*SMALL.split(), *flag.split(), bad_path])
    one_line(code, capfd.readouterr().err, flag.split()[-1] if "\0" in bad_path else Path(bad_path).name[:50])


PROGRAMS = {  # the arguments before and after the path
    "export": ([], ["--to", "onnx"]),
    "grid": ([], ["--dry-run"]),
    "keep": ([], ["out"]),
    "page": ([], []),
    "plot": (["curves"], []),
    "predict": ([], ["cat.png"]),
    "probe": ([], []),
    "publish": ([], ["-o", "out"]),
    "soup": ([], ["-o", "soup"]),
    "table": ([], []),
    "reproduce": (["pprp_aug_grid"], []),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_names_a_path_that_it_cannot_use(bad_path, name, capfd):
    before, after = PROGRAMS[name]
    code = exit_code_of(importlib.import_module(f"scripts.{name}").main, [*before, bad_path, *after])
    one_line(code, capfd.readouterr().err, "" if "\0" in bad_path else Path(bad_path).name[:50])


def test_a_device_is_written_to_and_stays_one(tmp_path):
    from lib.core.errors import BadInput
    from lib.core.files import write_atomic

    link = tmp_path / "out.png"
    link.symlink_to("/dev/null")
    write_atomic(link, b"x")
    assert link.is_char_device()
    link.unlink()
    link.symlink_to("/dev/full")
    with pytest.raises(BadInput, match="No space left on device"):
        write_atomic(link, b"x")
    assert link.is_char_device()


@pytest.mark.parametrize("path", sorted(Path("scripts").glob("*.py")), ids=str)
def test_every_program_reads_its_paths_in_the_one_way(path):
    if path.name != "arguments.py":
        assert not re.search(r"ArgumentParser\(|type=(Path|str)\b", path.read_text())


@pytest.mark.parametrize(
    ("program", "line"),
    [
        ("export", "run --to onnx --images 0"),
        ("export", "run --to onnx --images -3"),
        ("probe", "run --temperature 0"),
    ],
)
def test_a_number_out_of_its_bounds_is_refused_by_its_flag(program, line, capfd):
    code = exit_code_of(importlib.import_module(f"scripts.{program}").main, line.split())
    one_line(code, capfd.readouterr().err, line.split()[-2], f"got {line.split()[-1]}")
