"""Why an image may be called stable: its disk is searched for secrets, its memory is saved, its tests run in a fresh machine."""
