"""What runs in a builder: the script rendered from a recipe, and the versions of packages that it installs."""
