"""One server over HTTP: every request repeated until it is answered, for as long as a restart takes."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from archsearch.errors import ServiceError

DEFAULT_URL = "http://127.0.0.1:8321"
# What a proxy says in front of a server that is down, and a server that has too much to do; both pass.
_PASSING = (502, 503, 504)
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.25, 10.0


class Connection:
    """Requests to one server.

    A server that has answered before may be restarting: it is waited for, `patience_s` at a time without an answer.
    One that never answered is not there, and that is said at once; one too busy to do what it is asked has answered.
    """

    def __init__(self, url: str | None, *, timeout_s: float, patience_s: float) -> None:
        self.url = (url or os.environ.get("ARCHSEARCH_URL") or DEFAULT_URL).rstrip("/")
        self._patience_s, self._known = patience_s, False
        try:
            # Environment proxies are for the world outside; this is usually the machine itself.
            self._http = httpx.Client(base_url=self.url, timeout=timeout_s, trust_env=False)
        except (httpx.InvalidURL, ValueError) as error:
            raise ServiceError(f"{self.url} is no address of a server: {error}", status=0) from None

    def close(self) -> None:
        self._http.close()

    def call(self, method: str, path: str, **kwargs: Any) -> Any:
        """One request; the answer's JSON, or ServiceError with the problem the server sent."""

        def once() -> Any:
            with self.stream(method, path, **kwargs) as answer:
                answer.read()
                return answer.json() if answer.content else None

        if method == "POST":
            # So that one whose answer was lost can be asked again: it is not done twice.
            kwargs["headers"] = {"Idempotency-Key": secrets.token_hex(16), **kwargs.get("headers", {})}
        waiting, silent = self.patience(), False
        while True:
            try:
                return once()
            except Away as away:
                silent = silent or away.error.status == 0
                waiting.wait(away)
            except ServiceError as error:
                if method == "DELETE" and error.status == 404 and silent:
                    return None  # a try before did it, and its answer was lost
                raise

    @contextmanager
    def stream(self, method: str, path: str, **kwargs: Any) -> Iterator[httpx.Response]:
        """An answer whose body is still to be read. Raises ServiceError for a problem, and `Away` for silence."""
        try:
            with self._http.stream(method, path, **kwargs) as answer:
                if answer.status_code in _PASSING:
                    answer.read()
                    said = problem(answer)
                    # A page of a proxy's proves nothing; who asks to come back, or answers as we do, is there.
                    self._known |= "retry-after" in answer.headers or "code" in said.body
                    raise Away(said, _retry_after_s(answer))
                self._known = True
                if answer.is_error:
                    answer.read()
                    raise problem(answer)
                yield answer
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise ServiceError(f"{self.url} is no address of a server: {error}", status=0) from None
        except httpx.TransportError as error:
            raise Away(self._silence(error)) from None
        except ValueError as error:  # no JSON, or no text
            raise ServiceError(f"{self.url} does not answer as archsearch does: {error}", status=0) from None

    def patience(self) -> Patience:
        """Patience for one thing that is asked for."""
        return Patience(lambda: self._patience_s if self._known else 0.0)

    def _silence(self, error: httpx.TransportError) -> ServiceError:
        if self._known:
            return ServiceError(f"{self.url} no longer answers; is the server running?", status=0)
        reason = f"{type(error).__name__}: {error}"
        fix = "start it with `archsearch serve` or set ARCHSEARCH_URL"
        return ServiceError(f"{self.url} does not answer ({reason}); {fix}", status=0)


class Away(Exception):
    """The server did not answer, or asked to come back later; `error` is what to say if it stays so."""

    def __init__(self, error: ServiceError, retry_after_s: float = 0.0) -> None:
        super().__init__(str(error))
        self.error, self.retry_after_s = error, retry_after_s


class Patience:
    """Waits ever longer between tries, and gives up when nothing came for too long."""

    def __init__(self, limit_s: Callable[[], float]) -> None:
        self._limit_s = limit_s
        self.answered()

    def answered(self) -> None:
        """Something came: the next silence is a new one."""
        self._wait_s, self._since = _FIRST_WAIT_S, None

    def wait(self, away: Away) -> None:
        """Wait before the next try; raises what to say once patience has run out."""
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        wait_s = max(self._wait_s, away.retry_after_s)
        if now + wait_s - self._since > self._limit_s():
            raise away.error from None
        time.sleep(wait_s)
        self._wait_s = min(2 * self._wait_s, _LONGEST_WAIT_S)

    _since: float | None
    _wait_s: float


def problem(answer: httpx.Response) -> ServiceError:
    """What a server's refusal says; whatever stands in front of it may answer a page instead."""
    try:
        body = answer.json()
    except ValueError:
        body = None
    body = body if isinstance(body, dict) else {}
    detail = body.get("detail") or f"{answer.status_code} {answer.reason_phrase}"
    return ServiceError(str(detail), status=answer.status_code, body=body)


def _retry_after_s(answer: httpx.Response) -> float:
    asked = answer.headers.get("retry-after", "")
    return min(float(asked), _LONGEST_WAIT_S) if asked.isdecimal() else 0.0
