"""The report in headless Chromium: nothing loaded, no console error, the table sorts, numbers equal the Parquet file.

Needs `chromium` and pyarrow; drives the browser over its debugging pipe, so no driver and no port.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

pq = pytest.importorskip("pyarrow.parquet")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
ROOT = Path(__file__).resolve().parents[2]
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --remote-debugging-pipe"
).split()


class Browser:
    """One tab, spoken to in NUL-ended JSON over two pipes (descriptors 3 and 4 of the browser)."""

    def __init__(self, profile):
        down_read, self.down = os.pipe()
        self.up, up_write = os.pipe()

        def place():
            # Above 4 first, since one of the pipes may already sit on 3 or 4.
            source, sink = os.dup2(down_read, 20), os.dup2(up_write, 21)
            os.dup2(source, 3)
            os.dup2(sink, 4)

        command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        self.process = subprocess.Popen(command, preexec_fn=place, close_fds=False, stderr=subprocess.DEVNULL)
        os.close(down_read)
        os.close(up_write)
        self.buffer, self.number, self.session, self.events = b"", 0, None, []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def message(self):
        while b"\0" not in self.buffer:
            chunk = os.read(self.up, 1 << 20)
            assert chunk, "the browser ended"
            self.buffer += chunk
        raw, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(raw)

    def call(self, method, **params):
        self.number += 1
        request = {"id": self.number, "method": method, "params": params}
        if self.session:
            request["sessionId"] = self.session
        data = json.dumps(request).encode() + b"\0"
        while data:
            data = data[os.write(self.down, data) :]
        while (answer := self.message()).get("id") != self.number:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, url):
        self.call("Page.navigate", url=url)
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self.message())

    def run(self, script):
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def close(self):
        self.process.terminate()
        self.process.wait(20)
        os.close(self.down)
        os.close(self.up)


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gallery")
    command = ["cargo", "run", "-q", "--example", "report_gallery", "--", str(folder), "hostile"]
    subprocess.run(command, cwd=ROOT, check=True)
    return folder


@pytest.fixture
def page(gallery, tmp_path):
    browser = Browser(tmp_path)
    try:
        browser.open((gallery / "report.html").as_uri())
        yield browser
    finally:
        browser.close()


CELLS = """[...TABLE.querySelector('tbody').rows].map(row =>
  [...row.cells].map(cell => cell.classList.contains('number')
    ? (cell.dataset.value === undefined ? null : Number(cell.dataset.value)) : cell.textContent))"""
COLUMNS = {
    0: "layer",
    1: "depth",
    2: "parameters",
    3: "total_variance",
    4: "variance_per_parameter",
    5: "first_ratio",
    6: "second_ratio",
    8: "effective_rank",
    9: "components_90",
    10: "components_95",
    11: "components_99",
    12: "first_ratio_error",
    13: "first_ratio_null_low",
    14: "first_ratio_null_high",
}


def cells(page, table):
    """Every row of a table, by its selector."""
    return page.run(CELLS.replace("TABLE", table))


def column(page, position):
    return [row[position] for row in cells(page, "document.querySelector('.layers')")]


def click(page, position):
    page.run(f"document.querySelectorAll('.layers')[0].querySelectorAll('thead th')[{position}].firstChild.click()")


def test_nothing_is_loaded_and_nothing_complains(page):
    methods = [event.get("method") for event in page.events]
    complaints = [e for e in page.events if e.get("method") in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")]
    assert not complaints
    urls = [e["params"]["request"]["url"] for e in page.events if e.get("method") == "Network.requestWillBeSent"]
    assert "Page.loadEventFired" in methods and urls
    assert [url for url in urls if not url.startswith("data:")] == [page.run("location.href")]
    assert page.run("document.querySelectorAll('figure svg').length") > 12


def test_names_of_artifacts_are_text(page):
    assert page.run("document.querySelectorAll('img').length") == 0
    assert page.run("document.scripts.length") == 1
    assert "</script><img src=x onerror=alert(1)>" in column(page, 0)


def test_numbers_equal_the_parquet_file(page, gallery):
    table = pq.read_table(gallery / "layers.parquet").to_pydict()
    for position, name in COLUMNS.items():
        assert column(page, position) == table[name], name


GROUPS = {0: "group", 1: "grouping", 2: "layers", 3: "parameters", 4: "total_variance"}
PAIRS = {
    0: "group",
    1: "grouping",
    2: "first",
    3: "second",
    4: "overlap",
    5: "smallest_angle_degrees",
    6: "mean_angle_degrees",
    7: "largest_angle_degrees",
    8: "residual_first_in_second",
    9: "residual_second_in_first",
    10: "mean_cosine",
}
JOINT = {0: "group", 1: "grouping", 2: "parameters", 3: "between", 4: "within", 5: "dataset_share"}


@pytest.mark.parametrize(
    ("selector", "file", "columns"),
    [
        ("document.querySelectorAll('#fit-1 .layers')[1]", "groups", GROUPS),
        ("document.querySelectorAll('#comparison .layers')[0]", "pairs", PAIRS),
        ("document.querySelectorAll('#comparison .layers')[1]", "joint", JOINT),
    ],
)
def test_numbers_of_groups_and_pairs_equal_the_parquet_file(page, gallery, selector, file, columns):
    table = pq.read_table(gallery / f"{file}.parquet").to_pydict()
    rows = cells(page, selector)
    assert rows
    for position, name in columns.items():
        assert [row[position] for row in rows] == table[name], name


def test_pairs_of_datasets_sort(page):
    page.run("document.querySelectorAll('#comparison .layers')[0].querySelectorAll('thead th')[4].firstChild.click()")
    overlaps = [row[4] for row in cells(page, "document.querySelectorAll('#comparison .layers')[0]")]
    assert overlaps == sorted(overlaps, reverse=True) and len(overlaps) == 3
    text = page.run("document.querySelectorAll('#comparison .layers')[0].querySelector('output').textContent")
    assert text == "3 rows"


def test_paper_is_light_and_has_all_rows(page):
    page.run("document.documentElement.dataset.theme = 'dark'")
    background = "getComputedStyle(document.body).backgroundColor"
    dark = page.run(background)
    page.call("Emulation.setEmulatedMedia", media="print")
    assert page.run(background) != dark
    hidden = "[...document.querySelectorAll('.tools')].filter(tool => getComputedStyle(tool).display !== 'none').length"
    assert page.run(hidden) == 0, "boxes to type in are of no use on paper"


def test_the_null_band_and_the_angles_are_drawn(page):
    text = "[...document.querySelectorAll('svg text')].map(label => label.textContent)"
    labels = page.run(text)
    assert "random directions" in labels and "Principal angles between datasets" in labels


def test_the_table_sorts(page):
    click(page, 3)
    falling = column(page, 3)
    assert falling == sorted(falling, reverse=True)
    click(page, 3)
    assert column(page, 3) == sorted(falling)
    for _ in range(2):
        click(page, 1)
        depths = column(page, 1)
        known = [depth for depth in depths if depth is not None]
        assert depths[len(known) :] == [None] * (len(depths) - len(known)), "cells without a value stay last"
    assert known == sorted(known)


def test_the_table_can_be_searched(page):
    page.run("const box = document.querySelector('.layers input'); box.value = 'C_FC .11.'; box.dispatchEvent(new Event('input'))")
    shown = page.run("[...document.querySelectorAll('.layers')[0].querySelectorAll('tbody tr:not([hidden])')].map(r => r.cells[0].textContent)")
    assert shown == ["visual.transformer.resblocks.11.mlp.c_fc.weight"]


def test_the_theme_can_be_switched(page):
    background = "getComputedStyle(document.querySelector('figure')).backgroundColor"
    before = page.run(background)
    page.run("document.getElementById('theme').click()")
    assert page.run(background) != before
    page.run("document.getElementById('theme').click()")
    assert page.run(background) == before


def test_a_phone_does_not_scroll_sideways(page):
    page.call("Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=2, mobile=True)
    assert page.run("document.documentElement.scrollWidth") <= 390
