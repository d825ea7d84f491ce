"""What a user writes: recipes, the types and rules of their values, their variables and the files beside them."""
