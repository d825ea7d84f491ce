"""The disks of the local cloud: overlays, and the files on an image's disk."""
