"""Tries to get a packet from this account to an address, one way a call.

    probe.py VECTOR ADDRESS PORT

Prints "sent" or "answered" with exit code 0, or what refused it with exit code 1. A packet that
left is counted by who captures outside, not here: UDP and ICMP know of no refusal further on.
"""

import errno
import os
import socket
import struct
import sys
import time

MPTCP = 262  # IPPROTO_MPTCP, linux/in.h
UDPLITE = 136  # RFC 3828
TIMEOUT = 3.0  # a refusal takes milliseconds; what takes this long hangs


def family_of(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def tcp(address, port, protocol=0):
    with socket.socket(family_of(address), socket.SOCK_STREAM, protocol) as s:
        s.settimeout(TIMEOUT)
        s.connect((address, port))
    return "answered"


def mptcp(address, port):
    return tcp(address, port, MPTCP)


def tcp_fast_open(address, port):
    with socket.socket(family_of(address), socket.SOCK_STREAM) as s:
        s.settimeout(TIMEOUT)
        s.sendto(b"x", 0x20000000, (address, port))  # MSG_FASTOPEN
    return "sent"


def udp(address, port, protocol=0):
    with socket.socket(family_of(address), socket.SOCK_DGRAM, protocol) as s:
        s.settimeout(TIMEOUT)
        s.connect((address, port))
        s.send(b"x")
        s.send(b"x")  # the second reports an ICMP error that answered the first
    return "sent"


def udplite(address, port):
    return udp(address, port, UDPLITE)


def udp_to_device(address, port):
    """SO_BINDTODEVICE: unprivileged since Linux 5.7 while the socket is unbound."""
    with socket.socket(family_of(address), socket.SOCK_DGRAM) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"out0\0")
        s.sendto(b"x", (address, port))
    return "sent"


def ping(address, _port):
    six = ":" in address
    protocol = socket.IPPROTO_ICMPV6 if six else socket.IPPROTO_ICMP
    with socket.socket(family_of(address), socket.SOCK_DGRAM, protocol) as s:
        s.settimeout(TIMEOUT)
        s.sendto(struct.pack("!BBHHH", 128 if six else 8, 0, 0, 1, 1), (address, 0))
    return "sent"


def multicast(address, port):
    with socket.socket(family_of(address), socket.SOCK_DGRAM) as s:
        if ":" in address:
            index = socket.if_nametoindex("out0")
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        s.sendto(b"x", (address, port))
    return "sent"


def link_local(address, port):
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s:
        s.sendto(b"x", (address, port, 0, socket.if_nametoindex("out0")))
    return "sent"


def broadcast(address, port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        s.sendto(b"x", (address, port))
    return "sent"


def hold(address, port):
    """Connects, says so, waits for a line, then writes and exits: the kernel sends what is left."""
    s = socket.create_connection((address, port), TIMEOUT)
    print("connected", flush=True)
    sys.stdin.readline()
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    s.send(b"secret")
    return "sent"


def main():
    vector, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
    start = time.monotonic()
    try:
        said = globals()[vector](address, port)
    except OSError as error:
        name = errno.errorcode.get(error.errno, type(error).__name__)
        print(f"{name} after {(time.monotonic() - start) * 1000:.1f} ms")
        sys.exit(1)
    print(said)


main()
