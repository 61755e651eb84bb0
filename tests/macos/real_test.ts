/**
 * The lock on a real Mac, with real accounts and packets: what the other tests
 * of macOS derive, this one sees. It needs macOS, a user who may use sudo without a password, and
 * for the controls an address outside that answers; elsewhere it is counted as ignored.
 *
 * Everything that only a Mac can tell is printed too, for the record.
 */
import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { anchorOf, daemonFileOf, daemonOf, rulesFor, tokenFileOf } from "../../src/macos/pf.ts";
import { must, run } from "../support/process.ts";
import {
  asRoot,
  type Attempt,
  attempt,
  fishnet,
  MacAccount,
  mustAsRoot,
  runAs,
  Running,
  snapshot,
  tokens,
  until,
  type Who,
  whyNoPf,
} from "./support/mac.ts";
import { parsePf, printedForm } from "./support/pf_language.ts";

/** Any of these will do; the first that answers root is taken. The first two serve HTTP too. */
const OUTSIDE = ["1.1.1.1", "1.0.0.1"] as const;
const RESOLVERS = [...OUTSIDE, "8.8.8.8", "9.9.9.9"] as const;
const OUTSIDE_V6 = ["2606:4700:4700::1111", "2001:4860:4860::8888"] as const;
/** A question for the addresses of example.com, as DNS writes it (RFC 1035). */
const DNS_QUESTION = "123401000001000000000000076578616d706c6503636f6d0000010001";

const PORT = 37771;
const OTHER_PORT = 37772;
const AGENTS_PORT = 37773;

/** A lock answers at once; what waits this long was sent. */
const FAST = 2000;

const why = whyNoPf();

Deno.test({
  name: "a real Mac: a locked account reaches this machine only, and disable leaves nothing" +
    (why === undefined ? "" : ` (skipped: ${why})`),
  ignore: why !== undefined,
  fn: onThisMac,
});

async function onThisMac(t: Deno.TestContext): Promise<void> {
  await recordMachine();
  const found = await snapshot();
  await using first = await MacAccount.create(`fnfirst${Deno.pid}`);
  // As macOS names the accounts of services: such an anchor has another name.
  await using second = await MacAccount.create(`_fnsecond${Deno.pid}`);
  const names = [first.name, second.name];
  const [one, two]: Who[] = [{ account: first.name }, { account: second.name }];
  const firewall = async (command: "enable" | "disable", ...args: string[]) => {
    const { code, stdout, stderr } = await fishnet(command, ...args, "--apply");
    assertEquals(code, 0, `${stdout}${stderr}`);
  };
  const enable = (name: string, ...more: string[]) =>
    firewall("enable", "--agent-user", name, ...more);
  const disable = (name: string) => firewall("disable", "--agent-user", name);
  await using _cleanup = {
    async [Symbol.asyncDispose]() {
      await fishnet("disable", ...names.flatMap((name) => ["--agent-user", name]), "--apply");
    },
  };

  await t.step(
    "pfctl refuses the reference page's rules and takes ours, and prints them as status reads them",
    async () => {
      const check = async (rules: readonly string[], ...options: string[]) => {
        const file = await Deno.makeTempFile();
        try {
          await Deno.writeTextFile(file, rules.map((rule) => `${rule}\n`).join(""));
          return await asRoot("pfctl", ...options, "-f", file);
        } finally {
          await Deno.remove(file);
        }
      };
      for (
        const rule of [
          "block drop out quick user USER to any",
          "pass out quick on lo0 user USER to any",
        ]
      ) {
        const { code, stderr } = await check([rule.replace("USER", first.name)], "-n");
        record(rule, stderr);
        assertNotEquals(code, 0, rule);
      }
      const ours = rulesFor("502", [PORT]);
      const { code, stdout, stderr } = await check(ours, "-nv", "-a", anchorOf(first.name));
      record("our rules, as pfctl -nv prints them", stdout + stderr);
      assertEquals(code, 0, stderr);
      const blocks = stdout.split("\n").map((line) => line.trim())
        .filter((line) => line.startsWith("block"));
      assertEquals(blocks, parsePf(ours.map((rule) => `${rule}\n`).join("")).flatMap(printedForm));
    },
  );

  await using _server = await Running.start("runner", "serve", `${PORT}`, `${OTHER_PORT}`);
  const outside = await firstThatAnswers(OUTSIDE, "tcp", "443");
  const outsideUdp = await firstThatAnswers(RESOLVERS, "udp", "53", DNS_QUESTION);
  const outsideV6 = await firstThatAnswers(OUTSIDE_V6, "tcp", "443");
  record(
    "outside",
    `TCP ${outside}, UDP ${outsideUdp}, IPv6 ${outsideV6} (undefined: no control, no verdict)`,
  );
  if (outside === undefined) {
    throw new Error("no control, no verdict: nothing outside answers root");
  }
  const ways: string[][] = [
    ["tcp", outside, "443"],
    ...(outsideUdp === undefined ? [] : [["udp", outsideUdp, "53", DNS_QUESTION]]),
    ...(outsideV6 === undefined ? [] : [["tcp", outsideV6, "443"]]),
  ];
  const local = (port: number) =>
    ["127.0.0.1", "::1"].flatMap((
      host,
    ) => [["tcp", host, `${port}`], ["udp", host, `${port}`, "6869"]]);

  const reaches = async (who: Who, tries: readonly string[][]) => {
    for (const args of tries) {
      const { outcome } = await attempt(who, ...args);
      assertEquals(outcome, "answered", `${nameOf(who)}: ${args.join(" ")}`);
    }
  };
  const isRefused = async (who: Who, tries: readonly string[][]) => {
    for (const args of tries) {
      const got = await attempt(who, ...args);
      record(`${nameOf(who)}, locked: ${args.slice(0, 3).join(" ")}`, describe(got));
      assertNotEquals(got.outcome, "answered", args.join(" "));
      // UDP has no answer to wait for; that the kernel refuses to send at once is for the record.
      if (args[0] === "udp") continue;
      assert(got.outcome.startsWith("failed"), `${args.join(" ")}: ${describe(got)}`);
      assert(got.milliseconds < FAST, `${args.join(" ")}: ${describe(got)}`);
    }
  };

  await t.step("control: before enable, everybody reaches loopback and outside", async () => {
    for (const who of [one!, two!, "runner", "root"] as const) {
      await reaches(who, [...local(PORT), ...ways]);
    }
  });

  await t.step(
    "enable: loopback works over both families, TCP and UDP; outside fails at once; others notice nothing",
    async () => {
      await using answering = await Running.start(one!, "hold", outside, "80");
      const control = await answering.ask();
      await using held = await Running.start(one!, "hold", outside, "80");
      for (const name of names) await enable(name);
      const afterwards = await held.ask();
      record(
        "a connection opened before enable",
        `without a lock: ${control}; locked: ${afterwards}`,
      );
      assert(control?.startsWith("answered"), `no control, no verdict: ${control}`);
      assert(!afterwards?.startsWith("answered"), afterwards);
      for (const name of names) {
        record(
          `the rules of ${name}, as pfctl gives them back`,
          (await asRoot("pfctl", "-a", anchorOf(name), "-s", "rules")).stdout,
        );
      }
      record("the main rules", await mustAsRoot("pfctl", "-s", "rules"));
      record("references", await mustAsRoot("pfctl", "-s", "References"));
      for (const who of [one!, two!]) {
        await reaches(who, local(PORT));
        await isRefused(who, ways);
      }
      for (const who of ["runner", "root"] as const) await reaches(who, [...local(PORT), ...ways]);
      const { code, stdout } = await fishnet(
        "status",
        ...names.flatMap((name) => ["--agent-user", name]),
        "--json",
      );
      record("status", stdout);
      assertEquals(code, 0);
    },
  );

  await t.step(
    "enable again, and two at the same time, change nothing and hold no further reference",
    async () => {
      const before = await snapshot();
      await Promise.all([enable(first.name), enable(first.name)]);
      assertEquals(await snapshot(), before);
    },
  );

  await t.step(
    "for the record: what no rule by user can decide",
    () => recordOpenQuestions(one!, outside),
  );

  await t.step("disable of the first leaves the second locked", async () => {
    await disable(first.name);
    await reaches(one!, ways);
    await isRefused(two!, ways);
    await reaches(two!, local(PORT));
  });

  await t.step("disable of the second: the machine is as it was found", async () => {
    await disable(second.name);
    await reaches(two!, ways);
    assertEquals(await snapshot(), found);
  });

  await t.step("pf that somebody else had turned on stays on, with their reference", async () => {
    const token = /Token : (\d+)/.exec((await asRoot("pfctl", "-E")).stderr)?.[1];
    if (token === undefined) throw new Error("pfctl -E gave no token");
    try {
      const before = await snapshot();
      assert(before["references"]!.includes(token));
      await enable(first.name);
      await isRefused(one!, ways);
      await disable(first.name);
      assertEquals(await snapshot(), before);
      await reaches(one!, ways);
    } finally {
      await mustAsRoot("pfctl", "-X", token);
    }
    assertEquals(await snapshot(), found);
  });

  await t.step(
    "--only-port: on loopback this port alone, and the account's own servers still answer",
    async () => {
      await enable(first.name, "--only-port", `${PORT}`);
      record(
        "the rules with --only-port",
        (await asRoot("pfctl", "-a", anchorOf(first.name), "-s", "rules")).stdout,
      );
      const tcp = (port: number) => local(port).filter(([kind]) => kind === "tcp");
      const udp = (port: number) => local(port).filter(([kind]) => kind === "udp");
      await reaches("runner", local(OTHER_PORT));
      await reaches(one!, tcp(PORT));
      await isRefused(one!, [...tcp(OTHER_PORT), ...udp(PORT), ...ways]);
      await using _agents = await Running.start(one!, "serve", `${AGENTS_PORT}`);
      await reaches("runner", tcp(AGENTS_PORT));
      await enable(first.name);
      await reaches(one!, local(OTHER_PORT));
      await disable(first.name);
      assertEquals(await snapshot(), found);
    },
  );

  await t.step(
    "--persist: the LaunchDaemon puts the lock back, with a reference of its own",
    async () => {
      await enable(first.name, "--persist");
      const anchor = anchorOf(first.name);
      record(
        "the LaunchDaemon",
        await mustAsRoot("launchctl", "print", `system/${daemonOf(first.name)}`),
      );
      assertEquals(
        await mustAsRoot("stat", "-f", "%Sp %u:%g", daemonFileOf(first.name)),
        "-rw-r--r-- 0:0\n",
      );
      await must("plutil", "-lint", daemonFileOf(first.name));
      // It runs once now; what it does must not come after what the test does next.
      await until("the LaunchDaemon has run", async () => {
        const { stdout } = await asRoot("launchctl", "print", `system/${daemonOf(first.name)}`);
        return /last exit code = \d/.test(stdout);
      }).catch((error) => record("the LaunchDaemon", `${error}`));
      // What a restart leaves of the lock: its files, and nothing in pf.
      await mustAsRoot("pfctl", "-a", anchor, "-F", "rules");
      for (const token of await tokens()) {
        if ((await mustAsRoot("cat", tokenFileOf(first.name))).includes(token)) {
          await mustAsRoot("pfctl", "-X", token);
        }
      }
      await reaches(one!, ways);
      await mustAsRoot("launchctl", "kickstart", `system/${daemonOf(first.name)}`);
      await until("the LaunchDaemon has locked the account", async () => {
        const { code } = await fishnet("status", "--agent-user", first.name);
        return code === 0;
      });
      await isRefused(one!, ways);
      await disable(first.name);
      assertNotEquals(
        (await asRoot("launchctl", "print", `system/${daemonOf(first.name)}`)).code,
        0,
      );
      assertEquals(await snapshot(), found);
    },
  );

  await t.step("disable without an enable is no error, and changes nothing", async () => {
    await disable(first.name);
    assertEquals(await snapshot(), found);
  });
}

async function firstThatAnswers(
  hosts: readonly string[],
  kind: string,
  ...more: string[]
): Promise<string | undefined> {
  for (const host of hosts) {
    if ((await attempt("root", kind, host, ...more)).outcome === "answered") return host;
  }
  return undefined;
}

/** What the documentation calls open, or derived: printed, and not asserted. */
async function recordOpenQuestions(agent: Who, outside: string): Promise<void> {
  const commands: readonly (readonly string[])[] = [
    ["ping", "-c", "1", "-t", "3", outside],
    ["ping6", "-c", "1", "ff02::1%lo0"],
    ["dscacheutil", "-q", "host", "-a", "name", "example.com"],
    ["curl", "-sS", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}\n", `https://${outside}/`],
  ];
  for (const command of commands) {
    const { code, stdout, stderr } = await runAs(agent, ...command);
    record(`as the locked agent: ${command.join(" ")}`, `${stdout}${stderr}exit ${code}`);
  }
  const route = (await run(["/sbin/route", "-n", "get", "default"])).stdout;
  const device = /interface: (\S+)/.exec(route)?.[1];
  if (device === undefined) return;
  const own = (await run(["/usr/sbin/ipconfig", "getifaddr", device])).stdout.trim();
  if (own !== "") {
    record(
      `TCP to this Mac's own address ${own}`,
      describe(await attempt(agent, "tcp", own, `${PORT}`)),
    );
  }
  for (const who of ["root", agent] as const) {
    // A router that announces itself; nobody there is no answer either.
    const neighbours = (await run(["/usr/sbin/ndp", "-an"])).stdout;
    const linkLocal = new RegExp(`^(fe80:\\S+%${device}) `, "m").exec(neighbours)?.[1];
    if (linkLocal === undefined) return record("link-local IPv6", "no neighbour, no verdict");
    record(
      `link-local IPv6 TCP to ${linkLocal} as ${nameOf(who)}`,
      describe(await attempt(who, "tcp", linkLocal, "80")),
    );
  }
  const { stdout, stderr, code } = await fishnet(
    ...[
      "verify",
      "--agent-user",
      (agent as { account: string }).account,
      "--target",
      `${outside}:443`,
    ],
  );
  record("fishnet firewall verify", `${stdout}${stderr}exit ${code}`);
}

async function recordMachine(): Promise<void> {
  record("sw_vers", await must("sw_vers"));
  for (const what of ["info", "rules", "nat", "References", "Anchors", "Interfaces"]) {
    const { code, stdout, stderr } = await asRoot("pfctl", "-v", "-s", what);
    record(`pfctl -s ${what}`, `${stdout}${stderr}exit ${code}`);
  }
  const missing = await asRoot("pfctl", "-a", "com.fishnet.nowhere", "-s", "rules");
  record(
    "pfctl -s rules for an anchor that is not there",
    `${missing.stdout}${missing.stderr}exit ${missing.code}`,
  );
  record("/etc/pf.conf", await mustAsRoot("cat", "/etc/pf.conf"));
}

const nameOf = (who: Who) => typeof who === "string" ? who : who.account;
const describe = ({ outcome, milliseconds }: Attempt) => `${outcome} after ${milliseconds} ms`;

function record(what: string, text: string): void {
  const indented = text.trimEnd().split("\n").map((line) => `    ${line}`).join("\n");
  Deno.stdout.writeSync(new TextEncoder().encode(`[record] ${what}:\n${indented}\n`));
}
