"""Sends for some seconds as a bystander would, and prints how much got through.

    traffic.py udp ADDRESS PORT SECONDS    packets per second
    traffic.py tcp ADDRESS PORT SECONDS    requests per second, a connection each
    traffic.py serve PORT                  answers TCP, and says "listening"
"""

import socket
import struct
import sys
import time


def udp(address, port, seconds):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.connect((address, port))
        payload, sent, end = b"x" * 64, 0, time.perf_counter() + seconds
        while time.perf_counter() < end:
            for _ in range(200):
                s.send(payload)
            sent += 200
    return sent / seconds


def tcp(address, port, seconds):
    requests, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        with socket.create_connection((address, port), 5) as s:
            # Closed by a reset: what waits in TIME_WAIT would hold up the connections after it.
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            s.sendall(b"hello\n")
            s.recv(64)
        requests += 1
    return requests / seconds


def answer(listener):
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.recv(64)
            connection.sendall(b"hello\n")
            try:
                connection.recv(64)
            except ConnectionResetError:
                pass  # as tcp() closes it


def serve(port):
    listener = socket.create_server(("", port), backlog=512)
    print("listening", flush=True)
    answer(listener)


if sys.argv[1] == "serve":
    serve(int(sys.argv[2]))
else:
    print(globals()[sys.argv[1]](sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
