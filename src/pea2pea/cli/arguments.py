"""The arguments of the command line, checked as far as possible before anything is done. No asyncio.

A wrong argument ends the program with status 2 and a line that says what was expected.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pea2pea import Addr, ConfigError, Topology
from pea2pea.share import Limits, Link, Mode, Security, ShareError
from pea2pea.share.link import mode_of, wanted

from .demo import MOST_NODES, USUAL_RATE, USUAL_SIZE, Plan

Commands = Any  # argparse's own type for this is private


def parse(argv: Sequence[str] | None, version: str) -> argparse.Namespace:
    """Parse the command line. Ends the program with status 2, and a message, if it is wrong.

    Besides the arguments themselves, the result has ``command``; for ``share`` and ``get`` it has
    ``limits``, for ``get`` also ``path``, and for ``demo`` it has ``plan``.
    """
    args = parser(version).parse_args(argv)
    try:
        args.complete(args)
    except (ShareError, ConfigError) as error:
        args.parser.error(str(error))
    return args


def parser(version: str) -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(prog="pea2pea", description="Share a file, get one, or watch one spread.")
    top.add_argument("--version", action="version", version=f"pea2pea {version}")
    commands = top.add_subparsers(dest="command", metavar="share | get | demo", required=True)
    _add_share(commands)
    _add_get(commands)
    _add_demo(commands)
    return top


def _add_command(
    commands: Commands, name: str, complete: Callable[[argparse.Namespace], None], help: str
) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.")
    command.add_argument("--verbose", action="store_true", help="log what happens, and show the traceback of an error")
    command.set_defaults(parser=command, complete=complete)
    return command


def _add_share(commands: Commands) -> None:
    command = _add_command(commands, "share", _complete_share, "share a file and print the link to it")
    command.add_argument("file", type=Path, metavar="FILE")
    _add_limits(command)
    _add_security(command)


def _add_get(commands: Commands) -> None:
    command = _add_command(commands, "get", _complete_get, "get a file from one or several sharers at once")
    sources = "where to get it: the link that share printed, or an address, whose first answer is trusted"
    command.add_argument("sources", nargs="+", type=_link, metavar="LINK|HOST:PORT", help=sources)
    output = "the file to write, or a directory to save it in under its own name (default: this directory)"
    command.add_argument("-o", "--output", default=".", metavar="FILE|DIR", help=output)
    command.add_argument("--force", action="store_true", help="replace an existing file")
    command.add_argument("--stay", action="store_true", help="go on sharing the file when it is complete")
    _add_limits(command)
    usual = Limits()
    stall = "disconnect a peer that delivers nothing for this long (default: 15, plus 1 per 64 KiB of a chunk)"
    command.add_argument("--stall", type=_seconds, default=usual.stall, metavar="SECONDS", help=stall)
    give_up = "fail if no chunk arrives for this long (default: %(default)g)"
    command.add_argument("--give-up", type=_seconds, default=usual.give_up, metavar="SECONDS", help=give_up)
    _add_security(command, "A link selects --noise or --tls by itself.")


def _add_limits(command: argparse.ArgumentParser) -> None:
    usual = Limits()
    listen = "where others can connect (default: %(default)s, for this machine only; 0.0.0.0:0 for other machines, too)"
    command.add_argument("--listen", type=_address, default=usual.listen, metavar="HOST:PORT", help=listen)
    most = "connections at a time (default: %(default)s)"
    command.add_argument("--max-peers", type=_count(1, 100_000), default=usual.max_peers, metavar="N", help=most)


def _add_security(command: argparse.ArgumentParser, description: str | None = None) -> None:
    group = command.add_argument_group("security", description)
    modes = group.add_mutually_exclusive_group()
    modes.add_argument("--noise", action="store_true", help="encrypt with Noise: peers are identified by public keys")
    modes.add_argument("--tls", action="store_true", help="encrypt with TLS 1.3: peers are identified by certificates")
    key = "the private key; with Noise it is made if the file does not exist (default: a new key each time)"
    group.add_argument("--key", type=Path, metavar="FILE", help=key)
    allow = "accept only this peer, by its public key (Noise) or id (TLS); may be repeated (default: accept all)"
    group.add_argument("--allow", action="append", default=[], type=_key, metavar="HEX", help=allow)
    cert = "with TLS, this node's certificate and, without --key, its private key; made if the file does not exist"
    group.add_argument("--cert", type=Path, metavar="FILE", help=cert)
    trusted = "with TLS, certificates to trust; may be repeated (default: this node's own)"
    group.add_argument("--ca", type=_existing, action="append", default=[], metavar="FILE", help=trusted)


def _add_demo(commands: Commands) -> None:
    command = _add_command(commands, "demo", _complete_demo, "watch a file spread through nodes on this machine")
    file = "the file to spread (default: a new file of random bytes)"
    command.add_argument("file", type=Path, nargs="?", metavar="FILE", help=file)
    size = f"without FILE, the size of the new file (default: {USUAL_SIZE})"
    command.add_argument("--size", type=_count(1, 1 << 20), metavar="MIB", help=size)
    rate = f"how much each node sends per second, so that it can be watched; 0: no limit (default: {USUAL_RATE})"
    command.add_argument("--rate", type=_rate, default=float(USUAL_RATE), metavar="MIB", help=rate)
    nodes = "how many nodes, each a process (default: %(default)s)"
    command.add_argument("--nodes", type=_count(1, MOST_NODES), default=8, metavar="N", help=nodes)
    shapes = [shape.value for shape in Topology]
    command.add_argument(
        "--topology", choices=shapes, default="random", help="how they are connected (default: %(default)s)"
    )
    command.add_argument("--width", type=_count(1, MOST_NODES), metavar="N", help="of a grid (default: nearly square)")
    degree = "connections of each node in a random topology (default: 3)"
    command.add_argument("--degree", type=_count(1, MOST_NODES), metavar="N", help=degree)
    command.add_argument("--seed", type=int, metavar="N", help="of a random topology (default: a new one each time)")
    secured = command.add_mutually_exclusive_group()
    secured.add_argument("--noise", action="store_true", help="encrypt with Noise; the nodes accept each other's keys")
    secured.add_argument("--tls", action="store_true", help="encrypt with TLS; one authority signs all certificates")
    limit = "how long it may take (default: %(default)g)"
    command.add_argument("--timeout", type=_seconds, default=120.0, metavar="SECONDS", help=limit)


# What follows from several arguments


def _complete_share(args: argparse.Namespace) -> None:
    args.limits = _limits(args, _mode(args) or Mode.PLAIN)


def _complete_get(args: argparse.Namespace) -> None:
    wanted(args.sources)
    asked, linked = _mode(args), mode_of(args.sources)
    if asked is not None and linked is not None and asked is not linked:
        raise ShareError(f"the link is for a file shared {linked.words}: leave out --{asked.value}")
    args.limits = _limits(args, asked or linked or Mode.PLAIN)
    args.path = output_of(args.output, args.sources)


def _complete_demo(args: argparse.Namespace) -> None:
    args.plan = plan_of(args)
    args.plan.edges()


def _mode(args: argparse.Namespace) -> Mode | None:
    return Mode.NOISE if args.noise else Mode.TLS if args.tls else None


def _limits(args: argparse.Namespace, mode: Mode) -> Limits:
    security = Security(mode=mode, key=args.key, allow=tuple(args.allow), cert=args.cert, ca=tuple(args.ca))
    only_get = {name: getattr(args, name) for name in ("stall", "give_up") if name in args}
    return Limits(listen=args.listen, max_peers=args.max_peers, security=security, **only_get)


def output_of(output: str, links: Sequence[Link]) -> Path:
    """Return the file to write. Raises :class:`ShareError` if there cannot be one."""
    path = Path(output)
    if path.is_dir():
        name = next((link.name for link in links if link.name is not None), None)
        if name is None:
            raise ShareError(f"no link contains the name of the file, and {path} is a directory: add -o FILE")
        path = path / name
    elif output.endswith(("/", "\\")) or not path.parent.is_dir():
        raise ShareError(f"no such directory: {path if output.endswith(('/', chr(92))) else path.parent}")
    if path.exists() and not path.is_file():
        raise ShareError(f"{path} exists and is not a file")
    return path


def plan_of(args: argparse.Namespace) -> Plan:
    """Return the plan of a demonstration. Raises :class:`ShareError` for options that need other options."""
    shape, nodes = Topology(args.topology), args.nodes
    for option, needed in (("width", Topology.GRID), ("degree", Topology.RANDOM), ("seed", Topology.RANDOM)):
        if getattr(args, option) is not None and shape is not needed:
            raise ShareError(f"--{option} needs --topology {needed.value}, got {shape.value}")
    if args.size is not None and args.file is not None:
        raise ShareError("--size is the size of a file that is made: leave it out, or leave out FILE")
    options: dict[str, Any] = {"width": args.width, "degree": args.degree, "seed": args.seed}
    if shape is Topology.GRID:
        width = options["width"] = args.width or max(n for n in range(1, math.isqrt(nodes) + 1) if nodes % n == 0)
        options["height"] = max(1, nodes // width)
    if shape is Topology.RANDOM and args.degree is None:
        options["degree"] = max(1, min(3, nodes - 1))
    size = (args.size or USUAL_SIZE) << 20
    rate = args.rate * (1 << 20) or None
    mode = _mode(args) or Mode.PLAIN
    return Plan(
        file=args.file, size=size, rate=rate, nodes=nodes, topology=shape, timeout=args.timeout, mode=mode, **options
    )


# What a single argument has to be


def _link(text: str) -> Link:
    try:
        return Link.parse(text)
    except ShareError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _address(text: str) -> str:
    try:
        return str(Addr.of(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected HOST:PORT, got {text!r}") from error


def _key(text: str) -> str:
    if len(text) != 64 or not set(text.lower()) <= set("0123456789abcdef"):
        raise argparse.ArgumentTypeError(f"expected 64 hexadecimal digits, got {text!r}")
    return text.lower()


def _existing(text: str) -> Path:
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"no such file: {text}")
    return path


def _count(least: int, most: int) -> Callable[[str], int]:
    def count(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"expected an integer from {least} to {most}, got {text!r}")
        return number

    return count


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _seconds(text: str) -> float:
    seconds = _number(text)
    if not (seconds > 0 and math.isfinite(seconds)):
        raise argparse.ArgumentTypeError(f"expected a number of seconds above 0, got {text!r}")
    return seconds


def _rate(text: str) -> float:
    rate = _number(text)
    if not (rate >= 0 and math.isfinite(rate)):
        raise argparse.ArgumentTypeError(f"expected a number of MiB per second, or 0, got {text!r}")
    return rate
