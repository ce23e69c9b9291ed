"""One party, in a process of its own: ``python -m bench.party CONTENDER``. It reads jobs from standard input."""

from __future__ import annotations

import logging
import sys
import traceback

from .contenders import CONTENDERS
from .job import Job, Line


def main() -> None:
    """Run one job after the other, until standard input ends."""
    line = Line()
    # Event loops warn about writes to a connection that the other side has closed, which is how a job ends here.
    logging.disable(logging.WARNING)
    contender = CONTENDERS[sys.argv[1]].load()
    line.tell(ready=True, accelerated="pea2pea._speedups" in sys.modules)
    while request := line.hear():
        if "role" not in request:  # for a job that has ended before
            continue
        try:
            result = contender.play(request.pop("role"), Job(**request), line)
        except Exception as exc:  # reported to the process that sent the job; the traceback goes to standard error
            traceback.print_exc()
            line.tell(error=f"{type(exc).__name__}: {exc}")
        else:
            line.tell(result=result)


if __name__ == "__main__":
    main()
