"""The computer that the local cloud runs on: its programs, files, namespaces and network."""
