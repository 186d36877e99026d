"""The page of results in a browser: sorting, filters, and the details of a run."""

from pathlib import Path

import pytest

from tests.helpers.browser import Browser, chromium
from tests.helpers.result_page import NASTY, make_page, write_all

pytestmark = pytest.mark.browser
NAMES = "[...document.querySelectorAll('tbody:not([hidden]) .name')].map((e) => e.textContent)"


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("records")
    write_all(folder)
    return make_page(folder, tmp_path_factory.mktemp("page"), "--baseline", "none")


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
            pytest.skip(f"{program} may not read {folder}, for example because it runs in a sandbox")
        yield browser
    finally:
        browser.close()


@pytest.fixture
def shown(browser, page):
    """The page in a wide window; at the end there must be no error in its console."""
    browser.errors.clear()
    browser.window(1280)
    browser.open(page.as_uri())
    yield browser
    assert browser.errors == []
    assert browser.run("typeof bad") == "undefined"


def column(browser: Browser, label: str) -> str:
    """The selector of a column's button."""
    place = browser.run(
        f"[...document.querySelectorAll('#settings th')].findIndex((e) => e.innerText.includes('{label}'))"
    )
    return f"#settings th:nth-child({place + 1}) button"


def test_a_click_on_a_heading_sorts_by_it_and_a_second_click_reverses_the_order(shown):
    assert shown.run(NAMES)[:3] == ["digits", "cutout", "none"]
    assert shown.run("document.querySelectorAll('[aria-sort]').length") == 1
    accuracy = column(shown, "accuracy")
    shown.click(accuracy)
    assert shown.run(NAMES)[1:4] == ["mixup", "none", "cutout"]
    assert shown.run(NAMES)[-1] == "lost"  # it has no accuracy
    assert shown.run(f"document.querySelector('{accuracy}').parentNode.ariaSort") == "ascending"
    shown.click(column(shown, "setting"))
    names = shown.run(NAMES)
    assert [name for name in names if name[0] != "<"] == ["cutout", "digits", "lost", "mixup", "none"]
    assert shown.run("document.querySelectorAll('[aria-sort]').length") == 1


def test_filters_hide_rows_of_the_table_and_fade_rows_of_the_forest_plot(shown):
    def choose(name: str, text: str) -> None:
        shown.run(
            f"(() => {{ const s = document.querySelector('[name={name}]');"
            f" s.value = [...s.options].find((o) => o.text === '{text}').value;"
            " s.dispatchEvent(new Event('input', {bubbles: true})) })()"
        )

    clear = "[...document.querySelectorAll('.forest [id]:not(.pale) a')].map((e) => e.textContent)"
    assert shown.run(clear)[:2] == ["cutout", "mixup"]
    shown.click("[name=words]")
    shown.type("SEED2 cut")
    assert shown.run(NAMES) == ["cutout"]
    assert shown.run(clear) == ["cutout"]
    assert shown.run("document.getElementById('shown').textContent") == "1 of 6 settings"
    shown.click("[type=reset]")
    shown.until(f"{NAMES}.length === 6")
    assert shown.run(clear)[:2] == ["cutout", "mixup"]
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


def test_a_name_in_the_forest_plot_opens_the_runs_of_its_setting(shown):
    shown.run("[...document.querySelectorAll('.forest a')].find((a) => a.textContent == 'mixup').id = 'mine'")
    shown.click("#mine")
    visible = "[...document.querySelectorAll('a.run')].filter((e) => e.checkVisibility())"
    assert shown.run(f"{visible}.map((e) => e.dataset.run)") == [f"mixup/seed{k}" for k in range(3)]


def test_a_run_opens_by_mouse_and_keyboard_and_its_address_opens_it_again(shown):
    name = "[...document.querySelectorAll('.name')].find((e) => e.textContent === 'cutout')"
    shown.run(f"{name}.closest('tbody').id = 'mine'")
    assert not shown.run("document.querySelector('#mine tr.run').checkVisibility()")
    shown.click("#mine tr.setting .name")
    shown.click("#mine tr.run:nth-child(3) td.accuracy")
    assert shown.run("location.hash") == "#run=cutout%2Fseed1"
    shown.until("document.querySelector('dialog').open")
    text = shown.run("document.querySelector('dialog').innerText")
    for words in ("cutout seed 1", "84.00 %", "python train.py --seed 1", "augment.cutout"):
        assert words in text
    address = shown.run("location.href")
    shown.key("ArrowRight")
    shown.until("location.hash === '#run=cutout%2Fseed2'")
    shown.until("document.querySelector('dialog h2').innerText.includes('seed 2')")
    shown.key("Escape")
    shown.until("!document.querySelector('dialog').open && location.hash === ''")
    assert shown.run("document.activeElement.dataset.run") == "cutout/seed2"
    shown.key("Enter")
    shown.until("document.querySelector('dialog').open")
    shown.open(address)
    assert "cutout seed 1" in shown.run("document.querySelector('dialog h2').innerText")


def test_the_dialog_of_a_run_shows_its_curves_and_those_of_the_other_seeds_pale(shown, page):
    shown.open(page.as_uri() + "#run=none%2Fseed1")
    lines = "[...document.querySelectorAll('dialog .curves [id^=run-]{}')].map((e) => e.id)"
    clear, pale = shown.run(lines.format(":not(.pale)")), shown.run(lines.format(".pale"))
    assert clear == ["run-1-train_loss", "run-1-test_accuracy", "run-1-lr"]
    assert len(pale) == 6
    labels = shown.run("[...document.querySelectorAll('dialog svg text')].map((e) => e.textContent)")
    assert {"epoch", "loss", "accuracy (%)", "learning rate", "train", "test"} <= set(labels)
    line = "document.querySelector('dialog #run-1-lr').getBoundingClientRect()"
    assert shown.run(f"Math.min({line}.width, {line}.height)") > 50


def test_a_name_full_of_markup_is_shown_as_text(shown):
    runs = "[...document.querySelectorAll('a.run')]"
    shown.run(f"{runs}.find((a) => a.dataset.run.startsWith('<script>')).click()")
    shown.until("document.querySelector('dialog').open")
    name = NASTY.replace("/", "_")
    assert shown.run("document.querySelector('dialog h2').innerText").startswith(name)
    assert f"--name '{name}'" in shown.run("document.querySelector('dialog .command').innerText")
    assert shown.run("document.querySelectorAll('img').length") == 0


@pytest.mark.parametrize("width", [1280, 900, 400, 320])
def test_the_page_fits_the_width_of_any_window(shown, page, width):
    shown.window(width)
    assert shown.run("document.documentElement.scrollWidth") == width
    shown.click("#unfold-all")
    assert shown.run("document.documentElement.scrollWidth") == width
    shown.open(page.as_uri() + "#run=none%2Fseed0")
    shown.run("document.querySelector('dialog details').open = true")
    excess = "(({scrollWidth, clientWidth}) => scrollWidth - clientWidth)(document.querySelector('dialog'))"
    assert shown.run(excess) == 0


def test_the_command_is_copied(shown, page):
    shown.open(page.as_uri() + "#run=none%2Fseed0")
    keep = "{writeText: async (text) => (window.copied = text)}"
    shown.run(f"Object.defineProperty(navigator, 'clipboard', {{value: {keep}}})")
    shown.click("dialog .copy")
    shown.until("document.querySelector('.copy').textContent === 'Copied'")
    assert shown.run("window.copied") == "python train.py --seed 0 --name 'none'"


def test_dark_mode_and_print_have_their_own_colours(shown):
    paper = "getComputedStyle(document.body).backgroundColor"
    light = shown.run(paper)
    shown.window(1280, dark=True)
    assert shown.run(paper) != light
    shown.window(1280, dark=True, media="print")
    assert shown.run(paper) == light
    assert not shown.run("document.querySelector('.filters').checkVisibility()")


def test_a_figure_has_the_background_of_the_page_in_light_and_dark_mode(shown, tmp_path):
    from PIL import Image

    left, top = shown.run(
        "(({x, y}) => [x, y])(document.querySelector('.forest svg').getBoundingClientRect())"
    )
    for dark in (False, True):
        shown.window(1280, dark=dark)
        shown.screenshot(tmp_path / "page.png")
        with Image.open(tmp_path / "page.png") as image:
            assert image.getpixel((int(left) + 2, int(top) + 2)) == image.getpixel((2, 2))


def test_without_scripts_the_table_shows_every_run(browser, page):
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(page.as_uri())
        assert browser.run("[...document.querySelectorAll('tr.run')].every((e) => e.checkVisibility())")
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)
