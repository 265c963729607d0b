"""Every error that quorate raises on purpose, as one tree.

The branch answers the question that callers of a distributed system ask first: *did it happen?*

    QuorateError
    ├── UsageError                 you called it wrongly; nothing happened; fix the call or setting
    │   ├── SettingsError          a flag, variable or file says something impossible
    │   └── BadInput               a file you handed in cannot be used; names file and line
    ├── DidNotHappen               the operation did not happen; trying again is safe
    │   ├── NotLeader              this node does not lead; carries who does, if known
    │   ├── NoQuorum               too few members can be reached
    │   └── Overloaded             a bound was reached; try again later
    ├── OutcomeUnknown             may or may not have happened; retry only with the same identity
    ├── RemoteProtocolError        the other side broke the protocol; its connection is closed
    ├── StorageError               this node cannot trust or use its disk; it stops
    │   ├── DiskFailed             a write or fsync failed; what was in flight is unknown
    │   │   └── DiskFull           there was no space for it; other files are as they were
    │   ├── CorruptData            a checksum is wrong where a torn write cannot explain it
    │   │   └── UnknownFormat      written by another version of quorate; not damaged
    │   ├── Unreadable             the disk does not give stored bytes back: both of the above
    │   └── WrongDirectory         foreign, copied or wiped data directory
    └── InvariantBroken            our bug: the node stops rather than give a wrong answer

Invariant: no error of this tree is ever swallowed; the node answers, closes a connection or stops.
"""

from __future__ import annotations


class QuorateError(Exception):
    """Root of the tree; never raised itself."""


class UsageError(QuorateError, ValueError):
    """The caller asked for something impossible. It did not happen."""


class SettingsError(UsageError):
    """A flag, environment variable or settings file is wrong; the message says which and why."""


class BadInput(UsageError):
    """A file that a person handed in cannot be used; nothing was done.

    Args:
        source: file name.
        line: line number from 1; 0 when no single line is to blame.
        reason: what was expected and what was found.
    """

    def __init__(self, source: str, line: int, reason: str) -> None:
        where = f"{source}:{line}" if line else source
        super().__init__(f"{where}: {reason}")
        self.source = source
        self.line = line


class DidNotHappen(QuorateError):
    """The operation did not happen and never will; trying again is safe."""


class NotLeader(DidNotHappen):
    """Only the leader can do this. ``leader`` is the node to ask, 0 when unknown."""

    def __init__(self, leader: int = 0) -> None:
        where = f"ask node {leader}" if leader else "no leader is known yet; try again"
        super().__init__(f"this node does not lead: {where}")
        self.leader = leader


class NoQuorum(DidNotHappen):
    """Too few members answer; nothing was decided."""


class Overloaded(DidNotHappen):
    """A buffer reached its bound; the operation was refused before it was accepted."""


class OutcomeUnknown(QuorateError):
    """It may or may not have happened. Retry only with the same identity (applied once)."""


class RemoteProtocolError(QuorateError):
    """The other side sent bytes that no correct peer or client sends. Close its connection."""


class StorageError(QuorateError):
    """This node cannot go on with its disk. It stops; the others carry on."""


class DiskFailed(StorageError):
    """A read, write or fsync failed. What was in flight may or may not be on disk.

    After a failed fsync the kernel may have dropped the pages, so it is never retried.
    """


class DiskFull(DiskFailed):
    """There is no space, or no quota, left. The file may have been written in part.

    Whoever can give that file up (a snapshot that is being written) may go on and try again later.
    Of the log it is a failure like any other; so it asks for room first (``Store.has_room``).
    """


class CorruptData(StorageError):
    """Stored bytes are damaged where a torn write cannot be the reason.

    Args:
        path: file name inside the data directory.
        offset: byte offset of the damage.
        reason: what was expected and what was found, and what to do.
    """

    def __init__(self, path: str, offset: int, reason: str) -> None:
        super().__init__(f"{path} is damaged at byte {offset}: {reason}")
        self.path = path
        self.offset = offset


class Unreadable(CorruptData, DiskFailed):
    """The disk does not give stored bytes back (EIO): lost, where others have them; else a failure.

    Args:
        path: file name inside the data directory.
        offset: where reading was tried.
        reason: what to know beside that.
    """

    def __init__(self, path: str, offset: int, reason: str = "") -> None:
        more = f"; {reason}" if reason else ""
        words = f"cannot read {path} at byte {offset}: Input/output error (EIO){more}"
        StorageError.__init__(self, words)
        self.path = path
        self.offset = offset


class UnknownFormat(CorruptData):
    """A file in a format that this version does not know. It is whole: never repair it."""


class WrongDirectory(StorageError):
    """The data directory belongs to somebody else, was copied, or was wiped."""


class InvariantBroken(QuorateError, AssertionError):
    """A rule that can never break was broken: a bug of quorate. The node stops."""
