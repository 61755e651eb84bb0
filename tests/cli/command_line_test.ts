/** The command line: what it accepts, and what it says of the rest. */
import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import fc from "fast-check";
import { type Command, parseCommandLine } from "../../src/cli/command_line.ts";
import { COMMANDS, OPTIONS } from "../../src/cli/options.ts";
import { FishnetError } from "../../src/errors.ts";

const LINUX = { user: "agent_runner", os: "linux" };
const parse = (...args: string[]) => parseCommandLine(args, LINUX);

function ofKind<K extends Command["kind"]>(kind: K, command: Command) {
  if (command.kind !== kind) throw new Error(`${command.kind} is not ${kind}`);
  return command as Extract<Command, { kind: K }>;
}

function message(args: readonly string[], surroundings = LINUX): string {
  return assertThrows(() => parseCommandLine(args, surroundings), FishnetError).message;
}

Deno.test("enable without options is a dry-run for $USER, with a backend yet to be chosen", () => {
  assertEquals(parse("firewall", "enable"), {
    kind: "enable",
    accounts: ["agent_runner"],
    accountsGiven: false,
    apply: false,
    system: "linux",
    backend: undefined,
    json: false,
    explain: false,
    onlyPorts: [],
    persist: false,
    sessions: false,
    log: false,
  });
});

Deno.test("--apply-system is --apply", () => {
  for (const flag of ["--apply", "--apply-system"]) {
    assert(ofKind("disable", parse("firewall", "disable", flag)).apply);
  }
});

Deno.test("several accounts and ports are taken in one call, each once", () => {
  const command = ofKind(
    "enable",
    parse(
      ...["firewall", "enable", "--agent-user", "b", "--agent-user=a", "--agent-user", "b"],
      ...["--only-port", "8080", "--only-port", "3777", "--only-port=3777"],
    ),
  );
  assertEquals(command.accounts, ["b", "a"]);
  assertEquals(command.onlyPorts, [3777, 8080]);
});

Deno.test("an unknown word names the nearest known one", () => {
  const cases = [
    [["firewal"], "unknown command 'firewal': did you mean 'firewall'?"],
    [["firewall", "enabel"], "unknown subcommand 'enabel': did you mean 'enable'?"],
    [["firewall", "enable", "--aply"], "unknown option '--aply': did you mean '--apply'?"],
    [
      ["firewall", "enable", "--agent-usr", "x"],
      "unknown option '--agent-usr': did you mean '--agent-user'?",
    ],
    [
      ["firewall", "enable", "--backend", "nftable"],
      "unknown value for --backend 'nftable': did you mean 'nftables'?",
    ],
    [["completions", "bsh"], "unknown shell 'bsh': did you mean 'bash'?"],
    [["version"], "unknown command 'version': did you mean '--version'?"],
    [["help", "firewall", "enabel"], "unknown topic 'enabel': did you mean 'enable'?"],
    [
      ["firewall", "enable", "--user", "x"],
      "unknown option '--user': did you mean '--agent-user'?",
    ],
  ] as const;
  for (const [args, expected] of cases) assertEquals(message(args), expected);
});

Deno.test("a subcommand without 'firewall' names the whole command", () => {
  for (const name of Object.keys(COMMANDS)) {
    assertEquals(
      message([name, "--agent-user", "x"]),
      `unknown command '${name}': did you mean 'fishnet firewall ${name}'?`,
    );
  }
  assertEquals(
    message(["statsu"]),
    "unknown command 'statsu': did you mean 'fishnet firewall status'?",
  );
});

Deno.test("where no known word is near, none is named", () => {
  const cases = [
    [["list"], "unknown command 'list' (see fishnet --help)"],
    [["firewall", "list"], "unknown subcommand 'list' (see fishnet firewall --help)"],
    [["--verbose"], "unknown command '--verbose' (see fishnet --help)"],
    [["x"], "unknown command 'x' (see fishnet --help)"],
    [[""], "unknown command '' (see fishnet --help)"],
    [["help", "me"], "unknown topic 'me' (see fishnet --help)"],
    ...["--verbose", "--quiet", "-v", "--", "-"].map((option) =>
      [
        ["firewall", "status", option],
        option === "--"
          ? "unexpected argument '--'"
          : `unknown option '${option}' (see fishnet firewall status --help)`,
      ] as const
    ),
    [
      ["firewall", "enable", "--os", "windows"],
      "unknown value for --os 'windows' (one of macos, linux)",
    ],
    [["completions", "powershell"], "unknown shell 'powershell' (one of bash, zsh, fish)"],
  ] as const;
  for (const [args, expected] of cases) assertEquals(message(args), expected);
});

Deno.test("an option is refused on a command that does not have it", () => {
  assertEquals(
    message(["firewall", "disable", "--persist"]).startsWith("unknown option '--persist'"),
    true,
  );
  assertEquals(
    message(["firewall", "status", "--apply"]).startsWith("unknown option '--apply'"),
    true,
  );
});

Deno.test("what the parser could only guess at is refused", () => {
  const cases = [
    [["firewall", "enable", "--agent-user"], "--agent-user needs a value"],
    [["firewall", "enable", "--agent-user", "--apply"], "--agent-user needs a value"],
    [["firewall", "enable", "--apply=false"], "--apply takes no value"],
    [
      ["firewall", "enable", "agent"],
      "unexpected argument 'agent': an account is named by --agent-user",
    ],
    [["firewall", "enable", "--", "x"], "unexpected argument '--'"],
    [
      ["firewall", "enable", "--backend", "iptables", "--backend", "nftables"],
      "--backend is given more than once",
    ],
    [["firewall", "enable", "--sessions"], "--sessions needs --persist: give both"],
    [
      ["firewall", "enable", "--persist", "--sessions", "--os", "macos"],
      "--sessions is for Linux with systemd: leave it out",
    ],
    [
      ["firewall", "enable", "--os", "macos", "--apply"],
      "--os only shows the plan for another system: leave out --apply",
    ],
    [
      ["firewall", "enable", "--os", "macos", "--backend", "nftables"],
      "--backend is for Linux; macOS has pf alone",
    ],
  ] as const;
  for (const [args, expected] of cases) assertEquals(message(args), expected);
});

Deno.test("an empty name is a name of length 0, not a missing one", () => {
  for (const args of [["--agent-user", ""], ["--agent-user="]]) {
    assertEquals(
      message(["firewall", "enable", ...args]),
      "invalid unix username '': must be 1-32 characters",
    );
  }
});

Deno.test("without the flag and without $USER, the account is asked for", () => {
  for (const user of [undefined, ""]) {
    for (const subcommand of ["enable", "disable", "verify"]) {
      assertEquals(
        message(["firewall", subcommand], { ...LINUX, user: user! }),
        "agent user is required (--agent-user)",
      );
    }
  }
});

Deno.test("status without the flag is for every account, whatever $USER is", () => {
  assertEquals(parse("firewall", "status"), {
    kind: "status",
    accounts: [],
    accountsGiven: false,
    system: "linux",
    json: false,
    explain: false,
  });
});

Deno.test("an account that is named is told from $USER, the same name or another", () => {
  for (const subcommand of ["enable", "disable", "verify"] as const) {
    for (const [args, given] of [[[], false], [["--agent-user", "agent_runner"], true]] as const) {
      const command = ofKind(subcommand, parse("firewall", subcommand, ...args));
      assertEquals([command.accounts, command.accountsGiven], [["agent_runner"], given]);
    }
  }
});

Deno.test("--explain is taken by enable, disable and status, with --apply too", () => {
  for (const args of [["enable"], ["enable", "--apply"], ["disable", "--apply"], ["status"]]) {
    const command = parse("firewall", ...args, "--explain");
    assert("explain" in command && command.explain, args.join(" "));
  }
});

Deno.test("log looks back an hour, or as long as it is told to, or goes on from now", () => {
  const log = (...args: string[]) => ofKind("log", parse("firewall", "log", ...args));
  assertEquals(log(), {
    kind: "log",
    accounts: [],
    accountsGiven: false,
    system: "linux",
    json: false,
    since: 3600,
    follow: false,
    summary: false,
  });
  for (
    const [text, seconds] of [["30s", 30], ["10m", 600], ["2h", 7200], ["1d", 86_400]] as const
  ) {
    assertEquals(log("--since", text).since, seconds);
  }
  assertEquals([log("--follow").since, log("--follow", "--since=1m").since], [undefined, 60]);
  assert(log("--summary", "--json").summary);
  for (const since of ["", "10", "m", "0m", "-1m", "1.5h", "10 m", "1w", "1e3s", "999999d"]) {
    assertEquals(
      message(["firewall", "log", `--since=${since}`]),
      `invalid duration '${since}': must be as in 30s, 10m, 2h, 1d`,
    );
  }
  assertEquals(
    message(["firewall", "log", "--follow", "--summary"]),
    "--summary counts what is recorded, --follow has no end: give one",
  );
});

Deno.test("what only Linux's audit can record is refused on macOS, in one line", () => {
  const mac = { ...LINUX, os: "darwin" };
  assertEquals(
    message(["firewall", "log"], mac),
    "log is for Linux, whose audit records what an account tries",
  );
  for (const [args, on] of [[[], mac], [["--os", "macos"], LINUX]] as const) {
    assertEquals(
      message(["firewall", "enable", "--log", ...args], on),
      "--log is for Linux, whose audit records it: leave it out",
    );
  }
});

Deno.test("$USER is checked as the flag is, and root is refused under sudo", () => {
  assertEquals(
    message(["firewall", "enable"], { ...LINUX, user: "1user" }),
    "invalid unix username '1user': must start with a letter or underscore",
  );
  const root = message(["firewall", "enable"], { ...LINUX, user: "root" });
  assert(root.includes("--agent-user"), root);
});

Deno.test("any other system is refused, but shows help", () => {
  for (const os of ["windows", "freebsd", "solaris"]) {
    for (const subcommand of Object.keys(COMMANDS)) {
      assertEquals(
        message(["firewall", subcommand, "--agent-user", "a"], { ...LINUX, os }),
        "firewall command is not supported on this OS",
      );
    }
    assertEquals(parseCommandLine(["--help"], { ...LINUX, os }).kind, "help");
  }
});

Deno.test("--os shows the plan for another system on any system", () => {
  for (const os of ["windows", "darwin", "linux"]) {
    const command = parseCommandLine(["firewall", "enable", "--os", "macos"], { ...LINUX, os });
    assertEquals(ofKind("enable", command).system, "macos");
  }
});

Deno.test("a port is a number from 1 to 65535, and at most 15 of them are given", () => {
  for (const port of ["0", "65536", "-1", "1e3", "0x50", " 80", "http", "", "80.0"]) {
    assertEquals(
      message(["firewall", "enable", `--only-port=${port}`]),
      `invalid port '${port}': must be a number from 1 to 65535`,
    );
  }
  const sixteen = Array.from({ length: 16 }, (_, i) => `--only-port=${i + 1}`);
  assertEquals(message(["firewall", "enable", ...sixteen]), "--only-port takes at most 15 ports");
});

Deno.test("verify takes a target and a proxy, and refuses what is neither", () => {
  const command = ofKind("verify", parse("firewall", "verify", "--target", "[2001:db8::9]:443"));
  assertEquals(command.target, { host: "2001:db8::9", port: 443 });
  assertEquals(command.proxy.href, "http://127.0.0.1:3777/health");
  for (
    const target of [
      "203.0.113.9",
      "203.0.113.9:0x",
      "a b:1",
      "h:70000",
      "h:1/x",
      "u@h:1",
      "999.1.1.1:1",
      "1.2.3:1",
      "h:0",
    ]
  ) {
    assert(message(["firewall", "verify", `--target=${target}`]).startsWith("invalid target"));
  }
  assert(message(["firewall", "verify", "--proxy", "https://x"]).startsWith("invalid proxy"));
  const withPassword = message([
    "firewall",
    "verify",
    "--proxy",
    "http://u:secret@127.0.0.1:3777/",
  ]);
  assertMatch(withPassword, /^invalid proxy: leave (?!.*secret)/);
});

Deno.test("--help is there at every level, wherever it stands", () => {
  assertEquals(parse("--help"), { kind: "help", topic: "fishnet" });
  assertEquals(parse("firewall", "-h"), { kind: "help", topic: "firewall" });
  assertEquals(parse("completions", "--help"), { kind: "help", topic: "completions" });
  assertEquals(parse("completions", "help"), { kind: "help", topic: "completions" });
  for (const topic of Object.keys(COMMANDS)) {
    const command = parse("firewall", topic, "--agent-user", "1bad", "--help");
    assertEquals(command as unknown, { kind: "help", topic });
  }
});

Deno.test("help is shown for nothing at all, and for the word 'help'", () => {
  const cases = [
    [[], "fishnet"],
    [["help"], "fishnet"],
    [["help", "--help"], "fishnet"],
    [["firewall"], "firewall"],
    [["firewall", "help"], "firewall"],
    [["help", "firewall"], "firewall"],
    [["help", "firewall", "enable"], "enable"],
    [["firewall", "help", "enable"], "enable"],
    [["help", "enable"], "enable"],
    [["help", "completions"], "completions"],
  ] as const;
  for (const [args, topic] of cases) assertEquals(parse(...args), { kind: "help", topic });
  assertEquals(message(["help", "enable", "x"]), "unexpected argument 'x'");
});

Deno.test("any argument vector is a command or a clear refusal", () => {
  const word = fc.oneof(
    fc.constantFrom("firewall", "completions", "help", "--", "-", "-h", "__proto__", "constructor"),
    fc.constantFrom(...Object.keys(COMMANDS), ...Object.keys(OPTIONS).map((name) => `--${name}`)),
    fc.string(),
    fc.string({ unit: "binary" }),
    fc.string().map((text) => `--agent-user=${text}`),
  );
  fc.assert(
    fc.property(fc.array(word, { maxLength: 8 }), fc.option(fc.string()), (args, user) => {
      try {
        return parseCommandLine(args, { user: user ?? undefined, os: "linux" }).kind !== undefined;
      } catch (error) {
        return error instanceof FishnetError && !error.message.includes("undefined");
      }
    }),
    { numRuns: 10_000 },
  );
});
