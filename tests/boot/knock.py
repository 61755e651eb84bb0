"""Tries to get out, over IPv4 and IPv6, for as long as a boot takes; then leaves a note that it did.

    knock.py KIND

KIND is how it was started. The port tells who knocked, and how: the uid, and ten for each kind.
"""

import os
import socket
import sys
import time

KINDS = ["cron", "linger", "service", "login"]
TRIES = 60 if sys.argv[1] != "login" else 3

port = os.getuid() + 10 * KINDS.index(sys.argv[1])
for _ in range(TRIES):
    for address in ["10.77.0.2", "fd77::2"]:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as s:
            try:
                s.sendto(b"knock", (address, port))
            except OSError:
                pass  # refused, or no network yet: who captures outside tells
    time.sleep(0.05)
open(f"/tmp/knocked-{sys.argv[1]}-{os.getuid()}", "w").close()
