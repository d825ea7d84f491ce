"""One virtual machine: QEMU's command line and sockets, its console, its record and its saved memory."""
