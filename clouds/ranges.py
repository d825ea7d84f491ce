"""The smallest and largest sizes that a recipe or a flag may ask for, the same on every cloud."""

from __future__ import annotations

CPUS = (1, 256)
MEMORY_MB = (512, 4_194_304)
DISK_GB = (2, 65_536)
PORT = (1, 65_535)
IMAGES = (1, 1000)
DAYS = (1, 3650)
LAYERS_GB = (0, 1_000_000)
PRICE_USD = (0.001, 10_000)
"""The highest price of an hour of spot capacity, in US dollars. EC2 refuses a lower one (clouds/aws/prices.py)."""
LIFETIME_H = (0.02, 8760)
"""The lifetime of a machine, in hours: up to a year; one below a minute would end before the machine responds. 0: no limit."""
