"""Histories: what clients asked, when, and what they were told.

A history is a list of operations, each with the moment of its call and of its return. It knows
nothing of the system that was asked, of files (``jsonl.py``, ``edn.py``, ``porcupine.py`` read
those) or of what an operation means (``models/``).

Three things can become of an operation (the words of our JSONL; Jepsen says ``info`` for unknown):

    ok        it happened and returned this result
    fail      it certainly did not happen; such operations never reach a checker
    unknown   nobody was told; it may take effect at any later time, or never

Invariants:
    * ``invoked < returned``; positions are unique within a history, so real-time order is total
    * a process has at most one operation open, and after an unknown one it never calls again
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

UNKNOWN_RETURN: Final = 1 << 62
"""``Operation.returned`` of an operation whose outcome nobody was told: after everything else."""


class Operation(NamedTuple):
    """One call of one client.

    Attributes:
        process: who called; a process makes one call after the other.
        function: what was called: "read", "write", "cas" ...; the model knows the names.
        key: the object that was called; None when the history is about a single one.
        argument: what was handed in (hashable: lists arrive as tuples).
        result: what came back; meaningless when the outcome is unknown.
        invoked: position of the call among all calls and returns of the history.
        returned: position of the return, or UNKNOWN_RETURN.
        invoked_ns: time of the call as the history tells it, 0 when it does not; for pictures.
        returned_ns: the same for the return.
        line: line of the call in the file, from 1; 0 when it came from no file.
    """

    process: int | str
    function: str
    key: Any
    argument: Any
    result: Any
    invoked: int
    returned: int
    invoked_ns: int = 0
    returned_ns: int = 0
    line: int = 0

    @property
    def is_unknown(self) -> bool:
        """Whether nobody was told what became of it."""
        return self.returned == UNKNOWN_RETURN


class History(NamedTuple):
    """The operations of one run that may have happened, by the order of their calls.

    Attributes:
        operations: those that succeeded and those of unknown outcome; failed ones are left out.
        failed: how many operations certainly did not happen.
        model: name of the model that the file itself asks for, or "".
        source: file name, or "".
    """

    operations: list[Operation]
    failed: int = 0
    model: str = ""
    source: str = ""
