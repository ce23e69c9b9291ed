"""The command line: what it takes, and how it ends.

Standard output holds results (the link, the file, the verdict), standard error everything else. The
exit status is 0 where all went well, 1 where it did not (with one line that says why), 2 for a
command line that makes no sense, 130 after Ctrl-C and 143 after SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import math
import signal
import sys
import traceback
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pea2pea import Topology

from .child import run_node
from .demo import Plan, demo
from .errors import explain
from .jobs import Limits, get, share
from .security import Security
from .show import Show, make_show

INTERRUPTED, TERMINATED = 130, 143

Job = Callable[[argparse.Namespace, Show], Coroutine[Any, Any, int]]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    args = parser().parse_args(argv)
    _set_up_logging(verbose=args.verbose)
    show = make_show(sys.stderr)
    try:
        return run(args.job(args, show))
    except KeyboardInterrupt:
        show.close()
        _print_error(args.stopped)
        return INTERRUPTED
    except asyncio.CancelledError:
        show.close()
        _print_error("terminated")
        return TERMINATED
    except Exception as error:  # the last border: a user gets a line, and the traceback for the asking
        show.close()
        if args.verbose:
            traceback.print_exc()
        _print_error(explain(error))
        return 1


def run(job: Coroutine[Any, Any, int]) -> int:
    """Run ``job`` on uvloop where it is installed. SIGTERM cancels it, as Ctrl-C does."""

    async def guarded() -> int:
        task = asyncio.current_task()
        assert task is not None
        with suppress(NotImplementedError):  # Windows
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await job

    with asyncio.Runner(loop_factory=fast_loop()) as runner:
        return runner.run(guarded())


def fast_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes a loop of uvloop, or ``None`` where that is not installed."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(prog="pea2pea", description="Share a file, get it, or see it spread.")
    commands = top.add_subparsers(metavar="share | get | demo", required=True)
    _add_share(commands)
    _add_get(commands)
    _add_demo(commands)
    _add_node(commands)
    return top


Commands = Any  # argparse's own type for this is private


def _add_command(commands: Commands, name: str, job: Job, stopped: str, **options: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, **options)
    command.add_argument("--verbose", action="store_true", help="log what happens, and show the traceback of an error")
    command.set_defaults(job=job, stopped=stopped)
    return command


def _add_share(commands: Commands) -> None:
    command = _add_command(commands, "share", _share, "stopped", help="offer a file, and print the link to it")
    command.add_argument("file", type=Path, metavar="FILE")
    _add_limits(command)
    _add_security(command)


def _add_get(commands: Commands) -> None:
    stopped = "stopped; the same command goes on from here"
    command = _add_command(commands, "get", _get, stopped, help="fetch a file from one or several peers at once")
    command.add_argument("sources", nargs="+", metavar="LINK|HOST:PORT", help="whom to get it from")
    command.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="where to put it")
    command.add_argument("--force", action="store_true", help="replace what is there under that name")
    command.add_argument("--stay", action="store_true", help="go on offering it when it is complete")
    _add_limits(command)
    _add_security(command)


def _add_limits(command: argparse.ArgumentParser) -> None:
    usual = Limits()
    listen = "where to offer it (default: %(default)s, which only this machine can reach; 0.0.0.0:0 lets others)"
    command.add_argument("--listen", default=usual.listen, metavar="HOST:PORT", help=listen)
    most = "connections at a time (default: %(default)s)"
    command.add_argument("--max-peers", type=int, default=usual.max_peers, metavar="N", help=most)
    stall = "drop a peer that delivers nothing for so long (default: 15 and a second for each 64 KiB of a chunk)"
    command.add_argument("--stall", type=_seconds, default=usual.stall, metavar="SECONDS", help=stall)
    give_up = "fail when no chunk came for so long (default: %(default)g)"
    command.add_argument("--give-up", type=_seconds, default=usual.give_up, metavar="SECONDS", help=give_up)


def _add_security(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("security")
    group.add_argument("--noise", action="store_true", help="encrypt by Noise: peers are known by their public keys")
    group.add_argument("--tls", action="store_true", help="encrypt by TLS 1.3: peers are known by their certificates")
    key = "the private key; with --noise made if there is none (default: another one each time)"
    group.add_argument("--key", type=Path, metavar="FILE", help=key)
    allow = "a peer that is let in, by its public key or its id; may be repeated (default: all)"
    group.add_argument("--allow", action="append", default=[], metavar="HEX", help=allow)
    cert = "with --tls, this node's certificate and, without --key, its key; made if there is none"
    group.add_argument("--cert", type=Path, metavar="FILE", help=cert)
    trusted = "with --tls, certificates that are trusted; may be repeated (default: this node's own)"
    group.add_argument("--ca", type=Path, action="append", default=[], metavar="FILE", help=trusted)


def _add_demo(commands: Commands) -> None:
    command = _add_command(commands, "demo", _demo, "stopped", help="see a file spread through nodes on this machine")
    file = "what to spread (default: the executable of the Python that runs this)"
    python = Path(sys.executable).resolve()
    command.add_argument("file", type=Path, nargs="?", default=python, metavar="FILE", help=file)
    command.add_argument("--nodes", type=int, default=8, metavar="N", help="how many (default: %(default)s)")
    shapes = [shape.value for shape in Topology]
    command.add_argument("--topology", choices=shapes, default="random", help="their shape (default: %(default)s)")
    command.add_argument("--width", type=int, metavar="N", help="of a grid (default: as square as it gets)")
    command.add_argument("--degree", type=int, metavar="N", help="connections of each, at random (default: 3)")
    command.add_argument("--seed", type=int, metavar="N", help="which random shape (default: another each time)")
    secured = command.add_mutually_exclusive_group()
    secured.add_argument("--noise", action="store_true", help="encrypt by Noise; every node knows the others' keys")
    secured.add_argument("--tls", action="store_true", help="encrypt by TLS; an authority signs for every node")
    limit = "seconds it may take (default: %(default)g)"
    command.add_argument("--timeout", type=_seconds, default=120.0, metavar="SECONDS", help=limit)


def _add_node(commands: Commands) -> None:
    command = _add_command(commands, "node", _node, "stopped")  # without help, it is not listed: for demo alone
    which = command.add_mutually_exclusive_group(required=True)
    which.add_argument("--file", type=Path)
    which.add_argument("--out", type=Path)
    _add_security(command)


async def _share(args: argparse.Namespace, show: Show) -> int:
    await share(args.file, _limits(args), show, sys.stdout)
    return 0


async def _get(args: argparse.Namespace, show: Show) -> int:
    limits = _limits(args)
    await get(args.sources, args.output, limits, show, sys.stdout, force=args.force, stay=args.stay)
    return 0


async def _demo(args: argparse.Namespace, show: Show) -> int:
    return 0 if await demo(plan_of(args), show, sys.stdout) else 1


async def _node(args: argparse.Namespace, show: Show) -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all of a terminal; the demo ends its nodes itself
    security = Security.of(args)

    def tell(event: dict[str, Any]) -> None:
        print(json.dumps(event), flush=True)

    return await run_node(0, tell, file=args.file, out=args.out, security=security)


def plan_of(args: argparse.Namespace) -> Plan:
    """Return the demonstration that is asked for. Raises :class:`CliError` for what another shape would need."""
    shape, nodes = Topology(args.topology), args.nodes
    options: dict[str, Any] = {"width": args.width, "degree": args.degree, "seed": args.seed}
    options |= {"timeout": args.timeout, "noise": args.noise, "tls": args.tls}
    if shape is Topology.GRID and nodes > 0:
        width = options["width"] = args.width or max(n for n in range(1, math.isqrt(nodes) + 1) if nodes % n == 0)
        options["height"] = max(1, nodes // max(1, width))
    if shape is Topology.RANDOM and args.degree is None:
        options["degree"] = max(1, min(3, nodes - 1))
    return Plan(file=args.file, nodes=nodes, topology=shape, **options)


def _limits(args: argparse.Namespace) -> Limits:
    return Limits(
        listen=args.listen,
        max_peers=args.max_peers,
        stall=args.stall,
        give_up=args.give_up,
        security=Security.of(args),
    )


def _seconds(text: str) -> float:
    seconds = float(text)
    if not (seconds > 0 and math.isfinite(seconds)):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return seconds


def _set_up_logging(*, verbose: bool) -> None:
    """Without ``verbose`` nothing is logged: what a user must know is said in another way."""
    if verbose:
        logging.basicConfig(level=logging.DEBUG, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    elif not logging.getLogger("pea2pea").handlers:
        logging.getLogger("pea2pea").addHandler(logging.NullHandler())


def _print_error(line: str) -> None:
    print(f"pea2pea: {line}", file=sys.stderr, flush=True)
