"""Prints each change of a process's uid on this machine, as the kernel's process connector tells it.

    uid_events.py MARK_UID      REAL EFFECTIVE PID, a change a line, until a process of root's takes MARK_UID

A line on standard input has it send that mark, so that all that came before has been printed.
"""

import os
import select
import socket
import struct
import sys

NETLINK_CONNECTOR, CN_IDX_PROC, PROC_CN_MCAST_LISTEN, PROC_EVENT_UID = 11, 1, 1, 4
SO_RCVBUFFORCE = 33

mark = int(sys.argv[1])
events = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, NETLINK_CONNECTOR)
events.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 26)
events.bind((os.getpid(), CN_IDX_PROC))
listen = struct.pack("=IIIIHHI", CN_IDX_PROC, 1, 0, 0, 4, 0, PROC_CN_MCAST_LISTEN)
events.send(struct.pack("=IHHII", 16 + len(listen), 3, 0, 0, os.getpid()) + listen)
told = False
while True:
    readable, _, _ = select.select([events, sys.stdin], [], [], 60)
    if not readable:
        sys.exit("nothing was told for a minute")
    if sys.stdin in readable and told:
        sys.stdin.readline()
        child = os.fork()
        if child == 0:
            os.setresuid(mark, mark, mark)
            os._exit(0)
        os.waitpid(child, 0)
    if events not in readable:
        continue
    data = events.recv(65536)  # ENOBUFS, where something was missed, ends this
    if not told:  # the answer to the request
        told = True
        print("listening", flush=True)
    (what,) = struct.unpack_from("=I", data, 36)
    if what != PROC_EVENT_UID:
        continue
    pid, _, real, effective = struct.unpack_from("=IIII", data, 52)
    if real == mark:
        break
    print(real, effective, pid, flush=True)
