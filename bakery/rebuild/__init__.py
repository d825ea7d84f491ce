"""Scheduled rebuilds: decide which images are due, bake them at the same time, delete what they replace, summarize."""
