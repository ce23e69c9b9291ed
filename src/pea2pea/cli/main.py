"""The command line: its arguments, its output and its exit status.

Results (the link, the file, the summary) go to standard output, everything else to standard error. The
exit status is 0 on success, 1 on failure (with one line that gives the reason), 2 for a wrong command
line, 130 after Ctrl-C and 143 after SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import traceback
from collections.abc import Sequence

from pea2pea import __version__
from pea2pea.share import Link, Target, explain, get_file, share_file
from pea2pea.share.runner import run

from .arguments import parse
from .demo import demo
from .figures import size
from .show import Show, make_show

INTERRUPTED, TERMINATED = 130, 143

STOPPED = "stopped"
STOPPED_EARLY = "stopped; the same command continues from here"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    args = parse(argv, __version__)
    args.stopped = STOPPED
    _set_up_logging(verbose=args.verbose)
    show = make_show(sys.stderr)
    try:
        status = run(JOBS[args.command](args, show))
        show.close()
        return status
    except KeyboardInterrupt:
        show.close()
        _print_error(args.stopped)
        return INTERRUPTED
    except asyncio.CancelledError:
        show.close()
        _print_error("terminated")
        return TERMINATED
    except Exception as error:  # the last resort: one line for the user, and the traceback on request
        show.close()
        if args.verbose:
            traceback.print_exc()
        _print_error(explain(error))
        return 1


async def _share(args: argparse.Namespace, show: Show) -> int:
    def ready(link: Link) -> None:
        print(link, flush=True)

    await share_file(args.file, args.limits, show, ready)
    return 0


async def _get(args: argparse.Namespace, show: Show) -> int:
    path = args.path
    args.stopped = STOPPED_EARLY

    def found(target: Target) -> None:
        show.say(f"getting {path}, {size(target.size)}")

    def done(target: Target) -> None:
        args.stopped = STOPPED
        print(f"{path}: {size(target.size)}, verified, root {target.root.hex()}", flush=True)

    options = {"force": args.force, "stay": args.stay}
    await get_file(args.sources, path, args.limits, show, done, found=found, **options)
    return 0


async def _demo(args: argparse.Namespace, show: Show) -> int:
    return 0 if await demo(args.plan, show, sys.stdout) else 1


JOBS = {"share": _share, "get": _get, "demo": _demo}


def _set_up_logging(*, verbose: bool) -> None:
    """Without ``verbose`` nothing is logged: what the user has to know is printed by other means."""
    if verbose:
        logging.basicConfig(level=logging.DEBUG, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    elif not logging.getLogger("pea2pea").handlers:
        logging.getLogger("pea2pea").addHandler(logging.NullHandler())


def _print_error(line: str) -> None:
    print(f"pea2pea: {line}", file=sys.stderr, flush=True)
