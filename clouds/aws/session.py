"""The clients of boto3: credentials, region, proxies and endpoints are read by boto3 itself, as by the AWS CLI.

Loads boto3, which takes longer than most commands, so it is imported when the first request is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import boto3  # type: ignore[import-untyped]
from botocore.config import Config  # type: ignore[import-untyped]
from botocore.exceptions import BotoCoreError  # type: ignore[import-untyped]

from clouds.aws import failures
from clouds.errors import DeniedError, UsageError

CONNECT_S, READ_S = 10, 30
"""How long one attempt of a request may take."""
ATTEMPTS = 4
"""How often a request is sent at most. botocore's mode `standard` repeats what was throttled, not answered, or answered by 5xx,
after up to 20 s each time (botocore.retries.standard). It repeats InsufficientInstanceCapacity too, whose status is 500."""
_NO_REGION = (
    "Give --region, set AWS_REGION or region in the [aws] table of the settings file (docs/clouds.md), or run: aws configure. "
    "--region all needs one of these too: that region is asked for the others."
)


class Session:
    """What one profile of the AWS configuration gives. `arguments` are for boto3, in place of what the configuration says."""

    def __init__(self, region: str, profile: str, arguments: Mapping[str, str]) -> None:
        try:
            given = {key: value for key, value in arguments.items() if key.startswith("aws_")}
            self._session = boto3.session.Session(profile_name=profile or None, region_name=region or None, **given)
            self.region = str(self._session.region_name or "")
        except BotoCoreError as error:
            raise failures.of_library("aws", error) from error
        if not self.region:
            raise UsageError("aws: no region is set", next_step=_NO_REGION)
        self._endpoint = arguments.get("endpoint_url")

    def client(self, service: str, region: str = "") -> Any:
        """Return the client of a service (`ec2`) in a region, by default that of the session."""
        config = Config(
            connect_timeout=CONNECT_S, read_timeout=READ_S, retries={"mode": "standard", "total_max_attempts": ATTEMPTS}
        )
        try:
            return self._session.client(service, region_name=region or self.region, config=config, endpoint_url=self._endpoint)
        except (BotoCoreError, ValueError, OSError, EOFError) as error:  # ValueError: an endpoint that is no URL
            raise failures.of_library("aws", error) from error

    def regions(self) -> list[str]:
        """Return the regions that botocore has a list of, in all partitions; one that is newer than botocore is missing."""
        partitions = self._session.get_available_partitions()
        return [region for partition in partitions for region in self._session.get_available_regions("ec2", partition)]

    def access_key(self) -> tuple[str, str]:
        """Return the id of the access key, and the account that the credentials name ("": they name none).

        DeniedError: there are no credentials, or they cannot be renewed.
        """
        try:
            credentials = self._session.get_credentials()
            frozen = credentials.get_frozen_credentials() if credentials else None
        except (BotoCoreError, OSError, EOFError) as error:
            raise failures.of_library("aws", error) from error
        if frozen is None:
            raise DeniedError("aws: no credentials found", next_step=failures.LOG_IN)
        return str(frozen.access_key), str(frozen.account_id or "")

    def expires_at(self) -> datetime | None:
        """Return when the present credentials expire; None for those that do not, and those of which only AWS knows it.

        botocore has no public access to the time of its RefreshableCredentials, which are those of SSO, roles and processes.
        """
        return getattr(self._session.get_credentials(), "_expiry_time", None)
