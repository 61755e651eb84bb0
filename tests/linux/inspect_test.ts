/** The parsers of the machine's state, by cases and by property: no text may break or fool them. */
import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import * as fc from "fast-check";
import { FishnetError } from "../../src/errors.ts";
import { parsePasswd, parseSubuid } from "../../src/linux/accounts.ts";
import { parseIptablesSave, Shadows } from "../../src/linux/iptables_rules.ts";
import { parseTable } from "../../src/linux/nft_table.ts";
import { resolver } from "../../src/linux/resolver.ts";
import { parseRoutingRules } from "../../src/linux/routing.ts";
import { linux } from "../../src/linux/linux.ts";
import { readStatus, statusIn } from "../../src/lock/status.ts";
import { overlap, parseRange, UidSet } from "../../src/lock/uid_range.ts";
import table from "../../src/linux/table_fishnet.nft" with { type: "text" };
import {
  BARE,
  LOCKED,
  machineWith,
  type Printed,
  sessionWith,
  sightWith,
} from "../support/fake_machine.ts";
import { disableSteps } from "../support/inside.ts";

const anyText = fc.string({ unit: "binary" });

async function statusWith(printed: Printed) {
  return statusIn(await sightWith(printed), ["agent"]).accounts[0]!;
}

/** The state, or that it could not be read: no text makes anything else of it. */
async function stateWith(printed: Printed): Promise<string> {
  try {
    return statusIn(await sightWith(printed), ["agent"]).state;
  } catch (error) {
    if (error instanceof FishnetError) return "unknown";
    throw error;
  }
}

Deno.test("the lock that the properties below start from is locked", async () => {
  assertEquals(await stateWith(LOCKED), "locked");
});

/** Everything that is asked of a machine, but for the routing rules. */
const ASKED = [
  ...["/etc/subuid", "iptables --version"],
  ...["iptables-nft-save", "iptables-legacy-save", "ip6tables-nft-save", "ip6tables-legacy-save"],
  ...["nft list table inet fishnet", "nft list table inet fishnet_loopback"],
];

Deno.test("random text breaks no parser, and never comes out as locked", async () => {
  const names = fc.constantFrom(...ASKED, "ip -4 rule show", "ip -6 rule show");
  const answer = fc.oneof(anyText, fc.record({ exitCode: fc.nat(255), stderr: anyText }));
  await fc.assert(fc.asyncProperty(fc.dictionary(names, answer), async (printed) => {
    assertEquals(await stateWith(printed) === "locked", false);
  }));
});

Deno.test("random words of the tools' own break no parser, and never come out as locked", async () => {
  const word = fc.constantFrom(
    ...["-A", "OUTPUT", "POSTROUTING", "*filter", "*mangle", "!", "-o", "lo", "-m", "owner"],
    ...["--uid-owner", "1001", "-j", "DROP", "REJECT", "ACCEPT", "\n", '"', "\\", "COMMIT"],
    ...["table inet fishnet {", "}", "elements = {", "chain out {", "77:", "from all"],
    ...["uidrange 1001-1001", "prohibit", "comment", "goto", ":", "set locked {"],
  );
  const text = fc.array(word, { maxLength: 40 }).map((words) => words.join(" "));
  // Without routing rules nothing is locked, whatever the other answers say.
  await fc.assert(
    fc.asyncProperty(fc.dictionary(fc.constantFrom(...ASKED), text), async (printed) => {
      assertEquals(await stateWith(printed) === "locked", false);
    }),
  );
});

const RULES = Object.keys(LOCKED) as (keyof typeof LOCKED)[];
const SAVED = RULES.filter((name) => name.endsWith("save"));

Deno.test("one character changed in any needed rule: locked only where it means the same", async () => {
  const name = fc.constantFrom(...RULES);
  await fc.assert(
    fc.asyncProperty(name, fc.nat(), fc.constantFrom(..."0129!-x"), async (name, at, character) => {
      const text = LOCKED[name];
      const i = at % text.length;
      const lines = (whole: string) => whole.split("\n").filter((line) => line.includes("1001"));
      const changed = text.slice(0, i) + character + text.slice(i + 1);
      if (lines(changed).length === lines(text).length) return; // the uid was not hit
      assertEquals(await stateWith({ ...LOCKED, [name]: changed }), "partial");
    }),
    { numRuns: 1000 },
  );
});

Deno.test("a whole lock without any one line of it is partial", async () => {
  for (const [name, text] of Object.entries(LOCKED)) {
    for (const line of text.split("\n").filter((line) => line.includes("1001"))) {
      const without = text.replace(`${line}\n`, "");
      assertEquals(await stateWith({ ...LOCKED, [name]: without }), "partial", line);
    }
  }
});

Deno.test("a whole table of nft is a lock, and one that is dormant or lacks any line of a chain is none", async () => {
  const whole = table.replace("type uid\n", 'type uid\n\t\telements = { 1001 comment "agent" }\n');
  const { "ip -4 rule show": four, "ip -6 rule show": six } = LOCKED;
  const state = (listed: string) =>
    stateWith({
      ...{ "ip -4 rule show": four, "ip -6 rule show": six },
      "nft list table inet fishnet": listed,
    });
  assertEquals(await state(whole), "locked");
  assertEquals(await state(whole.replace("{\n", "{\n\tflags dormant\n\n")), "partial");
  const lines = whole.split("\n");
  for (let i = lines.findIndex((line) => line.startsWith("\tchain ")); i < lines.length; i++) {
    if (!lines[i]!.startsWith("\t\t")) continue;
    for (const changed of [lines.toSpliced(i, 1), lines.toSpliced(i, 0, "\t\taccept")]) {
      assertEquals(await state(changed.join("\n")), "partial", lines[i]);
    }
  }
});

Deno.test("any condition added to a rule of the lock takes it out of the count", async () => {
  const conditions = [
    ...["-p tcp", "! -p udp", "-d 192.0.2.0/24", "! -s 192.0.2.1", "-m mark --mark 0x1"],
    ...["-m owner --uid-owner 1001", "-m owner --uid-owner 1002"],
    ...["-m time --timestart 08:00", "-m limit --limit 1/sec", "--gid-owner 7", "-o out0"],
    ...["-m owner ! --uid-owner 1001", "-m conntrack --ctdir ORIGINAL"],
    ...["-m conntrack --ctstate NEW", "-m statistic --mode random"],
    "-m conntrack --ctstate INVALID,NEW,RELATED,ESTABLISHED,UNTRACKED",
  ];
  for (const name of SAVED) {
    for (const line of LOCKED[name].split("\n").filter((line) => line.includes("1001"))) {
      for (const condition of conditions) {
        const narrower = line.replace(" -j ", ` ${condition} -j `);
        const printed = { ...LOCKED, [name]: LOCKED[name].replace(line, narrower) };
        assertEquals(await stateWith(printed), "partial", narrower);
      }
    }
  }
});

Deno.test("without IPv6 in the kernel there is none to lock; without its rules there is", async () => {
  const { "ip -6 rule show": _, "ip6tables-nft-save": __, ...v4 } = LOCKED;
  assertEquals(await stateWith(v4), "partial");
  const status = await statusWith({ ...v4, "/proc/net/if_inet6": null });
  assertEquals(status.state, "locked");
  assert(status.notes!.some((note) => note.includes("no IPv6")));
});

Deno.test("a listing that failed is an error that says what to do, never a state", async () => {
  const incompatible = {
    exitCode: 1,
    stdout: "# Table `filter' is incompatible, use 'nft' tool.\n",
  };
  const cases: readonly (readonly [string, NonNullable<Printed[string]>, RegExp])[] = [
    ["iptables-nft-save", incompatible, /iptables-nft cannot read the table 'filter'.*nft delete/],
    // iptables-nft-save 1.8.9 ends with 0 all the same.
    ["ip6tables-nft-save", { ...incompatible, exitCode: 0 }, /ip6tables-nft cannot read the table/],
    ["iptables-nft-save", { exitCode: 4, stderr: "Permission denied\n" }, /save failed .*denied/],
    ["iptables-legacy-save", { exitCode: 137 }, /iptables-legacy-save failed \(exit status 137\)/],
    ["ip -4 rule show", { exitCode: 2, stderr: "Cannot talk to rtnetlink\n" }, /routing rules/],
    ["ip -6 rule show", { exitCode: 127 }, /routing rules could not be read: .* package iproute2/],
    [
      "nft list table inet fishnet",
      { exitCode: 1, stderr: "Error: syntax error, unexpected string\n" },
      /nft could not list inet fishnet \(exit status 1\): Error: syntax error/,
    ],
    [
      "nft list table inet fishnet",
      {
        exitCode: 126,
        stderr: "nft: error while loading shared libraries: libnftables.so.1: " +
          "cannot open shared object file: No such file or directory\n",
      },
      /nft could not list inet fishnet \(exit status 126\)/,
    ],
    [
      "iptables-nft-save",
      { exitCode: 1, stderr: "Failed to initialize nft: Cannot allocate memory\n" },
      /save failed .*Cannot allocate memory/,
    ],
    [
      "auditctl -l",
      { exitCode: 4, stderr: "Error receiving rules (broken)\n" },
      /auditctl could not/,
    ],
    ["/etc/subuid", { exitCode: 1, stderr: "Input/output error\n" }, /subuid.*Input\/output/],
    ["getent passwd", { exitCode: 3, stderr: "broken\n" }, /accounts could not be read: broken/],
  ];
  for (const [command, answer, said] of cases) {
    const error = await assertRejects(
      () => statusWith({ ...LOCKED, [command]: answer }),
      FishnetError,
    );
    assertMatch(error.message, said, command);
  }
});

Deno.test("an account that only somebody else's routing rule holds is none of ours", async () => {
  const theirs = "0:\tfrom all lookup local\n50:\tfrom all uidrange 1001-1001 prohibit\n";
  const sight = await sightWith({ "ip -4 rule show": theirs, "ip -6 rule show": theirs });
  assertEquals(statusIn(sight, []), { state: "unlocked", accounts: [] });
});

Deno.test("audit rules that nobody may take away before the next boot are no lock", async () => {
  const rule = "-a always,exit -F arch=b64 -S connect,sendto,sendmsg,sendmmsg -F euid=1001 " +
    "-F exit=-EACCES -k fishnet-agent\n";
  const printed = { "auditctl -l": rule, "auditctl -s": "enabled 2\npid 5\n" };
  assertEquals(statusIn(await sightWith(printed), []), { state: "unlocked", accounts: [] });
  const status = await statusWith(printed);
  assertEquals(status.state, "unlocked");
  assertMatch(status.notes!.join(), /recorded until the next boot: the audit rules are locked/);
});

Deno.test("a machine without a tool, or whose kernel has not got it, has no rules of it", async () => {
  for (
    const answer of [
      { exitCode: 127, stderr: "timeout: failed to run command: No such file or directory\n" },
      { exitCode: 3, stderr: "can't initialize iptables table: do you need to insmod?\n" },
      { exitCode: 1, stderr: "Failed to initialize nft: Protocol not supported\n" },
    ]
  ) {
    const printed = { "iptables-legacy-save": answer, "ip6tables-legacy-save": answer };
    assertEquals(await stateWith({ ...LOCKED, ...printed }), "locked");
  }
});

Deno.test("a comment that looks like a rule, or an option, is a comment", () => {
  const { rules: [rule] } = parseIptablesSave(
    '*filter\n-A OUTPUT -m comment --comment "x -j ACCEPT \\" -o lo" -j DROP',
  );
  assertEquals([rule!.comment, rule!.target, rule!.device], [
    'x -j ACCEPT " -o lo',
    "DROP",
    undefined,
  ]);
});

Deno.test("a comment tells of no account that could have no such name", async () => {
  for (const name of ["agent;reboot", "a b", "-a", "1a", "$(id)", "a".repeat(33), ""]) {
    const text = LOCKED["iptables-nft-save"].replace("fishnet:agent", `fishnet:${name}`);
    const sight = await sightWith({ "iptables-nft-save": text });
    assertEquals(sight.holdings.owners, [], name);
  }
  assertEquals((await sightWith(LOCKED)).holdings.owners, ["agent"], "the control");
});

Deno.test("a word of somebody's rule may be the name of an object's property", () => {
  for (const word of ["constructor", "valueOf", "__proto__"]) {
    const text = `*filter\n-A OUTPUT -m set --match-set ${word} dst -j ACCEPT`;
    const { rules: [rule] } = parseIptablesSave(text);
    assertEquals([rule!.narrower, rule!.target], [true, "ACCEPT"]);
  }
});

Deno.test("a chain that jumps in a circle ends", () => {
  const { rules } = parseIptablesSave(
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
    "a:100:10\n1001:200:1\nb:x:1\nc:1\n#d:1:1\ne:5:0\nf:5:1\r\ng:0x10:1\nh:010:1\ni:0:1\nj:1:4294967294\nk:1:4294967295",
  );
  assertEquals(ranges.map(({ owner, first, last }) => [owner, first, last]), [
    ["a", 100, 109],
    ["1001", 200, 200],
    ["#d", 1, 1],
    ["i", 0, 0],
    ["j", 1, 4294967294],
  ]);
  assertEquals(unclear, [
    "b:x:1",
    "c:1",
    "e:5:0",
    "f:5:1\r",
    "g:0x10:1",
    "h:010:1",
    "k:1:4294967295",
  ]);
  assertEquals(parsePasswd("a:x:7:7::/:\nbad\nb:x:no:1:::\n"), [{ name: "a", uid: 7 }]);
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

Deno.test("a line of /etc/subuid that is no range is a missing piece, where there is a lock", async () => {
  for (const line of ["agent:100000:65536\r", "1001:0x186a0:65536", "agent:100000:0"]) {
    const subuid = { "/etc/subuid": `${line}\n` };
    const status = await statusWith({ ...LOCKED, ...subuid });
    assertEquals(status.state, "partial", line);
    const [piece] = status.pieces.filter(({ present }) => !present);
    assertMatch(piece!.remedy!, /^write agent:FIRST:COUNT for it in \/etc\/subuid/);
    assertEquals(await stateWith(subuid), "unlocked");
  }
  const others = { "/etc/subuid": "other:100000:0\n# agent:\n" };
  assertEquals(await stateWith({ ...LOCKED, ...others }), "locked");
});

Deno.test("an access list of an administrator's is no lock of an account without one", async () => {
  const list = "# file: /run/cups\n# owner: 0\n# group: 0\nuser::rwx\nuser:1001:---\n" +
    "group::r-x\nmask::r-x\nother::r-x\n";
  const printed = { "/run/cups": "", "getfacl --numeric --absolute-names /run/cups": list };
  const bare = await sightWith({ ...BARE, ...printed });
  assertEquals(statusIn(bare, []).accounts, []);
  assertEquals(disableSteps(bare, ["agent"]), []);
  const locked = await sightWith({ ...LOCKED, ...printed });
  assertEquals(
    disableSteps(locked, ["agent"]).map(({ line }) => line).filter((line) => /setfacl/.test(line)),
    ["sudo setfacl --remove u:1001,m /run/cups"],
  );
});

Deno.test("a policy or an access list for the next boot counts where it says what it was made to", async () => {
  const list = "# file: /run/cups\n# owner: 3\n# group: 7\nuser::rwx\ngroup::r-x\nother::r-x\n";
  const printed = {
    ...{ "/run/dbus/system_bus_socket": "", "/run/systemd/system": "", "/etc/dbus-1/system.d": "" },
    ...{ "/run/cups": "", "getfacl --numeric --absolute-names /run/cups": list },
  };
  const lock = { name: "agent", uid: 1001, backend: "iptables", onlyPorts: [1] } as const;
  const machine = await machineWith(printed);
  const wanted = resolver.wanted({ ...lock, persist: true, sessions: false, log: false }, machine);
  const written = resolver.make(wanted, machine)
    .flatMap(({ line }) => /^echo '([^']*)' \| sudo tee (\S+)\.new /.exec(line) ?? []);
  const [, policy, policyPath, , list2, listPath] = written as string[];
  assertMatch(policy!, /<policy user="1001">\s*<deny send_type="method_call"\/>/);
  assertEquals(list2, "# fishnet:agent\nd /run/cups 0755 3 7\na+ /run/cups - - - - u:1001:---");
  for (const [path, text] of [[policyPath!, policy!], [listPath!, list2!]] as const) {
    const faults = async (text: string) =>
      resolver.found(await machineWith({ ...printed, [path]: text })).map(({ fault }) => fault);
    assertEquals(await faults(`${text}\n`), [undefined]);
    for (const changed of [text.replace("1001", "1002"), `${text}\nmore`, ""]) {
      assertEquals(await faults(`${changed}\n`), [`${path} says something else`]);
    }
  }
});

Deno.test("status says where subordinate uids are somebody else's, too", async () => {
  for (
    const [subuid, says] of [
      ["agent:0:5\n", "they contain root's"],
      ["agent:200000:10\nother:200005:10\n", "they overlap those of 'other'"],
    ] as const
  ) {
    const { state, pieces } = await statusWith({ ...LOCKED, "/etc/subuid": subuid });
    assertEquals(state, "partial");
    assertEquals(pieces.filter(({ detail }) => detail === says).length, 1);
  }
});

Deno.test("a routing rule above ours that may lead outside is seen, whatever it is called", async () => {
  const above = async (rule: string) => {
    const text = LOCKED["ip -4 rule show"]!.replace("\n", `\n50:\t${rule}\n`);
    return await stateWith({ ...LOCKED, "ip -4 rule show": text });
  };
  for (
    const rule of [
      "not from all uidrange 2000-2000 lookup 203",
      ...["nop-vpn", "blackhole", "prohibit"].map((name) => `from all lookup ${name}`),
      "from all lookup unreachable proto static",
    ]
  ) assertEquals(await above(rule), "partial", rule);
  for (
    const rule of [
      "from all uidrange 2000-2000 lookup 203",
      "from all iif eth0 lookup prohibit",
      "from all fwmark 0x1 blackhole proto static",
      "not from all uidrange 2000-2000 prohibit",
    ]
  ) assertEquals(await above(rule), "locked", rule);
});

Deno.test("a range of ports that are left is no limit of ours", async () => {
  const printed = {
    ...LOCKED,
    "iptables-nft-save": LOCKED["iptables-nft-save"]!.replace(
      /(?=-A OUTPUT ! -o lo)/,
      "-A OUTPUT -o lo -p tcp -m owner --uid-owner 1001 -m multiport ! --dports 3777,9000:9100 -j fishnet\n",
    ),
  };
  assertEquals((await statusWith(printed)).onlyPorts, []);
});

Deno.test("where both backends limit, the limit of the one that most rules are of is the account's", async () => {
  const table = "table inet fishnet_loopback {\n\tset allowed {\n\t\ttype uid . inet_service\n" +
    '\t\telements = { 1001 . 9000 comment "agent" }\n\t}\n}\n';
  const limit =
    "-A OUTPUT -o lo -p tcp -m owner --uid-owner 1001 -m multiport ! --dports 3777 -j fishnet\n";
  const text = LOCKED["iptables-nft-save"].replace(/(?=-A OUTPUT ! -o lo)/, limit);
  const byNft = { "nft list table inet fishnet_loopback": table };
  const portsOf = async (printed: Printed) =>
    (await statusWith({ ...LOCKED, ...byNft, ...printed })).onlyPorts;
  assertEquals(await portsOf({ "iptables-nft-save": text }), [3777]);
  assertEquals(await portsOf({}), [9000], "and where the other limits alone, its limit");
});

Deno.test("what holds uids of nobody is told, with the commands that take it away", async () => {
  const rules = `${LOCKED["ip -4 rule show"]}77:\tfrom all uidrange 5000-5001 prohibit\n`;
  const { accounts } = statusIn(await sightWith({ ...LOCKED, "ip -4 rule show": rules }), []);
  assertEquals(accounts.map(({ name, state }) => [name, state]), [
    ["agent", "locked"],
    ["uids 5000-5001", "partial"],
  ]);
  assertEquals(
    accounts[1]!.pieces.map(({ remedy }) => remedy),
    ["sudo ip -4 rule del pref 77 uidrange 5000-5001 prohibit"],
  );
});

Deno.test("status says where a lock cuts an account off loopback as well", async () => {
  const rules = LOCKED["ip -4 rule show"];
  const notes = async (text: string) =>
    (await statusWith({ ...LOCKED, "ip -4 rule show": text })).notes!.join("\n");
  assertEquals(await notes(rules), "");
  const later = rules.replace("0:\tfrom all lookup local", "100:\tfrom all lookup local");
  assertMatch(
    await notes(later),
    /^IPv4: a lock cuts it off loopback as well.* ip -4 rule add pref 0/,
  );
});

Deno.test("nft elements keep their comments and ports; one with a timeout does not count", () => {
  const { sets, dormant } = parseTable(
    'table inet t {\n\tset s {\n\t\telements = { 1 comment "a, }", 5-9 comment "b",\n\t\t\t     ' +
      '12 timeout 1h expires 59m, 20 . 3777 comment "c" }\n\t}\n' +
      "\tset other {\n\t\telements = { 99 }\n\t}\n}",
  );
  assertEquals(dormant, false);
  assertEquals(sets.get("other"), [{ first: 99, last: 99 }]);
  assertEquals(sets.get("s"), [
    { first: 1, last: 1, comment: "a, }" },
    { first: 5, last: 9, comment: "b" },
    { first: 20, last: 20, port: 3777, comment: "c" },
  ]);
});

Deno.test("what older versions of nft print, in other words or numbers, is the same rule", () => {
  const chain = (...rules: readonly string[]) =>
    parseTable(`table inet t {\n\tchain c {\n${rules.map((one) => `\t\t${one}\n`).join("")}\t}\n}`);
  assertEquals(
    chain(
      ...["meta l4proto 6 accept", "meta l4proto != 6 drop", "meta l4proto 132 drop"],
      ...["reject with icmpx type 3", "icmpv6 code admin-prohibited drop"],
    ),
    chain(
      ...["meta l4proto tcp accept", "meta l4proto != tcp drop", "meta l4proto sctp drop"],
      ...["reject with icmpx 3", "icmpv6 code 1 drop"],
    ),
  );
});

Deno.test("nothing is found on a machine without rules", async () => {
  assertEquals((await sightWith({})).there.flatMap(({ found }) => found), []);
  assertEquals(statusIn(await sightWith({}), []).accounts, []);
  assertEquals((await machineWith({})).families, [4, 6]);
  assertEquals((await machineWith({ "/etc/subuid": null })).subuid.ranges, []);
});

Deno.test("without a lock nothing is warned of; what cannot be read is unknown, and no more is said", async () => {
  const read = (printed: Printed) => readStatus(linux, ["agent"], sessionWith(printed));
  const { report: { accounts: [agent] }, warnings } = await read({});
  assertEquals([agent!.state, agent!.notes, warnings], ["unlocked", [], []]);
  const broken = await read({ ...LOCKED, "getent passwd": { exitCode: 3, stderr: "broken\n" } });
  assertEquals([broken.report.state, broken.report.accounts[0]!.state], ["unknown", "unknown"]);
  assertEquals(broken.warnings, []);
});

Deno.test("what only a reboot would bring back is asked about like what is in force", async () => {
  const { answers } = await machineWith({
    "/etc/audit/rules.d/fishnet-agent.rules": "# a lock's\n",
  });
  assertEquals(["audit status", "boot: units"].map((name) => answers.has(name)), [true, true]);
  // Where there is nothing of it, nobody is asked.
  assertEquals([...(await machineWith({})).answers.keys()].sort(), [
    ...["4 legacy", "4 nft", "6 legacy", "6 nft", "audit rules"],
    ...["iptables", "nft", "nft loopback", "passwd", "rule4", "rule6"],
  ]);
});

Deno.test("rules are found by the plain name where the one of its variant is missing", async () => {
  const { "iptables-nft-save": v4, "ip6tables-nft-save": v6, ...routing } = LOCKED;
  const missing = { exitCode: 127 };
  const plain = {
    ...routing,
    ...{ "iptables-nft-save": missing, "ip6tables-nft-save": missing },
    ...{ "iptables-save": v4, "ip6tables-save": v6 },
  };
  assertEquals(await stateWith(plain), "locked", "beside tables of the other variant");
  const none = { "/proc/net/ip_tables_names": null, "/proc/net/ip6_tables_names": null };
  assertEquals(await stateWith({ ...plain, ...none }), "locked", "without any");
  const old = { "iptables-legacy-save": missing, "ip6tables-legacy-save": missing };
  const version = { "iptables --version": "iptables v1.6.1\n" };
  assertEquals(await stateWith({ ...plain, ...old, ...version }), "locked", "before variants");
  // And taken away by it, once.
  assertEquals(
    disableSteps(await sightWith(plain), ["agent"]).map(({ line }) => line),
    disableSteps(await sightWith(LOCKED), ["agent"]).map(({ line }) => line),
  );
});
