#!/usr/bin/python3 -IS
"""A stand-in for macOS's pfctl, on a machine that has none.

It keeps the main rules, the anchors, the references and whether pf is on in
files, as the facts about xnu's pf and the captured output of real Macs say. It
filters nothing. What it cannot tell is whether Apple's pfctl agrees.

In its directory: "main", "nat" and "anchors/…" hold rules as they are printed,
"tokens" a token a line, "enabled" is there while pf is on, "calls" is a log.
A line of "fail" makes each call that contains it fail.
"""
import os
import sys

HOME = "/var/lib/pf-stand-in"
ORDER = ["scrub-anchor", "nat-anchor", "rdr-anchor", "dummynet-anchor", "anchor"]


def path(name):
    return os.path.join(HOME, name)


def read(name):
    try:
        with open(path(name)) as f:
            return f.read().splitlines()
    except FileNotFoundError:
        return []


def write(name, lines):
    os.makedirs(os.path.dirname(path(name)), exist_ok=True)
    with open(path(name), "w") as f:
        f.writelines(line + "\n" for line in lines)


def die(message):
    print(message, file=sys.stderr)
    sys.exit(1)


def words(text):
    return text.strip("{}").split()


def parse(file, text):
    """The lines as pfctl prints them back, by the kind of list they go into."""
    if text and not text.endswith("\n"):
        die(f"{file}:{text.count(chr(10)) + 1}: syntax error")
    import re  # here, because most calls do without it, and a test makes many

    rule = re.compile(
        r"(block (?:return|drop)|pass) (in|out)( quick)?( on (?:! )?\w+)? proto (tcp|udp|\{[ a-z]+\})"
        r" from any to any port (\d+:\d+|\{[ \d:]+\}) user (?:= )?(\d+)( flags S/SA)?$"
    )
    anchor_call = re.compile(r'(scrub-anchor|nat-anchor|rdr-anchor|dummynet-anchor|anchor) ("[^"]+")( all( fragment reassemble)?)?$')
    other = re.compile(r"pass quick on \w+ all$|pass in all$")
    load = re.compile(r'load anchor "([^"]+)" from "([^"]+)"$')
    filters, nat, dummynet, last = [], [], [], 0
    for number, line in enumerate(text.splitlines(), 1):
        line = line.split("#")[0].strip()
        if not line or load.match(line):
            continue
        if m := rule.match(line):
            action, way, quick, on, proto, ports, user, flags = m.groups()
            last = len(ORDER)
            for p in words(proto):
                for r in words(ports):
                    filters.append(
                        f"{action} {way}{quick or ''}{on or ''} proto {p} from any to any"
                        f" port {r} user = {user}{flags or ''}"
                    )
        elif other.match(line):
            filters.append(line)
        elif m := anchor_call.match(line):
            kind, name = m.group(1), m.group(2)
            if ORDER.index(kind) < last and kind != "anchor":
                die(f"{file}:{number}: Rules must be in order: options, normalization, queueing, translation, filtering")
            last = max(last, ORDER.index(kind))
            if kind == "scrub-anchor":
                filters.insert(0, f"{kind} {name} all fragment reassemble")
            elif kind == "anchor":
                filters.append(f"{kind} {name} all")
            elif kind == "dummynet-anchor":
                dummynet.append(f"{kind} {name} all")
            else:
                nat.append(f"{kind} {name} all")
        else:
            die(f"{file}:{number}: syntax error")
    return filters, nat, dummynet


def enable():
    if not os.path.exists(path("enabled")):
        write("enabled", [])


def stop():
    os.remove(path("enabled"))
    write("tokens", [])


def show(what, anchor):
    if what == "info":
        on = os.path.exists(path("enabled"))
        print("Status: Enabled for 0 days 00:00:07           Debug: Urgent" if on
              else "Status: Disabled                              Debug: Urgent")
    elif what == "References":
        tokens = read("tokens")
        if not tokens:
            print("No pf starter references held")
            return
        print("TOKENS:")
        print("PID      Process Name                 TOKEN                    TIMESTAMP")
        for token in reversed(tokens):
            print(f"{4063:<8} {'pfctl':<28} {token:<24} 0 days 00:00:07")
    elif what == "Interfaces":
        print("en0\nlo0")
    elif what == "Anchors":
        below = path(f"anchors/{anchor}")
        for name in sorted(os.listdir(below)) if os.path.isdir(below) else []:
            print(f"  {anchor}/{name}")
    elif what in ("rules", "nat"):
        name = f"anchors/{anchor}" if anchor else {"rules": "main", "nat": "nat"}[what]
        if anchor and not os.path.exists(path(name)):
            die("pfctl: Anchor or Ruleset does not exist.")
        print("".join(line + "\n" for line in read(name)), end="")
    else:
        die(f"the stand-in does not know -s {what}")


def main(argv):
    call = " ".join(argv)
    with open(path("calls"), "a") as f:
        f.write(call + "\n")
    print("No ALTQ support in kernel\nALTQ related functions disabled", file=sys.stderr)
    if any(pattern in call for pattern in read("fail")):
        die("pfctl: /dev/pf: Device busy")
    args, anchor, file, what, flush, flags = list(argv), None, None, None, None, set()
    while args:
        arg = args.pop(0)
        if not arg.startswith("-"):
            die(f"usage: pfctl: {arg}")
        for i, letter in enumerate(arg[1:], 1):
            if letter in "afsFX":
                value = arg[i + 1:] or (args.pop(0) if args else die("usage: pfctl"))
                if letter == "a":
                    anchor = value
                elif letter == "f":
                    file = value
                elif letter == "s":
                    what = value
                elif letter == "F":
                    flush = value
                else:
                    flags.add("X")
                    token = value
                break
            if letter not in "nqvREed":
                die(f"pfctl: illegal option -- {letter}")
            flags.add(letter)
    if anchor is not None and len(anchor) > 63:
        die("pfctl: anchor name too long")
    if anchor is not None and (file or flush) and "/_" in f"/{anchor}":
        die("pfctl: anchor names beginning with '_' cannot be modified from the command line")
    if what:
        show(what, anchor)
    if flush:
        if flush != "rules" or not anchor:
            die("the stand-in flushes the rules of an anchor only")
        write(f"anchors/{anchor}", [])
        print("rules cleared", file=sys.stderr)
    if file:
        print("pfctl: Use of -f option, could result in flushing of rules\n"
              "present in the main ruleset added by the system at startup.\n"
              "See /etc/pf.conf for further details.\n", file=sys.stderr)
        text = sys.stdin.read() if file == "-" else open(file).read()
        filters, nat, dummynet = parse(file, text)
        if "v" in flags:
            for line in filters if "R" in flags or anchor else filters + nat + dummynet:
                print(line)
        if "n" not in flags:
            if anchor:
                write(f"anchors/{anchor}", filters)
            else:
                write("main", filters)
                if "R" not in flags:
                    write("nat", nat)
    if "E" in flags:
        token = str(15053025338191571182 + len(read("tokens")) + len(read("calls")))
        enable()
        write("tokens", read("tokens") + [token])
        print(f"pf enabled\nToken : {token}", file=sys.stderr)
    if "X" in flags:
        tokens = read("tokens")
        if not os.path.exists(path("enabled")):
            die("pfctl: pf not enabled")
        if token not in tokens:
            die("pfctl: pf: token invalid")
        tokens.remove(token)
        write("tokens", tokens)
        if not tokens and not os.path.exists(path("enabled-for-good")):
            stop()
            print("pf disabled", file=sys.stderr)
        else:
            print(f"disable request successful. {len(tokens)} more pf enable reference(s) remaining, pf still enabled.", file=sys.stderr)
    if "e" in flags or "d" in flags:
        die("pfctl -e and -d change what others rely on: no plan of ours may use them")


main(sys.argv[1:])
