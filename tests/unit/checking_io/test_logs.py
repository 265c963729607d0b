"""Jepsen's EDN and its etcd logs: what each line means."""

from __future__ import annotations

import pytest

from quorate.checking.history import History, Operation
from quorate.checking.knossos import read_knossos
from quorate.checking.porcupine import read_etcd_log
from quorate.errors import BadInput


def log(*events: str) -> str:
    return "".join(f"INFO  jepsen.util - {event}\n" for event in events)


def outcomes(history: History) -> list[tuple[str, object, object]]:
    return [
        (operation.function, operation.argument, "?" if operation.is_unknown else operation.result)
        for operation in history.operations
    ]


def test_edn_operations() -> None:
    """Calls, returns, failures, unknown outcomes and faults of a Knossos history."""
    history = read_knossos(
        """[{:process 0, :type :invoke, :f :write, :value 4, :time 17}
            {:process :nemesis, :type :info, :f :kill, :value #{:n1}}
            {:process 0, :type :ok, :f :write, :value 4, :time 19, :error {:not "read"}}
            {:process 0, :type :invoke, :f :read, :value 4}
            {:process 1, :type :invoke, :f :cas, :value [4 5]}
            {:process 2, :type :invoke, :f :cas, :value (5 6)}
            {:process 3, :type :invoke, :f :cas, :value [5 6]}
            {:process 0, :type :ok, :f :read, :value 5}
            {:process 1, :type :ok, :f :cas, :value [4 5]}
            {:process 2, :type :info, :f :cas, :value :timed-out}
            {:process 3, :type :fail, :f :cas, :value [5 6]}]""",
        "h.edn",
    )
    assert history.operations[0] == Operation(0, "write", None, 4, 4, 0, 1, 17, 19, 1)
    assert outcomes(history)[1:] == [("read", None, 5), ("cas", (4, 5), True), ("cas", (5, 6), "?")]
    assert history.failed == 1


def test_edn_one_map_per_line_with_keys() -> None:
    """The lines of Porcupine's key-value tests carry a key; Jepsen's tagged operations are maps."""
    history = read_knossos(
        '{:process 9, :type :invoke, :f :append, :key "0", :value "x 9 0 y"}\n'
        '#jepsen.history.Op{:process 9, :type :ok, :f :append, :key "0", :value "x 9 0 y"}\n',
        "h.txt",
    )
    (operation,) = history.operations
    assert (operation.key, operation.argument, operation.line) == ("0", "x 9 0 y", 1)


def test_edn_independent_objects() -> None:
    """Where every call has a pair and reads are called with [key nil], pairs are taken apart."""
    history = read_knossos(
        """{:process 0, :type :invoke, :f :read, :value [7 nil]}
           {:process 1, :type :invoke, :f :cas, :value [8 [1 2]]}
           {:process 0, :type :ok, :f :read, :value [7 3]}
           {:process 1, :type :ok, :f :cas, :value [8 [1 2]]}""",
        "h.edn",
    )
    read, cas = history.operations
    assert (read.key, read.argument, read.result) == (7, None, 3)
    assert (cas.key, cas.argument, cas.result) == (8, (1, 2), True)


@pytest.mark.parametrize(
    ("events", "model"),
    [
        ([("read", "1"), ("write", "1")], "register"),
        ([("cas", "[1 2]")], "cas-register"),
        ([("acquire", "nil"), ("release", "nil")], "mutex"),
        ([("acquire", "7")], ""),
        ([("txn", "[[:read :x 1]]")], "multi-register"),
        ([("append", '"x"'), ("get", '"x"')], "kv"),
        ([("frob", "1")], ""),
    ],
)
def test_jepsens_vocabulary_tells_the_model(events: list[tuple[str, str]], model: str) -> None:
    """What was called decides, also when it failed; a lock with results is nobody's guess."""
    text = "".join(
        f"{{:process {process}, :type {kind}, :f :{function}, :value {value}}}\n"
        for process, (function, value) in enumerate(events)
        for kind in (":invoke", ":fail" if function == "release" else ":ok")
    )
    assert read_knossos(text, "h.edn").model == model


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "h.edn: no event in it"),
        ("[1]", "h.edn:1: expected a map"),
        ("{:process 1, :type :invoke}", ":f says what is called"),
        ("{:type :invoke, :f :read}", ":process says who calls"),
        ("{:process 1, :type :begin, :f :read}", "found 'begin'"),
        ("{:process 1, :type :invoke, :f :read, :time :now}", "nanoseconds"),
        ("{:process 1, :type :invoke, :f :write, :value {:a 1}}", ":value: a map cannot"),
        ("{:process 1, :type :invoke, :f :write, :value #{1}}", ":value: a set cannot"),
        ("{:process 1, :type :ok, :f :read, :value 1}", "h.edn:1: 'ok' for process 1"),
    ],
)
def test_edn_that_is_no_history_is_refused(text: str, words: str) -> None:
    """Each refusal names the line and what is wrong there."""
    with pytest.raises(BadInput) as refused:
        read_knossos(text, "h.edn")
    assert words in str(refused.value)


def test_an_etcd_log() -> None:
    """A failed cas is an answer, a failed read is nothing, a time-out is unknown."""
    history = read_etcd_log(
        "INFO  jepsen.core - Everything set up\njava.net.Exception\n"
        + log(
            "0\t:invoke\t:read\tnil",
            "0\t:ok\t:read\tnil",
            "1  :invoke :cas    [1 2]",
            "2\t:invoke\t:cas\t[3 4]",
            "1  :fail   :cas    [1 2]",
            "2\t:ok\t:cas\t[3 4]",
            ":nemesis\t:info\t:start\tnil",
            "3\t:invoke\t:write\t0",
            "3\t:info\t:write\t:timed-out",
            "0\t:invoke\t:read\tnil",
            "0\t:fail\t:read\t:timed-out",
            "4\t:invoke\t:cas\t[0 1]",
            "4\t:fail\t:cas\t:timed-out",
        ),
        "etcd.log",
    )
    assert outcomes(history) == [
        ("read", None, None),
        ("cas", (1, 2), False),
        ("cas", (3, 4), True),
        ("write", 0, "?"),
        ("cas", (0, 1), "?"),
    ]
    assert history.model == "cas-register"
    assert history.operations[0].line == 3


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ("x\t:invoke\t:read\tnil", "etcd.log:1: expected a process number; found 'x'"),
        ("0\t:begin\t:read\tnil", "found :begin"),
        ("0\t:invoke\t:cas\t[1 2", "expected one value"),
        ("0\t:invoke\t:cas\t1 2", "expected one value"),
        ("0\t:ok\t:read\t1", "'ok' for process 0"),
    ],
)
def test_a_strange_operation_in_a_log_is_refused(event: str, words: str) -> None:
    """What looks like an operation and cannot be one is not passed over."""
    with pytest.raises(BadInput) as refused:
        read_etcd_log(log(event), "etcd.log")
    assert words in str(refused.value)


def test_a_log_without_operations_is_refused() -> None:
    """No operation at all is no history."""
    with pytest.raises(BadInput, match="no operation in it"):
        read_etcd_log("INFO  jepsen.core - hello\n", "etcd.log")
