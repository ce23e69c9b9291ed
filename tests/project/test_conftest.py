"""That the checks which every test runs under do fire: each kind of leak fails a test that would pass."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parents[1]

LEAKS = '''
import asyncio, logging, os, socket
import pytest
from hypothesis import given, strategies as st
from pea2pea.addr import Addr

kept = []

class Never:
    async def wait(self):
        await asyncio.Event().wait()

async def test_task():
    kept.append(asyncio.ensure_future(Never().wait()))

def test_descriptor():
    kept.append(os.open(os.devnull, os.O_RDONLY))

def test_socket():
    socket.socket()

@pytest.mark.loop("tcp")
async def test_transport():
    left, right = socket.socketpair()
    kept.append(right)
    await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=left)

@pytest.mark.loop("tcp-uvloop")
async def test_transport_of_uvloop():
    left, right = socket.socketpair()
    kept.append(right)
    await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=left)

async def test_memory_transport(memory):
    listener = await memory.listen(Addr("127.0.0.1", 0), backlog=1, reuse_port=False)
    await memory.dial(listener.addr, asyncio.Protocol())
    await listener.accept().open(asyncio.Protocol())
    listener.close()

async def test_memory_listener(memory):
    await memory.listen(Addr("127.0.0.1", 4000), backlog=1, reuse_port=False)

async def test_loop_exception():
    asyncio.get_running_loop().call_soon(lambda: 1 / 0)

async def test_task_exception_that_nobody_sees():
    async def fails():
        raise ZeroDivisionError
    asyncio.ensure_future(fails())
    await asyncio.sleep(1)

def test_destructor():
    class Bad:
        def __del__(self):
            raise ZeroDivisionError
    Bad()

async def test_coroutine_never_awaited():
    Never().wait()

def test_error_record():
    logging.getLogger("pea2pea.node").error("went wrong")

@given(st.booleans())
async def test_task_in_an_example(flag):
    if flag:
        asyncio.ensure_future(Never().wait())

async def test_deadlock():
    await Never().wait()

@given(st.integers())
async def test_property_that_does_not_hold(number):
    await asyncio.sleep(0)
    assert number < 10

async def test_own_failure_comes_first():
    kept.append(asyncio.ensure_future(Never().wait()))
    assert not "this"
'''

EXPECTED = {
    "test_task": "leaked task: *",
    "test_descriptor": "leaked descriptor *: /dev/null",
    "test_socket": "*ResourceWarning: unclosed <socket.socket *",
    "test_transport": "*ResourceWarning: unclosed transport *",
    "test_transport_of_uvloop": "*ResourceWarning: unclosed *",
    "test_memory_transport": "*ResourceWarning: unclosed transport <MemoryTransport *",
    "test_memory_listener": "leaked listener: 127.0.0.1:4000",
    "test_loop_exception": "unhandled in the loop: Exception in callback *",
    "test_task_exception_that_nobody_sees": "unhandled in the loop: Task exception was never retrieved",
    "test_destructor": "unraisable in *__del__*",
    "test_coroutine_never_awaited": "*coroutine 'Never.wait' was never awaited*",
    "test_error_record": "logged an error: went wrong",
    "test_task_in_an_example": "leaked task: *",
    "test_deadlock": "*DeadlockError: nothing is ready and no timer is set*",
    "test_property_that_does_not_hold": "*number=10*",
    "test_own_failure_comes_first": "*assert not 'this'",
}

CLEAN = '''
import asyncio, logging, os, socket
import pytest
from hypothesis import given, strategies as st
from pea2pea.testing import VirtualClockLoop

runs = []

@pytest.mark.expects_errors
def test_expected_error():
    logging.getLogger("pea2pea").error("went wrong")

def test_warning_record_of_ours_and_error_record_of_another():
    logging.getLogger("pea2pea").warning("odd")
    logging.getLogger("other").error("not ours")

async def test_ends_all():
    task = asyncio.ensure_future(asyncio.sleep(3600))
    left, right = socket.socketpair()
    with right:
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=left)
        transport.close()
    await task

async def test_loop_of_no_network():
    assert isinstance(asyncio.get_running_loop(), VirtualClockLoop)

async def test_loop_of_memory(memory):
    assert isinstance(asyncio.get_running_loop(), VirtualClockLoop)

@pytest.mark.loop("tcp")
async def test_loop_by_marker():
    assert type(asyncio.get_running_loop()) is asyncio.SelectorEventLoop

async def test_loop_of_net(net, net_kind):
    runs.append((net_kind, type(net).__name__, type(asyncio.get_running_loop()).__name__))

def test_every_network_was_used():
    assert runs == [
        ("memory", "MemoryNetwork", "VirtualClockLoop"),
        ("tcp", "TcpNetwork", "_UnixSelectorEventLoop"),
        ("tcp-uvloop", "TcpNetwork", "Loop"),
    ]

@given(st.integers())
async def test_property(net, number):
    await asyncio.sleep(0)
    assert number == number
'''


def run(pytester: pytest.Pytester, tests: str) -> pytest.RunResult:
    pytester.makeini("[pytest]\naddopts = -p no:asyncio -p no:randomly -p no:cacheprovider -p no:cov\n")
    pytester.makeconftest((HERE / "conftest.py").read_text(encoding="utf-8"))
    pytester.makepyfile(tests)
    support = Path("support") / "__init__.py"
    (pytester.path / "support").mkdir()
    (pytester.path / support).write_text((HERE / support).read_text(encoding="utf-8"))
    return pytester.runpytest_subprocess("--tb=short", "-v")


def sections(lines: list[str]) -> dict[str, list[str]]:
    """The lines of each failed test's report, by its name."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in lines:
        if line.startswith("____") and line.endswith("____"):
            name = line.strip("_ ")
        elif line.startswith("===="):
            name = ""
        found.setdefault(name, []).append(line)
    return found


def test_each_check_fires(pytester: pytest.Pytester) -> None:
    result = run(pytester, LEAKS)
    result.assert_outcomes(failed=len(EXPECTED))
    reports = sections(result.outlines)
    for name, problem in EXPECTED.items():
        matcher = pytest.LineMatcher(reports[name])
        matcher.fnmatch_lines([problem])
    own = pytest.LineMatcher(reports["test_own_failure_comes_first"])
    own.no_fnmatch_line("the test left behind:")


def test_what_is_clean_passes(pytester: pytest.Pytester) -> None:
    result = run(pytester, CLEAN)
    result.assert_outcomes(passed=13)
