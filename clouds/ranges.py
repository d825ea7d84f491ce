"""The smallest and largest sizes that a recipe or a flag may ask for, the same on every cloud."""

from __future__ import annotations

CPUS = (1, 256)
MEMORY_MB = (512, 4_194_304)
DISK_GB = (2, 65_536)
LIFETIME_MIN_S = 60
"""The shortest lifetime of a machine, in seconds: a shorter one would end before the machine responds."""
