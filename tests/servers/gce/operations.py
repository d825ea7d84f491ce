"""Operations: what a write returns at once, and how it ends later."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.servers.engine import Engine, timestamp
from tests.servers.gce.errors import ApiError, Json, invalid
from tests.servers.gce.schema import Call
from tests.servers.gce.store import Store, link, scope_of
from tests.servers.vm import Done, VmError

PENDING_SHARE = 0.3


@dataclass(slots=True)
class OperationError(Exception):
    """An error that arrives in the operation, after the request itself went well."""

    code: str
    message: str
    http_code: int = 503
    http_message: str = "SERVICE UNAVAILABLE"
    details: list[Json] = field(default_factory=list)

    def body(self) -> Json:
        error: Json = {"code": self.code, "message": self.message}
        if self.details:
            error["errorDetails"] = self.details
        return {"errors": [error]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What an operation does: start something when it is due, and write down what became of it."""

    finish: Callable[[], None]
    start: Callable[[], Done] | None = None
    begun: Callable[[], None] | None = None
    undo: Callable[[], None] | None = None


class Operations:
    """All operations, and the request ids that they were asked for with."""

    def __init__(self, store: Store, engine: Engine, duration_s: float) -> None:
        self._store, self._engine, self.duration_s = store, engine, duration_s
        self._by_request: dict[str, tuple[str, str]] = {}

    def earlier(self, call: Call) -> Json | None:
        """Return the operation that the same request id has begun; raises ApiError for an id that is no UUID."""
        request_id = call.params.get("requestId")
        if request_id is None:
            return None
        try:
            is_nil = not uuid.UUID(request_id).int
        except ValueError:
            is_nil = True
        if is_nil or len(request_id) != 36:
            raise invalid("requestId", request_id, "Must be a valid UUID, and not the zero UUID.")
        there = self._by_request.get(request_id)
        if there and there[0] != f"{call.method.id} {call.path}":
            raise invalid("requestId", request_id, "The request ID was used before, for another request.")
        return self._store.get(there[1]) if there else None

    def begin(
        self, call: Call | None, target: Json, work: Work, *, fault: tuple[str, OperationError] | None = None, **more: Any
    ) -> Json:
        """Accept some work on a target and return the operation, PENDING."""
        operation = self._new(call, target, more)
        path = operation["selfLink"].removeprefix(link(""))
        if call and call.params.get("requestId"):
            self._by_request[call["requestId"]] = (f"{call.method.id} {call.path}", path)
        self._engine.after(self.duration_s * PENDING_SHARE, lambda: self._run(operation, work, fault))
        self._engine.after(self.duration_s, lambda: self._work(operation, work, fault))
        return operation

    def _new(self, call: Call | None, target: Json, more: Json) -> Json:
        target_path = target["selfLink"].removeprefix(link(""))
        scope, project = scope_of(target_path), target_path.split("/")[1]
        now = self._engine.now()
        name = f"operation-{int(now * 1000)}-{uuid.uuid4().hex[:13]}-{uuid.uuid4().hex[:8]}-{uuid.uuid4().hex[:8]}"
        body: Json = {
            "operationType": call.verb if call else "",
            "targetLink": target["selfLink"],
            "targetId": target["id"],
            "status": "PENDING",
            "user": "tester@example.com",
            "progress": 0,
            "insertTime": timestamp(now),
            **more,
        }
        if scope != "global":
            body[scope.split("/")[0].removesuffix("s")] = link(f"projects/{project}/{scope}")
        if call and call.params.get("requestId"):
            body["clientOperationId"] = call["requestId"]
        operation = self._store.add(f"projects/{project}/{scope}/operations/{name}", body, created=timestamp(now))
        del operation["creationTimestamp"]
        return operation

    def _run(self, operation: Json, work: Work, fault: tuple[str, OperationError] | None) -> None:
        operation.update(status="RUNNING", startTime=timestamp(self._engine.now()))
        if work.begun and not (fault and fault[0] == "before"):
            work.begun()

    def _work(self, operation: Json, work: Work, fault: tuple[str, OperationError] | None) -> None:
        def failed(error: Exception) -> None:
            self._fail(operation, work, error)

        def finish() -> None:
            try:
                work.finish()
            except (ApiError, OperationError) as error:
                failed(error)
            else:
                self._end(operation, fault[1] if fault else None)

        try:
            if fault and fault[0] == "before":
                raise fault[1]
            done = work.start() if work.start else _at_once
            is_done = done()
        except (ApiError, OperationError, VmError) as error:
            failed(error)
            return
        if is_done:
            finish()
        else:
            self._engine.once(done, finish, failed)

    def _fail(self, operation: Json, work: Work, error: Exception) -> None:
        if work.undo:
            work.undo()
        if isinstance(error, ApiError):
            error = OperationError(error.reason, error.message, error.code, "BAD REQUEST")
        elif not isinstance(error, OperationError):
            error = OperationError("INTERNAL_ERROR", f"Internal error: {error}", 500, "INTERNAL SERVER ERROR")
        self._end(operation, error)

    def _end(self, operation: Json, error: OperationError | None) -> None:
        if error:
            operation.update(error=error.body(), httpErrorStatusCode=error.http_code, httpErrorMessage=error.http_message)
        operation.update(status="DONE", progress=100, endTime=timestamp(self._engine.now()))


def _at_once() -> bool:
    return True
