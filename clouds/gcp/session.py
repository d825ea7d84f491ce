"""How requests travel: by whose credentials, through which proxy, and what is not an answer of Compute Engine.

Loads google-auth and requests, so it is imported when the first request is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import google.auth
import requests
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import DefaultCredentialsError
from requests.adapters import BaseAdapter

from clouds.errors import DeniedError

_SCOPE = "https://www.googleapis.com/auth/compute"


class ForeignAnswerError(Exception):
    """An answer that is not of the form that Compute Engine gives its answers; `is_json` says whether it is JSON at all."""

    def __init__(self, response: requests.Response, *, is_json: bool) -> None:
        super().__init__(response.status_code)
        self.response = response
        self.is_json = is_json


def credentials(*, anonymous: bool) -> Any:
    """Return the user's Google credentials, or none (`anonymous`), as for a server that is not Google's. DeniedError: not found."""
    if anonymous:
        return AnonymousCredentials()  # type: ignore[no-untyped-call]
    try:
        return google.auth.default(scopes=[_SCOPE])[0]
    except (DefaultCredentialsError, OSError) as error:
        raise DeniedError("no credentials for Google Cloud", next_step="Log in: gcloud auth application-default login") from error


def prepare(session: requests.Session, adapter: BaseAdapter, *, is_local: bool) -> None:
    """Let a session send by `adapter`, past all proxies to a server on this computer, and refuse answers that are foreign."""
    session.trust_env = not is_local
    session.auth = _completed
    session.hooks["response"].append(_check)
    session.mount("https://", adapter)
    session.mount("http://", adapter)


def _completed(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Complete a request, in the place where requests would put a password from ~/.netrc over Google's token.

    Lists over all zones are asked for in part where one is out of reach: AggregatedListInstancesRequest and its like have no field
    for that.
    """
    if "/aggregated/" in str(request.url):
        request.prepare_url(str(request.url), {"returnPartialSuccess": "true"})
    return request


def _check(response: requests.Response, *_: Any, **__: Any) -> None:
    """Look at an answer before a redirection in it is followed. ForeignAnswerError: it is not Compute Engine's."""
    try:
        body = response.json()
    except ValueError:
        raise ForeignAnswerError(response, is_json=False) from None
    if not _is_of_the_service(response.status_code, body):
        raise ForeignAnswerError(response, is_json=isinstance(body, dict))


def _is_of_the_service(status: int, body: object) -> bool:
    """Say whether an answer has the form of Compute Engine's.

    That of a success is an object with its `kind`, such as compute#instanceList (the discovery document of compute v1 has it for
    every answer); that of a refusal is one with the object `error`.
    """
    if not isinstance(body, dict):
        return False
    if status < 300:
        return str(body.get("kind", "")).startswith("compute#")
    error = body.get("error")
    return status >= 400 and isinstance(error, dict) and all(_are_objects(error, key) for key in ("errors", "details"))


def _are_objects(error: Mapping[str, object], key: str) -> bool:
    found = error.get(key, [])
    return isinstance(found, list) and all(isinstance(one, dict) for one in found)
