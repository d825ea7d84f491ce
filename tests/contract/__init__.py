"""A package, so that its machines (fixtures of package scope) are removed after its last test, not after all tests."""
