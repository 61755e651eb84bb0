"""Listens on TCP and UDP, IPv4 and IPv6, and answers each with one line; ends with its parent.

    server.py PORT [ADDRESS]
"""

import socketserver
import sys
import threading


class Tcp(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(b"hello\n")
        self.wfile.flush()
        while self.rfile.read(1):
            pass


class Udp(socketserver.DatagramRequestHandler):
    def handle(self):
        self.wfile.write(b"hello\n")


class TcpServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    address_family = 10  # AF_INET6; "::" takes IPv4 too


class UdpServer(socketserver.ThreadingUDPServer):
    address_family = 10


port = int(sys.argv[1])
address = sys.argv[2] if len(sys.argv) > 2 else "::"
for server in (TcpServer((address, port), Tcp), UdpServer((address, port), Udp)):
    threading.Thread(target=server.serve_forever).start()
print("listening", flush=True)
