"""Recipes: the types and rules of their values, variables, and the files next to them."""
