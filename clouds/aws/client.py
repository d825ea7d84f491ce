"""Requests to EC2 by boto3: each within a time limit, and refused in our own words.

botocore alone decides what is sent again (`session.ATTEMPTS`). What creates something carries a ClientToken or a name of ours, so
that a repetition is never a second machine. Only what EC2 does not find although it was just created is asked for again here.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from clouds import collector
from clouds.aws import failures
from clouds.errors import CloudError, DeniedError, NotFoundError, ThrottledError, TimedOutError
from clouds.home import read_json, write_private
from clouds.waiter import until

if TYPE_CHECKING:
    from clouds.aws.session import Session

T = TypeVar("T")
UNSEEN_S = 60.0
"""For how long EC2 may not find what it has created. AWS names no time: it advises to ask again after up to five minutes
(docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html). One minute is a guess."""
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(slots=True)
class Client:
    """The way to one region of one account. `region` and `profile` are "" where the AWS configuration chooses.

    `folder` keeps which account an access key belongs to. `arguments` are for boto3, in place of what its configuration says.
    """

    region: str
    profile: str
    folder: Path
    arguments: Mapping[str, str] = field(default_factory=dict)
    unseen_s: float = UNSEEN_S
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    _opened: Session | None = None
    _ec2: Any = None
    _scheduler: Any = None
    _account: str = ""

    def ask(self, what: str, action: str, **request: Any) -> dict[str, Any]:
        """Send a request to EC2 and return its answer. `what` is what errors say it was about; `action` is a method of boto3."""
        with self._suspecting_region():
            return _sent(what, getattr(self._connected, action), request)

    def ask_scheduler(self, what: str, action: str, **request: Any) -> dict[str, Any]:
        """Send a request to EventBridge Scheduler, whose client is made at the first one."""
        if self._scheduler is None:
            with collector.off():
                self._scheduler = self._session.client("scheduler", self.region)
        with self._suspecting_region():
            return _sent(what, getattr(self._scheduler, action), request)

    def ask_quotas(self, what: str, action: str, **request: Any) -> dict[str, Any]:
        """Send a request to Service Quotas."""
        with self._suspecting_region():
            return _sent(what, getattr(self._session.client("service-quotas", self.region), action), request)

    def ask_about_new(self, what: str, action: str, **request: Any) -> dict[str, Any]:
        """Do the same about a thing that was created a moment ago: as long as EC2 does not find it, it is asked again."""
        return self.ask_while(NotFoundError, self.unseen_s, what, action, **request)

    def ask_while(self, refusal: type[CloudError], timeout_s: float, what: str, action: str, **request: Any) -> dict[str, Any]:
        """Send a request again as long as it is refused so, then raise the refusal."""
        return self.repeat(refusal, timeout_s, what, lambda: self.ask(what, action, **request))

    def repeat(self, refusal: type[CloudError], timeout_s: float, what: str, send: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Call `send` until it is no longer refused so, and return its answer; after `timeout_s` raise the last refusal.

        What was throttled or not answered is not sent again here: botocore has done so already.
        """
        refused: list[CloudError] = []

        def attempt() -> tuple[dict[str, Any], ThrottledError | None] | None:
            try:
                return send(), None
            except ThrottledError as error:
                return {}, error
            except refusal as error:
                refused.append(error)
                return None

        try:
            answer, failure = self.until(attempt, what=what, timeout_s=timeout_s)
        except TimedOutError:
            raise refused[-1] from None
        if failure:
            raise failure
        return answer

    def until(self, probe: Callable[[], T | None], *, what: str, timeout_s: float) -> T:
        """Ask until there is an answer, at growing intervals. TimedOutError: there was none in time."""
        return until(probe, what=what, timeout_s=timeout_s, poll_s=0.5, poll_max_s=5, sleep=self.sleep, clock=self.clock)

    def in_region(self, region: str) -> Client:
        """Return the client of another region, connected: threads cannot share a session of boto3, but may use clients of it.

        boto3.amazonaws.com/v1/documentation/api/latest/guide/clients.html, "Multithreading or multiprocessing with clients"
        """
        with collector.off():
            ec2 = self._session.client("ec2", region)
        return replace(self, region=region, _opened=self._session, _ec2=ec2, _scheduler=None, _account=self.account)

    def items(self, what: str, action: str, key: str, **request: Any) -> Iterator[dict[str, Any]]:
        """Yield what a describe call lists under a key, of all pages."""
        while True:
            answer = self.ask(what, action, **request)
            yield from answer.get(key, ())
            if not answer.get("NextToken"):
                return
            request["NextToken"] = answer["NextToken"]

    @property
    def region_name(self) -> str:
        """The region that requests go to. UsageError: nobody names one."""
        return self.region or self._session.region

    @property
    def is_local(self) -> bool:
        """Whether another server on this computer answers in place of AWS."""
        return urlsplit(self._connected.meta.endpoint_url).hostname in _LOOPBACK

    @property
    def account(self) -> str:
        """The number of the account that the credentials belong to; AWS is asked once for each access key.

        An access key belongs to one account for good (docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_access-keys.html).
        """
        if not self._account:
            with self._suspecting_region():
                key, named = self._session.access_key()
                self._account = named or self._known_account(hashlib.sha256(key.encode()).hexdigest()[:16])
        return self._account

    @property
    def expires_at(self) -> datetime | None:
        """When the credentials that are used now expire; None: never, or only AWS knows."""
        return self._session.expires_at()

    @contextmanager
    def _suspecting_region(self) -> Iterator[None]:
        """Name an unknown region in an error that it may have caused; see `failures.suspect_region`."""
        try:
            yield
        except (DeniedError, ThrottledError) as error:
            failures.suspect_region(error, self.region_name, self._session.regions())
            raise

    @property
    def _connected(self) -> Any:
        if self._ec2 is None:
            with collector.off():
                self._ec2 = self._session.client("ec2", self.region)
        return self._ec2

    @property
    def _session(self) -> Session:
        if self._opened is None:
            with collector.off():
                from clouds.aws.session import Session

            self._opened = Session(self.region, self.profile, self.arguments)
        return self._opened

    def _known_account(self, key: str) -> str:
        file = self.folder / "accounts.json"
        known = read_json(file) or {}
        if not isinstance(known.get(key), str):
            known[key] = str(_sent("account", self._session.client("sts").get_caller_identity, {})["Account"])
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(file, json.dumps(known))
        return str(known[key])


def _sent(what: str, send: Callable[..., dict[str, Any]], request: Mapping[str, Any]) -> dict[str, Any]:
    """Send one request and return its answer; every error is one of ours.

    Each answer has a request id (requestId in docs.aws.amazon.com/AWSEC2/latest/APIReference). That of a
    captive portal has none; botocore would take it for an empty list.
    """
    from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]
    from botocore.parsers import ResponseParserError  # type: ignore[import-untyped]

    try:
        answer = send(**request)
    except ClientError as error:
        raise failures.of_refusal(what, error.response) from error
    except (ResponseParserError, KeyError) as error:  # KeyError: the answer of STS has a wrapper (resultWrapper of its model)
        raise failures.foreign(what) from error
    except (BotoCoreError, OSError, EOFError) as error:
        raise failures.of_library(what, error) from error
    if not answer["ResponseMetadata"].get("RequestId"):
        raise failures.foreign(what)
    return answer
