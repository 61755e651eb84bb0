/**
 * `deno task test`: every test but the groups that have a task of their own, or those groups that are
 * named, as many files side by side as there are cores.
 *
 * What runs side by side must not meet: each run has an /etc, a /run and process ids of its own, so
 * that nobody's account has the uid of another's. What they start is the program as it is compiled,
 * in one file, which `deno bundle` makes once: loading the sources takes longer than a plan.
 *
 * @module
 */

/** Groups of their own: see CONTRIBUTING.md. */
const OTHER_TASKS = ["boot", "kernel", "long", "packaging", "stress"];

const named = (...names: readonly string[]) => names.map((name) => `tests/${name}_test.ts`);

/** The longest first. */
const LONGEST = named(
  ...["linux/verify", "linux/leaks", "linux/side_doors", "linux/routing"],
  ...["hostile", "linux/boot_files"],
);

/** What takes a moment each, and is run together: starting takes longer. */
const SHORT = [
  named(...["refusals", "inspect", "audit", "persist"].map((name) => `linux/${name}`)),
  named(...["real", "report", "rules", "status"].map((name) => `macos/${name}`)),
  named("account", "plan", "session", "sources"),
];

/** What `long` runs besides its own folder: whole files, and the older variant of iptables. */
const LONG = [
  ...named(
    ...["linux/bare_machine", "linux/json", "linux/preflight", "cli/terminal"],
    ...["lock/difference", "macos/failures", "macos/persist"],
  ).map((file) => [file]),
  ...["leaks", "doors", "only_port", "routing", "lock", "verify"].map((name) => [
    `tests/linux/${name}_test.ts`,
    "--filter=legacy",
  ]),
];

/**
 * The kernel's audit, and its word of every process that changes its uid, have no namespace: these
 * come first, and beside them only what has no account of the machine, and makes no connection.
 */
const ALONE = named("linux/hostile_account", "linux/log", "readme");
const mayBeBeside = ([file]: readonly string[]) => /^tests\/macos\//.test(file!);

const DENO = Deno.execPath();
const TEST = [DENO, "test", "--lock=tests/deno.lock", "--no-prompt", "--allow-all", "--no-check"];

/**
 * Gives a command an /etc, a /run and process ids of its own; what it writes there is gone with it.
 *
 * @param etc what it begins with: a copy, since the machine's own may change meanwhile
 */
const laneOn = (etc: string) => [
  ...["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--mount-proc"],
  ...["--kill-child", "sh", "-ec"],
  `mount -t tmpfs lane /mnt
  lay() {
    mkdir "/mnt/$1" "/mnt/$1.work"
    mount -t overlay lane "/$1" -o "lowerdir=$2,upperdir=/mnt/$1,workdir=/mnt/$1.work"
  }
  lay etc "$0"
  lay run /run
  exec "$@"`,
  etc,
];

function filesIn(folder: string): string[] {
  return [...Deno.readDirSync(folder)].sort((a, b) => a.name < b.name ? -1 : 1).flatMap((entry) => {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory) return OTHER_TASKS.includes(entry.name) ? [] : filesIn(path);
    return path.endsWith("_test.ts") ? [path] : [];
  });
}

/** Files that are run together, in the order in which they begin. */
function jobs(groups: readonly string[]): string[][] {
  if (groups.length > 0) {
    return groups.flatMap((group) => [
      ...filesIn(`tests/${group}`).map((file) => [file]),
      ...(group === "long" ? LONG : []),
    ]);
  }
  const elsewhere = [
    ...[...LONGEST, ...SHORT.flat(), ...ALONE],
    ...LONG.filter(({ length }) => length === 1).flat(),
  ];
  const left = filesIn("tests").filter((file) => !elsewhere.includes(file));
  // What makes worlds, or Macs, takes long; of the rest a folder together.
  const isLong = (file: string) => /^tests\/(linux|macos|[^/]+$)/.test(file);
  const folders = Map.groupBy(
    left.filter((file) => !isLong(file)),
    (file) => file.slice(0, file.lastIndexOf("/")),
  );
  return [
    ...[...LONGEST, ...left.filter(isLong)].map((file) => [file]),
    ...SHORT,
    ...folders.values(),
  ];
}

async function output(...[command, ...args]: readonly string[]) {
  const { success, stdout, stderr } = await new Deno.Command(command!, {
    args,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { success, text: text(stdout) + text(stderr) };
}

/** How many were run, as `deno test` counts them at its end. */
const count = { passed: 0, failed: 0, ignored: 0 };
let success = true;

async function test(files: readonly string[], lane: readonly string[]): Promise<void> {
  const begin = performance.now();
  const { success: passed, text } = await output(...lane, ...TEST, ...files);
  const seconds = Math.round((performance.now() - begin) / 1000);
  const total = text.split("\n").findLast((line) => / \d+ passed/.test(line)) ?? "";
  for (const word of ["passed", "failed", "ignored"] as const) {
    count[word] += Number(new RegExp(`(\\d+) ${word}`).exec(total)?.[1] ?? 0);
  }
  success &&= passed;
  print(`${text}${passed ? "" : "FAILED: "}${files.join(" ")}: ${seconds} s\n`);
}

function print(text: string): void {
  Deno.stdout.writeSync(new TextEncoder().encode(text));
}

Deno.chdir(new URL("../", import.meta.url).pathname);
const folder = await Deno.makeTempDir({ prefix: "fishnet-test-" });
try {
  const bundle = ["bundle", "--quiet", "--code-splitting", "--outdir", folder, "main.ts"];
  const { success: bundled, text } = await output(DENO, ...bundle);
  await Deno.chmod(folder, 0o755);
  if (bundled) Deno.env.set("FISHNET_BUNDLE", `${folder}/main.js`);
  else print(`${text}from the sources, then, which takes longer\n`);
  const etc = `${folder}/etc`;
  const lane = laneOn(etc);
  const apart = Deno.build.os === "linux" &&
    (await output("cp", "-a", "/etc", etc)).success && (await output(...lane, "true")).success;
  const queue = jobs(Deno.args);
  const isWhole = Deno.args.length === 0;
  if (isWhole) Deno.env.set("FISHNET_WITHOUT_LEGACY", "1");
  const lanes = apart ? navigator.hardwareConcurrency : 1;
  let areAlone = isWhole;
  const alone = isWhole ? test(ALONE, []).finally(() => areAlone = false) : Promise.resolve();
  const next = async () => {
    if (areAlone) {
      const beside = lanes > 1 ? queue.findIndex(mayBeBeside) : -1;
      if (beside >= 0) return queue.splice(beside, 1)[0];
      await alone;
    }
    return queue.shift();
  };
  const worker = async (_: unknown, i: number) => {
    if (i === 0) await alone;
    for (let files = await next(); files !== undefined; files = await next()) {
      print(`${files[0]}${files.length > 1 ? ` and ${files.length - 1} more` : ""} …\n`);
      await test(files, apart ? lane : []);
    }
  };
  await Promise.all(Array.from({ length: lanes }, worker));
} finally {
  await Deno.remove(folder, { recursive: true });
}
print(`${count.passed} passed, ${count.failed} failed, ${count.ignored} skipped\n`);
Deno.exit(success ? 0 : 1);
