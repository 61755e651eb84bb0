"""Runs a command on a terminal of its own, and answers it as a person would.

    terminal.py COLUMNS ANSWERS COMMAND...

The terminal is COLUMNS wide. ANSWERS is a JSON list of [PATTERN, TEXT]: each is awaited in turn, and answered once. A third
item is a file that is made, with the command's process id in it, when it has been. Prints one JSON document: the exit code (negative for a signal), all that the terminal showed, and the seconds
from the last answer to the end. A command that has not ended after 60 seconds is killed.
"""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time

columns, answers, command = int(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3:]
child, terminal = pty.fork()
if child == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    os.execvp(command[0], command)
CTRL_C = "\x03"
HANG_UP = "\x04hang up"  # no answer: the terminal is closed
shown, seen, last, at_prompt, start = "", 0, "", False, time.monotonic()
deadline = start + 60
while True:
    if time.monotonic() > deadline:
        os.kill(child, signal.SIGKILL)
        break
    if not select.select([terminal], [], [], 0.5)[0]:
        if last == CTRL_C and at_prompt:
            # sudo loses a signal that comes after its prompt and before its read: a person who sees
            # nothing happen presses again.
            os.write(terminal, CTRL_C.encode())
        continue
    try:
        data = os.read(terminal, 65536)
    except OSError:  # EIO: nobody has the terminal open any more
        break
    if not data:
        break
    shown += data.decode(errors="replace")
    while answers and (found := re.search(answers[0][0], shown[seen:])):
        seen += found.end()
        at_prompt = found.group().startswith("password")
        _, last, *note = answers.pop(0)
        if last == HANG_UP:
            os.close(terminal)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            print(json.dumps({"code": code, "shown": shown, "seconds": time.monotonic() - start}))
            sys.exit()
        os.write(terminal, last.encode())
        start = time.monotonic()
        for file in note:
            with open(file + ".new", "w") as out:
                out.write(f"{child}\n")
            os.rename(file + ".new", file)
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
print(json.dumps({"code": code, "shown": shown, "seconds": time.monotonic() - start}))
