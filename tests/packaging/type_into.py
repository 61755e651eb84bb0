"""Types into a real interactive shell and prints the words that it then has on its line.

type_into.py bash|zsh SCRIPT WORDS: sources the completions in SCRIPT, types
WORDS, has every completion put into the line, and prints the line's words.
"""
import os
import pty
import select
import sys
import time

shell, script, typed = sys.argv[1:]
PROMPT, END = b"<prompt>", b"<end>"
ALL = b"\x18a"  # Ctrl-X a

START = {
    "bash": ["bash", "--noprofile", "--norc", "-i"],
    "zsh": ["zsh", "-f", "-i"],
}[shell]
SETUP = {
    # The prompt is written in two parts, so that its echo is not taken for it.
    "bash": f"""bind '"\\C-xa": insert-completions'; source '{script}'; PS1='<prom''pt>'\n""",
    "zsh": "autoload -U compinit; compinit -D; bindkey -e; "
    "zle -C every complete-word _generic; bindkey '^Xa' every; "
    "zstyle ':completion:every:*' completer _all_matches _complete; "
    "zstyle ':completion:every:*' insert true; "
    f"source '{script}'; PS1='<prom''pt>'\n",
}[shell]

pid, terminal = pty.fork()
if pid == 0:
    os.environ.update(TERM="dumb", COLUMNS="4000", HISTFILE="/dev/null")
    os.execvp(START[0], START)


def read_until(mark):
    seen, deadline = b"", time.monotonic() + 30
    while mark not in seen:
        if not select.select([terminal], [], [], max(0, deadline - time.monotonic()))[0]:
            sys.exit(f"{shell} never wrote {mark!r}, but {seen!r}")
        try:
            seen += os.read(terminal, 65536)
        except OSError:  # the shell has closed its terminal
            sys.exit(f"{shell} ended after {seen!r}")
    return seen


os.write(terminal, SETUP.encode())
read_until(PROMPT)
# Ctrl-A: the beginning of the line. What is on it is then printed, not run.
os.write(terminal, typed.encode() + ALL + b"\x01printf '{%s}\\n' \x05; echo '<en''d>'\n")
for line in read_until(END).decode().splitlines():
    if line.startswith("{"):
        print(line[1:].removesuffix("}"))
os.write(terminal, b"exit\n")
os.waitpid(pid, 0)
