"""The page of results: what stands in it, from records made by hand, and how it behaves in a browser."""

import json
import statistics
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote
from zlib import crc32

import pytest

from lib.report.page.forest import round_steps
from scripts.page import main
from tests.helpers.browser import Browser, chromium

ACCURACIES = {"none": [80.0, 81.0, 83.0], "cutout": [82.5, 84.0, 84.5], "mixup": [79.0, 85.0, 70.25]}
NASTY = '<script>bad()</script><img src=x onerror="bad()">\'"&${data}'


def write(folder: Path, seed: int, accuracy: float, tricks: dict, status: str = "ok", **more) -> None:
    """A record as a run leaves it."""
    path = folder / f"seed{seed}"
    path.mkdir(parents=True)
    diff = {"model": {"name": "resnet20"}, "augment": tricks, "train": {"epochs": 3, "seed": seed}}
    command = f"train.py --seed {seed} --name '{folder.name}'"
    result = {
        **{"format": 1, "status": status, "dataset": "cifar10", "model": "resnet20", "parameters": 272474},
        **{"seed": seed, "config": f"{crc32(repr(tricks).encode()):08x}", "config_diff": diff, "epochs": 3.0},
        **{
            "steps": 1173,
            "test_accuracy": accuracy,
            "seconds": {"train": 65.0 + seed},
            "train_flops": 2.5e15,
        },
        "best": {"epoch": 2, "accuracy": accuracy + 0.5, "split": "test"},
        "environment": {"command": command, "code": "abc", "device": "cpu"},
        **more,
    }
    (path / "result.json").write_text(json.dumps(result))
    rows = [
        {"epoch": epoch, "step": 391 * epoch, "lr": 0.1 / epoch, "train_loss": 2 / epoch, "seconds_train": 20}
        for epoch in (1, 2, 3)
    ]
    rows[-1] |= {"test_accuracy": accuracy, "train_loss": float("nan") if status == "diverged" else 0.5}
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (path / "config.yaml").write_text(f"train: {{epochs: 3, seed: {seed}}}\n# whole\n")


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("records")
    for name, accuracies in ACCURACIES.items():
        for seed, accuracy in enumerate(accuracies):
            write(folder / name, seed, accuracy, {} if name == "none" else {name: True})
    write(folder / NASTY.replace("/", "_"), 0, 10.0, {"flip": False}, note=NASTY)
    write(folder / "lost", 0, 11.0, {"ricap": True}, "diverged")
    write(folder / "digits", 0, 97.0, {}, dataset="digits", config="d1617500")
    (folder / "broken").mkdir()
    (folder / "broken/result.json").write_text("{")
    return folder


@pytest.fixture(scope="module")
def page(runs, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("page")
    assert main([str(runs), "-o", str(output), "--baseline", "none", "--title", f"Tricks & {NASTY}"]) == 0
    return output / "index.html"


class Elements(HTMLParser):
    """The elements of a page: name, attributes and the text up to the end of each."""

    def __init__(self, text: str):
        super().__init__()
        self.found: list[tuple[str, dict, list[str]]] = []
        self._open: list[int] = []
        self.feed(text)

    def handle_starttag(self, name, attributes):
        self.found.append((name, dict(attributes), []))
        if name not in ("meta", "link", "input"):
            self._open.append(len(self.found) - 1)

    def handle_startendtag(self, name, attributes):
        self.found.append((name, dict(attributes), []))

    def handle_endtag(self, name):
        assert self.found[self._open.pop()][0] == name, f"</{name}> ends another element"

    def handle_data(self, text):
        for place in self._open:
            self.found[place][2].append(text)

    def all(self, name: str, **attributes) -> list[tuple[dict, str]]:
        return [
            (held, "".join(texts))
            for found, held, texts in self.found
            if found == name and all(value in held.get(key, "").split() for key, value in attributes.items())
        ]


@pytest.fixture(scope="module")
def elements(page) -> Elements:
    return Elements(page.read_text())


@pytest.fixture(scope="module")
def data(elements) -> dict:
    return json.loads(elements.all("script", id="data")[0][1])


def cells(elements: Elements, setting: str) -> dict[str, str]:
    """What the row of a setting shows, by column."""
    labels = elements.all("th")
    told = [(held["data-label"], text) for held, text in elements.all("td")]
    rows = [dict(told[at : at + len(labels)]) for at in range(0, len(told), len(labels))]
    return next(row for row in rows if row["setting"].startswith(setting))


def test_the_rows_say_what_the_records_do(elements):
    for name, values in ACCURACIES.items():
        row = cells(elements, name)
        assert row["accuracy"] == f"{statistics.fmean(values):.2f} ± {statistics.stdev(values):.2f}"
        assert row["n"] == "3"
        assert row["status"] == "3 ok"
        assert row["time"] == "1 min 06 s"
        assert row["PFLOP"] == "2.5"
    gap = statistics.fmean(ACCURACIES["cutout"]) - statistics.fmean(ACCURACIES["none"])
    assert cells(elements, "cutout")["difference"].startswith(f"+{gap:.2f} [")
    assert cells(elements, "none")["difference"] == "–"
    assert cells(elements, "lost")["accuracy"] == "–"
    assert cells(elements, "lost")["status"] == "1 diverged"


def test_each_run_has_its_configuration_command_environment_and_curves(data, runs):
    run = data["runs"]["cutout/seed1"]
    assert run["command"] == "python train.py --seed 1 --name 'cutout'"
    assert ["augment.cutout", "true"] in run["settings"]
    assert run["config"] == (runs / "cutout/seed1/config.yaml").read_text()
    assert ["device", "cpu"] in run["environment"]
    assert ["test accuracy", "84.00 %"] in run["facts"]
    assert run["curves"]["train_loss"] == [2, 1, 0.5]
    assert run["curves"]["test_accuracy"] == [None, None, 84.0]
    assert data["runs"]["lost/seed0"]["curves"]["train_loss"] == [2, 1, None]  # JSON knows no nan


def test_every_run_is_linked_once(elements, data):
    links = [held["data-run"] for held, _ in elements.all("a", **{"class": "run"})]
    assert sorted(links) == sorted(data["runs"])
    assert len(links) == 12


def test_the_forest_has_a_line_for_each_setting_that_is_compared(elements):
    links = [text for held, text in elements.all("a") if held["href"].startswith("#setting-")]
    assert set(links) >= {"cutout", "mixup"}
    assert not {"none", "lost", "digits"} & set(links)


def test_nothing_in_a_record_is_read_as_markup(page, elements):
    assert "<script>bad" not in page.read_text()
    assert "<img" not in page.read_text()
    assert [held.get("type") for held, _ in elements.all("script")] == ["application/json", None]
    assert elements.all("h1")[0][1] == f"Tricks & {NASTY}"
    assert NASTY.replace("/", "_") in [text for _, text in elements.all("span", **{"class": "name"})]


def test_the_page_needs_nothing_beside_itself(page, elements):
    assert [path.name for path in page.parent.iterdir()] == ["index.html"]
    for name, held, _ in elements.found:
        assert not {"src", "srcset", "action", "background"} & set(held), name
        assert held.get("href", "#").startswith(("#", "data:")), name
        assert not any(key.startswith("on") for key in held), name
    style = elements.all("style")[0][1]
    assert "url(" not in style and "@import" not in style


def test_what_is_left_out_is_named_and_the_numbers_are_explained(elements):
    foot = elements.all("footer")[0][1]
    assert "2 records left out" in foot
    assert "broken/result.json" in foot and "lost/seed0" in foot
    for words in ("95 % interval", "Welch", "Holm", "Minimal detectable effect", "On digits: baseline"):
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


def test_a_run_without_metrics_or_configuration_is_shown_all_the_same(tmp_path):
    write(tmp_path / "a", 0, 50.0, {})
    (tmp_path / "a/seed0/metrics.jsonl").write_text('{"epoch": 1')
    (tmp_path / "a/seed0/config.yaml").unlink()
    assert main([str(tmp_path), "-o", str(tmp_path)]) == 0
    held = json.loads(Elements((tmp_path / "index.html").read_text()).all("script", id="data")[0][1])
    assert held["runs"]["a/seed0"]["curves"] == {} and held["runs"]["a/seed0"]["config"] is None


def test_a_record_of_another_version_with_odd_values_is_shown(tmp_path):
    odd = {"parameters": "many", "epochs": None, "best": {"accuracy": None}, "seconds": 3, "train_flops": [1]}
    write(tmp_path / "a", 0, 50.0, {"forgotten_trick": True, "cutout": {"size": 8}}, **odd)
    write(tmp_path / "b", 0, 51.0, {})
    assert main([str(tmp_path), "-o", str(tmp_path), "--baseline", "b"]) == 0
    elements = Elements((tmp_path / "index.html").read_text())
    assert cells(elements, "a")["time"] == "–"
    assert cells(elements, "a")["tricks"].startswith("cutout")
    facts = dict(json.loads(elements.all("script", id="data")[0][1])["runs"]["a/seed0"]["facts"])
    assert not {"parameters", "epochs", "training"} & set(facts)


def test_what_is_no_text_is_replaced(tmp_path):
    write(tmp_path / "a\udcff", 0, 50.0, {}, model="half \ud800 a pair")
    assert main([str(tmp_path), "-o", str(tmp_path)]) == 0
    elements = Elements((tmp_path / "index.html").read_text())
    link = elements.all("a", **{"class": "run"})[0][0]
    assert unquote(link["href"].removeprefix("#run=")) == link["data-run"] == "a?/seed0"
    assert "half ? a pair" in elements.all("script", id="data")[0][1]


@pytest.mark.parametrize(
    ("low", "high", "steps"),
    [
        (-10.3, 0.4, [-10, -8, -6, -4, -2, 0]),
        (0, 0.7, [0.1 * k for k in range(8)]),
        (-1, 1e3, [0, 200, 400, 600, 800, 1000]),
    ],
)
def test_an_axis_has_round_steps(low, high, steps):
    assert round_steps(low, high, 7) == pytest.approx(steps)


# In a browser.


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    program = chromium()
    if program is None:
        pytest.skip("there is no Chromium; install one, or name it in $CHROMIUM")
    folder = tmp_path_factory.mktemp("browser")
    (folder / "probe.html").write_text("<p>seen")
    try:
        browser = Browser(program, folder / "profile")
    except (OSError, TimeoutError) as error:
        pytest.skip(f"{program} does not start: {error}")
    try:
        browser.open((folder / "probe.html").as_uri())
        if browser.run("document.body.innerText") != "seen":
            pytest.skip(f"{program} may not read {folder}, as when it lives in a sandbox of its own")
        yield browser
    finally:
        browser.close()


@pytest.fixture
def shown(browser, page):
    """The page in a wide window; at the end it must have complained of nothing."""
    browser.errors.clear()
    browser.window(1280)
    browser.open(page.as_uri())
    yield browser
    assert browser.errors == []
    assert browser.run("typeof bad") == "undefined"


NAMES = "[...document.querySelectorAll('tbody:not([hidden]) .name')].map((e) => e.textContent)"


def column(browser: Browser, label: str) -> str:
    """The selector of a column's button."""
    place = browser.run(
        f"[...document.querySelectorAll('#settings th')].findIndex((e) => e.innerText.includes('{label}'))"
    )
    return f"#settings th:nth-child({place + 1}) button"


def test_a_click_on_a_heading_sorts_by_it_and_another_turns_it_round(shown):
    assert shown.run(NAMES)[:3] == ["digits", "cutout", "none"]
    assert shown.run("document.querySelectorAll('[aria-sort]').length") == 1
    accuracy = column(shown, "accuracy")
    shown.click(accuracy)
    assert shown.run(NAMES)[1:4] == ["mixup", "none", "cutout"]
    assert shown.run(NAMES)[-1] == "lost"  # which has no accuracy
    assert shown.run(f"document.querySelector('{accuracy}').parentNode.ariaSort") == "ascending"
    shown.click(column(shown, "setting"))
    names = shown.run(NAMES)
    assert [name for name in names if name[0] != "<"] == ["cutout", "digits", "lost", "mixup", "none"]
    assert shown.run("document.querySelectorAll('[aria-sort]').length") == 1


def test_filters_keep_what_fits_in_the_table_and_in_the_forest(shown):
    def choose(name: str, text: str) -> None:
        shown.run(
            f"(() => {{ const s = document.querySelector('[name={name}]');"
            f" s.value = [...s.options].find((o) => o.text === '{text}').value;"
            " s.dispatchEvent(new Event('input', {bubbles: true})) })()"
        )

    shown.click("[name=words]")
    shown.type("SEED2 cut")
    assert shown.run(NAMES) == ["cutout"]
    assert (
        shown.run("[...document.querySelectorAll('.forest li')].filter((e) => e.checkVisibility()).length")
        == 1
    )
    assert shown.run("document.getElementById('shown').textContent") == "1 of 6 settings"
    shown.click("[type=reset]")
    shown.until(f"{NAMES}.length === 6")
    assert len(shown.run(NAMES)) == 6
    choose("status", "diverged")
    assert shown.run(NAMES) == ["lost"]
    choose("status", "any")
    choose("trick", "mixup")
    assert shown.run(NAMES) == ["mixup"]
    choose("trick", "any")
    choose("dataset", "digits")
    assert shown.run(NAMES) == ["digits"]
    choose("trick", "mixup")
    assert shown.run("document.getElementById('nothing').checkVisibility()")


def test_a_run_opens_by_mouse_and_keyboard_and_its_address_opens_it_again(shown, page):
    name = "[...document.querySelectorAll('.name')].find((e) => e.textContent === 'cutout')"
    shown.run(f"{name}.closest('tbody').id = 'mine'")
    assert not shown.run("document.querySelector('#mine tr.run').checkVisibility()")
    shown.click("#mine tr.setting .name")
    shown.click("#mine tr.run:nth-child(3) td.accuracy")
    assert shown.run("location.hash") == "#run=cutout%2Fseed1"
    shown.until("document.querySelector('dialog').open")
    text = shown.run("document.querySelector('dialog').innerText")
    for words in ("cutout seed 1", "84.00 %", "python train.py --seed 1", "augment.cutout", "Learning rate"):
        assert words in text
    assert shown.run("document.querySelectorAll('dialog .series:not(.pale)').length") == 3
    address = shown.run("location.href")
    shown.key("ArrowRight")
    shown.until("location.hash === '#run=cutout%2Fseed2'")
    shown.until("document.querySelector('dialog h2').innerText.includes('seed 2')")
    assert "cutout seed 2" in shown.run("document.querySelector('dialog h2').innerText")
    shown.key("Escape")
    shown.until("!document.querySelector('dialog').open && location.hash === ''")
    assert shown.run("document.querySelector('dialog').open") is False
    assert shown.run("location.hash") == ""
    assert shown.run("document.activeElement.dataset.run") == "cutout/seed2"
    shown.key("Enter")
    shown.until("document.querySelector('dialog').open")
    assert shown.run("document.querySelector('dialog').open") is True
    shown.open(address)
    assert "cutout seed 1" in shown.run("document.querySelector('dialog h2').innerText")


def test_the_curves_tell_their_values_at_each_epoch(shown, page):
    shown.open(page.as_uri() + "#run=none%2Fseed0")
    values = "[...document.querySelectorAll('dialog .legend')].map((e) => e.innerText.trim())"
    assert shown.run(values) == ["train 0.5", "test 80", "rate 0.03333"]
    shown.run("document.querySelector('dialog svg').focus()")
    shown.key("ArrowLeft")
    assert shown.run(values) == ["train 1", "test –", "rate 0.05"]
    assert shown.run("document.querySelector('dialog output').textContent") == "epoch 2 of 3"
    labels = shown.run(
        "[...document.querySelectorAll('dialog svg:first-of-type text')].map((e) => e.textContent)"
    )
    assert {"epoch", "loss (nats)", "accuracy (%)", "learning rate"} <= set(labels)


def test_a_name_full_of_markup_is_a_name(shown):
    runs = "[...document.querySelectorAll('a.run')]"
    shown.run(f"{runs}.find((a) => a.dataset.run.startsWith('<script>')).click()")
    shown.until("document.querySelector('dialog').open")
    name = NASTY.replace("/", "_")
    assert shown.run("document.querySelector('dialog h2').innerText").startswith(name)
    assert f"--name '{name}'" in shown.run("document.querySelector('dialog .command').innerText")
    assert shown.run("document.querySelectorAll('img').length") == 0


@pytest.mark.parametrize("width", [1280, 900, 400, 320])
def test_no_window_is_too_narrow(shown, page, width):
    shown.window(width)
    assert shown.run("document.documentElement.scrollWidth") == width
    shown.click("#unfold-all")
    assert shown.run("document.documentElement.scrollWidth") == width
    shown.open(page.as_uri() + "#run=none%2Fseed0")
    shown.run("document.querySelector('dialog details').open = true")
    assert (
        shown.run(
            "(({scrollWidth, clientWidth}) => scrollWidth - clientWidth)(document.querySelector('dialog'))"
        )
        == 0
    )


def test_the_command_is_copied(shown, page):
    shown.open(page.as_uri() + "#run=none%2Fseed0")
    keep = "{writeText: async (text) => (window.copied = text)}"
    shown.run(f"Object.defineProperty(navigator, 'clipboard', {{value: {keep}}})")
    shown.click("dialog .copy")
    shown.until("document.querySelector('.copy').textContent === 'Copied'")
    assert shown.run("window.copied") == "python train.py --seed 0 --name 'none'"
    assert shown.run("document.querySelector('.copy').textContent") == "Copied"


def test_dark_and_print_have_colours_of_their_own(shown):
    paper = "getComputedStyle(document.body).backgroundColor"
    light = shown.run(paper)
    shown.window(1280, dark=True)
    assert shown.run(paper) != light
    shown.window(1280, dark=True, media="print")
    assert shown.run(paper) == light
    assert not shown.run("document.querySelector('.filters').checkVisibility()")


def test_without_scripts_the_table_shows_every_run(browser, page):
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(page.as_uri())
        assert browser.run("[...document.querySelectorAll('tr.run')].every((e) => e.checkVisibility())")
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)
