"""Routes and checks requests by Google's discovery document of the service, which google-api-python-client carries."""

from __future__ import annotations

import base64
import binascii
import importlib.util
import json
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from tests.servers.gce.errors import ApiError, Json, invalid, required, unparsable

UNDECLARED_PARAMETERS: Mapping[str, Json] = {"returnPartialSuccess": {"type": "boolean"}, "$alt": {"type": "string"}}
"""What the service takes although its discovery document does not tell; gcloud and google-cloud-compute send it."""

_RANGES = {"int32": (-(2**31), 2**31 - 1), "uint32": (0, 2**32 - 1), "int64": (-(2**63), 2**63 - 1), "uint64": (0, 2**64 - 1)}


@dataclass(frozen=True, slots=True)
class Method:
    """One method of the service: `compute.instances.insert`."""

    id: str
    http: str
    template: tuple[str, ...]
    fixed: tuple[int, str]
    """The last part of the template that is no parameter, by its place: what tells most methods apart."""
    parameters: Mapping[str, Json]
    body: str = ""
    response: str = ""


@dataclass(slots=True)
class Call:
    """One checked request."""

    method: Method
    path: str
    params: dict[str, Any]
    body: Json = field(default_factory=dict)
    operation_fault: Any = None
    cleared: frozenset[str] = frozenset()
    """The fields of the body that are null."""

    def __getitem__(self, name: str) -> str:
        return str(self.params[name])

    @property
    def verb(self) -> str:
        return self.method.id.rsplit(".", 1)[1]

    @property
    def collection(self) -> str:
        return self.method.id.split(".")[1]


class Schema:
    """The discovery document, ready for look-ups."""

    def __init__(self, document: Json) -> None:
        self.schemas: Json = document["schemas"]
        self._global: Json = {**document["parameters"], **UNDECLARED_PARAMETERS}
        self._methods: dict[tuple[str, int], list[Method]] = defaultdict(list)
        self.ids: set[str] = set()
        for resource in document["resources"].values():
            for spec in resource.get("methods", {}).values():
                self._add(spec)

    def _add(self, spec: Json) -> None:
        template = tuple(spec["path"].split("/"))
        body, response = (spec.get(side, {}).get("$ref", "") for side in ("request", "response"))
        fixed = max((place, name) for place, name in enumerate(template) if not name.startswith("{"))
        method = Method(spec["id"], spec["httpMethod"], template, fixed, spec.get("parameters", {}), body, response)
        self._methods[method.http, len(template)].append(method)
        self.ids.add(method.id)

    def route(self, http: str, path: str) -> tuple[Method, dict[str, str]]:
        """Return the method that a path (without /compute/v1/) means, and the parameters that stand in it."""
        parts = path.split("/")
        for method in self._methods[http, len(parts)]:
            place, word = method.fixed
            if parts[place] != word:
                continue
            pairs = list(zip(method.template, parts, strict=True))
            if all(part and (name.startswith("{") or name == part) for name, part in pairs):
                return method, {name.strip("{}"): unquote(part) for name, part in pairs if name.startswith("{")}
        raise ApiError(404, "notFound", f"The requested URL /compute/v1/{path} was not found on this server.")

    def is_atomic(self, schema: str, field: str) -> bool:
        """Return whether a filter may name a field: no list stands on the way to it."""
        spec: Json = self.schemas[schema]
        for name in field.split("."):
            spec = self.schemas[spec["$ref"]] if "$ref" in spec else spec
            if "additionalProperties" in spec:
                return True
            spec = spec.get("properties", {}).get(name) or {"type": "array"}
        return spec.get("type") != "array"

    def check_parameters(self, method: Method, path: Mapping[str, str], query: Mapping[str, list[str]]) -> dict[str, Any]:
        """Return all parameters, converted, with the defaults that the document gives."""
        values: dict[str, Any] = {}
        for name, spec in method.parameters.items():
            given = [path[name]] if name in path else query.get(name, [])
            if given:
                checked = [_parameter(name, spec, value) for value in given]
                values[name] = checked if spec.get("repeated") else checked[-1]
            elif spec.get("required"):
                raise required(name)
        for name in query.keys() - method.parameters.keys():
            if name not in self._global:
                raise unparsable(
                    f"Unknown name \"{name}\": Cannot bind query parameter. Field '{name}' could not be found in request message."
                )
            values[name] = _parameter(name, self._global[name], query[name][-1])
        return values

    def check_body(self, method: Method, body: object) -> Json:
        """Return the body without nulls and without what only the service may write."""
        if not isinstance(body, dict):
            raise unparsable("Root element must be a message.")
        if not body and method.id.rsplit(".", 1)[1] == "insert":
            raise required("resource")
        return _Checker(self.schemas, method.id).message(self.schemas[method.body], body, "resource")


class _Checker:
    def __init__(self, schemas: Json, method_id: str) -> None:
        self._schemas, self._method_id = schemas, method_id

    def message(self, schema: Json, value: Json, where: str) -> Json:
        properties = schema.get("properties", {})
        for name, spec in properties.items():
            if self._method_id in spec.get("annotations", {}).get("required", []) and value.get(name) is None:
                raise required(f"{where}.{name}")
        checked: Json = {}
        for name, item in value.items():
            spec = properties.get(name) or schema.get("additionalProperties")
            if spec is None:
                raise unparsable(f"Unknown name \"{name}\" at '{where}': Cannot find field.")
            if item is not None and not spec.get("readOnly"):
                checked[name] = self.value(spec, item, f"{where}.{name}")
        return checked

    def value(self, spec: Json, value: Any, where: str) -> Any:
        if "$ref" in spec:
            spec = self._schemas[spec["$ref"]]
        kind = spec["type"]
        if kind == "array":
            items = value if isinstance(value, list) else [value]
            return [self.value(spec["items"], item, f"{where}[{i}]") for i, item in enumerate(items) if item is not None]
        if isinstance(value, list):
            parent, _, name = where.rpartition(".")
            raise unparsable(f"Unknown name \"{name}\" at '{parent}': Proto field is not repeating, cannot start list.")
        if kind == "object":
            if not isinstance(value, dict):
                raise _wrong_type(where, f"type.googleapis.com/{spec.get('id', 'object')}", value)
            return self.message(spec, value, where)
        if isinstance(value, dict):
            raise unparsable(f"Invalid value at '{where}': a message, where a value belongs.")
        return _scalar(spec, value, where)


def _scalar(spec: Json, value: Any, where: str) -> Any:
    kind, form = spec["type"], spec.get("format", "")
    if kind == "any":
        return value
    if kind == "boolean":
        if not isinstance(value, bool):
            raise _wrong_type(where, "TYPE_BOOL", value)
        return value
    if kind in ("integer", "number") or form in ("int64", "uint64"):
        return _number(kind, form, value, where)
    if not isinstance(value, str):
        raise _wrong_type(where, "TYPE_STRING", value)
    if form == "byte":
        _check_base64(value, where)
    _check_text(spec, value, where)
    return value


def _number(kind: str, form: str, value: Any, where: str) -> Any:
    try:
        number = float(value) if kind == "number" else int(str(value))
    except ValueError:
        raise _wrong_type(where, f"TYPE_{form.upper()}", value) from None
    low, high = _RANGES.get(form, (float("-inf"), float("inf")))
    if isinstance(value, bool) or not low <= number <= high:
        raise _wrong_type(where, f"TYPE_{form.upper()}", value)
    return str(number) if kind == "string" else number


def _wrong_type(where: str, name: str, value: object) -> ApiError:
    return unparsable(f"Invalid value at '{where}' ({name}), {json.dumps(value)}")


def _check_base64(value: str, where: str) -> None:
    try:
        base64.b64decode(value.replace("-", "+").replace("_", "/"), validate=True)
    except binascii.Error:
        raise unparsable(f"Invalid value at '{where}' (TYPE_BYTES), Base64 decoding failed for {json.dumps(value)}") from None


def _check_text(spec: Json, value: str, where: str) -> None:
    if "enum" in spec and value not in spec["enum"]:
        raise invalid(where, value, f"Must be one of the following: {', '.join(spec['enum'])}")
    if "pattern" in spec and not re.fullmatch(spec["pattern"], value):
        raise invalid(where, value, f"Must be a match of regex '(?:{spec['pattern']})'")


def _parameter(name: str, spec: Json, text: str) -> Any:
    kind = spec["type"]
    if kind == "boolean":
        if text.lower() not in ("true", "false", "1", "0"):
            raise unparsable(f"Invalid value at '{name}' (TYPE_BOOL), {json.dumps(text)}")
        return text.lower() in ("true", "1")
    if kind == "integer" or spec.get("format") in ("int64", "uint64"):
        return _integer_parameter(name, spec, text)
    _check_text(spec, text, name)
    return text


def _integer_parameter(name: str, spec: Json, text: str) -> int:
    number = int(_number("integer", spec.get("format", "int64"), text, name))
    low, high = spec.get("minimum"), spec.get("maximum")
    if (low is not None and number < int(low)) or (high is not None and number > int(high)):
        raise invalid(name, text, f"Must be between {low or '-inf'} and {high or 'inf'}, inclusive")
    return number


@cache
def compute_v1() -> Schema:
    """Return the schema of compute v1; reading it takes about 0.1 s, once for each process."""
    found = importlib.util.find_spec("googleapiclient")
    assert found and found.origin, "google-api-python-client is missing; it is in requirements-dev.lock"
    path = Path(found.origin).parent / "discovery_cache" / "documents" / "compute.v1.json"
    return Schema(json.loads(path.read_text(encoding="utf-8")))
