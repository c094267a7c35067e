"""A tab of a real browser: Debian's chromium, driven by playwright."""

import contextlib
import shutil

import pytest
from playwright.sync_api import expect, sync_playwright

BROWSERS = ('chromium', 'chromium-browser', 'google-chrome', 'chrome')
NO_BROWSER = 'NO BROWSER, so the page is not tested: install Debian\'s package "chromium"'
WAIT = 30_000  # milliseconds for whatever shall be seen
EVERYONE = {'rules': {'target-size': {'enabled': True}}}  # what axe-core is asked for besides


@contextlib.contextmanager
def tab():
    """Of an English window; the test is skipped where there is no browser."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not path:
        pytest.skip(NO_BROWSER)
    expect.set_options(timeout=WAIT)
    with sync_playwright() as playwright:
        context = playwright.chromium.launch(executable_path=path).new_context(locale='en-US')
        tab = context.new_page()
        tab.set_default_timeout(WAIT)
        yield tab


@contextlib.contextmanager
def watched(tab, address):
    """No script may fail in a page at `address`, and nothing may be asked of another address."""
    mistakes, asked = [], []
    listeners = {
        'pageerror': lambda error: mistakes.append(str(error)),
        'console': lambda told: mistakes.append(told.text),
        'request': lambda request: asked.append(request.url),
    }
    for event, listener in listeners.items():
        tab.on(event, listener)
    yield
    for event, listener in listeners.items():
        tab.remove_listener(event, listener)
    assert [each for each in mistakes if 'Failed to load resource' not in each] == []
    assert [url for url in asked if not url.startswith((address, 'data:', 'blob:', 'about:'))] == []
