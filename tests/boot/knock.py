"""Tries to get out in all nine ways, one frame every 3 ms.

    knock.py KIND [SECONDS]

KIND is how it was started. The port tells who knocked, and how: the uid, ten for each kind, and one for
each way. A socket that is bound to a device, multicast and broadcast ask no routing rule.
Without SECONDS it knocks for the time that a boot takes; then it leaves a note that it did.
"""

import os
import socket
import sys
import time

KINDS = ["cron", "linger", "service", "login"]
DEVICE = "out0"
FAR = "203.0.113.9"  # for documentation (RFC 5737): behind the gateway, which keeps it

port = os.getuid() + 10 * KINDS.index(sys.argv[1])
seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 3


def bound(family):
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, DEVICE.encode())
    return s


def plain(family):
    return socket.socket(family, socket.SOCK_DGRAM)


def with_option(s, level, option, value):
    s.setsockopt(level, option, value)
    return s


def index():
    return socket.if_nametoindex(DEVICE)


IP_UNICAST_IF = 50  # linux/in.h; the index in network order
WAYS = [
    lambda: (bound(socket.AF_INET), ("10.77.0.2", port)),
    lambda: (bound(socket.AF_INET), (FAR, port + 1)),
    lambda: (bound(socket.AF_INET6), ("fd77::2", port + 2)),
    lambda: (
        with_option(
            plain(socket.AF_INET), socket.IPPROTO_IP, IP_UNICAST_IF, socket.htonl(index())
        ),
        ("10.77.0.2", port + 3),
    ),
    lambda: (
        with_option(
            plain(socket.AF_INET),
            socket.IPPROTO_IP,
            socket.IP_MULTICAST_IF,
            bytes(8) + index().to_bytes(4, sys.byteorder),
        ),
        ("224.0.0.251", port + 4),
    ),
    lambda: (plain(socket.AF_INET6), ("ff02::fb", port + 5, 0, index())),
    lambda: (
        with_option(bound(socket.AF_INET), socket.SOL_SOCKET, socket.SO_BROADCAST, 1),
        ("255.255.255.255", port + 6),
    ),
    lambda: (plain(socket.AF_INET), ("10.77.0.2", port + 7)),
    lambda: (plain(socket.AF_INET6), ("fd77::2", port + 8)),
]

# How often it has knocked by now.
NOTE = f"/tmp/knocks-{sys.argv[1]}-{os.getuid()}"

sockets = {}
next_time = time.monotonic()
end = next_time + seconds
number = 0
while next_time < end:
    number += 1
    way = number % len(WAYS)
    try:
        if way not in sockets:
            sockets[way] = WAYS[way]()
        s, address = sockets[way]
        s.sendto(b"knock", address)
    except OSError:
        pass  # refused, or no network yet: who captures outside tells
    if number % 10 == 0:
        with open(f"{NOTE}.new", "w") as note:
            note.write(str(number))
        os.rename(f"{NOTE}.new", NOTE)
    next_time = max(next_time + 0.003, time.monotonic() - 0.1)
    time.sleep(max(0, next_time - time.monotonic()))
open(f"/tmp/knocked-{sys.argv[1]}-{os.getuid()}", "w").close()
