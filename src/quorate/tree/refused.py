"""The one exception inside the tree: a request that is answered with an error code.

It never leaves the tree: whoever parses the request turns it into a reply. Raised before anything
was changed, so *it did not happen* (a multi undoes its earlier parts).
"""

from __future__ import annotations


class Refused(Exception):
    """The request is answered with ``code`` (an ``ErrorCode``); nothing was changed."""

    __slots__ = ("code",)

    def __init__(self, code: int) -> None:
        super().__init__(code)
        assert code < 0
        self.code = int(code)
