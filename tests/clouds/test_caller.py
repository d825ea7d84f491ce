"""The address that firewalls admit: only an address, whatever answers in the place of the service that reports it."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from clouds import caller
from clouds.errors import CloudError


@pytest.mark.parametrize("text", ["203.0.113.7\n", "2001:db8::1\n"])
def test_the_address_of_this_computer_is_read(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caller, "_WHO_AM_I", f"data:,{quote(text)}")
    assert caller.own_address() == text.strip()


@pytest.mark.parametrize("text", ["<html>Log in</html>", "", "0.0.0.0/0"])
def test_what_is_no_address_is_not_admitted(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caller, "_WHO_AM_I", f"data:,{quote(text)}")
    with pytest.raises(CloudError, match="cannot look up the address of this computer") as caught:
        caller.own_address()
    assert "--source" in caught.value.next_step
