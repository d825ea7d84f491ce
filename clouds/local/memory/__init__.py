r"""Saved memory of the local cloud: the RAM and devices of a machine at one instant, and the machines restored from it.

Saved memory is a folder: `state` (QEMU's migration stream), maybe `ram`, `disk.qcow2` (the disk at that instant: with any other,
the guest would destroy it; a suspended machine keeps its own), and memory.json, written last. With `ram` the stream holds the
devices only, and QEMU maps that file privately: machines of one image share unchanged pages, and unused ones are never read.

    image ---boots without identity---> waiting
                                           | the bake freezes it
                                        freezing      QEMU, paused, writes IMAGE/.partial-...; the disk moves there; QEMU ends
                                           | rename
                                        frozen        IMAGE/memory, with digests; it does not change any more
                                           | launch: a new machine, whose disk overlays the frozen one
                                        restoring     QEMU loads the devices and maps the RAM; the guest takes its identity
                                           | its ports are forwarded
                                           v
    image or disk ------boots--------> running <----------------------+
              ^                            | stop --suspend           | ports
              |                        suspending                     | clock
              |                            | rename, QEMU ends        | continue
              |                            v                          | remove the memory
              +--- stop, start ------- suspended ------start------> resuming

    suspending: QEMU, paused, writes MACHINE/.partial-...; suspended: MACHINE/suspended; resuming: a new QEMU loads that.

If a command or a QEMU is killed (a loss of power kills both), this follows:

    in          its command is killed                            its QEMU is killed
    waiting     `gc` removes the machine (role `test`)           the image fails, as if it did not boot
    freezing    the same; `sweep` removes what is written        the bake says so; machines of the image boot
    frozen      -                                                -
    restoring   `gc` removes it (role `machine-in-progress`)     the launch removes it, and boots one instead
    running     -                                                the next `start` boots from its disk
    suspending  it stays paused: `start` continues it            the next `start` boots from its disk
    suspended   -                                                -
    resuming    the next `start` continues where that one was    `start` resumes it again, while its memory exists; then it boots

Between the rename and the end of QEMU, a machine counts as suspended: `start` removes the memory and continues that QEMU.
No saved memory fits a disk that has changed since, so it is removed before the machine continues (`suspend.unpause`).
A builder is restored from a layer (`clouds.local.layers`) as a launch is, but if that fails it boots from the layer's disk.

Modules: `transport` writes and reads RAM and devices, for each version of QEMU; `trust` records the files and detects changes;
`fit` says which machine may be restored; `freeze`, `suspend` and `resume` are the transitions above.
"""
