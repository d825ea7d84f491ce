"""Image to running machine: thin, and able to run alone as `python -m launcher`."""
