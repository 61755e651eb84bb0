/** The judgement of `verify`: only the words of the very calls prove, and all of them are needed. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import fc from "fast-check";
import { FishnetError } from "../../src/errors.ts";
import { linux } from "../../src/linux/linux.ts";
import { readRoute } from "../../src/linux/trying.ts";
import { type Attempt, attemptOf, parseAnswers, resolve } from "../../src/lock/tries.ts";
import { macos } from "../../src/macos/macos.ts";
import {
  isProven,
  judgeCall,
  type Judged,
  judgeReach,
  judgeRefusal,
  judgeReset,
  type Verdict,
  type Way,
} from "../../src/lock/judge.ts";

const AGENT = { name: "agent", uid: 1001, groups: [1001] };
const anyText = fc.string({ unit: "binary" });

const tried = (outcome: Attempt["outcome"], word?: string): Attempt => ({
  by: "a",
  outcome,
  said: "x",
  ...(word === undefined ? {} : { word }),
});
const reached = tried("reached");
/** What each system knows of tries. */
const KNOWN = { linux: linux.trying, macos: macos.trying };

const failing = (call: string, word: string, system: "linux" | "macos" = "linux") =>
  attemptOf(AGENT, { call, word, words: "x", listeners: [] }, "", KNOWN[system]);

Deno.test("a refusal is the word of a rule, said by the call that sends, beside a control that got through", () => {
  const cases: [Attempt, Attempt, Verdict][] = [
    [failing("connect", "EACCES"), reached, "proven"],
    [failing("send", "EPERM"), reached, "proven"],
    [failing("access", "EACCES"), reached, "proven"],
    [failing("access", "ENOENT"), reached, "inconclusive"],
    [failing("socket", "EACCES"), reached, "inconclusive"],
    [failing("setsockopt", "EPERM"), reached, "inconclusive"],
    [failing("connect", "ECONNREFUSED"), reached, "inconclusive"],
    [failing("send", "EAGAIN"), reached, "inconclusive"],
    [failing("connect", "EACCES"), failing("connect", "EACCES"), "inconclusive"],
    [failing("connect", "EACCES"), failing("connect", "ECONNREFUSED"), "inconclusive"],
    [failing("connect", "EACCES"), tried("unanswered"), "inconclusive"],
    [failing("wait", "ETIMEDOUT"), reached, "failed"],
    [attemptOf(AGENT, undefined, "killed", KNOWN.linux), reached, "inconclusive"],
    [
      failing("connect", "EACCES"),
      attemptOf(AGENT, undefined, "killed", KNOWN.linux),
      "inconclusive",
    ],
    [reached, reached, "failed"],
    [reached, tried("broken"), "failed"],
    [tried("refused"), tried("broken", "ENETUNREACH"), "note"],
    [tried("broken", "ENETUNREACH"), tried("broken", "ENETUNREACH"), "inconclusive"],
  ];
  for (const [own, control, verdict] of cases) {
    const judged = judgeRefusal("x", own, control);
    assertEquals(judged.verdict, verdict, JSON.stringify([own, control]));
  }
});

Deno.test("macOS: a reset, or a datagram that is not sent, is a refusal beside a control that got through", () => {
  const reset = failing("connect", "ECONNREFUSED", "macos");
  for (const own of [reset, failing("send", "EHOSTUNREACH", "macos")]) {
    assertEquals(judgeRefusal("x", own, reached).verdict, "proven");
  }
  assertEquals(judgeRefusal("x", reset, reset).verdict, "inconclusive");
});

Deno.test("macOS: silence proves nothing, since pf may drop without a word, and fails nothing either", () => {
  const sent = failing("sent", "", "macos");
  const told = failing("send", "ECONNREFUSED", "macos");
  const waits = failing("wait", "ETIMEDOUT", "macos");
  const nowhere = failing("connect", "EHOSTUNREACH", "macos");
  const cases: [Attempt, Attempt, Verdict][] = [
    [told, sent, "proven"],
    [told, told, "inconclusive"],
    [sent, sent, "inconclusive"],
    [waits, reached, "inconclusive"],
    [reached, reached, "failed"],
    [nowhere, nowhere, "note"],
    [nowhere, reached, "proven"],
    [told, nowhere, "inconclusive"],
  ];
  for (const [own, control, verdict] of cases) {
    const judged = judgeRefusal("x", own, control);
    assertEquals(judged.verdict, verdict, JSON.stringify([own, control]));
  }
  assertEquals(judgeReset("x", waits, reached).verdict, "inconclusive");
  assertEquals(judgeCall("x", told, told).verdict, "note", "nobody listens there");
  assertEquals(judgeReach(() => false)("x", waits, reached).verdict, "failed");
});

Deno.test("a port that is not allowed on loopback: only a reset refuses, and somebody must listen", () => {
  const reset = failing("connect", "ECONNREFUSED");
  const cases: [Attempt, Attempt, Verdict][] = [
    [reset, reached, "proven"],
    [failing("connect", "ECONNRESET"), reached, "proven"],
    [failing("read", "ECONNRESET"), reached, "inconclusive"],
    [failing("connect", "EACCES"), reached, "inconclusive"],
    [failing("wait", "ETIMEDOUT"), reached, "failed"],
    [attemptOf(AGENT, undefined, "killed", KNOWN.linux), reached, "inconclusive"],
    [reset, reset, "note"],
    [reset, tried("unanswered"), "inconclusive"],
    [reached, reached, "failed"],
  ];
  for (const [own, control, verdict] of cases) {
    assertEquals(judgeReset("x", own, control).verdict, verdict, JSON.stringify([own, control]));
  }
});

Deno.test("the proxy must be reached; where nobody listens, or the account itself, it is a note", () => {
  const judge = (own: Attempt, control: Attempt) => judgeReach(isOwn)("x", own, control).verdict;
  const isOwn = (uid: number) => uid === 1001 || uid >= 100000;
  const reset = failing("connect", "ECONNREFUSED");
  assertEquals(judge(reached, reached), "proven");
  assertEquals(judge({ ...reached, listeners: [0, 1001] }, reached), "note");
  assertEquals(judge({ ...reached, listeners: [0, 100005] }, reached), "note", "a subordinate uid");
  assertEquals(judge({ ...reached, listeners: [] }, reached), "note", "one that hides");
  assertEquals(judge({ ...reached, listeners: [0] }, { ...reached, listeners: [1001] }), "note");
  assertEquals(judge({ ...reached, listeners: [0] }, reached), "proven");
  const answered = { call: "ok", text: "x", listeners: [1001] };
  assertEquals(judge(attemptOf(AGENT, answered, "", KNOWN.linux), reached), "note");
  assertEquals(
    judge(attemptOf(AGENT, answered, "", KNOWN.macos), reached),
    "proven",
    "not told there",
  );
  assertEquals(judge({ ...tried("unanswered"), listeners: [1001] }, reached), "note");
  assertEquals(judge(reset, reset), "note");
  assertEquals(judge(reset, reached), "failed");
  assertEquals(judge(tried("unanswered"), reached), "failed");
  assertEquals(judge(tried("unanswered"), tried("unanswered")), "inconclusive");
  assertEquals(judge(attemptOf(AGENT, undefined, "killed", KNOWN.linux), reset), "inconclusive");
});

const WAYS: Way[] = ["tcp", "udp", "device"];
const part = (family: 4 | 6, way: Way, verdict: Verdict): Judged => ({
  what: "x",
  expected: "refused",
  did: "x",
  verdict,
  part: { family, way },
});
const all = (family: 4 | 6, verdict: Verdict) => WAYS.map((way) => part(family, way, verdict));
const LOCKED = [...all(4, "proven"), ...all(6, "proven")];

Deno.test("proven needs every way of every family, and nothing that failed or stayed open", () => {
  const proven = (tries: readonly Judged[], families: readonly (4 | 6)[] = [4, 6]) =>
    isProven("locked", tries, families, WAYS);
  assertEquals(proven(LOCKED), true);
  assertEquals(proven(all(4, "proven"), [4]), true, "a kernel without IPv6");
  assertEquals(proven([...all(4, "proven"), ...all(6, "note")]), true, "no route in IPv6");
  assertEquals(proven([...all(4, "note"), ...all(6, "note")]), false, "no route at all");
  assertEquals(proven(all(4, "proven")), false, "IPv6 was not tried");
  for (let i = 0; i < LOCKED.length; i++) {
    const { part: which } = LOCKED[i]!;
    assertEquals(proven(LOCKED.toSpliced(i, 1)), false, `without ${JSON.stringify(which)}`);
    for (const verdict of ["failed", "inconclusive", "note"] as const) {
      assertEquals(proven(LOCKED.with(i, { ...LOCKED[i]!, verdict })), false, verdict);
    }
  }
  for (const verdict of ["failed", "inconclusive"] as const) {
    const more: Judged = { what: "loopback", expected: "reached", did: "x", verdict };
    assertEquals(proven([...LOCKED, more]), false, verdict);
  }
  for (const state of ["partial", "unlocked", "unknown"] as const) {
    assertEquals(isProven(state, LOCKED, [4, 6], WAYS), false, state);
  }
});

Deno.test("no text without the mark is an answer, and the first answer to a try counts", () => {
  fc.assert(fc.property(anyText, fc.uuid(), (text, mark) => {
    assertEquals(parseAnswers(text, mark, 3), [undefined, undefined, undefined]);
    const printed =
      `${mark} 0 listen 1001\n${mark} 0 ok 6869\n${text}\n${mark} 0 listen 7,1001\n${mark} 0 connect EACCES x\n${mark} 9 ok  \n`;
    assertEquals(parseAnswers(printed, mark, 1), [{
      call: "ok",
      text: "hi",
      listeners: [1001, 7],
    }]);
  }));
});

Deno.test("no text that ip could print is taken for a route that a rule refuses by half", () => {
  const reading = fc.record({ exitCode: fc.nat(255), stdout: anyText, stderr: anyText });
  fc.assert(fc.property(reading, reading, (own, control) => {
    const judged = judgeRefusal(
      "x",
      { by: "a", ...readRoute(own) },
      { by: "b", ...readRoute(control) },
    );
    assertEquals(judged.verdict === "proven", false);
  }));
});

Deno.test("of what ip says of a route, only its own words are a refusal, or no route at all", () => {
  const said = "RTNETLINK answers: ";
  const rows: readonly (readonly [number, string, string, Attempt["outcome"], string?])[] = [
    [0, "203.0.113.9 via 10.0.0.1 dev eth0 uid 1001\n    cache\n", "", "reached"],
    [0, "local 203.0.113.9 dev lo uid 1001\n", "", "broken"],
    [0, "", "", "broken"],
    [2, "203.0.113.9 dev eth0\n", "", "broken"],
    [2, "", `${said}Permission denied\n`, "refused", "EACCES"],
    [0, "", `${said}Permission denied\n`, "broken"],
    [1, "", "sudo: Permission denied\n", "broken"],
    [2, "", `${said}Network is unreachable\n`, "broken", "ENETUNREACH"],
    [2, "", `${said}No route to host\n`, "broken"],
  ];
  for (const [exitCode, stdout, stderr, outcome, word] of rows) {
    const route = readRoute({ exitCode, stdout, stderr });
    assertEquals([route.outcome, route.word], [outcome, word], JSON.stringify([stdout, stderr]));
    assertEquals(route.device, outcome === "reached" ? "eth0" : undefined);
  }
});

Deno.test("a name has one address of each family, as root finds it; on macOS none is looked up", async () => {
  const addresses = async (host: string, system: "linux" | "macos" = "linux") => {
    const printed = new Map([
      ["ahostsv4 both", "192.0.2.1 STREAM both\n192.0.2.1 DGRAM\n"],
      ["ahostsv6 both", "2001:db8::1 STREAM both\n"],
      ["ahostsv4 old", "192.0.2.2 STREAM old\n"],
      ["ahostsv6 old", "::ffff:192.0.2.2 STREAM old\n"],
    ]);
    const ask = ([, base, , name]: readonly string[]) =>
      Promise.resolve({ exitCode: 0, stdout: printed.get(`${base} ${name}`) ?? "", stderr: "" });
    return [...await resolve(ask, host, KNOWN[system])];
  };
  assertEquals(await addresses("both"), [[4, "192.0.2.1"], [6, "2001:db8::1"]]);
  assertEquals(await addresses("old"), [[4, "192.0.2.2"]]);
  for (const system of ["linux", "macos"] as const) {
    assertEquals(await addresses("192.0.2.3", system), [[4, "192.0.2.3"]]);
    assertEquals(await addresses("2001:db8::3", system), [[6, "2001:db8::3"]]);
    assertEquals(await addresses("localhost", system), [[4, "127.0.0.1"]]);
    await assertRejects(() => addresses("no.example", system), FishnetError, "address");
  }
  await assertRejects(() => addresses("both", "macos"), FishnetError, "give its address");
});

Deno.test("which addresses are this machine's own, each system is asked", async () => {
  const printed: Readonly<Record<string, string>> = {
    "ip -4 route get 192.0.2.1":
      "local 192.0.2.1 dev lo src 192.0.2.1 uid 0 \n    cache <local> \n",
    "ip -4 route get 192.0.2.9": "192.0.2.9 dev eth0 src 192.0.2.1 uid 0 \n    cache \n",
    ifconfig: "en0: flags=8863<UP,BROADCAST,RUNNING> mtu 1500\n\tether 00:00:5e:00:53:01\n" +
      "\tinet 192.0.2.1 netmask 0xffffff00 broadcast 192.0.2.255\n",
  };
  const ask = (words: readonly string[]) =>
    Promise.resolve({ exitCode: 0, stdout: printed[words.join(" ")] ?? "", stderr: "" });
  for (const { isHere } of [linux.trying, macos.trying]) {
    for (const address of ["127.0.0.1", "192.0.2.1"]) assert(await isHere(ask, 4, address));
    for (const address of ["::1", "::"]) assert(await isHere(ask, 6, address));
    assert(!await isHere(ask, 4, "192.0.2.9"));
    assert(!await isHere(ask, 6, "2001:db8::1"));
  }
});
