#!/usr/bin/python3 -IS
"""A stand-in for macOS's launchctl: it knows which jobs are loaded, and runs each once. This is the
half of it that changes; what shows (print) is launchctl.sh, which calls this.

As with Apple's, a job that was booted out is still known for a while, and until it is gone
bootstrap fails. "tick" stands for a minute that passes: each job with a StartInterval runs.
"""
import os
import sys

HOME = "/var/lib/pf-stand-in"
verb, *args = sys.argv[1:]
with open(f"{HOME}/calls", "a") as log:
    log.write(f"launchctl {verb} {' '.join(args)}\n")
fail = open(f"{HOME}/fail").read().splitlines() if os.path.exists(f"{HOME}/fail") else []
if any(pattern in f"launchctl {verb}" for pattern in fail):
    sys.exit("Bootstrap failed: 5: Input/output error")
for kind in ("jobs", "leaving"):
    os.makedirs(f"{HOME}/{kind}", exist_ok=True)


def file_of(target, kind="jobs"):
    domain, _, label = target.partition("/")
    assert domain == "system", target
    return f"{HOME}/{kind}/{label}"


def start(plist, word):
    import subprocess

    if plist.get(word):
        subprocess.run(plist["ProgramArguments"], stderr=subprocess.DEVNULL, check=False)


def plist_in(file):
    import plistlib  # here, because they take their time, and a test makes many calls

    with open(file, "rb") as f:
        return plistlib.load(f)


if verb == "bootout":
    if not os.path.exists(file_of(args[0])):
        sys.exit("Boot-out failed: 3: No such process")
    os.rename(file_of(args[0]), file_of(args[0], "leaving"))
elif verb == "bootstrap":
    file = args[1]
    mode = os.stat(file)
    if (mode.st_uid, mode.st_gid, mode.st_mode & 0o7777) != (0, 0, 0o644):
        sys.exit("Bootstrap failed: 122: Path had bad ownership/permissions")
    plist = plist_in(file)
    target = f"system/{plist['Label']}"
    if os.path.exists(file_of(target)) or os.path.exists(file_of(target, "leaving")):
        sys.exit("Bootstrap failed: 5: Input/output error")
    with open(file_of(target), "w") as job:
        job.write(file)
    start(plist, "RunAtLoad")
elif verb == "tick":
    for label in os.listdir(f"{HOME}/jobs"):
        with open(f"{HOME}/jobs/{label}") as job:
            start(plist_in(job.read()), "StartInterval")
else:
    sys.exit(f"the stand-in does not know launchctl {verb}")
