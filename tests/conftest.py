"""What every test runs under: a loop of its own, and nothing left behind.

An ``async def`` test runs on a fresh event loop. Which one depends on the network it asks for:

- ``net``: the test runs three times, over memory on a virtual clock, over TCP on asyncio's loop and on uvloop;
- ``memory`` or none: once, on a virtual clock (``@pytest.mark.loop("tcp")`` or ``"tcp-uvloop"`` picks another).

A test fails if it leaves behind a task, a descriptor, an unclosed listener, transport or socket, an exception that
nobody handled, or an ERROR record of the logger ``pea2pea`` (unless marked ``expects_errors``).
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Coroutine, Generator, Iterable
from functools import wraps
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from pea2pea.memory import MemoryNetwork
from pea2pea.network import Network
from pea2pea.tcp import TcpNetwork
from pea2pea.testing import VirtualClockLoop

pytest_plugins = "pytester"

# A test on a real clock that takes longer hangs. uvloop hides the signal of pytest-timeout from the test, so that
# would hang for ever. On a virtual clock the loop itself tells.
REAL_SECONDS = 30.0

DESCRIPTORS = Path("/proc/self/fd")

hypothesis.settings.register_profile(
    "default",
    deadline=None,
    max_examples=int(os.environ.get("HYPOTHESIS_MAX_EXAMPLES", "50")),
    derandomize=False,
    # A network is empty again when an example has closed what it opened.
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
hypothesis.settings.load_profile("default")


def new_uvloop() -> asyncio.AbstractEventLoop:
    return pytest.importorskip("uvloop").new_event_loop()  # type: ignore[no-any-return]


LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "memory": VirtualClockLoop,
    "tcp": asyncio.new_event_loop,
    "tcp-uvloop": new_uvloop,
}


# The networks


@pytest.fixture(params=LOOPS)
def net_kind(request: pytest.FixtureRequest) -> str:
    """The name of the network and loop that this run of the test is on."""
    return str(request.param)


@pytest.fixture
def net(net_kind: str) -> Network:
    """A network: of each kind in turn."""
    return MemoryNetwork() if net_kind == "memory" else TcpNetwork()


@pytest.fixture
def memory() -> MemoryNetwork:
    """A network in memory, on a virtual clock."""
    return MemoryNetwork()


def loop_kind(item: pytest.Function) -> str:
    marker = item.get_closest_marker("loop")
    kind = marker.args[0] if marker else item.funcargs.get("net_kind", "memory")
    return str(kind)


# What a test must not leave behind


class Watch(logging.Handler):
    """Sees what one test leaves behind."""

    def __init__(self, *, expects_errors: bool) -> None:
        super().__init__(logging.ERROR)
        self.problems: list[str] = []
        self.expects_errors = expects_errors

    def emit(self, record: logging.LogRecord) -> None:
        if not self.expects_errors:
            self.problems.append(f"logged an error: {logging.Formatter().format(record)}")

    def loop_exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.problems.append(f"unhandled in the loop: {context['message']}{_trace(context.get('exception'))}")

    def unraisable(self, args: Any) -> None:
        self.problems.append(f"unraisable in {args.object!r}{_trace(args.exc_value)}")

    def task(self, task: asyncio.Task[Any]) -> None:
        self.problems.append(f"leaked task: {task!r}")

    def loop_warnings(self, caught: Iterable[warnings.WarningMessage]) -> None:
        self.problems.extend(f"warned as the loop closed: {_named(warning)}" for warning in caught)

    def listeners(self, networks: Iterable[object]) -> None:
        for network in networks:
            if isinstance(network, MemoryNetwork):
                self.problems.extend(f"leaked listener: {addr}" for addr in network.listening)

    def descriptors(self, before: dict[str, str]) -> None:
        leaked = descriptors().items() - before.items()
        self.problems.extend(f"leaked descriptor {number}: {target}" for number, target in sorted(leaked))


WATCH = pytest.StashKey[Watch]()


def _named(warning: warnings.WarningMessage) -> str:
    return f"{warning.category.__name__}: {warning.message}"


def _trace(error: BaseException | None) -> str:
    return "\n" + "".join(traceback.format_exception(error)) if error is not None else ""


def descriptors() -> dict[str, str]:
    """Open descriptors of this process, where the platform tells."""
    found = {}
    for name in os.listdir(DESCRIPTORS) if DESCRIPTORS.is_dir() else ():
        try:
            found[name] = os.readlink(DESCRIPTORS / name)
        except FileNotFoundError:  # the one that listed the directory
            continue
    return found


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Run the test under a :class:`Watch`; fail it for what it leaves behind, if it did not fail by itself."""
    watch = Watch(expects_errors=pyfuncitem.get_closest_marker("expects_errors") is not None)
    pyfuncitem.stash[WATCH] = watch
    previous, sys.unraisablehook = sys.unraisablehook, _ignore
    gc.collect()  # what an earlier test held when it failed is not this one's
    sys.unraisablehook = watch.unraisable
    before = descriptors()
    logger = logging.getLogger("pea2pea")
    logger.addHandler(watch)
    try:
        result = yield
        gc.collect()
        watch.descriptors(before)
        watch.listeners(pyfuncitem.funcargs.values())
    finally:
        logger.removeHandler(watch)
        sys.unraisablehook = previous
    if watch.problems:
        pytest.fail("the test left behind:\n" + "\n".join(watch.problems), pytrace=False)
    return result


def _ignore(args: Any) -> None:
    """Say nothing: the test that left this has already failed for something else."""


# Running coroutines


@pytest.hookimpl(tryfirst=True, specname="pytest_pyfunc_call")
def pytest_pyfunc_call_async(pyfuncitem: pytest.Function) -> object:
    """Run an ``async def`` test, or each example of one that is given by hypothesis, on a fresh loop."""
    test = pyfuncitem.obj
    given = getattr(test, "hypothesis", None)
    inner = given.inner_test if given is not None else test
    if not inspect.iscoroutinefunction(inner):
        return None
    make_loop = LOOPS[loop_kind(pyfuncitem)]
    watch = pyfuncitem.stash[WATCH]

    @wraps(inner)
    def run(*args: Any, **kwargs: Any) -> None:
        run_watched(make_loop(), inner(*args, **kwargs), watch)

    if given is not None:
        given.inner_test = run
        try:
            test(**_arguments(pyfuncitem))
        finally:
            given.inner_test = inner
    else:
        run(**_arguments(pyfuncitem))
    return True


def _arguments(item: pytest.Function) -> dict[str, Any]:
    return {name: item.funcargs[name] for name in item._fixtureinfo.argnames}


def run_watched(loop: asyncio.AbstractEventLoop, test: Coroutine[Any, Any, None], watch: Watch) -> None:
    """Run ``test`` to its end on ``loop``, tell ``watch`` what it leaves there, and close the loop."""
    loop.set_exception_handler(watch.loop_exception)
    try:
        loop.run_until_complete(test if isinstance(loop, VirtualClockLoop) else _bounded(test))
        leaked = asyncio.all_tasks(loop)
        for task in leaked:
            watch.task(task)
        # What was closed in the test's last step gets the turns of the loop that closing takes.
        loop.run_until_complete(_turns(2))
    finally:
        with warnings.catch_warnings(record=True) as caught:
            # Raised while uvloop closes, a warning would keep it from closing what it warns of: it then waits for ever.
            warnings.simplefilter("always")
            _end(loop, asyncio.all_tasks(loop))
        watch.loop_warnings(caught)


async def _bounded(test: Coroutine[Any, Any, None]) -> None:
    async with asyncio.timeout(REAL_SECONDS):
        await test


async def _turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def _gather(tasks: Iterable[asyncio.Task[Any]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)


def _end(loop: asyncio.AbstractEventLoop, tasks: Iterable[asyncio.Task[Any]]) -> None:
    try:
        for task in tasks:
            task.cancel()
        loop.run_until_complete(_gather(tasks))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


# The session


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("filterwarnings", "error")
    config.addinivalue_line("markers", "expects_errors: the test makes the library log errors")
    config.addinivalue_line("markers", "loop(kind): the loop of an async test that takes no network")


def pytest_collection_finish() -> None:
    # uvloop keeps a few descriptors for ever once its first loop was made; no test is to be blamed for them.
    if "uvloop" in sys.modules or _has_uvloop():
        new_uvloop().close()
    gc.collect()
    gc.freeze()  # makes the collection after each test look only at what came since


def _has_uvloop() -> bool:
    try:
        import uvloop  # noqa: F401
    except ImportError:
        return False
    return True
