"""Tries to get a packet from this account to an address, one way a call.

    probe.py VECTOR ADDRESS PORT

Prints "sent" or "answered" with exit code 0, or what refused it with exit code 1. Without arguments
it reads lines of ACCOUNT, VECTOR, ADDRESS and PORT, with tabs between them, tries each as that
account, and prints the exit code and the same word. A packet that
left is counted by who captures outside, not here: UDP and ICMP know of no refusal further on.
"""

import errno
import os
import pwd
import socket
import struct
import sys
import time

MPTCP = 262  # IPPROTO_MPTCP, linux/in.h
UDPLITE = 136  # RFC 3828
TIMEOUT = 20.0  # a refusal takes milliseconds; what takes this long hangs


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


def udp_once(address, port):
    with socket.socket(family_of(address), socket.SOCK_DGRAM) as s:
        s.sendto(b"end", (address, port))
    return "sent"


def udplite(address, port):
    return udp(address, port, UDPLITE)


def udp_to_device(address, port):
    """SO_BINDTODEVICE: unprivileged since Linux 5.7 while the socket is unbound."""
    with socket.socket(family_of(address), socket.SOCK_DGRAM) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"out0\0")
        s.sendto(b"x", (address, port))
    return "sent"


def udp_unicast_if(address, port):
    """IP_UNICAST_IF and IPV6_UNICAST_IF (linux/in.h, linux/in6.h): the device without binding to it."""
    six = ":" in address
    level, option = (socket.IPPROTO_IPV6, 76) if six else (socket.IPPROTO_IP, 50)
    with socket.socket(family_of(address), socket.SOCK_DGRAM) as s:
        s.setsockopt(level, option, struct.pack("!I", socket.if_nametoindex("out0")))
        s.sendto(b"x", (address, port))
    return "sent"


def half_open(address, port):
    """Leaves a connection from a port half open, to an own server on a port that is allowed."""
    with socket.create_server(("127.0.0.2", 3777), backlog=0) as server:
        waiting = [socket.socket() for _ in range(4)]
        for s in waiting:  # a full queue: what comes after them has no answer
            s.setblocking(False)
            s.connect_ex(server.getsockname())
        with socket.socket() as s:
            s.setblocking(False)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind((address, port))
            s.connect_ex(server.getsockname())
        for s in waiting:
            s.close()
    return "sent"


def as_reply(address, port):
    """Connects as if it answered the connection that half_open left."""
    with socket.socket() as s:
        s.settimeout(TIMEOUT)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("127.0.0.2", 3777))
        s.connect((address, port))
    return "answered"


FORGED = "2001:db8::bad"  # of documentation (RFC 3849); inside, a default route leads there
LAPSING = "fd77::7"


def forged(kind, address, port, protocol=0):
    """Sends to this machine from a source that is not this machine's, which needs no right."""
    with socket.socket(socket.AF_INET6, kind, protocol) as s:
        s.settimeout(0.2)
        s.setsockopt(socket.IPPROTO_IP, 15, 1)  # IP_FREEBIND, linux/in.h
        s.bind((FORGED, 0))
        if kind == socket.SOCK_STREAM:
            try:
                s.connect((address, port))
            except socket.timeout:
                pass  # the answer went to the source
        elif protocol == 0:
            s.sendto(b"SECRET", (address, port))
        else:
            s.sendto(struct.pack("!BBHHH", 128, 0, 0, 1, 1) + b"SECRET", (address, 0))
    return "sent"


def forged_udp(address, port):
    return forged(socket.SOCK_DGRAM, address, port)


def forged_tcp(address, port):
    return forged(socket.SOCK_STREAM, address, port)


def forged_ping(address, port):
    return forged(socket.SOCK_DGRAM, address, port, socket.IPPROTO_ICMPV6)


def foreign_v4(address, port):
    """The same over IPv4, where the kernel takes the address of any device, be it in a VRF."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.setsockopt(socket.IPPROTO_IP, 15, 1)
        s.bind(("192.0.2.1", 0))
        s.sendto(b"SECRET", (address, port))
    return "sent"


def until_gone(address):
    """Waits until it is this machine's no more, five seconds at most."""
    digits = socket.inet_pton(socket.AF_INET6, address).hex()
    for _ in range(500):
        with open("/proc/net/if_inet6") as file:
            if digits not in file.read():
                return
        time.sleep(0.01)


def lapsing(address, port):
    """Connects from an address that goes, and has the other end say something then."""
    with socket.socket(socket.AF_INET6) as s:
        s.settimeout(0.5)
        s.bind((LAPSING, 0))
        s.connect((address, port))
        s.send(b"SECRET")
        until_gone(LAPSING)
        time.sleep(0.2)
    return "sent"


def lapsing_orphan(address, port):
    """Leaves data of nobody's on loopback, from an address that goes, for an end that is gone."""
    server = socket.create_server((address, port), family=socket.AF_INET6)
    client = socket.socket(socket.AF_INET6)
    client.bind((LAPSING, 0))
    client.connect((address, port))
    accepted, _ = server.accept()
    until_gone(LAPSING)
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    accepted.close()
    server.close()
    client.send(b"S")
    client.close()
    return "sent"


def link_local_of_d0():
    with open("/proc/net/if_inet6") as file:
        hexes = [line.split()[0] for line in file if line.split()[5] == "d0"]
    return socket.inet_ntop(socket.AF_INET6, bytes.fromhex(hexes[0]))


def scoped(address, port):
    """Connects from its own address to the link-local one of the device d0: what comes back is no peer's."""
    with socket.socket(socket.AF_INET6) as s:
        s.bind((address, 0))
        s.settimeout(0.5)
        try:
            s.connect((link_local_of_d0(), port, 0, socket.if_nametoindex("d0")))
        except TimeoutError:
            pass
    return "sent"


def other_device(address, port):
    """Sends to its own link-local address from that of the device d0, which is none of the way back."""
    source = link_local_of_d0()
    index = socket.if_nametoindex("out0")
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s:
        s.setsockopt(socket.IPPROTO_IP, 15, 1)  # IP_FREEBIND
        s.bind((source, 0, 0, index))
        s.sendto(b"SECRET", (address, port, 0, index))
    return "sent"


def to_device(s):
    """SO_BINDTODEVICE: any account may do it, to a socket that is connected as well."""
    s.setsockopt(socket.SOL_SOCKET, 25, b"out0\0")


def pair(address):
    """Both ends of a connection to this machine's own address, from another one of its."""
    server = socket.socket(family_of(address))
    client = socket.socket(family_of(address))
    server.bind((address, 0))
    server.listen(1)
    client.bind((address if ":" in address else "127.1.2.3", 0))
    client.connect(server.getsockname())
    accepted, _ = server.accept()
    return server, client, accepted


def time_wait(address, _port):
    """Has the kernel answer, as nobody, for a connection that is over."""
    server, client, accepted = pair(address)
    accepted.shutdown(socket.SHUT_WR)
    client.recv(1)
    for s in (accepted, client):
        to_device(s)
        s.close()
    time.sleep(0.7)  # an end that is not answered is sent again after 0.2
    server.close()
    return "sent"


def orphan(address, _port):
    """Leaves data to be sent when the socket is nobody's any more."""
    server, client, accepted = pair(address)
    accepted.setblocking(False)
    try:
        while True:
            accepted.send(b"SECRET" * 2000)
    except BlockingIOError:
        pass
    to_device(accepted)
    accepted.close()
    client.settimeout(0.3)
    try:
        while client.recv(65536):
            pass
    except socket.timeout:
        pass
    return "sent"


def refused(address, port):
    """Has a refusal go to this machine's own address by a real device."""
    with socket.socket(family_of(address)) as s:
        s.settimeout(0.2)
        to_device(s)
        s.bind(("::1" if ":" in address else "127.1.2.7", 0))
        try:
            s.connect((address, port))
        except socket.timeout:
            pass
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


def multicast_by_d0(address, port):
    """By the device d0, with more than one hop to go: a router of multicast may send it on."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 9)
        index = socket.if_nametoindex("d0")
        s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("=4x4xi", index))
        s.sendto(b"x", (address, port))
    return "sent"


def link_local(address, port):
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s:
        s.sendto(b"x", (address, port, 0, socket.if_nametoindex("out0")))
    return "sent"


def link_local_tcp(address, port):
    with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as s:
        s.settimeout(TIMEOUT)
        s.connect((address, port, 0, socket.if_nametoindex("out0")))
    return "answered"


def broadcast(address, port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        s.sendto(b"x", (address, port))
    return "sent"


def broadcast_answered(address, port):
    """What is refused may have been brought to this machine's own services before."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        s.settimeout(0.5)
        try:
            s.sendto(b"x", (address, port))
        except PermissionError:
            pass
        s.recv(100)
    return "answered"


def udp_answered(address, port):
    with socket.socket(family_of(address), socket.SOCK_DGRAM) as s:
        s.settimeout(TIMEOUT)
        s.connect((address, port))
        s.send(b"x")
        s.recv(100)
    return "answered"


def join(address, _port):
    """Joins a multicast group: the kernel tells the routers, in a packet of its own."""
    six = ":" in address
    index = socket.if_nametoindex("out0")
    with socket.socket(family_of(address), socket.SOCK_DGRAM) as s:
        group = socket.inet_pton(s.family, address)
        if six:
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group + struct.pack("@I", index))
        else:
            request = group + struct.pack("=4si", b"\0\0\0\0", index)
            s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
    return "sent"


def handed_over(_address, _port):
    """Writes to the connected socket that somebody else left as standard input."""
    with socket.socket(fileno=0) as s:
        s.send(b"x")
    return "sent"


def hold_on_device(address, port):
    return hold(address, port, b"out0\0")


def listen_on_device(_address, port):
    """Serves one connection on a device's addresses: says so, greets, and exits."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.settimeout(60)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"out0\0")
        listener.bind(("", port))
        listener.listen()
        print("listening", flush=True)
        with listener.accept()[0] as s:
            s.send(b"secret")
    return "sent"


def hold(address, port, device=None):
    """Connects, says so, waits for a line, then writes and exits: the kernel sends what is left."""
    s = socket.socket(family_of(address), socket.SOCK_STREAM)
    s.settimeout(TIMEOUT)
    if device:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
    s.connect((address, port))
    s.recv(100)  # unread data would make the exit a reset, which is sent but once
    print("connected", flush=True)
    sys.stdin.readline()
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    s.send(b"secret")
    return "sent"


def meet(address, port):
    """Makes a neighbour known: a refusal comes from it as well."""
    try:
        return tcp(address, port)
    except ConnectionRefusedError:
        return "refused"


def tried(vector, address, port):
    """What came of it: an exit code and a line."""
    start = time.monotonic()
    try:
        return 0, globals()[vector](address, port)
    except OSError as error:
        name = errno.errorcode.get(error.errno, type(error).__name__)
        return 1, f"{name} after {(time.monotonic() - start) * 1000:.1f} ms"


def as_account(account, vector, address, port):
    """Tries in a child that is the account's, without other rights."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code, said = 2, ""
        try:
            if account.isdigit():
                uid = gid = int(account)
            else:
                uid, gid = pwd.getpwnam(account)[2:4]
            os.setgroups([])
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            code, said = tried(vector, address, port)
        except BaseException as error:
            said = repr(error)
        finally:
            os.write(writer, said.encode())
            os._exit(code)
    os.close(writer)
    with open(reader) as file:
        said = file.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said


def main():
    if len(sys.argv) > 1:
        code, said = tried(sys.argv[1], sys.argv[2], int(sys.argv[3]))
        print(said)
        sys.exit(code)
    for line in sys.stdin:
        account, vector, address, port = line.rstrip("\n").split("\t")
        tell = tried if account == "root" else lambda *words: as_account(account, *words)
        print(*tell(vector, address, int(port)), sep="\t", flush=True)


main()
