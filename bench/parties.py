"""The processes that play the two sides of a benchmark, as the process that starts them sees them."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from types import TracebackType
from typing import Any, Self

from .contenders import CONTENDERS
from .job import Job, Result

#: Seconds that a party may take beyond the time of its job. Connecting a thousand nodes takes a while.
PATIENCE = 90.0


class PartyError(Exception):
    """A party failed, or did not answer."""


class Party:
    """A process that plays one side for one contender."""

    def __init__(self, contender: str) -> None:
        entry = CONTENDERS[contender]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.party", contender],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **entry.env},
            bufsize=0,
        )
        self._unread = b""
        self._ready = False
        #: Whether it uses the C module of pea2pea.
        self.accelerated = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def wait_ready(self) -> None:
        """Wait until the party has imported its libraries."""
        if not self._ready:
            self.accelerated = bool(self.hear(PATIENCE)["accelerated"])
            self._ready = True

    def ask(self, role: str, job: Job) -> None:
        self.wait_ready()
        self.tell(role=role, **job.to_json())

    def tell(self, **facts: Any) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(facts).encode() + b"\n")
        except OSError as exc:
            raise PartyError(f"the party has ended: {exc}") from exc

    def hear(self, seconds: float) -> dict[str, Any]:
        """Return the party's next answer. Raises if it is an error, or if none arrives within ``seconds``."""
        assert self._process.stdout is not None
        deadline = time.monotonic() + seconds
        while b"\n" not in self._unread:
            readable, _, _ = select.select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            chunk = self._process.stdout.read(65536) if readable else b""
            if not chunk:
                raise PartyError(f"no answer within {seconds:g} s" if not readable else "the party ended")
            self._unread += chunk
        text, self._unread = self._unread.split(b"\n", 1)
        answer: dict[str, Any] = json.loads(text)
        if "error" in answer:
            raise PartyError(str(answer["error"]))
        return answer

    def hear_result(self, job: Job) -> Result:
        result: Result = self.hear(job.seconds + PATIENCE)["result"]
        return result

    def close(self) -> None:
        """Close the party's input, and kill the process if it does not end."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(2.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


def pair(server: Party, server_role: str, client: Party, client_role: str, job: Job) -> tuple[Result, Result]:
    """Let one party listen and the other dial it; return the results of both."""
    server.ask(server_role, job)
    port = int(server.hear(PATIENCE)["port"])
    client.ask(client_role, Job(**{**job.to_json(), "port": port}))
    client_result = client.hear_result(job)
    return server.hear_result(job), client_result
