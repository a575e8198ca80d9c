# SPDX-License-Identifier: Apache-2.0
"""Headless Chromium for tests of pages, where there is one."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None,
    reason="no Chromium to drive the page with: apt-get install --no-install-recommends chromium",
)


@contextmanager
def chromium(*options: str) -> Iterator["Browser"]:
    """The browser, with options of its command line."""
    # What Playwright itself downloads is not used.
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # --no-sandbox: for root, as in CI
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", *options]
        )
        yield browser
        browser.close()
