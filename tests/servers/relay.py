"""Join standard input and output with a TCP port of this computer: what QEMU runs for each connection to the metadata server."""

import os
import socket
import sys
import threading

with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as server:

    def answer() -> None:
        while data := server.recv(65536):
            os.write(1, data)
        os._exit(0)

    threading.Thread(target=answer, daemon=True).start()
    while data := os.read(0, 65536):
        server.sendall(data)
