"""Edit a machine's files in the editor of this computer: rmate in the machine, and a port of it that SSH forwards back.

Only sessions of the user forward it: a second one at the same time is refused, which must not stop a command or a tunnel.
"""

from __future__ import annotations

from collections.abc import Mapping

PORT = 52698
"""The port of rmate's protocol, on which an editor listens: https://github.com/textmate/rmate."""
LABEL = {"rsub": "1"}
"""The label of images with rmate, and of their machines."""
FORWARD = f"RemoteForward 127.0.0.1:{PORT} 127.0.0.1:{PORT}"
"""The setting of ssh_config(5); both ends are on loopback."""
FOR_COMMANDS = f"#{FORWARD}"
"""What the ssh config for commands of Bakehouse has in its place."""


def has_rsub(labels: Mapping[str, str]) -> bool:
    """Return whether an image or a machine with these labels has rmate."""
    return labels.items() >= LABEL.items()
