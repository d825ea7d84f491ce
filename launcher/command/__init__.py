"""The command line: verbs and flags, the terminal, tables and hints, several clouds at once."""
