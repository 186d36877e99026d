"""The list of grids with their costs: `scripts/run.sh` and `python -m scripts.grid --list`."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import scripts.grid
from lib.grid.catalogue import GRIDS, find_grid, first_sentence, grid_names, train_flops
from lib.report.published import read_published

ROOT = Path(__file__).parent.parent


def test_every_grid_without_a_published_table_has_a_description():
    for name in set(grid_names()) - set(read_published()):
        assert len(first_sentence(GRIDS / f"{name}.yaml")) > 10


def test_training_takes_six_operations_per_multiply_accumulate_and_twice_that_with_sam():
    rows = {row.name: row for row in find_grid("pprp_sam_asam_cos_ls").rows}
    macs = json.loads((ROOT / "lib/models/macs.json").read_text())["shake_resnet26_2x64d"]
    assert train_flops(rows["cosine"]) == pytest.approx(6 * macs * 50_000 * 200)
    assert train_flops(rows["sam"]) == 2 * train_flops(rows["cosine"])


def run_sh(*words: str) -> subprocess.CompletedProcess:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = [shutil.which("bash"), str(ROOT / "scripts" / "run.sh"), *words]
    return subprocess.run(command, capture_output=True, text=True, cwd="/", env=os.environ | {"PATH": path})


def test_run_sh_lists_every_grid_once():
    listed = run_sh()
    assert listed.returncode == 0, listed.stderr
    head, *lines = listed.stdout.splitlines()
    assert head.split()[0] == "table"
    assert [line.split()[0] for line in lines] == grid_names()
    for line in lines[::4]:
        grid = find_grid(line.split()[0])
        assert f"{len(grid.rows)} x {len(grid.seeds)}" in line


def test_only_the_named_grids_are_listed(capsys):
    assert scripts.grid.main(["--list", "pprp_vit", "quickstart"]) == 0
    _, *lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["pprp_vit", "quickstart"]


def test_run_sh_refuses_an_unknown_table_in_one_line():
    refused = run_sh("pprp_aug_gird", "--seeds", "0")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.count("\n") == 1
    assert "pprp_aug_grid" in refused.stderr


def test_listing_grids_imports_no_torch():
    code = (
        "import scripts.grid as g, sys; g.main(['--list', 'quickstart']); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)


def test_a_grid_or_list_is_required(capsys):
    with pytest.raises(SystemExit, match="2"):
        scripts.grid.main([])
    assert "give the file of a grid, or --list" in capsys.readouterr().err
