"""The flags that verbs of machines, of images and of bakes have in common."""

from __future__ import annotations

from launcher.command.flags import Flag

JSON = Flag("json", "print the result as one line of JSON", parse=None)
YES = Flag("yes", "do not ask for confirmation", parse=None)
CLOUD = Flag("cloud", "the cloud, or an account such as gcp.research (default: from your settings, else local)")
CLOUDS = Flag("cloud", "the cloud, an account such as gcp.research, or all (default: from your settings, else local)")
REGIONS = Flag("region", "the region to use, or all: every enabled region, at once (default: from your settings)")
