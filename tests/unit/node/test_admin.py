"""The admin pages, over real loop-back connections."""

import asyncio
import json

from quorate.node.admin import AdminPages

from .fakes import listening, run


async def ask(port: int, request: bytes) -> tuple[int, dict[str, str], bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return int(first.split()[1]), dict(line.lower().split(": ", 1) for line in lines), body


def get(path: str, method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: node\r\n\r\n".encode()


def test_pages() -> None:
    """Live, ready, status and metrics answer, under Kubernetes' names too; HEAD has no body."""

    async def story() -> None:
        reason = [""]
        pages = AdminPages(
            lambda: {"node_id": 1, "role": "leader"}, lambda: reason[0], lambda: "up 1\n"
        )
        async with listening(pages.connect) as port:
            for path in ("/live", "/livez", "/ready", "/readyz?verbose"):
                assert (await ask(port, get(path)))[::2] == (200, b"ok\n")
            reason[0] = "no leader is known"
            for path in ("/ready", "/readyz"):
                code, _, body = await ask(port, get(path))
                assert (code, body) == (503, b"not ready: no leader is known\n")
            assert (await ask(port, get("/live")))[0] == 200
            code, headers, body = await ask(port, get("/metrics"))
            assert (code, body) == (200, b"up 1\n")
            assert headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
            code, headers, body = await ask(port, get("/status"))
            assert (code, headers["content-type"]) == (200, "application/json")
            assert json.loads(body) == {"node_id": 1, "role": "leader"}
            assert (await ask(port, get("/")))[0] == 404
            code, headers, _ = await ask(port, get("/status", "POST"))
            assert (code, headers["allow"]) == (405, "get, head")
            code, headers, body = await ask(port, get("/live", "HEAD"))
            assert (code, headers["content-length"], body) == (200, "3", b"")
        assert pages.connections == 0

    run(story)


def test_garbage_and_oversized_heads_are_refused() -> None:
    """What is no HTTP, or a head without end, gets an error and costs bounded memory."""

    async def story() -> None:
        pages = AdminPages(dict, str, str)
        async with listening(pages.connect) as port:
            assert (await ask(port, b"\x00\x00\x00\x2c garbage\r\n\r\n"))[0] == 400
            huge = b"GET / HTTP/1.1\r\n" + b"X-Filler: " + b"x" * 17_000
            assert (await ask(port, huge))[0] == 431

    run(story)
