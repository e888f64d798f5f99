"""POSTs to an address when a run is finished, is stopped, or needs a person; for people without Alertmanager."""

import http.client
import json
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any, Self
from urllib.parse import urlsplit

from ..errors import InputError
from ..events import Event, PartCommitted, Problem, StageEnded, StageStarted
from .background import Background

logger = logging.getLogger(__name__)

VARIABLE = "ZOO_WEBHOOK_URL"
TIMEOUT_SECONDS = 5.0
PAUSES_SECONDS = (1.0, 4.0)  # between three attempts
CLOSE_SECONDS = 15.0
AGAIN_SECONDS = 3600.0  # least time between two messages about the same kind of problem
_TEMPORARY = (408, 425, 429, 500, 502, 503, 504)


def _host(url: str) -> str:
    """The host of ``url``. Raises InputError, without the value, unless requests can be sent to ``url``."""
    wrong = f"{VARIABLE}: expected an http:// or https:// URL (its value is not shown, as a secret)"
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  raises ValueError if it is not a port
    except ValueError:  # its text contains the value
        raise InputError(wrong) from None
    if "@" in parts.netloc:
        raise InputError(
            f"{VARIABLE}: the URL has a user name or a password in front of the host, which requests do not send; "
            "put a token into the path or the query instead (its value is not shown, as a secret)"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname or not url.isprintable() or " " in url:
        raise InputError(wrong)
    return parts.hostname


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuses redirects: a redirected POST would become a GET of another address."""

    def redirect_request(self, *arguments: Any, **named: Any) -> None:
        return None


class Webhook:
    """An observer that POSTs JSON: event (finished, stopped, needs-you), zoo, run, stage, message, time.

    A receiver never delays a run and gets no other field. The URL is a secret: no message and no repr contains it.
    """

    def __init__(
        self,
        url: str,
        *,
        clock: Callable[[], float] = time.time,
        pauses_seconds: tuple[float, ...] = PAUSES_SECONDS,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self._url, self._host = url, _host(url)
        self._clock, self._pauses, self._timeout = clock, pauses_seconds, timeout_seconds
        self._opener = urllib.request.build_opener(_NoRedirect)
        self._background = Background("webhook")
        self._runs: dict[str, str] = {}
        self._done: dict[tuple[str, str], int] = {}
        self._sent: dict[tuple[str, str], float] = {}

    def __repr__(self) -> str:
        return f"Webhook(host={self._host!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if not self._background.close(CLOSE_SECONDS):
            logger.warning("the webhook did not answer in time", extra={"host": self._host})

    def __call__(self, event: Event) -> None:
        match event:
            case StageStarted():
                self._runs[event.zoo] = event.run
                self._done[event.zoo, event.stage] = event.done
            case PartCommitted():
                self._done[event.zoo, event.stage] = self._done.get((event.zoo, event.stage), 0) + (
                    len(event.models) * len(event.epochs)
                )
            case Problem(kind="failed" | "store"):
                self._ask(event.zoo, event.stage, event.kind, event.message)
            case Problem():
                pass
            case StageEnded(state="failed"):
                self._ask(event.zoo, event.stage, "ended", f"{event.stage} of {event.zoo} failed; its log says why")
            case StageEnded():
                done = self._done.get((event.zoo, event.stage), 0)
                message = f"{event.stage} of {event.zoo} {event.state}; {done:,} model-epochs are in the store"
                self._post(event.state, event.zoo, event.stage, message)

    def _ask(self, zoo: str, stage: str, kind: str, message: str) -> None:
        now = self._clock()
        if now - self._sent.get((zoo, kind), float("-inf")) >= AGAIN_SECONDS:
            self._sent[zoo, kind] = now
            self._post("needs-you", zoo, stage, message)

    def _post(self, event: str, zoo: str, stage: str, message: str) -> None:
        value = {
            "event": event,
            "zoo": zoo,
            "run": self._runs.get(zoo, ""),
            "stage": stage,
            "message": " ".join(message.split())[:1000],
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._clock())),
        }
        body = json.dumps(value).encode()
        if not self._background.submit(lambda: self._deliver(body)):
            logger.warning("the webhook is too slow; a message was dropped", extra={"host": self._host})

    def _deliver(self, body: bytes) -> None:
        reason = ""
        for pause in (0.0, *self._pauses):
            time.sleep(pause)
            headers = {"Content-Type": "application/json", "User-Agent": "zooforge"}
            request = urllib.request.Request(self._url, body, headers, method="POST")
            try:
                with self._opener.open(request, timeout=self._timeout):
                    return
            except urllib.error.HTTPError as error:
                error.close()
                reason = f"status {error.code}"
                if error.code not in _TEMPORARY:
                    break
            except (OSError, http.client.HTTPException, ValueError) as error:
                cause = error.reason if isinstance(error, urllib.error.URLError) else error
                reason = type(cause).__name__  # its text may contain the URL
        logger.warning("the webhook did not take a message", extra={"host": self._host, "reason": reason})


def webhook_from(environment: Mapping[str, str]) -> Webhook | None:
    """The webhook that ``ZOO_WEBHOOK_URL`` names, None without it.

    Raises:
        InputError: the value is not an http(s) URL, or contains a user name or password.
    """
    url = environment.get(VARIABLE, "")
    return Webhook(url) if url else None
