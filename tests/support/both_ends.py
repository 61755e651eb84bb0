"""A connection of MPTCP whose both ends are this process's.

    both_ends.py ADDRESS PORT

Prints "mptcp" when it has carried data as such, "tcp" when it has as plain TCP, and stays open until
standard input ends.
"""

import errno
import socket
import sys

IPPROTO_MPTCP = 262  # linux/in.h
SOL_MPTCP, MPTCP_INFO = 284, 1  # linux/mptcp.h

address, port = sys.argv[1], int(sys.argv[2])
family = socket.AF_INET6 if ":" in address else socket.AF_INET


def new():
    s = socket.socket(family, socket.SOCK_STREAM, IPPROTO_MPTCP)
    s.settimeout(10)
    return s


listener = new()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind((address, port))
listener.listen()
client = new()
client.connect((address, port))
server, _ = listener.accept()
for sender, receiver in [(client, server), (server, client)] * 5:
    sender.sendall(b"x" * 1000)
    got = 0
    while got < 1000:
        got += len(receiver.recv(1000))
try:
    client.getsockopt(SOL_MPTCP, MPTCP_INFO, 100)
    print("mptcp", flush=True)
except OSError as error:
    # What the kernel says, over IPv4 and over IPv6, of a connection that fell back to TCP.
    fell_back = error.errno in (errno.EOPNOTSUPP, errno.ENOPROTOOPT)
    print("tcp" if fell_back else error, flush=True)
sys.stdin.read()
