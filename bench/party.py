"""One party, a process of its own: ``python -m bench.party CONTENDER``. Jobs come on standard input."""

from __future__ import annotations

import logging
import sys
import traceback

from .contenders import CONTENDERS
from .job import Job, Line


def main() -> None:
    """Do one job after the other, until standard input ends."""
    line = Line()
    # Loops warn of each write to a connection that the other side has closed: here that is how work ends.
    logging.disable(logging.WARNING)
    contender = CONTENDERS[sys.argv[1]].load()
    line.tell(ready=True, accelerated="pea2pea._speedups" in sys.modules)
    while request := line.hear():
        if "role" not in request:  # said to a job that ended without it
            continue
        try:
            result = contender.play(request.pop("role"), Job(**request), line)
        except Exception as exc:  # told to whoever asked, with its traceback on standard error
            traceback.print_exc()
            line.tell(error=f"{type(exc).__name__}: {exc}")
        else:
            line.tell(result=result)


if __name__ == "__main__":
    main()
