"""The security groups of machines, made and deleted by name: their ids may be unknown, since an answer was lost.

"Not found" proves nothing of one that was asked for a moment ago.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from clouds.aws import naming, network
from clouds.aws.client import Client
from clouds.driver import BootSpec
from clouds.errors import NotFoundError

_LOOKS = 3
"""How often a group is looked for at least before it counts as gone."""


@dataclass(slots=True)
class Groups:
    """The security groups that this process has asked for: by name when, and how often it was not found since; the known ids."""

    client: Client
    _asked: dict[str, tuple[float, int]] = field(default_factory=dict)
    _ids: dict[str, str] = field(default_factory=dict)

    def make(self, spec: BootSpec, vpc: str, sources: list[str]) -> str:
        """Make the security group of a machine, with its rules, and return its id."""
        name = naming.group_name(spec.name, spec.token)
        self._asked[name] = self.client.clock(), 0
        self._ids[name] = network.ensure_group(self.client, spec, vpc)
        what = f"machine {spec.name}: security group"
        for port in network.ports(spec):
            network.admit(self.client, what, self._ids[name], port, sources)
        return self._ids[name]

    def knows(self, name: str) -> bool:
        """Return whether this process has made a group and knows its id."""
        return name in self._ids

    def has_gone(self, name: str) -> bool:
        """Delete a group of ours, and say whether it is gone for good. One whose id is unknown is searched by its name."""
        found = [self._ids[name]] if name in self._ids else network.groups_named(self.client, name)
        try:
            states = [network.delete_group(self.client, group) for group in found]
        except NotFoundError:
            return not self._may_come(name)
        if found and all(states):
            self._asked.pop(name, None)
            self._ids.pop(name, None)
        return all(states) and not self._may_come(name)

    def _may_come(self, name: str) -> bool:
        """Say whether a group that was not found may not be seen yet: it was asked for lately, or looked for only a few times."""
        if name not in self._asked:
            return False
        asked_at, looks = self._asked[name]
        self._asked[name] = asked_at, looks + 1
        return looks + 1 < _LOOKS or self.client.clock() - asked_at < self.client.unseen_s
