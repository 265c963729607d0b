"""The page: well formed, alone, and nothing but text from the history."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest

from quorate.checking.explain import Window
from quorate.checking.timeline import render_timeline
from quorate.checking.timeline_picture import Picture
from quorate.checking.verdict import Answer, Counterexample

from .pictures import MODEL, crowd, hostile, stale_read, verdict

VOID = {"meta", "link", "br", "img", "input"}


class Page(HTMLParser):
    """Collects elements and text, and checks that every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def of_class(page: Page, name: str) -> int:
    return sum(name in (attributes.get("class") or "").split() for _, attributes in page.elements)


def test_the_page_shows_every_operation_and_the_order() -> None:
    """A bar for each operation, a point for each place of the order, red where nothing fits."""
    text = render_timeline(verdict(stale_read()), MODEL, "runs/seed.jsonl")
    page = Page(text)
    assert (of_class(page, "bar"), of_class(page, "point"), of_class(page, "cross")) == (3, 2, 1)
    assert of_class(page, "state") == 3
    words = " ".join(page.words)
    for said in ("runs/seed.jsonl", "not linearizable", "read -> 3", "nothing fits next", "1,234"):
        assert said in words


@pytest.mark.parametrize(
    "found", [stale_read(), crowd(), hostile()], ids=["stale", "crowd", "evil"]
)
def test_the_drawing_is_well_formed_and_points_lie_on_their_bars(found: Counterexample) -> None:
    """Each SVG parses as XML, and the points go from left to right in the order's own order."""
    text = render_timeline(verdict(found), MODEL)
    pictures = [ET.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL)]
    assert len(pictures) == 2
    points = [
        float(group.find("circle").get("cx"))  # type: ignore[union-attr, arg-type]
        for group in pictures[1].iter("g")
        if group.get("class") == "point"
    ]
    assert points == sorted(points)
    assert len(points) == len(found.longest)


@pytest.mark.parametrize("found", [stale_read(), crowd(14)], ids=["stale", "crowd"])
def test_every_point_lies_between_call_and_return(found: Counterexample) -> None:
    """The longest order can be read off the picture because each point is on its own bar."""
    picture = Picture(Window(found, MODEL))
    for x, operation, _ in picture._points:
        left, right = picture._span(operation)
        assert left < x < right


def test_nothing_is_loaded_and_nothing_of_the_history_is_markup() -> None:
    """No script, no address, no event handler, whatever the history contains."""
    text = render_timeline(verdict(hostile()), MODEL, "<u>evil</u>")
    text.encode()
    page = Page(text)
    assert "default-src 'none'" in text
    assert {tag for tag, _ in page.elements}.isdisjoint({"script", "u", "img", "link", "iframe"})
    for _, attributes in page.elements:
        assert not any(name.startswith("on") or name in ("href", "src") for name in attributes)
    assert "http" not in re.sub(r"http-equiv", "", text)
    assert "\x1b" not in text


@pytest.mark.parametrize("answer", [Answer.LINEARIZABLE, Answer.UNDECIDED])
def test_a_verdict_without_counterexample_is_a_page_too(answer: Answer) -> None:
    """The verdict and the figures, and no picture."""
    page = Page(render_timeline(verdict(None, answer), MODEL, "h"))
    assert answer.value in " ".join(page.words)
    assert not any(tag == "svg" for tag, _ in page.elements)
