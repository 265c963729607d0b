"""A bank under faults: a state machine of your own, tested in ten lines.

    .venv/bin/pytest examples/bank/test_bank.py

The bank replicates itself through quorate: each node carries out the same commands in the same
order. ``ForgetfulBank`` has a bug that no ordinary test would find: its snapshots leave out which
accounts are frozen, so a node that starts again from one lets money go that all others keep. Its
test is expected to fail; what a failure looks like is shown by

    .venv/bin/pytest examples/bank/test_bank.py --runxfail
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any
from zlib import crc32

import pytest

from quorate.simulation.workloads.machines import MachineTest

PEOPLE = ("ann", "bob", "cay")
EACH = 100


class Bank:
    """Accounts that can be frozen, and transfers between them."""

    def __init__(self) -> None:
        self.accounts = dict.fromkeys(PEOPLE, EACH)
        self.frozen: list[str] = []

    def apply(self, payload: bytes, context: Any) -> str:
        """Carry out one command; what it cannot do is a result, not an exception."""
        match payload.decode().split():
            case ["transfer", giver, taker, amount]:
                return self.transfer(giver, taker, int(amount))
            case ["freeze", name]:
                if name not in self.frozen:
                    self.frozen.append(name)
                return "frozen"
            case ["release", name]:
                if name in self.frozen:
                    self.frozen.remove(name)
                return "released"
        return "not understood"

    def transfer(self, giver: str, taker: str, amount: int) -> str:
        if giver in self.frozen:
            return "frozen"
        if self.accounts[giver] < amount:
            return "too little"
        self.accounts[giver] -= amount
        self.accounts[taker] += amount
        return "done"

    def snapshot(self) -> Iterator[bytes]:
        """The state as it is now, in one piece."""
        return iter([json.dumps([self.accounts, self.frozen]).encode()])

    def restore(self, chunks: Iterable[bytes]) -> None:
        self.accounts, self.frozen = json.loads(b"".join(chunks))

    def digest(self) -> int:
        """Equal states have equal digests, on every node."""
        return crc32(json.dumps(self.accounts).encode())


class ForgetfulBank(Bank):
    """The same, with a bug."""

    def snapshot(self) -> Iterator[bytes]:
        return iter([json.dumps([self.accounts, []]).encode()])


def any_command(dice: Any) -> bytes:
    """What a client might ask for."""
    giver, taker = dice.some(PEOPLE, 2)
    if dice.chance(0.2):
        return f"{dice.pick(('freeze', 'release'))} {giver}".encode()
    return f"transfer {giver} {taker} {1 + dice.draw(50)}".encode()


def money_is_constant(bank: Bank) -> str | None:
    """None, or what is wrong."""
    total = sum(bank.accounts.values())
    return None if total == EACH * len(PEOPLE) else f"there are {total} coins"


# The same for the command line: quorate simulate run --machine examples/bank/test_bank.py:BANK
BANK = MachineTest(Bank, any_command, invariant=money_is_constant)
FORGETFUL = MachineTest(ForgetfulBank, any_command, invariant=money_is_constant)


def test_money_is_neither_made_nor_lost(quorate_cluster: Any) -> None:
    quorate_cluster.check(Bank, commands=any_command, invariant=money_is_constant, seeds=20)


@pytest.mark.xfail(strict=True, reason="a bug planted to be found")
def test_the_forgetful_bank_is_found_out(quorate_cluster: Any) -> None:
    quorate_cluster.check(ForgetfulBank, commands=any_command, invariant=money_is_constant)
