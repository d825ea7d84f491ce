"""The checks before an image is stable: search its disk for secrets, save its memory, run its tests in a fresh machine."""
