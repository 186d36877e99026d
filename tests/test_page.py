"""The page of results as text, from records made by hand."""

import re
import statistics
from pathlib import Path
from urllib.parse import unquote

import pytest

from scripts.page import main
from tests.helpers.result_page import ACCURACIES, NASTY, Elements, make_page, write, write_all


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("records")
    write_all(folder)
    return folder


@pytest.fixture(scope="module")
def page(runs, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("page")
    return make_page(runs, output, "--baseline", "none", "--title", f"Tricks & {NASTY}")


@pytest.fixture(scope="module")
def elements(page) -> Elements:
    return Elements(page)


def test_rows_show_the_numbers_of_the_records(elements):
    for name, values in ACCURACIES.items():
        row = elements.cells(name)
        assert row["accuracy"] == f"{statistics.fmean(values):.2f} ± {statistics.stdev(values):.2f}"
        assert row["n"] == "3"
        assert row["status"] == "3 ok"
        assert row["time"] == "1 min 06 s"
        assert row["PFLOP"] == "2.5"
    gap = statistics.fmean(ACCURACIES["cutout"]) - statistics.fmean(ACCURACIES["none"])
    assert elements.cells("cutout")["difference"].startswith(f"+{gap:.2f} [")
    assert elements.cells("none")["difference"] == "–"
    assert elements.cells("lost")["accuracy"] == "–"
    assert elements.cells("lost")["status"] == "1 diverged"


def test_a_run_has_its_configuration_command_environment_and_numbers(elements, runs):
    run = elements.runs["cutout/seed1"]
    assert run["command"] == "python train.py --seed 1 --name 'cutout'"
    assert ["augment.cutout", "true"] in run["settings"]
    assert run["config"] == (runs / "cutout/seed1/config.yaml").read_text()
    assert ["device", "cpu"] in run["environment"]
    assert {("test accuracy", "84.00 %"), ("training loss", "0.5000")} <= set(map(tuple, run["facts"]))


def test_each_setting_has_the_curves_of_its_runs(elements):
    setting, index = elements.runs["cutout/seed1"]["curves"]
    ids = [own["id"] for _, own, _ in elements.found if own.get("id", "").startswith("run-")]
    assert f"run-{index}-train_loss" in ids
    ((_, text),) = elements.all("template", id=f"curves-{setting}")
    assert "accuracy (%)" in text and "learning rate" in text


def test_every_run_is_linked_once(elements):
    links = [own["data-run"] for own, _ in elements.all("a", **{"class": "run"})]
    assert sorted(links) == sorted(elements.runs)
    assert len(links) == 12


def test_the_names_in_the_forest_plot_link_to_the_settings_that_are_compared(elements):
    links = [(own["xlink:href"], text) for own, text in elements.all("a") if "xlink:href" in own]
    names: dict[str, str] = {}  # a long name has a link in each of its lines
    for target, text in links:
        names[target] = names.get(target, "") + text
    assert set(names.values()) == {"cutout", "mixup", NASTY.replace("/", "_")}
    for target, name in names.items():
        ((_, text),) = elements.all("tbody", id=target.removeprefix("#"))
        assert text.startswith(name)


def test_nothing_in_a_record_becomes_markup(page, elements):
    assert "<script>bad" not in page.read_text()
    assert "<img" not in page.read_text()
    assert [own.get("type") for own, _ in elements.all("script")] == ["application/json", None]
    assert elements.all("h1")[0][1] == f"Tricks & {NASTY}"
    assert NASTY.replace("/", "_") in [text for _, text in elements.all("span", **{"class": "name"})]


def test_the_page_needs_no_other_file_and_no_inline_style_or_script(page, elements):
    assert [path.name for path in page.parent.iterdir()] == ["index.html"]
    for name, own, _ in elements.found:
        assert not {"src", "srcset", "action", "background", "style"} & set(own), name
        for key in ("href", "xlink:href"):
            assert own.get(key, "#").startswith(("#", "data:")), name
        assert all(value.startswith("url(#") for value in own.values() if value and "url(" in value), name
        assert not any(key.startswith("on") for key in own), name
    style = elements.all("style")[0][1]
    assert "url(" not in style and "@import" not in style


def test_records_left_out_are_named_and_the_numbers_are_explained(elements):
    foot = elements.all("footer")[0][1]
    assert "2 records left out" in foot
    assert "broken/result.json" in foot and "lost/seed0" in foot
    for words in ("95 % interval", "Welch", "Holm", "Minimal detectable effect", "On digits: there is no"):
        assert words in foot


def test_a_folder_without_records_and_an_unknown_baseline_end_in_one_line(tmp_path, runs, capsys):
    for arguments, said in (
        ([str(tmp_path)], "no usable result.json"),
        ([str(runs), "--baseline", "nonne"], "none"),
    ):
        assert main([*arguments, "-o", str(tmp_path / "page")]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1 and said in error
    assert not (tmp_path / "page").exists()


@pytest.mark.parametrize("metrics", ['{"epoch": 1', "[]", '{"epoch": "one"}', ""])
def test_a_run_without_readable_metrics_or_configuration_is_shown_without_them(tmp_path, metrics):
    run = write(tmp_path, "a", 0, 50.0, {})
    (run / "metrics.jsonl").write_text(metrics)
    (run / "config.yaml").unlink()
    elements = Elements(make_page(tmp_path, tmp_path))
    assert elements.runs["a/seed0"]["config"] is None
    assert not elements.all("figure")


def test_a_record_of_another_version_with_odd_values_is_shown(tmp_path):
    odd = {"parameters": "many", "epochs": None, "best": {"accuracy": None}, "seconds": 3, "train_flops": [1]}
    write(tmp_path, "a", 0, 50.0, {"forgotten_trick": True, "cutout": {"size": 8}}, **odd)
    write(tmp_path, "b", 0, 51.0, {})
    elements = Elements(make_page(tmp_path, tmp_path, "--baseline", "b"))
    assert elements.cells("a")["time"] == "–"
    assert elements.cells("a")["tricks"].startswith("cutout")
    assert not {"parameters", "epochs", "training"} & set(dict(elements.runs["a/seed0"]["facts"]))


def test_bytes_that_are_not_text_are_replaced(tmp_path):
    write(tmp_path, "a\udcff", 0, 50.0, {}, model="half \ud800 a pair")
    elements = Elements(make_page(tmp_path, tmp_path))
    link = elements.all("a", **{"class": "run"})[0][0]
    assert unquote(link["href"].removeprefix("#run=")) == link["data-run"] == "a?/seed0"
    assert "half ? a pair" in elements.all("script", id="data")[0][1]


def test_a_setting_with_a_number_in_its_name_keeps_all_digits_in_the_forest_plot(tmp_path):
    for seed in range(2):
        write(tmp_path, "none", seed, 80.0 + seed, {})
        write(tmp_path, "lr=0.00125", seed, 81.0 + seed, {"cutout": True})
    elements = Elements(make_page(tmp_path, tmp_path, "--baseline", "none"))
    assert [text for own, text in elements.all("a") if "xlink:href" in own] == ["lr=0.00125"]
    assert not re.search(r"\d\.\d{3}", " ".join(own.get("d", "") for own, _ in elements.all("path")))
