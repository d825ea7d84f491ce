"""Pages of a list: `MaxResults`, `NextToken`, and a page size that a test sets; botocore's paginators say what is a list."""

from __future__ import annotations

import base64
import json
from functools import cache
from typing import Any

from botocore.session import get_session

from tests.servers.ec2.errors import ApiError

Tree = dict[str, Any]


@cache
def _paginators() -> dict[str, Any]:
    found: dict[str, Any] = get_session().get_component("data_loader").load_service_model("ec2", "paginators-1")
    return dict(found["pagination"])


def page(action: str, tree: Tree, result: Any, most: int | None) -> Any:
    """Return one page of a result; raises ApiError for a token that is not from here."""
    rule = _paginators().get(action)
    if rule is None or not isinstance(result, dict):
        return result
    key = rule["result_key"] if isinstance(rule["result_key"], str) else rule["result_key"][0]
    size = min([limit for limit in (tree.get("MaxResults"), most) if limit], default=None)
    start = _start(action, tree)
    items = list(result.get(key) or [])
    if size is None and not start:
        return result
    end = start + size if size else len(items)
    token = _token(action, end) if end < len(items) else None
    return {**result, key: items[start:end], "NextToken": token}


def _token(action: str, start: int) -> str:
    return base64.b64encode(json.dumps([action, start]).encode()).decode()


def _start(action: str, tree: Tree) -> int:
    token = tree.get("NextToken")
    if not token:
        return 0
    try:
        of, start = json.loads(base64.b64decode(token))
    except ValueError:
        of, start = "", 0
    if of != action:
        # https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html#CommonErrors
        raise ApiError("InvalidPaginationToken", "The specified pagination token is not valid or is expired.")
    return int(start)
