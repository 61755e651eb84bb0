/**
 * The rules themselves: that pf's grammar knows them, and what pf does with each
 * kind of packet under them, beside what it does under the reference page's.
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { otherPorts } from "../../src/macos/rules.ts";
import {
  AGENT,
  ANCHOR_CALL,
  LOAD,
  locked,
  OTHER_AGENT,
  packet,
  PROXY,
  ROOT,
  rulesFor,
  SOMEBODY,
  text,
} from "./support/packets.ts";
import { judge, type Packet, type Ruleset, type Verdict } from "./support/pf_evaluator.ts";
import { parsePf, PfSyntaxError, printedForm } from "./support/pf_language.ts";
import { STOCK_PF_CONF } from "./support/stand_in.ts";

Deno.test("pf's grammar knows each of our rules, and gives it back in the form that status reads", () => {
  const printed = parsePf(text(rulesFor(502, [3777, 8080]))).flatMap(printedForm);
  assertEquals(printed, [
    "block return out quick on ! lo0 proto tcp from any to any port 1:65535 user = 502",
    "block return out quick on ! lo0 proto udp from any to any port 1:65535 user = 502",
    "block drop in quick on ! lo0 proto tcp from any to any port 1:65535 user = 502",
    "block return out quick on lo0 proto tcp from any to any port 1:3776 user = 502 flags S/SA",
    "block return out quick on lo0 proto tcp from any to any port 3778:8079 user = 502 flags S/SA",
    "block return out quick on lo0 proto tcp from any to any port 8081:65535 user = 502 flags S/SA",
    "block return out quick on lo0 proto udp from any to any port 1:65535 user = 502",
  ]);
  assertEquals(
    parsePf(text(printed)).flatMap(printedForm),
    printed,
    "what is printed can be loaded",
  );
});

Deno.test("pf's grammar knows the pf.conf that we leave, with and without a newline before our lines", () => {
  parsePf(`${STOCK_PF_CONF}${ANCHOR_CALL}\n${LOAD}\n`);
  parsePf(`${STOCK_PF_CONF.trimEnd()}\n${ANCHOR_CALL} # the line above had no newline\n${LOAD}\n`);
  assertThrows(() => parsePf(`${STOCK_PF_CONF}${ANCHOR_CALL}`), PfSyntaxError, "newline");
  assertThrows(() => parsePf(`${ANCHOR_CALL}\n${STOCK_PF_CONF}`), PfSyntaxError, "order");
});

Deno.test("pf's grammar refuses the reference page's rules: user stands before the hosts", () => {
  for (
    const rule of ["block drop out quick user 502 to any", "pass out quick on lo0 user 502 to any"]
  ) {
    assertThrows(() => parsePf(`${rule}\n`), PfSyntaxError, '"to" does');
  }
});

const BLOCKED: readonly (readonly [string, Partial<Packet>, Verdict])[] = [
  ["TCP over IPv4", {}, "return"],
  ["TCP over IPv6", { family: "inet6" }, "return"],
  ["UDP over IPv4", { protocol: "udp", port: 53 }, "return"],
  ["UDP over IPv6, QUIC say", { family: "inet6", protocol: "udp" }, "return"],
  ["the lowest port", { port: 1 }, "return"],
  ["the highest port", { port: 65535 }, "return"],
  ["a VPN's interface", { interface: "utun3" }, "return"],
  ["a connection that is open already", { flags: "A" }, "return"],
  ["an answer of its own server", { flags: "SA" }, "return"],
  ["the other agent", { uid: OTHER_AGENT }, "return"],
  ["a connection from outside to its server", { direction: "in", port: 8000 }, "drop"],
  ["data from outside", { direction: "in", flags: "A", port: 50000 }, "drop"],
];

const PASSES: readonly (readonly [string, Partial<Packet>])[] = [
  ["loopback, TCP over IPv4", { interface: "lo0", port: PROXY }],
  ["loopback, TCP over IPv6", { interface: "lo0", family: "inet6", port: PROXY }],
  ["loopback, UDP", { interface: "lo0", protocol: "udp", port: 53 }],
  ["loopback, inwards", { interface: "lo0", direction: "in", port: PROXY }],
  ["loopback, a connection that is open already", { interface: "lo0", flags: "A" }],
  ["somebody else, TCP", { uid: SOMEBODY }],
  ["somebody else, UDP", { uid: SOMEBODY, protocol: "udp" }],
  ["somebody else, inwards", { uid: SOMEBODY, direction: "in" }],
  ["somebody else's fragment", { uid: SOMEBODY, protocol: "udp", fragment: true }],
  ["root", { uid: ROOT }],
  ["UDP from outside to the agent's socket, whose answer does not leave", {
    direction: "in",
    protocol: "udp",
    port: 50000,
  }],
  // What pf cannot decide by the user, and the README names:
  ["the agent's ping", { protocol: "icmp" }],
  ["the agent's ping over IPv6", { family: "inet6", protocol: "icmp6" }],
  ["a later fragment of the agent's, useless without the first", {
    protocol: "udp",
    fragment: true,
  }],
  ["the agent's DNS through mDNSResponder, which has another uid", {
    uid: 65,
    protocol: "udp",
    port: 53,
  }],
];

Deno.test("a locked account's packets are blocked everywhere but on loopback", async (t) => {
  for (const [name, differences, verdict] of BLOCKED) {
    await t.step(name, () => {
      assertEquals(
        judge(packet(differences), { main: parsePf(STOCK_PF_CONF) }),
        "pass",
        "the control",
      );
      assertEquals(judge(packet(differences), locked()), verdict);
    });
  }
  for (const [name, differences] of PASSES) {
    await t.step(
      `but not: ${name}`,
      () => assertEquals(judge(packet(differences), locked()), "pass"),
    );
  }
});

const anyPacket = fc.record<Packet>({
  direction: fc.constantFrom("in", "out"),
  interface: fc.constantFrom("lo0", "en0", "en1", "utun0", "awdl0", "bridge100"),
  family: fc.constantFrom("inet", "inet6"),
  protocol: fc.constantFrom("tcp", "udp", "icmp", "icmp6"),
  fragment: fc.boolean(),
  port: fc.integer({ min: 1, max: 65535 }),
  flags: fc.constantFrom("S", "SA", "A"),
  uid: fc.oneof(fc.constantFrom(AGENT, OTHER_AGENT, SOMEBODY, ROOT), fc.nat()),
  connection: fc.constant("a"),
});

Deno.test("for any packet: nobody else is ever touched, and the agent's TCP and UDP never leave", () => {
  fc.assert(
    fc.property(
      anyPacket,
      fc.uniqueArray(fc.integer({ min: 1, max: 65535 }), { maxLength: 15 }),
      (sent, ports) => {
        const verdict = judge(sent, locked(ports));
        const decidable = !sent.fragment && (sent.protocol === "tcp" || sent.protocol === "udp");
        if (!decidable || (sent.uid !== AGENT && sent.uid !== OTHER_AGENT)) {
          assertEquals(verdict, "pass");
        } else if (sent.interface !== "lo0" && sent.direction === "out") {
          assertEquals(verdict, "return");
        } else if (sent.interface !== "lo0" && sent.protocol === "tcp") {
          assertEquals(verdict, "drop");
        } else if (ports.length === 0 || sent.uid === OTHER_AGENT) {
          assertEquals(verdict, "pass");
        }
      },
    ),
  );
});

Deno.test("no rule of others after our call takes the lock back", () => {
  const ruleset = { ...locked(), main: parsePf(`${ANCHOR_CALL}\npass quick all\n`) };
  assertEquals(judge(packet(), ruleset), "return");
  assertEquals(judge(packet({ direction: "in" }), ruleset), "drop");
  assertEquals(judge(packet({ uid: SOMEBODY }), ruleset), "pass");
});

Deno.test("with --only-port, loopback is TCP to these ports, and its own servers still answer", async (t) => {
  const rows: readonly (readonly [string, Partial<Packet>, Verdict])[] = [
    ["the proxy", { port: PROXY }, "pass"],
    ["the proxy over IPv6", { port: PROXY, family: "inet6" }, "pass"],
    ["the second port", { port: 8080 }, "pass"],
    ["the port below", { port: PROXY - 1 }, "return"],
    ["the port above", { port: PROXY + 1 }, "return"],
    ["the lowest port", { port: 1 }, "return"],
    ["the highest port", { port: 65535 }, "return"],
    ["a DNS stub, UDP", { port: 53, protocol: "udp" }, "return"],
    ["UDP to the proxy's port", { port: PROXY, protocol: "udp" }, "return"],
    ["its server's answer to a new connection", { port: 50000, flags: "SA" }, "pass"],
    ["its server's data", { port: 50000, flags: "A" }, "pass"],
    ["a connection to its server", { port: 8000, direction: "in" }, "pass"],
    ["somebody else", { port: 22, uid: SOMEBODY }, "pass"],
    ["the other agent, which has no such limit", { port: 22, uid: OTHER_AGENT }, "pass"],
    // pf has no memory without states, and a state would let everything after it pass:
    ["a connection that was open before, which a restart of the agent ends", {
      port: 22,
      flags: "A",
    }, "pass"],
  ];
  for (const [name, differences, verdict] of rows) {
    await t.step(
      name,
      () =>
        assertEquals(
          judge(packet({ interface: "lo0", ...differences }), locked([PROXY, 8080])),
          verdict,
        ),
    );
  }
  await t.step(
    "outside is blocked all the same, also at these ports",
    () => assertEquals(judge(packet({ port: PROXY }), locked([PROXY])), "return"),
  );
});

Deno.test("for any list of ports, the ranges between them are exactly all the others", () => {
  const port = fc.integer({ min: 1, max: 65535 });
  fc.assert(
    fc.property(
      fc.array(fc.oneof(port, fc.constantFrom(1, 2, 65534, 65535)), {
        minLength: 1,
        maxLength: 15,
      }),
      port,
      (ports, any) => {
        const others = otherPorts(ports);
        const covered = (p: number) => others.some(({ first, last }) => first <= p && p <= last);
        for (const p of ports) assert(!covered(p));
        assertEquals(covered(any), !ports.includes(any));
        assert(others.every(({ first, last }) => 1 <= first && first <= last && last <= 65535));
      },
    ),
  );
});

/** The page's rules as they would have to be written to load at all. */
const PAGE = parsePf(
  "block drop out quick from any to any user 502\npass out quick on lo0 from any to any user 502\n",
);
const page = (
  main = `${STOCK_PF_CONF}anchor "com.fishnet.localonly"\n`,
  loaded = true,
): Ruleset => ({
  main: parsePf(main),
  ...(loaded ? { anchors: new Map([["com.fishnet.localonly", PAGE]]) } : {}),
});

Deno.test("the reference page's rules fail in the ways that the README names", async (t) => {
  await t.step(
    "nothing loads the anchor's file: nothing is blocked",
    () => assertEquals(judge(packet(), page(undefined, false)), "pass"),
  );
  await t.step(
    "loaded, they block loopback too: the first quick rule wins",
    () => assertEquals(judge(packet({ interface: "lo0", port: PROXY }), page()), "drop"),
  );
  await t.step(
    "they have no rule for what comes in",
    () => assertEquals(judge(packet({ direction: "in" }), page()), "pass"),
  );
  await t.step(
    "without proto and port, they hit everybody's fragments",
    () =>
      assertEquals(
        judge(packet({ uid: SOMEBODY, protocol: "udp", fragment: true }), page()),
        "drop",
      ),
  );
  await t.step("the file of a second agent replaces the first one's: the first is free", () => {
    const second = parsePf("block drop out quick from any to any user 503\n");
    const ruleset = { ...page(), anchors: new Map([["com.fishnet.localonly", second]]) };
    assertEquals(judge(packet(), ruleset), "pass");
  });
  await t.step(
    "disable removes the file and the line that both agents share: both are free",
    () => {
      const ruleset = page(STOCK_PF_CONF, false);
      for (const uid of [AGENT, OTHER_AGENT]) assertEquals(judge(packet({ uid }), ruleset), "pass");
    },
  );
});

Deno.test("other ways to write the lock fail, which is why it is written as it is", async (t) => {
  const with_ = (rules: string): Ruleset => ({ main: parsePf(rules), states: new Set() });
  await t.step("an address makes the rule one of IPv4 alone", () => {
    const rules = with_("block return out quick proto tcp from any to ! 127.0.0.0/8 user 502\n");
    assertEquals(judge(packet(), rules), "return");
    assertEquals(judge(packet({ family: "inet6" }), rules), "pass");
  });
  await t.step("pass on lo0, then block: a loopback connection that is open is cut", () => {
    const rules = with_(
      "pass out quick on lo0 proto tcp from any to any user 502\nblock return out quick proto tcp from any to any user 502\n",
    );
    assertEquals(judge(packet({ interface: "lo0", flags: "A" }), rules), "return");
    assertEquals(judge(packet({ interface: "lo0" }), rules), "pass");
  });
  await t.step("flags S/SA on the block: a connection from before the lock lives on", () => {
    const rules = with_("block return out quick proto tcp from any to any user 502 flags S/SA\n");
    assertEquals(judge(packet(), rules), "return");
    assertEquals(judge(packet({ flags: "A" }), rules), "pass");
  });
  await t.step("without quick, a later pass wins", () => {
    const rules = with_(
      "block out proto tcp from any to any user 502\npass out proto tcp from any to any\n",
    );
    assertEquals(judge(packet(), rules), "pass");
  });
});

Deno.test("what stands before our call and passes quick takes it out of force, as status must tell", () => {
  const before = {
    main: parsePf(`pass quick on en0 all\n${ANCHOR_CALL}\n`),
    anchors: locked().anchors!,
  };
  assertEquals(judge(packet(), before), "pass");
  assertEquals(judge(packet({ interface: "en1" }), before), "return");
});

Deno.test("a connection that another tool's keep state rule knows lives on, and new ones do not", () => {
  const ruleset = locked();
  ruleset.states!.add("a");
  assertEquals(judge(packet({ flags: "A" }), ruleset), "pass");
  assertEquals(judge(packet({ connection: "b" }), ruleset), "return");
});
