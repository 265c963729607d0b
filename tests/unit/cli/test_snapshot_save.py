"""Saving a snapshot: what nodes store compressed is a backup of plain bytes."""

from __future__ import annotations

import zlib

import pytest

from quorate.cli.snapshot.save import _unfold
from quorate.errors import DidNotHappen


def pieces_of(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_stored_snapshot_unfolds_whatever_its_pieces(size):
    """Piece boundaries mean nothing."""
    plain = b"state " * 500
    assert b"".join(_unfold(iter(pieces_of(zlib.compress(plain), size)))) == plain


def test_a_stored_snapshot_that_ends_early_is_refused():
    """Nothing is saved of half a snapshot, and the error says so."""
    stored = zlib.compress(b"state " * 500)
    with pytest.raises(DidNotHappen, match="nothing is saved"):
        list(_unfold(iter(pieces_of(stored[:-5], 9))))
