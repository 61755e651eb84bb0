#!/usr/bin/python3 -IS
"""A stand-in for macOS's pfctl, on a machine that has none, with the faults that Apple's has:
the half of it that changes. What shows (-s) is pfctl.sh, which calls this.

It keeps the main rules, the anchors, the references and whether pf is on in
files, as the facts about xnu's pf and the captured output of real Macs say. It
filters nothing. What it cannot tell is whether Apple's pfctl agrees.

Faults that it always has: -s ends with 0 whatever happened; -R without "-o none"
leaves no rule, and ends with 0, where two rules side by side are alike; -d ends
everybody's references; -nv prints the call "x/*" as "/*".

In its directory: "main", "nat", "dummynet" and "anchors/NAME", with + for /, hold rules as they are
printed, "tables" and "tokens" a name or a token a line, "enabled" is there while pf is on,
"calls" is a log. What a test makes go wrong: a line of "fail" makes each call that contains it
fail; "busy", "cut" and "lossy" hold the number of loads that find pf busy, of lists that are
cut off by somebody's change, and of loads by -R that lose the first rule without a word; "sneak" has the rules that
another program adds right after the next load by -R.
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


def in_anchor(name):
    """The file of an anchor: one may be there beside those that are in it."""
    return f"anchors/{name.replace('/', '+')}"


def strikes(name):
    """Whether a fault that happens a number of times happens now."""
    left = int((read(name) or ["0"])[0])
    if left > 0:
        write(name, [str(left - 1)])
    return left > 0


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
        r" from any to any port (\d+:\d+|\{[ \d:]+\}) user (?:= )?(\w+)( flags S/SA)?$"
    )
    anchor_call = re.compile(
        r'(scrub-anchor|nat-anchor|rdr-anchor|dummynet-anchor|anchor) ("[^"]+")( all( fragment reassemble)?)?$'
    )
    other = re.compile(
        r"(pass|block(?: drop| return)?)( in| out)?( quick)?( on (! )?\w+)?( inet6?)?( proto \w+)?"
        r"( all|( from (any|<\w+>|[\d.]+))?( to (any|<\w+>|[\d.]+))?( port (= )?\d+)?)( flags S/SA)?( keep state)?$"
    )
    scrub = re.compile(r"scrub in all fragment reassemble$")
    table = re.compile(r"table <(\w+)> persist$")
    load = re.compile(r'load anchor "([^"]+)" from "([^"]+)"$')
    found = {"filters": [], "nat": [], "dummynet": [], "tables": [], "loads": []}
    filters, last, ordered = found["filters"], 0, True
    for number, line in enumerate(text.splitlines(), 1):
        line = line.split("#")[0].strip()
        if not line:
            continue
        if m := re.match(r"set require-order (yes|no)$", line):
            ordered = m.group(1) == "yes"
        elif m := load.match(line):
            found["loads"].append(m.groups())
        elif m := table.match(line):
            found["tables"].append(m.group(1))
        elif m := rule.match(line):
            action, way, quick, on, proto, ports, user, flags = m.groups()
            last = len(ORDER)
            if not user.isdigit():
                import pwd

                try:
                    user = pwd.getpwnam(user).pw_uid
                except KeyError:
                    die(f"{file}:{number}: unknown user {user}")
            for p in words(proto):
                for r in words(ports):
                    filters.append(
                        f"{action} {way}{quick or ''}{on or ''} proto {p} from any to any"
                        f" port {r} user = {user}{flags or ''}"
                    )
        elif scrub.match(line):
            if ordered and last > 0:
                die(f"{file}:{number}: Rules must be in order: options, normalization, queueing, translation, filtering")
            filters.append(line)
        elif m := anchor_call.match(line):
            kind, name = m.group(1), m.group(2)
            if ordered and ORDER.index(kind) < last and kind != "anchor":
                die(f"{file}:{number}: Rules must be in order: options, normalization, queueing, translation, filtering")
            last = max(last, ORDER.index(kind))
            if kind == "scrub-anchor":
                filters.append(f"{kind} {name} all fragment reassemble")
            elif kind == "anchor":
                filters.append(f"{kind} {name} all")
            elif kind == "dummynet-anchor":
                found["dummynet"].append(f"{kind} {name} all")
            else:
                found["nat"].append(f"{kind} {name} all")
        elif other.match(line):
            last = len(ORDER)
            state = "" if line.startswith("block") or "keep state" in line else " flags S/SA keep state"
            filters.append(line + state)
        else:
            die(f"{file}:{number}: syntax error")
    # pf has a list of its own for them, which is printed first.
    filters.sort(key=lambda line: not line.startswith("scrub"))
    return found


def alike(rules):
    """Whether the optimizer, which is on unless told otherwise, would want a table of two rules."""
    kind = [" ".join(w for w in line.split() if w.isalpha() and w != "utun") for line in rules]
    return any(a == b and not a.startswith(("anchor", "scrub")) for a, b in zip(kind, kind[1:]))


def enable():
    if not os.path.exists(path("enabled")):
        write("enabled", [])


def stop():
    if os.path.exists(path("enabled")):
        os.remove(path("enabled"))
    write("tokens", [])


def load(anchor, file, text, flags):
    found = parse(file, text)
    filters = found["filters"]
    if "v" in flags:
        for line in filters if "R" in flags or anchor else filters + found["nat"] + found["dummynet"]:
            print(line.replace('anchor "com.apple/*"', 'anchor "/*"'))
    if "n" in flags:
        return
    if strikes("busy"):
        die("pfctl: DIOCADDRULE: Device busy")
    if "R" in flags and "o" not in flags and alike(filters):
        print("Must enable table loading for optimizations", file=sys.stderr)
        filters = []
    if "R" in flags and strikes("lossy"):
        filters = filters[1:]
    if anchor:
        write(in_anchor(anchor), filters)
        return
    write("main", filters + (read("sneak") if "R" in flags else []))
    write("sneak", [])
    if "R" not in flags:
        write("nat", found["nat"])
        write("dummynet", found["dummynet"])
        write("tables", found["tables"])
        for name, source in found["loads"]:
            write(in_anchor(name), parse(source, open(source).read())["filters"])


def main(argv):
    call = " ".join(argv)
    with open(path("calls"), "a") as f:
        f.write(call + "\n")
    print("No ALTQ support in kernel\nALTQ related functions disabled", file=sys.stderr)
    if any(pattern in call for pattern in read("fail")):
        die("pfctl: /dev/pf: Device busy")
    args, anchor, file, flush, flags = list(argv), None, None, None, set()
    while args:
        arg = args.pop(0)
        if not arg.startswith("-"):
            die(f"usage: pfctl: {arg}")
        for i, letter in enumerate(arg[1:], 1):
            if letter in "afFXo":
                value = arg[i + 1:] or (args.pop(0) if args else die("usage: pfctl"))
                if letter == "a":
                    anchor = value
                elif letter == "f":
                    file = value
                elif letter == "F":
                    flush = value
                elif letter == "o":
                    if value != "none":
                        die("the stand-in knows -o none alone")
                    flags.add("o")
                else:
                    flags.add("X")
                    token = value
                break
            if letter not in "nqvREed":
                die(f"pfctl: illegal option -- {letter}")
            flags.add(letter)
    if anchor is not None and len(anchor) > 63:
        die("pfctl: anchor name too long")
    if flush:
        if flush != "rules" or not anchor:
            die("the stand-in flushes the rules of an anchor only")
        write(in_anchor(anchor), [])
        print("rules cleared", file=sys.stderr)
    if file:
        print("pfctl: Use of -f option, could result in flushing of rules\n"
              "present in the main ruleset added by the system at startup.\n"
              "See /etc/pf.conf for further details.\n", file=sys.stderr)
        load(anchor, file, sys.stdin.read() if file == "-" else open(file).read(), flags)
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
        if not tokens:
            stop()
            print("pf disabled", file=sys.stderr)
        else:
            print(f"disable request successful. {len(tokens)} more pf enable reference(s) remaining, pf still enabled.", file=sys.stderr)
    if "d" in flags:
        stop()
        print("pf disabled", file=sys.stderr)
    if "e" in flags:
        die("pfctl: pf already enabled")


main(sys.argv[1:])
