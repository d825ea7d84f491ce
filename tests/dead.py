"""What a client that has ended leaves behind."""

from dataclasses import replace

from clouds.client import this_client
from clouds.partial import partial_name

NOBODY = 4194999
"""More than any process number of Linux (proc_sys_kernel(5): 2^22 at the most)."""


def dead_partial(name: str) -> str:
    """Return the name of the folder in which a process of this computer that has ended was preparing a thing."""
    return partial_name(replace(this_client(), pid=NOBODY), name)
