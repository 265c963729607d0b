"""One of every message that travels between nodes, with values that show each field's place."""

from __future__ import annotations

from typing import Any

from quorate.consensus.entry import Entry, EntryKind, SnapshotMeta
from quorate.consensus.membership import Configuration
from quorate.consensus.raft import messages as raft
from quorate.consensus.raft.codec import decode, encode
from quorate.node.peer_identity import Refusal, decode_verdict, encode_verdict
from quorate.protocol.peer import Hello, PeerConnection, encode_frame
from quorate.replication.batch import encode_entry, encode_sub_batch, iterate_sub_batches
from quorate.tree.batch import (
    AddIdentities,
    Attach,
    Expire,
    Frames,
    Held,
    Open,
    Reap,
    encode_run,
    read_run,
)

_ME = ("digest", "me:hash")
_ENTRIES = [
    Entry(1, 7, EntryKind.BATCH, b"payload"),
    Entry(2, 8, EntryKind.NOOP, b""),
]
RAFT: dict[str, Any] = {
    "raft vote request": raft.VoteRequest(3, 0x102030405, 2, True, False),
    "raft vote reply": raft.VoteReply(3, 4, False, True),
    "raft append": raft.Append(8, 0, 6, 5, _ENTRIES),
    "raft append reply": raft.AppendReply(8, 77),
    "raft append rejected": raft.AppendRejected(8, 77, 6, 70),
    "raft heartbeat": raft.Heartbeat(8, 77, 9),
    "raft heartbeat reply": raft.HeartbeatReply(8, 9),
    "raft term notice": raft.TermNotice(9),
    "raft read request": raft.ReadRequest(9, 12),
    "raft read reply": raft.ReadReply(9, 12, 77),
    "raft install chunk": raft.InstallChunk(
        9, SnapshotMeta(70, 6, Configuration.of((1, 2, 3), (4,)).encode()), 4096, b"chunk", True
    ),
    "raft install reply": raft.InstallReply(9, 70, 4101, False),
    "raft timeout now": raft.TimeoutNow(9),
    "raft removal notice": raft.RemovalNotice(9, 77),
}
RUNS: dict[str, Any] = {
    "run frames": Frames(0x11, 5, b"\0\0\0\4xxxx"),
    "run open": Open(5, 10_000, b"p" * 16, (_ME,)),
    "run attach": Attach(0x11, 6, 10_000, b"p" * 16, ()),
    "run identities": AddIdentities(0x11, 6, (_ME, ("world", "anyone"))),
    "run expire": Expire(1_700_000_000_000, (Held(0x11, 2, 3, 6),), epoch=8),
    "run reap": Reap((b"/container",)),
}
HELLO = Hello("c1" * 16, 2, "d2" * 16, 3, 0x0102030405060708)
VERDICTS = {
    "verdict welcome": None,
    "verdict refused": Refusal("wörds", is_final=False),
    "verdict wrong directory": Refusal("stop", is_final=True),
}
SUB_BATCH = (2, 3, 9, b"runs")


def encoded_samples() -> dict[str, bytes]:
    """Every sample as it goes over the wire, by name."""
    samples = {name: encode(message) for name, message in RAFT.items()}
    samples |= {name: encode_run(run) for name, run in RUNS.items()}
    samples |= {name: encode_verdict(verdict) for name, verdict in VERDICTS.items()}
    samples["sub-batch"] = encode_sub_batch(*SUB_BATCH)
    samples["entry payload"] = encode_entry(1_700_000_000_000, [samples["sub-batch"]])
    samples["hello"] = HELLO.encode()
    samples["frame"] = b"".join(encode_frame(0, samples["hello"])) + b"".join(
        encode_frame(1, samples["raft heartbeat"])
    )
    return samples


def check_decoded(name: str, data: bytes) -> None:
    """The bytes of a sample, however old, still mean what they meant."""
    if name in RAFT:
        assert decode(data) == RAFT[name]
    elif name in RUNS:
        assert read_run(data, 0) == (RUNS[name], len(data))
    elif name in VERDICTS:
        assert decode_verdict(data) == VERDICTS[name]
    elif name == "sub-batch":
        (found,) = iterate_sub_batches(data)
        assert found[:4] == SUB_BATCH
    elif name == "hello":
        assert Hello.decode(data) == HELLO
    elif name == "frame":
        connection = PeerConnection()
        assert connection.receive(data) == [(1, encode(RAFT["raft heartbeat"]))]
        assert connection.hello == HELLO
    else:
        assert name == "entry payload", f"no sample is named {name}"
