"""The script of a builder: render it from a recipe, with resolved package versions."""
