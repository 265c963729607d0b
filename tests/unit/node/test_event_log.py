"""Log lines: text and JSON, levels, and the bound on lines that repeat themselves."""

import json
import logging
import re
import string
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from quorate.node import events
from quorate.node.event_log import (
    KEYS_MAX,
    LINES_MAX,
    WINDOW_SECONDS,
    EventHandler,
    RateBound,
    configure_logging,
)
from quorate.node.settings import describe
from quorate.node.sources import load_settings

FLAGS = {"id": "2", "data": "/d", "cluster": "1=a:1,2=b:1,3=c:1"}


@pytest.fixture(autouse=True)
def loggers_as_before() -> Iterator[None]:
    """Logging is global: leave it as it was."""
    loggers = [logging.getLogger(name) for name in ("quorate", "asyncio")]
    before = [(logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    yield
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        for handler in logger.handlers:
            handler.close()
        logger.handlers[:] = handlers
        logger.setLevel(level)
        logger.propagate = propagate


def configure(**flags: str) -> EventHandler:
    return configure_logging(load_settings(FLAGS | flags, {}))


def written(capsys: pytest.CaptureFixture[str]) -> str:
    for handler in logging.getLogger("quorate").handlers:
        handler.flush()
    return capsys.readouterr().err


def test_a_text_line_names_level_and_node(capsys: pytest.CaptureFixture[str]) -> None:
    """One line per event, on standard error, readable without a manual."""
    configure()
    events.LINK_STANDS.say(peer=3, address="c:1")
    events.SNAPSHOT_BEGUN.say(index=7)  # debug
    line = written(capsys)
    assert line.endswith(" INFO     node 2: linked to node 3 at c:1\n")
    assert line.count("\n") == 1


def test_a_json_line_carries_event_and_fields(capsys: pytest.CaptureFixture[str]) -> None:
    """Programs find event, level, node, time and fields; words are the same as for people."""
    configure(log_format="json", log_level="debug")
    events.ELECTED.say(epoch=4, cause="election timeout")
    logging.getLogger("asyncio").warning("of the %s", "library")
    first, second = map(json.loads, written(capsys).splitlines())
    assert first.pop("time").endswith("Z")
    assert first == {
        "level": "info",
        "node": 2,
        "event": "elected",
        "words": "leads epoch 4: election timeout",
        "epoch": 4,
        "cause": "election timeout",
    }
    assert (second["event"], second["words"]) == ("other", "of the library")


def test_repeated_lines_are_bounded_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """A flood of one kind leaves ten lines; other kinds pass; the last words always pass."""
    handler = configure()
    for _ in range(500):
        events.LINK_TROUBLE.say(peer=1, address="a:1", words="cannot be reached")
        events.NODE_FAILED.say(reason="broken")
    events.LINK_TROUBLE.say(peer=3, address="c:1", words="cannot be reached")
    lines = written(capsys).splitlines()
    assert sum("node 1 at a:1" in line for line in lines) == LINES_MAX
    assert sum("node 3 at c:1" in line for line in lines) == 1
    assert sum("CRITICAL" in line for line in lines) == 500
    assert handler.bound.left_out == 500 - LINES_MAX


def test_nobody_waits_for_whoever_reads_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that stops reading costs lines, never time; later lines are written again."""
    monkeypatch.setattr("quorate.node.event_log.FLUSH_SECONDS", 0.01)
    monkeypatch.setattr("quorate.node.event_log.QUEUE_LINES_MAX", 20)
    begun, may_write, lines = threading.Event(), threading.Event(), []

    class Pipe:
        """Full until somebody reads."""

        def write(self, line: str) -> None:
            begun.set()
            may_write.wait(10)
            lines.append(line)

        def flush(self) -> None:
            pass

    monkeypatch.setattr("sys.stderr", Pipe())
    handler = configure()
    events.NODE_FAILED.say(reason="word 0")
    assert begun.wait(10)
    for number in range(1, 50):
        events.NODE_FAILED.say(reason=f"word {number}")
    handler.flush()
    assert (lines, handler.bound.left_out) == ([], 50 - 21)
    may_write.set()
    monkeypatch.setattr("quorate.node.event_log.FLUSH_SECONDS", 10.0)
    handler.close()
    assert [line.split()[-1] for line in lines] == [str(number) for number in range(21)]


def test_what_was_left_out_is_told_when_the_window_is_over() -> None:
    """The count comes once; afterwards lines pass again."""
    bound, key = RateBound(), ("link_trouble", "1")
    assert [bound.admits(key, 5.0) for _ in range(12)] == [True] * LINES_MAX + [False] * 2
    assert bound.take_left_out(5.0 + WINDOW_SECONDS - 1) == []
    assert bound.take_left_out(5.0 + WINDOW_SECONDS) == [("link_trouble", 2)]
    assert bound.take_left_out(5.0 + WINDOW_SECONDS) == []
    assert bound.admits(key, 5.0 + WINDOW_SECONDS)
    assert bound.left_out == 2


def test_a_quiet_kind_begins_a_new_window() -> None:
    """Ten lines an hour are never left out."""
    bound = RateBound()
    assert all(bound.admits(("x", ""), second * 61.0) for second in range(100))


def test_kinds_are_bounded() -> None:
    """More kinds than can be told apart share one bound, and one place in memory."""
    bound = RateBound()
    for number in range(KEYS_MAX + 500):
        bound.admits(("x", str(number)), 0.0)
    assert len(bound._windows) <= KEYS_MAX + 1
    assert bound.left_out == 500 - LINES_MAX


def test_every_event_can_be_said(capsys: pytest.CaptureFixture[str]) -> None:
    """Words and key of each event name fields, and a line comes of it."""
    configure(log_level="debug")
    for event in events.EVENTS.values():
        fields = {name for _, name, _, _ in string.Formatter().parse(event.words) if name}
        assert not event.key or event.key in fields
        event.say(**dict.fromkeys(fields, 1))
        assert event.meaning
    assert len(written(capsys).splitlines()) == len(events.EVENTS)


def test_settings_are_told_without_secrets() -> None:
    """Every setting in force is named; the digest that opens everything is not shown."""
    told = describe(load_settings(FLAGS | {"super_digest": "super:c2VjcmV0"}, {}))
    assert told["super_digest"] == "set"
    assert "c2VjcmV0" not in str(told)
    assert told["cluster"] == "1=a:1,2=b:1,3=c:1"
    assert (told["tick"], told["election_timeout"]) == ("2s", "500ms")
    assert (told["segment_size"], told["request_max"]) == ("64MiB", "1048575B")


def test_settings_of_tls_are_told_as_they_came_out() -> None:
    """Files and doors are named, with what was not given but follows; unused ones are not."""
    files = {"tls_cert": "/c.pem", "tls_key": "/k.pem", "tls_ca": "/a.pem"}
    doors = {"client_tls_listen": "127.0.0.1:2182", "client_tls_cert": "/d.pem"}
    told = describe(load_settings(FLAGS | files | doors | {"client_tls_key": "/e.pem"}, {}))
    assert {key: told[key] for key in files} == files
    assert (told["client_tls_cert"], told["client_tls_key"]) == ("/d.pem", "/e.pem")
    assert (told["peer_tls"], told["client_tls_listen"]) == ("require", "127.0.0.1:2182")
    assert (told["client_tls_ca"], told["admin_tls"]) == ("None", "off")


def test_nothing_is_written_past_the_events() -> None:
    """Node code says events: no logger and no print of its own."""
    room = Path(events.__file__).parent
    for file in sorted(room.glob("*.py")):
        if file.name not in ("events.py", "event_log.py"):
            text = file.read_text(encoding="utf-8")
            assert not re.search(r"getLogger|\bprint\(|\b_LOG\b", text), file.name
