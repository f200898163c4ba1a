# SPDX-License-Identifier: Apache-2.0
"""An HTTP proxy on loopback behind which every name is one server: it takes tunnels (CONNECT) and whole addresses (GET http://...).

    with Proxy(port_of_the_server) as p:
        ... http_proxy=p.url ...
        p.asked  # ["CONNECT registry.test:443", "GET http://registry.test/v2/"]
"""
import contextlib
import re
import socket
import threading
import urllib.parse


class Proxy:
    def __init__(self, port):
        self.port, self.asked = port, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    def __enter__(self):
        threading.Thread(target=self.accept, daemon=True).start()
        return self

    def __exit__(self, *exc):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                client = self.listener.accept()[0]
                threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        with contextlib.suppress(OSError), client, socket.create_connection(("127.0.0.1", self.port)) as server:
            head = b""
            while b"\r\n\r\n" not in head:
                got = client.recv(65536)
                if not got:
                    return
                head += got
            method, target, rest = head.split(b" ", 2)
            self.asked.append(f"{method.decode()} {target.decode()}")
            if method == b"CONNECT":
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                threading.Thread(target=self.carry, args=(client, server), daemon=True).start()
            else:  # one request of a connection: the next one comes by another
                url = urllib.parse.urlsplit(target.decode())
                path = (url.path or "/") + ("?" + url.query if url.query else "")
                rest = re.sub(rb"\r\n(?:Proxy-)?Connection:[^\r]*", b"", rest, flags=re.I)
                server.sendall(b" ".join((method, path.encode(), rest.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))))
                threading.Thread(target=self.carry, args=(client, server), daemon=True).start()
            self.carry(server, client)

    def carry(self, source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
