/** The parsers of the machine's state, by cases and by property: no text may break or fool them. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import * as fc from "fast-check";
import { heldBy } from "../../src/linux/in_force.ts";
import { machineOf } from "../../src/linux/inspect.ts";
import { parsePasswd, parseSubuid } from "../../src/linux/read_accounts.ts";
import { parseIptablesSave, Shadows } from "../../src/linux/read_iptables.ts";
import { parseTable } from "../../src/linux/read_nftables.ts";
import { parseRoutingRules } from "../../src/linux/read_routing.ts";
import { statusIn } from "../../src/linux/status.ts";
import { overlap, parseRange, UidSet } from "../../src/linux/uid_range.ts";
import { parseSections, type Section } from "../../src/sections.ts";

const anyText = fc.string({ unit: "binary" });

/** Sections as the script gives them, all readable, with an account `agent` (uid 1001). */
function machineWith(sections: Readonly<Record<string, string>>) {
  const all = {
    passwd: "agent:x:1001:1001::/home/agent:/bin/sh",
    subuid: "",
    ipv6: "",
    rule4: "",
    rule6: "",
    ...sections,
  };
  return machineOf(
    new Map(Object.entries(all).map(([name, text]) => [name, { code: 0, text }])),
  );
}

/** A whole lock of `agent`, as Debian 12's tools print it. */
const LOCKED = {
  rule4: "0:\tfrom all lookup local\n77:\tfrom all uidrange 1001-1001 prohibit\n",
  rule6: "0:\tfrom all lookup local\n77:\tfrom all uidrange 1001-1001 prohibit\n",
  ...Object.fromEntries(
    [["iptables", "icmp"], ["ip6tables", "icmp6"]].map(([command, icmp]) => [
      `${command}-nft`,
      "*mangle\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING ! -o lo -m owner --uid-owner 1001 " +
      '-m comment --comment "fishnet:agent" -j DROP\nCOMMIT\n' +
      "*filter\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT ! -o lo -m owner --uid-owner 1001 -j REJECT " +
      `--reject-with ${icmp}-port-unreachable\nCOMMIT\n`,
    ]),
  ),
};

const stateWith = (sections: Readonly<Record<string, string>>) =>
  statusIn(machineWith(sections), ["agent"])[0]!.state;

Deno.test("the lock that the properties below start from is locked", () => {
  assertEquals(stateWith(LOCKED), "locked");
});

Deno.test("random text breaks no parser, and never comes out as locked", () => {
  fc.assert(fc.property(fc.dictionary(fc.constantFrom(...SECTIONS), anyText), (sections) => {
    assertEquals(stateWith(sections) === "locked", false);
  }));
});

const SECTIONS = [
  ...["named", "subuid", "rule4", "rule6", "nft", "nft-loopback", "plain"],
  ...["iptables-nft", "iptables-legacy", "ip6tables-nft", "ip6tables-legacy"],
  ...["boot-scripts", "boot-units"],
];

Deno.test("random words of the tools' own break no parser, and never come out as locked", () => {
  const word = fc.constantFrom(
    ...["-A", "OUTPUT", "POSTROUTING", "*filter", "*mangle", "!", "-o", "lo", "-m", "owner"],
    ...["--uid-owner", "1001", "-j", "DROP", "REJECT", "ACCEPT", "\n", '"', "\\", "COMMIT"],
    ...["table inet fishnet {", "}", "elements = {", "chain out {", "77:", "from all"],
    ...["uidrange 1001-1001", "prohibit", "comment", "goto", ":", "set locked {"],
  );
  const text = fc.array(word, { maxLength: 40 }).map((words) => words.join(" "));
  // Without routing rules nothing is locked, whatever the other sections say.
  const names = SECTIONS.filter((name) => !name.startsWith("rule"));
  fc.assert(fc.property(fc.dictionary(fc.constantFrom(...names), text), (sections) => {
    assertEquals(stateWith(sections) === "locked", false);
  }));
});

Deno.test("one character changed in any needed rule: locked only where it means the same", () => {
  const name = fc.constantFrom("rule4", "rule6", "iptables-nft", "ip6tables-nft");
  fc.assert(
    fc.property(name, fc.nat(), fc.constantFrom(..."0129!-x"), (name, at, character) => {
      const text = LOCKED[name as "rule4"];
      const i = at % text.length;
      const lines = (whole: string) => whole.split("\n").filter((line) => line.includes("1001"));
      const changed = text.slice(0, i) + character + text.slice(i + 1);
      if (lines(changed).length === lines(text).length) return; // the uid was not hit
      assertEquals(stateWith({ ...LOCKED, [name]: changed }), "partial");
    }),
    { numRuns: 1000 },
  );
});

Deno.test("a whole lock without any one line of it is partial", () => {
  for (const [name, text] of Object.entries(LOCKED)) {
    for (const line of text.split("\n").filter((line) => line.includes("1001"))) {
      const without = text.replace(`${line}\n`, "");
      assertEquals(stateWith({ ...LOCKED, [name]: without }), "partial", line);
    }
  }
});

Deno.test("any condition added to a rule of the lock takes it out of the count", () => {
  const conditions = [
    ...["-p tcp", "! -p udp", "-d 192.0.2.0/24", "! -s 192.0.2.1", "-m mark --mark 0x1"],
    ...["-m owner --uid-owner 1001", "-m owner --uid-owner 1002"],
    ...["-m time --timestart 08:00", "-m limit --limit 1/sec", "--gid-owner 7", "-o out0"],
    ...[
      "-m owner ! --uid-owner 1001",
      "-m conntrack --ctdir ORIGINAL",
      "-m conntrack --ctstate INVALID,NEW,RELATED,ESTABLISHED,UNTRACKED",
      "-m conntrack --ctstate NEW",
      "-m statistic --mode random",
    ],
  ];
  for (const name of ["iptables-nft", "ip6tables-nft"] as const) {
    const text = (LOCKED as Record<string, string>)[name]!;
    for (const condition of conditions) {
      for (const target of ["-j DROP", "-j REJECT"]) {
        const changed = text.replace(target, `${condition} ${target}`);
        assert(changed !== text);
        assertEquals(
          stateWith({ ...LOCKED, [name]: changed }),
          "partial",
          `${condition} ${target}`,
        );
      }
    }
  }
});

Deno.test("without IPv6 in the kernel there is none to lock; without its rules there is", () => {
  const { rule6: _, "ip6tables-nft": __, ...v4 } = LOCKED as Record<string, string>;
  assertEquals(stateWith(v4), "partial");
  const machine = machineOf(
    new Map<string, Section>([
      ...Object.entries({ ...v4, passwd: "agent:x:1001:1001:::" })
        .map(([name, text]) => [name, { code: 0, text }] as const),
      ["ipv6", { code: 1, text: "" }] as const,
    ]),
  );
  const [status] = statusIn(machine, ["agent"]);
  assertEquals(status!.state, "locked");
  assert(status!.notes!.some((note) => note.includes("no IPv6")));
});

Deno.test("a lock survives a reboot where both its script and its unit are there", () => {
  const scripts = "/etc/fishnet-firewall/1001.sh:uid=1001 # account agent by iptables\n";
  const units = "/etc/systemd/system/sysinit.target.wants/fishnet@1001.service\n";
  const survives = (more: Readonly<Record<string, string>>) =>
    statusIn(machineWith({ ...LOCKED, ...more }), ["agent"])[0]!.survivesReboot;
  assertEquals(survives({ "boot-scripts": scripts, "boot-units": units }), true);
  for (
    const lost of [
      {},
      { "boot-scripts": scripts },
      { "boot-units": units },
      { "boot-scripts": scripts.replace("uid=1001", "uid=1002"), "boot-units": units },
      { "boot-scripts": scripts.replaceAll("1001", "1002"), "boot-units": units },
      { "boot-scripts": scripts, "boot-units": units.replaceAll("1001", "1002") },
    ]
  ) assertEquals(survives(lost), false, JSON.stringify(lost));
});

Deno.test("what the script for boot limits is a piece of the lock, also when nothing else is left of it", () => {
  const scripts =
    "/etc/fishnet-firewall/1001.sh:uid=1001 # account agent by iptables, only port 3777,8080\n";
  const [status] = statusIn(machineWith({ ...LOCKED, "boot-scripts": scripts }), ["agent"]);
  assertEquals(status!.state, "partial");
  const missing = status!.pieces.filter(({ present }) => !present);
  assertEquals(missing.length, 4, JSON.stringify(missing));
  for (const { name, remedy } of missing) {
    assertMatch(name, /loopback limit/);
    assertMatch(remedy!, / --only-port 3777 --only-port 8080 --persist --apply$/);
  }
  const [flushed] = statusIn(
    machineWith({ rule4: LOCKED.rule4, "boot-scripts": scripts.replace("iptables", "nftables") }),
    ["agent"],
  );
  const remedies = new Set(flushed!.pieces.flatMap(({ remedy }) => remedy ?? []));
  assertEquals([...remedies], [
    "fishnet firewall enable --agent-user agent --backend nftables " +
    "--only-port 3777 --only-port 8080 --persist --apply",
  ]);
});

Deno.test("an account that only the script for boot remembers is shown, and not as locked", () => {
  const scripts = "/etc/fishnet-firewall/1001.sh:uid=1001 # account agent by iptables\n";
  const local = "0:\tfrom all lookup local\n";
  const machine = machineWith({ rule4: local, rule6: local, "boot-scripts": scripts });
  assertEquals(statusIn(machine, []).map(({ name, state }) => [name, state]), [
    ["agent", "unlocked"],
  ]);
});

Deno.test("shut login sessions are a piece of their own, present while systemd says so", () => {
  const marks = "/etc/fishnet-firewall/1001.sessions\n";
  const slice = (deny: string, allow: string) =>
    `IPAddressDeny=${deny}\nIPAddressAllow=${allow}\nId=user-1001.slice\n\nId=user-7.slice\n`;
  const sessions = (slices: string) => {
    const all = { ...LOCKED, "session-marks": marks, "session-slices": slices };
    const [status] = statusIn(machineWith(all), ["agent"]);
    const [piece] = status!.pieces.filter(({ name }) => name.startsWith("login sessions"));
    return [status!.state, piece!.present, piece!.remedy];
  };
  const loopback = "127.0.0.0/8 ::1/128";
  assertEquals(sessions(slice("::/0 0.0.0.0/0", loopback)), ["locked", true, undefined]);
  const remedy = "fishnet firewall enable --agent-user agent --persist --sessions --apply";
  for (
    const broken of [
      "",
      slice("", ""),
      slice("0.0.0.0/0", loopback),
      slice("::/0 0.0.0.0/0", `${loopback} 192.0.2.0/24`),
    ]
  ) assertEquals(sessions(broken), ["partial", false, remedy]);
});

Deno.test("a comment that looks like a rule, or an option, is a comment", () => {
  const [rule] = parseIptablesSave(
    '*filter\n-A OUTPUT -m comment --comment "x -j ACCEPT \\" -o lo" -j DROP',
  );
  assertEquals([rule!.comment, rule!.target, rule!.device], [
    'x -j ACCEPT " -o lo',
    "DROP",
    undefined,
  ]);
});

Deno.test("what an account writes cannot pass for a section", () => {
  fc.assert(fc.property(anyText, fc.uuid(), fc.uuid(), (text, mark, guess) => {
    const forged = `\n${guess} begin rule4\nforged\n${guess} end 0\n`;
    const printed = `\n${mark} begin passwd\n${text}${forged}\n${mark} end 0\n`;
    const sections = parseSections(printed, mark);
    if (guess !== mark && !text.includes(mark)) assertEquals([...sections.keys()], ["passwd"]);
  }));
});

Deno.test("the first section of a name counts, up to its first end", () => {
  const part = (name: string, text: string) => `\nm begin ${name}\n${text}\nm end 0\n`;
  const sections = parseSections(part("a", "one") + part("b", "x") + part("a", "two"), "m");
  assertEquals([...sections].map(([name, { text }]) => [name, text]), [["a", "one"], ["b", "x"]]);
});

Deno.test("a chain that jumps in a circle ends", () => {
  const rules = parseIptablesSave(
    "*filter\n-A OUTPUT -j a\n-A a -j b\n-A b -j a\n" +
      "-A OUTPUT ! -o lo -m owner --uid-owner 1001 -j REJECT",
  );
  assertEquals(new Shadows(rules).withShadows("filter", "OUTPUT").length, 2);
});

Deno.test("a set of uids covers exactly the ranges whose every uid it has", () => {
  const range = fc.tuple(fc.nat(40), fc.nat(12))
    .map(([first, more]) => ({ first, last: first + more }));
  fc.assert(fc.property(fc.array(range), range, (ranges, asked) => {
    const all = Array.from({ length: asked.last - asked.first + 1 }, (_, i) => asked.first + i);
    const expected = all.every((uid) => ranges.some((r) => overlap(r, { first: uid, last: uid })));
    assertEquals(new UidSet(ranges).covers(asked), expected);
  }));
});

Deno.test("uid ranges are read strictly", () => {
  assertEquals(parseRange("7"), { first: 7, last: 7 });
  assertEquals(parseRange("7-9"), { first: 7, last: 9 });
  for (const text of ["", "-", "9-7", "7-", "-7", "7 ", "0x7", "1e3", "7-9-11", "99999999999"]) {
    assertEquals(parseRange(text), undefined, text);
  }
});

Deno.test("subuid(5): names and numbers own ranges; what is no range is told apart", () => {
  const { ranges, unclear } = parseSubuid(
    "a:100:10\n1001:200:1\nb:x:1\nc:1\n#d:1:1\ne:5:0\nf:5:1\r\ng:0x10:1\nh:010:1\ni:0:1",
  );
  assertEquals(ranges.map(({ owner, first, last }) => [owner, first, last]), [
    ["a", 100, 109],
    ["1001", 200, 200],
    ["#d", 1, 1],
    ["i", 0, 0],
  ]);
  assertEquals(unclear, ["b:x:1", "c:1", "e:5:0", "f:5:1\r", "g:0x10:1", "h:010:1"]);
  assertEquals(parsePasswd("a:x:7:7::/:\nbad\nb:x:no:1:::\n"), [{ name: "a", uid: 7 }]);
});

Deno.test("a line of /etc/subuid that is no range is a missing piece, where there is a lock", () => {
  for (const line of ["agent:100000:65536\r", "1001:0x186a0:65536", "agent:100000:0"]) {
    assertEquals(stateWith({ ...LOCKED, subuid: `${line}\n` }), "partial", line);
    const nothing = "0:\tfrom all lookup local\n";
    assertEquals(stateWith({ subuid: `${line}\n`, rule4: nothing, rule6: nothing }), "unlocked");
  }
  assertEquals(stateWith({ ...LOCKED, subuid: "other:100000:0\n# agent:\n" }), "locked");
});

Deno.test("status says where a lock cuts an account off loopback as well", () => {
  const notes = (rule4: string) =>
    statusIn(machineWith({ ...LOCKED, rule4 }), ["agent"])[0]!.notes!.join("\n");
  assertEquals(notes(LOCKED.rule4), "");
  const later = LOCKED.rule4.replace("0:\tfrom all lookup local", "100:\tfrom all lookup local");
  assertMatch(notes(later), /^IPv4: a lock cuts it off loopback as well.* ip -4 rule add pref 0/);
});

Deno.test("nft elements keep their comments and verdicts; one with a timeout does not count", () => {
  const { elements, dormant } = parseTable(
    'table inet t {\n\tset s {\n\t\telements = { 1 comment "a, }", 5-9 comment "b",\n\t\t\t     ' +
      '12 timeout 1h expires 59m, 20 comment "c" : goto only_1 }\n\t}\n' +
      "\tset other {\n\t\telements = { 99 }\n\t}\n}",
  );
  assertEquals(dormant, false);
  assertEquals(elements.get("other"), [{ first: 99, last: 99 }]);
  assertEquals(elements.get("s"), [
    { first: 1, last: 1, comment: "a, }" },
    { first: 5, last: 9, comment: "b" },
    { first: 20, last: 20, comment: "c", goto: "only_1" },
  ]);
});

Deno.test("a routing rule for all but forwarded packets may route this machine's own", () => {
  for (
    const [rule, mayRoute] of [
      ["from all iif eth0 lookup main", false],
      ["not from all iif eth0 lookup main", true],
      ["from all lookup local", false],
      ["not from all lookup local", true],
      ["not from all fwmark 0xca6c prohibit", false],
    ] as const
  ) assertEquals(parseRoutingRules(`10:\t${rule}`)[0]!.mayRoute, mayRoute, rule);
});

Deno.test("a routing rule with any other condition prohibits nothing that counts", () => {
  for (
    const rule of [
      "from 192.0.2.1 uidrange 1-1 prohibit",
      "from all to 192.0.2.1 uidrange 1-1 prohibit",
      "from all fwmark 0x1 uidrange 1-1 prohibit",
      "from all iif lo uidrange 1-1 prohibit",
      "from all uidrange 1-1 ipproto tcp prohibit",
      "not from all uidrange 1-1 prohibit",
      "from all uidrange 1-1 lookup main",
      "from all uidrange 1-1 unreachable",
    ]
  ) {
    const [parsed] = parseRoutingRules(`77:\t${rule}`);
    assertEquals(parsed!.prohibits, false, rule);
  }
  assertEquals(
    parseRoutingRules("77:\tfrom all uidrange 1-1 prohibit proto kernel ")[0]!.prohibits,
    true,
  );
});

Deno.test("heldBy gives nothing for a machine without rules", () => {
  assertEquals(heldBy(machineWith({})), []);
});
