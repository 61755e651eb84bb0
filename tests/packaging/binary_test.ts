/** The compiled program: what it may do, whatever it is told, and that it is built the same twice. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { compileArguments, HOST, TARGETS } from "../../packaging/compile.ts";
import { must, run } from "../support/process.ts";
import { binary, fishnet, packagingTest, ROOT, temporaryFolder } from "./support.ts";

/** What could move a program made with Deno to do more, were it not compiled as it is. */
const HOSTILE_ENVIRONMENTS: readonly Readonly<Record<string, string>>[] = [
  { DENO_FLAGS: "--allow-all", DENO_OPTIONS: "--allow-all", DENO_ARGS: "--allow-all" },
  { DENO_DIR: "/var/empty", DENO_NO_PROMPT: "0", DENO_PERMISSIONS: "all" },
  { DENO_V8_FLAGS: "--allow-natives-syntax --expose-gc", V8_FLAGS: "--expose-gc" },
  { NODE_OPTIONS: "--require=/tmp/x.js --inspect=127.0.0.1:9229", NODE_PATH: "/tmp" },
  { NODE_CHANNEL_FD: "3", NODE_UNIQUE_ID: "1", NODE_V8_COVERAGE: "/tmp/coverage" },
  { OTEL_DENO: "true", OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:9" },
  { DENO_SERVE_ADDRESS: "tcp:127.0.0.1:9", DENO_INSPECT: "127.0.0.1:9229" },
  { DENO_CACHE_LSC_ENDPOINT: "http://127.0.0.1:9", NODE_EXTRA_CA_CERTS: "/etc/passwd" },
  { DENO_AUDIT_PERMISSIONS: "/tmp/audit", DENO_COVERAGE_DIR: "/tmp/coverage" },
  { HTTP_PROXY: "http://127.0.0.1:9", HTTPS_PROXY: "http://127.0.0.1:9" },
];

const HOSTILE_ARGUMENTS: readonly (readonly string[])[] = [
  ["--allow-all", "firewall", "enable", "--agent-user", "a"],
  ["-A", "firewall", "enable", "--agent-user", "a"],
  ["firewall", "enable", "--agent-user", "a", "--allow-all"],
  ["firewall", "enable", "--agent-user", "a", "--v8-flags=--expose-gc"],
  ["firewall", "enable", "--agent-user", "a", "--", "--allow-read"],
  ["--v8-flags=--prof"],
  ["--inspect=127.0.0.1:9229"],
  ["--preload", "/tmp/x.js"],
  ["run", "--allow-all", "/tmp/x.js"],
  ["eval", "Deno.readTextFileSync('/etc/passwd')"],
];

/** Tries, one after the other, everything that the program must not be able to do. */
const PROBE = `
const attempts = {
  read: () => Deno.readTextFileSync("/etc/hostname"),
  write: () => Deno.writeTextFileSync("/dev/null", ""),
  connect: () => Deno.connect({ port: 9 }),
  listen: () => Deno.listen({ port: 0 }).close(),
  unix: () => Deno.listen({ transport: "unix", path: "/tmp/fishnet-probe.sock" }).close(),
  fetch: () => fetch("http://127.0.0.1:9/"),
  run: () => new Deno.Command("true").outputSync(),
  path: () => new Deno.Command("/bin/true").outputSync(),
  relative: () => new Deno.Command("./sudo").outputSync(),
  shell: () => new Deno.Command("sh", { args: ["-c", "sudo true"] }).outputSync(),
  env: () => Deno.env.get("HOME"),
  allEnv: () => Deno.env.toObject(),
  sys: () => Deno.hostname(),
  ffi: () => Deno.dlopen("/lib/x86_64-linux-gnu/libc.so.6", {}),
  import: () => import("/etc/hostname" + ""),
  remote: () => import("http://127.0.0.1:9/nothing.js" + ""),
  node: async () => (await import("node:fs")).readFileSync("/etc/hostname"),
  child: async () => {
    const { error } = (await import("node:child_process")).spawnSync("true");
    if (error) throw error;
  },
};
const results = { user: Deno.env.get("USER") ?? null };
for (const [name, attempt] of Object.entries(attempts)) {
  try {
    await attempt();
    results[name] = "done";
  } catch (error) {
    results[name] = error.name + (error.code ? " " + error.code : "") + ": " + error.message;
  }
}
for (const name of ["read", "write", "net", "env", "sys", "ffi", "run", "import"]) {
  results["may " + name] = Deno.permissions.querySync({ name }).state;
}
console.log(JSON.stringify({ ...results, args: Deno.args }));
`;

packagingTest(
  "what is compiled as the program is can do nothing else, whatever its arguments and environment",
  { compiler: true },
  async (t) => {
    await using folder = await temporaryFolder();
    await Deno.writeTextFile(`${folder.path}/probe.js`, PROBE);
    const output = `${folder.path}/probe`;
    await must(Deno.execPath(), ...compileArguments(`${folder.path}/probe.js`, output));

    await t.step("the control, with every permission, does it", async () => {
      const { stdout } = await run(
        [Deno.execPath(), "run", "-A", "--no-lock", "--no-config", `${folder.path}/probe.js`],
      );
      const results = JSON.parse(stdout);
      for (const name of ["read", "write", "listen", "run", "shell", "env", "sys", "node"]) {
        assertEquals(results[name], "done", name);
      }
    });
    for (const env of [{}, ...HOSTILE_ENVIRONMENTS]) {
      await t.step(`with ${Object.keys(env).join(", ") || "its own environment"}`, async () => {
        const { stdout, stderr } = await run([output], { env: { USER: "a", ...env } });
        assertRefused(JSON.parse(stdout || `"${stderr}"`));
      });
    }
    for (const args of HOSTILE_ARGUMENTS) {
      await t.step(`with ${args.join(" ")}`, async () => {
        const { stdout } = await run([output, ...args]);
        const results = JSON.parse(stdout);
        assertRefused(results);
        assertEquals(results.args, args, "Deno itself takes none of them");
      });
    }
  },
);

function assertRefused(results: Record<string, unknown>): void {
  for (const [name, result] of Object.entries(results)) {
    if (name === "user" || name === "args") continue;
    if (name === "may env" || name === "may run") {
      assertEquals(result, "prompt", `${name}: only in part`);
    } else if (name === "may import") assertEquals(result, "denied");
    else if (name.startsWith("may ")) assertMatch(String(result), /^(prompt|denied)$/, name);
    else if (name === "import" || name === "remote") assertMatch(String(result), /Error/, name);
    else assertMatch(String(result), /^(NotCapable|Error EPERM|Error ERR_ACCESS_DENIED)/, name);
  }
}

packagingTest(
  "a dry-run opens no socket, starts no program and touches no file but its own and its libraries",
  { binary: true, tools: ["strace"] },
  async () => {
    await using folder = await temporaryFolder();
    const program = await binary();
    const temporary = `${folder.path}/tmp`;
    await Deno.mkdir(temporary);
    for (const env of [{}, ...HOSTILE_ENVIRONMENTS]) {
      const trace = `${folder.path}/trace`;
      const { code, stdout, stderr } = await run(
        [
          ...["strace", "-f", "-o", trace, "-e", "trace=network,process,%file"],
          ...[program, "firewall", "enable", "--agent-user", "a"],
        ],
        { env: { TMPDIR: temporary, ...env } },
      );
      assertEquals(code, 0, stderr);
      assertStringIncludes(stdout, "Firewall enable: dry-run");
      const calls = (await Deno.readTextFile(trace)).split("\n").map((line) =>
        line.replace(/^\d+ +/, "")
      );
      assertEquals(calls.filter((call) => /^(socket|connect|bind|sendto)\(/.test(call)), []);
      assertEquals(calls.filter((call) => call.startsWith("exec")).length, 1, "itself");
      assertEquals(
        calls.filter((call) => /O_(WRONLY|RDWR|CREAT)|^(rename|mkdir|unlink)/.test(call)),
        [],
      );
      const read = calls.filter((call) => call.startsWith("open") && !call.includes("ENOENT"))
        .map((call) => call.split('"')[1]!)
        .filter((path) =>
          !/^\/(lib|usr\/lib|proc|sys|dev)\/|^\/etc\/(ld\.so\.cache|localtime)$/.test(path)
        )
        .filter((path) => !path.startsWith("/usr/share/zoneinfo"));
      assertEquals(read.filter((path) => path !== program), []);
      assertEquals([...Deno.readDirSync(temporary)], [], "nothing is left behind");
    }
  },
);

packagingTest("nothing is embedded that the program does not use", { binary: true }, async () => {
  // The names of the embedded files stand behind the runtime, in JSON.
  const bytes = await must("tail", "-c", "2000000", await binary());
  const names = [...bytes.matchAll(/"File":\{"n":"([^"]+)"/g)].map((match) => match[1]!);
  assert(names.length > 2, "the names are found");
  for (const name of names) assertMatch(name, /^(main|[a-z_]+-[A-Z0-9]{8})\.js$/);
  for (const unused of ["/fast-check/", "/deno-std/assert", "tests/support"]) {
    assert(!bytes.includes(unused), unused);
  }
});

packagingTest(
  "two builds of the same sources, in two places and at two times, are the same bytes",
  { compiler: true },
  async () => {
    await using folder = await temporaryFolder();
    const digests = [];
    for (const place of ["one", "another/deeper"]) {
      const sources = `${folder.path}/${place}`;
      await must("mkdir", "-p", sources);
      for (const name of ["main.ts", "src", "deno.json", "deno.lock", "packaging"]) {
        await must("cp", "-R", `${ROOT}${name}`, sources);
      }
      await must(Deno.execPath(), "task", "--config", `${sources}/deno.json`, "compile");
      const binary = `${sources}/dist/fishnet-${TARGETS[HOST]}`;
      digests.push((await must("sha256sum", binary)).split(" ")[0]);
    }
    assertEquals(digests[0], digests[1]);
  },
);

packagingTest(
  "a binary that does not start is an error of the task that made it",
  { compiler: true },
  async () => {
    await using folder = await temporaryFolder();
    for (const name of ["main.ts", "src", "deno.json", "deno.lock", "packaging"]) {
      await must("cp", "-R", `${ROOT}${name}`, folder.path);
    }
    // Deno appends the program to whatever it is told is its runtime.
    const { code, stderr } = await run(
      [Deno.execPath(), "task", "--config", `${folder.path}/deno.json`, "compile"],
      { env: { DENORT_BIN: "/bin/true" } },
    );
    assertEquals(code, 3);
    assertStringIncludes(stderr, `/dist/fishnet-${TARGETS[HOST]} does not run`);
  },
);

packagingTest(
  "the compiled program says the same as its sources do",
  { binary: true },
  async (t) => {
    for (
      const args of [
        ["--version"],
        ["--help"],
        ["completions", "bash"],
        ["firewall", "enable", "--help"],
        ["firewall", "enable", "--agent-user", "agent_runner", "--explain"],
        ["firewall", "enable", "--agent-user", "agent_runner", "--os", "macos"],
        ["firewall", "disable", "--agent-user", "agent_runner", "--backend", "nftables", "--json"],
        ["firewall", "enable", "--agent-user", "bad-user!"],
        ["firewall", "enable", "--agent-user", "root"],
      ]
    ) {
      await t.step(args.join(" "), async () => {
        assertEquals(await run([await binary(), ...args]), await fishnet(...args));
      });
    }
  },
);
