"""Times, sizes, addresses: what is accepted, and what the refusals say."""

import pytest

from quorate.errors import SettingsError
from quorate.node.units import (
    Address,
    parse_address,
    parse_cluster,
    parse_count,
    parse_duration_ms,
    parse_size_bytes,
)


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("150ms", 150), ("2s", 2000), ("1.5s", 1500), ("1m", 60_000), (" 3 s ", 3000)],
)
def test_times_have_units(text: str, milliseconds: int) -> None:
    """A time is a number and a unit, and becomes whole milliseconds."""
    assert parse_duration_ms(text) == milliseconds


@pytest.mark.parametrize(("text", "size"), [("512B", 512), ("64KiB", 65536), ("1MiB", 1 << 20)])
def test_sizes_have_binary_units(text: str, size: int) -> None:
    """A size is a number and a binary unit, and becomes bytes."""
    assert parse_size_bytes(text) == size


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("150", "has no unit; write for example 150ms"),
        ("fast", "is not a time"),
        ("2 fortnights", "known units: ms, s"),
        ("-1s", "is not a time"),
        ("0.5ms", "too fine"),
    ],
)
def test_bad_times_say_what_to_write(text: str, words: str) -> None:
    """A time that cannot be understood is refused with an example."""
    with pytest.raises(SettingsError, match=words):
        parse_duration_ms(text)


def test_decimal_size_units_are_refused() -> None:
    """``64MB`` is refused: nobody agrees on what it means."""
    with pytest.raises(SettingsError, match="known units: B, KiB"):
        parse_size_bytes("64MB")


def test_addresses() -> None:
    """Names, IPv4 and bracketed IPv6 are addresses, and print as they are written."""
    assert parse_address("127.0.0.1:2181") == Address("127.0.0.1", 2181)
    assert parse_address("[::1]:2181") == Address("::1", 2181)
    assert str(Address("::1", 2181)) == "[::1]:2181"


@pytest.mark.parametrize("text", ["2181", "host:", ":2181", "host:0", "host:65536", "::1:2181"])
def test_bad_addresses(text: str) -> None:
    """An address without host, port or brackets is refused."""
    with pytest.raises(SettingsError):
        parse_address(text)


def test_counts_are_whole_numbers() -> None:
    """A count has neither unit nor sign."""
    assert parse_count("10") == 10
    for text in ("-1", "1k", ""):
        with pytest.raises(SettingsError, match="whole number"):
            parse_count(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a:1", "is not ID=HOST:PORT"),
        ("0=a:1", "start at 1"),
        ("1=a:1,1=b:1", "appears twice"),
        ("1=a:1,2=a:1", "share the address a:1"),
    ],
)
def test_bad_clusters(text: str, words: str) -> None:
    """Members that could not be told apart are refused."""
    with pytest.raises(SettingsError, match=words):
        parse_cluster(text)
