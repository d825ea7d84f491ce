"""Bake: turn a recipe into an image. Independent of particular clouds."""
