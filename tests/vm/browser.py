"""A notebook in a real browser: log in, run a cell, see its plot.

Playwright is imported where it is used: whoever runs the fast tests collects this module, too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tasks import find_browser, no_browser
from tests.vm.bakehouse import PROJECT

if TYPE_CHECKING:
    from playwright.sync_api import Page

SCREENSHOTS = Path(os.environ.get("BAKEHOUSE_TEST_RESULTS", PROJECT / "test-results"))
PATIENCE_MS = 240_000
"""An emulated machine takes a minute to import scikit-learn."""
PLOT = """\
from IPython.display import SVG

points = [(x, 150 - x**2 / 150) for x in range(150)]
print("points:", len(points))
line = " ".join(f"{2 * x},{2 * y:.0f}" for x, y in points)
SVG(f'<svg xmlns="http://www.w3.org/2000/svg" width="300" height="300"><polyline points="{line}" fill="none" stroke="blue"/></svg>')
"""
"""A cell for a machine with nothing but JupyterLab."""
IRIS = """\
import matplotlib.pyplot as plt
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA

iris = load_iris()
points = PCA(n_components=2).fit_transform(iris.data)
plt.scatter(points[:, 0], points[:, 1], c=iris.target)
plt.title("Iris, two principal components")
print("points:", len(points))
"""
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"]


@contextmanager
def chromium() -> Iterator[Page]:
    """Give a page of the Chrome or Chromium of this computer. MissingToolError where there is none."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        program = find_browser(own=Path(playwright.chromium.executable_path))
        if program is None:
            raise no_browser()
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS, timeout=PATIENCE_MS)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(PATIENCE_MS)
        yield page
        browser.close()


def run_cell(page: Page, url: str, password: str, cell: str, *, screenshot: str) -> None:
    """Log in, run a cell that plots 150 points, and see what it prints and the picture."""
    from playwright.sync_api import expect

    page.goto(url)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()
    page.locator('.jp-LauncherCard[data-category="Notebook"]').first.click()
    page.locator(".jp-Notebook-cell .cm-content").first.click()
    page.keyboard.insert_text(cell)
    # What is run before the kernel is up is lost.
    expect(page.get_by_text("Python 3 (ipykernel) | Idle")).to_be_visible(timeout=PATIENCE_MS)
    page.keyboard.press("Control+Enter")
    expect(page.locator(".jp-OutputArea-output", has_text="points: 150")).to_be_visible(timeout=PATIENCE_MS)
    picture = page.locator(".jp-OutputArea-output img")
    expect(picture).to_be_visible(timeout=PATIENCE_MS)
    assert picture.evaluate("image => image.naturalWidth * image.naturalHeight") > 50_000
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SCREENSHOTS / screenshot)
