"""Names of other people show as they are, whatever is in them."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from frostbox.markdown import escaped, table


def shown(markdown: str) -> str:
    """The text of the first body cell of a table, tags and all."""
    page = MarkdownIt("gfm-like", {"linkify": False, "html": True}).render(markdown)
    cell = re.search(r"<tbody>\n<tr>\n<td>(.*?)</td>", page, re.S)
    return html.unescape(cell[1])


@given(st.text(min_size=1))
@example("<script>alert(1)</script>")
@example("a|b")
@example("[x](javascript:alert(1))")
@example("![x](http://example.com/x.png)")
@example("`code` *em* __strong__ ~~s~~ $x$")
@example("# title\n- list\n\n| a | b |")
@example("&lt; &amp;")
@example("\\| \\")
@example("1. first")
@example("dining_table")
def test_a_name_in_a_table_is_text(name):
    plain = " ".join("".join(c if c.isprintable() else " " for c in name).split())
    assert shown(table(["name", "n"], [[escaped(name), "1"]])) == plain


@pytest.mark.parametrize("name", ["# a", "- a", "+ a", "> a", "1. a", "12) a", "---", "==="])
def test_a_name_at_the_start_of_a_line_begins_nothing(name):
    page = MarkdownIt("gfm-like", {"linkify": False}).render(escaped(name))
    assert html.unescape(page) == f"<p>{name}</p>\n"


def test_what_means_nothing_is_left_alone():
    plain = "dropout 0.2, x86-64 (a + b) = c! 100 % #3 http: 2.15.0+cu132"
    assert escaped(plain) == plain


def test_links_and_mentions_are_broken_up():
    assert escaped("www.example.com") == r"www\.example.com"
    assert escaped("http://x @anna") == r"http\://x \@anna"
