"""The HTTP session of requests: credentials, proxy, and the check that answers are from Compute Engine.

Loads google-auth and requests, so it is imported at the first request.
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
    """An answer that does not have Compute Engine's format; `is_json`: whether it is a JSON object."""

    def __init__(self, response: requests.Response, *, is_json: bool) -> None:
        super().__init__(response.status_code)
        self.response = response
        self.is_json = is_json


def credentials(*, anonymous: bool, scope: str = _SCOPE) -> Any:
    """Return the user's Google credentials, or anonymous ones for another server. DeniedError: not found."""
    if anonymous:
        return AnonymousCredentials()  # type: ignore[no-untyped-call]
    try:
        return google.auth.default(scopes=[scope])[0]
    except (DefaultCredentialsError, OSError) as error:
        raise DeniedError(
            "no credentials for Google Cloud found", next_step="Log in: gcloud auth application-default login"
        ) from error


def prepare(session: requests.Session, adapter: BaseAdapter, *, is_local: bool) -> None:
    """Configure a session: send with `adapter`, ignore proxies for a server on this computer, reject foreign answers."""
    session.trust_env = not is_local
    session.auth = _completed
    session.hooks["response"].append(_check)
    session.mount("https://", adapter)
    session.mount("http://", adapter)


def _completed(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Complete a request. Being the session's `auth`, this also keeps requests from replacing Google's token by one of ~/.netrc.

    Adds returnPartialSuccess to lists over all zones: AggregatedListInstancesRequest and the like have no field for it.
    """
    if "/aggregated/" in str(request.url):
        request.prepare_url(str(request.url), {"returnPartialSuccess": "true"})
    return request


def _check(response: requests.Response, *_: Any, **__: Any) -> None:
    """Check an answer before a redirect is followed. ForeignAnswerError: it is not from Compute Engine."""
    try:
        body = response.json()
    except ValueError:
        raise ForeignAnswerError(response, is_json=False) from None
    if not _is_of_the_service(response.status_code, body):
        raise ForeignAnswerError(response, is_json=isinstance(body, dict))


def _is_of_the_service(status: int, body: object) -> bool:
    """Return whether an answer has Compute Engine's format.

    A success is an object with a `kind`, such as compute#instanceList (in the discovery document of compute v1 for every answer);
    an error is an object with an object `error`.
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
