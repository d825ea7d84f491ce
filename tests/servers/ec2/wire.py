"""Check a request against the service model that botocore ships: names, types, enums, what is required, filters, page sizes.

The messages follow https://github.com/aws/aws-cli/issues/21 (unknown parameter), https://github.com/boto/boto3/issues/1299
(filter) and https://github.com/aws/aws-sdk-ruby/pull/2575 (page size).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from botocore.model import OperationModel, Shape
from moto.core.utils import get_service_model

from tests.servers.ec2 import ids
from tests.servers.ec2.errors import ApiError, invalid_action, invalid_combination, invalid_value, missing, unknown_parameter

Tree = dict[str, Any]

COMMON = {"Action", "Version"}
_BETWEEN = re.compile(r"between (\d+) and ([\d,]+)")
_FILTER = re.compile(r"<li> *<p> *<code>([^<]+)</code>")


@cache
def operation(action: str) -> OperationModel:
    """Return the model of an action; raises ApiError InvalidAction."""
    model = get_service_model("ec2")
    if action not in model.operation_names:
        raise invalid_action(action)
    return model.operation_model(action)


def check(action: str, params: Mapping[str, str]) -> Tree:
    """Return the parameters as a tree, by their names in the model; raises ApiError."""
    model = operation(action)
    shape = model.input_shape
    tree = _tree({key: value for key, value in params.items() if key not in COMMON})
    found: Tree = _structure(shape, tree, "") if shape else {}
    ids.check(found)
    _check_filters(model, found)
    _check_page(model, found)
    return found


def wire_name(name: str, shape: Shape) -> str:
    """Return how a member is spelled in a request: botocore's EC2Serializer."""
    if "queryName" in shape.serialization:
        return str(shape.serialization["queryName"])
    name = str(shape.serialization.get("name", name))
    return name[0].upper() + name[1:]


def _tree(params: Mapping[str, str]) -> Tree:
    root: Tree = {}
    for key, value in params.items():
        *path, last = key.split(".")
        node = root
        for name in path:
            node = node.setdefault(name, {})
            if not isinstance(node, dict):
                raise unknown_parameter(key)
        if isinstance(node.get(last), dict):
            raise unknown_parameter(key)
        node[last] = value
    return root


def _value(shape: Shape, given: Any, where: str) -> Any:
    if shape.type_name == "structure":
        return _structure(shape, given, where)
    if shape.type_name == "list":
        return _list(shape, given, where)
    if isinstance(given, dict):
        raise unknown_parameter(f"{where}.{next(iter(given))}")
    return _scalar(shape, given, where)


def _structure(shape: Any, given: Any, where: str) -> Tree:
    if not isinstance(given, dict):
        raise invalid_value(f"Value ({given}) for parameter {where} is invalid. Expected a structure")
    members = {wire_name(name, member): (name, member) for name, member in shape.members.items()}
    found: Tree = {}
    for key, value in given.items():
        path = f"{where}.{key}" if where else key
        if key not in members:
            raise unknown_parameter(_leaf(path, value))
        name, member = members[key]
        found[name] = _value(member, value, path)
    for name in shape.required_members:
        if name not in found:
            path = wire_name(name, shape.members[name])
            raise missing(f"{where}.{path}" if where else path)
    return found


def _leaf(path: str, value: Any) -> str:
    while isinstance(value, dict):
        key = next(iter(value))
        path, value = f"{path}.{key}", value[key]
    return path


def _list(shape: Any, given: Any, where: str) -> list[Any]:
    if not isinstance(given, dict) or not all(key.isdigit() for key in given):
        raise unknown_parameter(_leaf(where, given))
    return [_value(shape.member, given[key], f"{where}.{key}") for key in sorted(given, key=int)]


def _scalar(shape: Shape, given: str, where: str) -> Any:
    name = where.rpartition(".")[2]
    if shape.type_name in ("integer", "long"):
        if not re.fullmatch(r"-?\d{1,18}", given):
            raise invalid_value(f"Value ({given}) for parameter {name} is invalid. Expected an integer")
        return int(given)
    if shape.type_name in ("float", "double"):
        if not re.fullmatch(r"-?\d+(\.\d+)?([eE]-?\d+)?", given):
            raise invalid_value(f"Value ({given}) for parameter {name} is invalid. Expected a number")
        return float(given)
    if shape.type_name == "boolean":
        if given.lower() not in ("true", "false"):
            raise invalid_value(f"Value ({given}) for parameter {name} is invalid. Expected a boolean")
        return given.lower() == "true"
    if shape.type_name == "blob":
        return _blob(given, name)
    allowed = getattr(shape, "enum", None)
    if allowed and given not in allowed:
        raise _bad_enum(given, name, where)
    return given


def _bad_enum(given: str, name: str, where: str) -> ApiError:
    """Return the error of https://github.com/getmoto/moto/issues/1695 (an instance type), else a guess.

    In a list of instance types: https://github.com/scylladb/scylla-cluster-tests/issues/12419.
    """
    if re.fullmatch(r"InstanceType\.\d+", where):
        return ApiError("InvalidInstanceType", f"The following supplied instance types do not exist: [{given}]")
    if name == "InstanceType":
        return invalid_value(f"Invalid value '{given}' for InstanceType.")
    return invalid_value(f"Value ({given}) for parameter {name} is invalid.")


def _blob(given: str, name: str) -> bytes:
    try:
        return base64.b64decode(given, validate=True)
    except binascii.Error:
        raise invalid_value(f"Invalid BASE64 encoding of {name}") from None


def filters_of(model: OperationModel) -> frozenset[str]:
    """Return the names of filters that the documentation in the model lists; those with a key end before the key."""
    member = model.input_shape.members.get("Filters") if model.input_shape else None
    names = _FILTER.findall(member.documentation) if member is not None else []
    return frozenset(name.split("<")[0].split("&lt;")[0] for name in names)


def _check_filters(model: OperationModel, found: Tree) -> None:
    known = _known_filters(model.name)
    for item in found.get("Filters", []):
        name = item.get("Name", "null")
        is_tag = name.startswith("tag:") and bool(known & {"tag", "tag:"})
        if known and name not in known and not is_tag:
            raise invalid_value(f"The filter '{name}' is invalid")


@cache
def _known_filters(action: str) -> frozenset[str]:
    return filters_of(operation(action))


def _check_page(model: OperationModel, found: Tree) -> None:
    if "MaxResults" not in found:
        return
    assert model.input_shape
    size = found["MaxResults"]
    limits = _BETWEEN.search(model.input_shape.members["MaxResults"].documentation)
    least = int(limits[1]) if limits else LEAST.get(model.name, 1)
    most = int(limits[2].replace(",", "")) if limits else 1000
    if size < least:
        raise invalid_value(f"Value ( {size} ) for parameter maxResults is invalid. Expecting a value greater than {least}.")
    if size > most:
        raise invalid_value(f"Value ( {size} ) for parameter maxResults is invalid. Expecting a value less than {most}.")
    for name in set(found) & set(PAGED_BY_ID):
        raise invalid_combination(f"The parameter {PAGED_BY_ID[name]} cannot be used with the parameter maxResults")


PAGED_BY_ID = {"InstanceIds": "instancesSet", "VolumeIds": "volumeSet", "SnapshotIds": "snapshotSet"}
"""Lists of ids that exclude a page size, as https://github.com/aws/aws-cli/issues/1976 names them."""

LEAST = dict.fromkeys(("DescribeInstances", "DescribeInstanceStatus", "DescribeVolumes", "DescribeSnapshots", "DescribeTags"), 5)
"""Page sizes that are refused although the model does not say so: https://github.com/aws/aws-sdk-ruby/pull/2575."""
