"""From image to running machine. A thin package that also runs by itself as `python -m launcher`."""
