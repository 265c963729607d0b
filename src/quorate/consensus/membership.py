"""Who votes: configurations, simple, planned and joint.

A configuration is membership (options are *settings*). It passes through three shapes, each one
entry of the log, and each holds all that a new leader needs to go on:

    simple ----> planned ----> joint ----> simple
           new members catch up     both halves decide (Raft §6, dissertation §4.3)

While ``next_voters`` is not empty a change is *planned*: nothing about quorums has changed yet,
members that are to vote receive the log. While ``outgoing`` is not empty the configuration is
*joint*: decisions need a majority of ``voters`` *and* of ``outgoing``. A change that touches no
voter goes from simple to simple.

What may follow what is decided in ``change.py``. Addresses are opaque text: consensus carries them,
so that whoever knows the configuration can reach its members, and never reads them.

Invariants:
    * everything is kept sorted and without what does not matter, so that equal configurations are
      equal bytes everywhere
    * a node is at most one of voter and learner in the incoming half
    * a quorum always holds a voter that keeps data: witnesses are fewer than a majority
    * bytes of a configuration without witnesses, plan, priorities and addresses are those of the
      first format, which data directories of the first releases hold
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from quorate.errors import RemoteProtocolError, UsageError

_COUNT = struct.Struct(">H")
_PAIR = struct.Struct(">IH")

_EXTENDED = b"\xff\xff\x02"
"""Opens the second format: as a count of voters it is beyond what a cluster can have."""

MEMBERS_MAX = 255
"""Far above any sensible cluster, and small enough for everything that is done per member."""

ADDRESS_BYTES_MAX = 1000
PRIORITY_MAX = 100


@dataclass(frozen=True, slots=True)
class Configuration:
    """The members of a cluster at some index of the log.

    Args:
        voters: ids (1 ...) of members that vote; the new half while joint.
        learners: ids that receive the log and do not vote.
        outgoing: the old half of a joint configuration; empty otherwise.
        witnesses: those members that keep no data: they vote and never lead.
        next_voters: the voters that a planned change leads to; empty when none is planned.
        next_learners: the learners that it leads to.
        priorities: (node, priority) of members that should lead rather than others, 1 ...
            PRIORITY_MAX, the highest first; a member that is not named has 0.
        addresses: (node, address) where the others reach a member, opaque here.
    """

    voters: tuple[int, ...]
    learners: tuple[int, ...] = ()
    outgoing: tuple[int, ...] = ()
    witnesses: tuple[int, ...] = ()
    next_voters: tuple[int, ...] = ()
    next_learners: tuple[int, ...] = ()
    priorities: tuple[tuple[int, int], ...] = ()
    addresses: tuple[tuple[int, str], ...] = ()
    members: tuple[int, ...] = field(init=False, repr=False, compare=False)
    """Everybody who must receive the log, sorted."""

    def __post_init__(self) -> None:
        kept = (self.voters, self.learners, self.outgoing, self.witnesses)
        for ids in (*kept, self.next_voters, self.next_learners):
            if any(node < 1 for node in ids):
                raise UsageError(f"node ids start at 1: {ids}")
            if list(ids) != sorted(set(ids)):
                raise UsageError(f"member ids must be sorted and unique: {ids}")
        if set(self.voters) & set(self.learners):
            raise UsageError("a node cannot be voter and learner at once")
        members = {*self.voters, *self.learners, *self.outgoing}
        members.update(self.next_voters, self.next_learners)
        object.__setattr__(self, "members", tuple(sorted(members)))
        if len(members) > MEMBERS_MAX:
            raise UsageError(f"{len(members)} members are more than {MEMBERS_MAX}")
        self._check_plan()
        self._check_attributes()
        for half in (self.voters, self.outgoing, self.next_voters):
            if half and len(set(half) & set(self.witnesses)) > len(half) // 2:
                raise UsageError(
                    f"{len(half)} voters with {len(set(half) & set(self.witnesses))} witnesses: "
                    "a majority could hold no data; witnesses must be fewer than a majority"
                )

    def _check_plan(self) -> None:
        if not self.next_voters:
            if self.next_learners:
                raise UsageError("a plan names the voters it leads to")
        elif self.outgoing:
            raise UsageError("a joint configuration carries its change out: it has no plan")
        elif set(self.next_voters) & set(self.next_learners):
            raise UsageError("a node cannot be planned as voter and learner at once")

    def _check_attributes(self) -> None:
        named = (
            self.witnesses,
            tuple(node for node, _ in self.priorities),
            tuple(node for node, _ in self.addresses),
        )
        for ids in named:
            if list(ids) != sorted(set(ids)) or not set(ids) <= set(self.members):
                raise UsageError(f"not members, or not sorted and unique: {ids}")
        for node, priority in self.priorities:
            if not 1 <= priority <= PRIORITY_MAX:
                raise UsageError(f"priority {priority} of node {node} is not 1 to {PRIORITY_MAX}")
            if node in self.witnesses:
                raise UsageError(f"node {node} is a witness and cannot lead: it has no priority")
        for node, address in self.addresses:
            if not 1 <= len(address.encode()) <= ADDRESS_BYTES_MAX:
                raise UsageError(f"address of node {node}: 1 to {ADDRESS_BYTES_MAX} bytes")

    @classmethod
    def of(
        cls,
        voters: Iterable[int],
        learners: Iterable[int] = (),
        *,
        witnesses: Iterable[int] = (),
        priorities: Mapping[int, int] | None = None,
        addresses: Mapping[int, str] | None = None,
    ) -> Configuration:
        """Build a simple configuration from ids in any order; priority 0 is none."""
        ranked = sorted((node, rank) for node, rank in (priorities or {}).items() if rank)
        return cls(
            tuple(sorted(set(voters))),
            tuple(sorted(set(learners))),
            witnesses=tuple(sorted(set(witnesses))),
            priorities=tuple(ranked),
            addresses=tuple(sorted((addresses or {}).items())),
        )

    @property
    def is_joint(self) -> bool:
        """Whether decisions need both halves."""
        return bool(self.outgoing)

    @property
    def is_planned(self) -> bool:
        """Whether a change is under way whose new members still catch up."""
        return bool(self.next_voters)

    @property
    def is_changing(self) -> bool:
        """Whether a change is under way."""
        return bool(self.outgoing or self.next_voters)

    def is_voter(self, node_id: int) -> bool:
        """Whether this node's vote counts in either half."""
        return node_id in self.voters or node_id in self.outgoing

    def may_lead(self, node_id: int) -> bool:
        """Whether this node may become leader: a voter that keeps data."""
        return self.is_voter(node_id) and node_id not in self.witnesses

    def priority(self, node_id: int) -> int:
        """How much this member should lead rather than others; 0 unless named."""
        return dict(self.priorities).get(node_id, 0)

    def address(self, node_id: int) -> str | None:
        """Where the others reach this member; None when the configuration does not say."""
        return dict(self.addresses).get(node_id)

    def role(self, node_id: int) -> str:
        """What a node is here: voter, witness, learner, or none."""
        if node_id not in self.members:
            return "none"
        if node_id in self.witnesses:
            return "witness"
        return "voter" if self.is_voter(node_id) else "learner"

    def describe(self) -> str:
        """One short line for people: ``voters 1,2,3 learners 4``."""
        lists = (
            ("voters", self.voters),
            ("outgoing", self.outgoing),
            ("learners", self.learners),
            ("witnesses", self.witnesses),
            ("next voters", self.next_voters),
            ("next learners", self.next_learners),
        )
        parts = [f"{name} {','.join(map(str, ids))}" for name, ids in lists if ids]
        parts += [f"priority of {node} {rank}" for node, rank in self.priorities]
        return " ".join(parts) if parts else "nobody"

    # ---- bytes ---------------------------------------------------------------------------------

    def encode(self) -> bytes:
        """Stable bytes.

        First format: three counted lists of unsigned 32-bit ids (voters, learners, outgoing).
        Second format: a mark, six such lists (then witnesses, next voters, next learners), counted
        priorities (id u32, priority u16), counted addresses (id u32, length u16, UTF-8).
        """
        lists: tuple[tuple[int, ...], ...] = (self.voters, self.learners, self.outgoing)
        if not (self.witnesses or self.next_voters or self.priorities or self.addresses):
            return b"".join(map(_encode_ids, lists))
        lists += (self.witnesses, self.next_voters, self.next_learners)
        parts = [_EXTENDED, *map(_encode_ids, lists), _COUNT.pack(len(self.priorities))]
        parts += [_PAIR.pack(*pair) for pair in self.priorities]
        parts.append(_COUNT.pack(len(self.addresses)))
        for node, address in self.addresses:
            text = address.encode()
            parts += (_PAIR.pack(node, len(text)), text)
        return b"".join(parts)

    @classmethod
    def decode(cls, data: bytes) -> Configuration:
        """Inverse of ``encode``.

        Raises:
            RemoteProtocolError: these bytes are no configuration; nothing happened.
        """
        reader = _Reader(data)
        try:
            if not data.startswith(_EXTENDED):
                configuration = cls(reader.ids(), reader.ids(), reader.ids())
            else:
                reader.position = len(_EXTENDED)
                configuration = cls(
                    voters=reader.ids(),
                    learners=reader.ids(),
                    outgoing=reader.ids(),
                    witnesses=reader.ids(),
                    next_voters=reader.ids(),
                    next_learners=reader.ids(),
                    priorities=reader.priorities(),
                    addresses=reader.addresses(),
                )
        except struct.error as error:
            raise RemoteProtocolError(f"malformed configuration: {error}") from None
        except UnicodeDecodeError as error:
            raise RemoteProtocolError(f"malformed address in a configuration: {error}") from None
        except UsageError as error:
            raise RemoteProtocolError(f"malformed configuration: {error}") from None
        if reader.position != len(data):
            raise RemoteProtocolError("trailing bytes after a configuration")
        if configuration.encode() != data:
            raise RemoteProtocolError("a configuration that nobody encodes so")
        return configuration


def _encode_ids(ids: tuple[int, ...]) -> bytes:
    return _COUNT.pack(len(ids)) + struct.pack(f">{len(ids)}I", *ids)


class _Reader:
    """Takes the parts of an encoded configuration from its bytes, never beyond their end."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    def _count(self) -> int:
        (count,) = _COUNT.unpack_from(self.data, self.position)
        self.position += _COUNT.size
        number: int = count
        return number

    def _pair(self) -> tuple[int, int]:
        first, second = _PAIR.unpack_from(self.data, self.position)
        self.position += _PAIR.size
        return first, second

    def ids(self) -> tuple[int, ...]:
        count = self._count()
        ids: tuple[int, ...] = struct.unpack_from(f">{count}I", self.data, self.position)
        self.position += 4 * count
        return ids

    def priorities(self) -> tuple[tuple[int, int], ...]:
        return tuple([self._pair() for _ in range(self._count())])

    def addresses(self) -> tuple[tuple[int, str], ...]:
        addresses = []
        for _ in range(self._count()):
            node, length = self._pair()
            text = self.data[self.position : self.position + length]
            if len(text) != length:
                raise RemoteProtocolError("an address beyond the end of its configuration")
            addresses.append((node, text.decode()))
            self.position += length
        return tuple(addresses)
