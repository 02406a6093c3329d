"""Test what all pages have in common."""

import re
from importlib.resources import files

import pytest

PAGES = [
    each
    for each in files("reidray.reporting").joinpath("templates").iterdir()
    if each.name.endswith(".html")
]


@pytest.mark.parametrize("template", PAGES, ids=lambda each: each.name)
def test_a_table_scrolls_where_the_page_is_too_narrow_for_it(template):
    text = template.read_text(encoding="utf-8")
    scrolled = re.findall(r'<div class="(?:scrolled|wide)">\n<table', text)
    assert len(scrolled) == text.count("<table")
