#!/usr/bin/python3 -IS
"""A stand-in for macOS's launchctl: it knows which jobs are loaded, and runs each once."""
import os
import sys

HOME = "/var/lib/pf-stand-in"
verb, *args = sys.argv[1:]
with open(f"{HOME}/calls", "a") as log:
    log.write(f"launchctl {verb} {' '.join(args)}\n")
fail = open(f"{HOME}/fail").read().splitlines() if os.path.exists(f"{HOME}/fail") else []
if any(pattern in f"launchctl {verb}" for pattern in fail):
    sys.exit("Bootstrap failed: 5: Input/output error")
os.makedirs(f"{HOME}/jobs", exist_ok=True)


def job(target):
    domain, _, label = target.partition("/")
    assert domain == "system", target
    return f"{HOME}/jobs/{label}"


if verb == "print":
    if not os.path.exists(job(args[0])):
        sys.exit("Could not find service in domain for system")
    print("state = not running")
elif verb == "bootout":
    if not os.path.exists(job(args[0])):
        sys.exit("Boot-out failed: 3: No such process")
    os.remove(job(args[0]))
elif verb == "bootstrap":
    import plistlib  # here, because they take their time, and a test makes many calls
    import subprocess

    file = args[1]
    mode = os.stat(file)
    if (mode.st_uid, mode.st_gid, mode.st_mode & 0o7777) != (0, 0, 0o644):
        sys.exit("Bootstrap failed: 122: Path had bad ownership/permissions")
    plist = plistlib.load(open(file, "rb"))
    if os.path.exists(job(f"system/{plist['Label']}")):
        sys.exit("Bootstrap failed: 5: Input/output error")
    open(job(f"system/{plist['Label']}"), "w").close()
    if plist.get("RunAtLoad"):
        subprocess.run(plist["ProgramArguments"], stderr=subprocess.DEVNULL, check=False)
else:
    sys.exit(f"the stand-in does not know launchctl {verb}")
