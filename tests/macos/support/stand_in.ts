/**
 * A stand-in for a Mac, where there is none: this machine's own files under a
 * layer of memory, which only the test's processes see (mount namespace, overlay,
 * chroot), with a Mac's pf.conf and models of pfctl, launchctl and BSD's sed.
 * Real sudo, real shells, real files, real accounts; but nothing filters packets, and
 * what Apple's tools really say only a Mac can tell (`tests/macos/real_test.ts`).
 *
 * @module
 */
import type { AccountStatus, StatusReport } from "../../../src/lock/report.ts";
import { linesOf, must, type Result, run } from "../../support/process.ts";
import { type Options, Program, type Response } from "./program.ts";
import { STATE, STATE_SCRIPT } from "./state.ts";

/** What macOS ships as /etc/pf.conf, without its comments. */
export const STOCK_PF_CONF = `#
# com.apple anchor point
#
scrub-anchor "com.apple/*"
nat-anchor "com.apple/*"
rdr-anchor "com.apple/*"
dummynet-anchor "com.apple/*"
anchor "com.apple/*"
load anchor "com.apple" from "/etc/pf.anchors/com.apple"
`;

const TOOLS = {
  "pfctl.sh": "pfctl",
  "pfctl.py": "pfctl.py",
  "launchctl.sh": "launchctl",
  "launchctl.py": "launchctl.py",
  "sleep.sh": "sleep",
};
const HERE = new URL(".", import.meta.url).pathname;

/** The account names that every stand-in has. */
export const AGENTS = ["agent_a", "agent-b"] as const;

/** One more, named as macOS names the accounts of its services. */
export const SERVICE = "_agent";

/** What does not hold of a lock, and why. */
export const faults = ({ pieces, rebootFaults = [] }: AccountStatus): string[] => [
  ...pieces.filter(({ present }) => !present).map(({ name, detail }) =>
    `${name}: ${detail ?? "missing"}`
  ),
  ...rebootFaults,
];

/** Why there can be no stand-in here; undefined where there can. */
export function whyNoStandIn(): string | undefined {
  if (Deno.build.os !== "linux") return "needs Linux's mount namespaces";
  if (Deno.uid() !== 0) return "needs root, to mount";
  const script =
    "command -v unshare nsenter sudo /usr/bin/python3 && grep -qw overlay /proc/filesystems";
  const { success } = new Deno.Command("sh", { args: ["-c", script] }).outputSync();
  return success ? undefined : "needs unshare, nsenter, sudo, python3 and overlayfs";
}

/** Defines a test on a stand-in of its own, or counts it as skipped and says why. */
export function standInTest(
  name: string,
  body: (mac: StandIn, t: Deno.TestContext) => Promise<void>,
): void {
  const why = whyNoStandIn();
  Deno.test({
    name: why === undefined ? name : `${name} (skipped: ${why})`,
    ignore: why !== undefined,
    async fn(t) {
      await using mac = await StandIn.create();
      await body(mac, t);
    },
  });
}

/** A machine to enable and disable on. */
export class StandIn implements AsyncDisposable {
  readonly #holder: Deno.ChildProcess;
  readonly #lines: ReadableStreamDefaultReader<string>;
  readonly #directory: string;
  readonly #program: Program;

  private constructor(
    holder: Deno.ChildProcess,
    lines: ReadableStreamDefaultReader<string>,
    directory: string,
  ) {
    this.#holder = holder;
    this.#lines = lines;
    this.#directory = directory;
    this.#program = new Program(this.#command([])); // it starts while the rest is made
  }

  /** Makes the machine as it is after a start of macOS: pf.conf loaded, pf off. */
  static async create(): Promise<StandIn> {
    const directory = await Deno.makeTempDir({ prefix: "fishnet-mac-" });
    const script = `set -e
      mount -t tmpfs none ${directory}
      cd ${directory}; mkdir root upper work
      mount -t overlay none -o lowerdir=/,upperdir=upper,workdir=work root
      for d in dev proc; do mount --rbind /$d root/$d; done
      mkdir -p root/etc/pf.anchors root/var/db root/Library/LaunchDaemons root${STATE}
      ${
      Object.entries(TOOLS).map(([from, to]) =>
        `cp ${HERE}${from} root/usr/sbin/${to}; chmod 755 root/usr/sbin/${to}`
      ).join("\n")
    }
      mv root/usr/bin/sed root/usr/bin/sed.gnu
      cp ${HERE}sed.py root/usr/bin/sed; chmod 755 root/usr/bin/sed
      echo ready; exec cat`;
    const holder = new Deno.Command("unshare", {
      args: ["--mount", "--propagation", "private", "sh", "-c", script],
      stdin: "piped",
      stdout: "piped",
    }).spawn();
    const lines = linesOf(holder.stdout);
    const { value } = await lines.read();
    if (value !== "ready") throw new Error("the stand-in could not be made");
    const mac = new StandIn(holder, lines, directory);
    await mac.#settle().catch(async (error) => {
      await mac[Symbol.asyncDispose]();
      throw error;
    });
    return mac;
  }

  /** Accounts, and what a Mac has in /etc. */
  async #settle(): Promise<void> {
    // Not by useradd: the layer below shows the locks of whoever runs it on this machine.
    const entries = [...AGENTS, SERVICE].map((agent, i) =>
      `${agent}:x:${64001 + i}:64001::/nonexistent:/bin/sh\n`
    );
    await this.write("/etc/passwd", `${await this.read("/etc/passwd")}${entries.join("")}`);
    await this.write("/etc/pf.conf", STOCK_PF_CONF);
    await this.write("/etc/pf.anchors/com.apple", "");
    await this.must("pfctl", "-f", "/etc/pf.conf");
  }

  #command(command: readonly string[]): string[] {
    const inside = [
      "nsenter",
      "-t",
      `${this.#holder.pid}`,
      "-m",
      "chroot",
      `${this.#directory}/root`,
    ];
    return [...inside, ...command];
  }

  /** Runs a command on the machine, as root. */
  exec(...command: readonly string[]): Promise<Result> {
    return run(this.#command(command));
  }

  /** Runs a command that has to succeed. */
  async must(...command: readonly string[]): Promise<string> {
    return await must(...this.#command(command));
  }

  /** Feeds text to a command's standard input. */
  async feed(input: string, ...command: readonly string[]): Promise<Result> {
    return await run(this.#command(command), { input });
  }

  /** Starts a command; the caller ends it. */
  start(...command: readonly string[]): Deno.ChildProcess {
    const [program, ...args] = this.#command(command);
    return new Deno.Command(program!, { args, stdin: "piped", stdout: "piped", stderr: "null" })
      .spawn();
  }

  /** Writes a file. */
  async write(path: string, text: string): Promise<void> {
    const { code } = await this.feed(text, "dd", `of=${path}`, "status=none");
    if (code !== 0) throw new Error(`cannot write ${path}`);
  }

  /** A file's text; undefined where there is none. */
  async read(path: string): Promise<string | undefined> {
    const { code, stdout } = await this.exec("cat", path);
    return code === 0 ? stdout : undefined;
  }

  /** Removes an account. */
  async remove(account: string): Promise<void> {
    await this.must("sed", "-i", "", `/^${account}:/d`, "/etc/passwd");
  }

  /** Carries out a plan, up to a step. */
  apply(action: "enable" | "disable", options: Options, stopBefore?: number): Promise<Response> {
    return this.#program.run({
      action,
      ...options,
      ...(stopBefore === undefined ? {} : { stopBefore }),
    });
  }

  /** Carries out a plan that has to succeed; the answer is `changed N`, the number of commands. */
  async applied(action: "enable" | "disable", options: Options): Promise<string> {
    const { code, text } = await this.apply(action, options);
    if (code !== 0) throw new Error(`${action} failed: ${text}`);
    return text;
  }

  /** What the program says of accounts; of none, of all that it finds. */
  async status(...accounts: readonly string[]): Promise<readonly AccountStatus[]> {
    return (await this.report(...accounts)).accounts;
  }

  /** The same, and what it comes to. */
  async report(...accounts: readonly string[]): Promise<StatusReport> {
    return JSON.parse((await this.#program.run({ action: "status", accounts })).text);
  }

  /** Pastes lines into a shell. */
  async paste(lines: readonly string[], ...shell: readonly string[]): Promise<void> {
    // Without a terminal of its own, an interactive shell would take the test's.
    const command = shell.length === 0 ? ["sh"] : ["setsid", ...shell];
    await this.feed(lines.map((line) => `${line}\n`).join(""), ...command);
  }

  /** Makes each call of a tool fail that contains the text; the empty text ends that. */
  async fail(text: string): Promise<void> {
    await this.write(`${STATE}/fail`, text === "" ? "" : `${text}\n`);
  }

  /** Makes the next loads or lists go wrong in a way that pfctl.py knows. */
  async strike(how: "busy" | "cut" | "lossy", times: number): Promise<void> {
    await this.write(`${STATE}/${how}`, `${times}\n`);
  }

  /** Has another program add a rule right after the next load of the main rules. */
  async sneak(rule: string): Promise<void> {
    await this.write(`${STATE}/sneak`, `${rule}\n`);
  }

  /** Has pf look at no packet of an interface; none ends that. */
  async skip(...devices: readonly string[]): Promise<void> {
    await this.write(`${STATE}/skip`, devices.map((device) => `${device}\n`).join(""));
  }

  /** Waits for what launchd does each minute. */
  async minute(): Promise<void> {
    await this.must("launchctl", "tick");
  }

  /** The calls of the tools since the last time, those that change something alone. */
  async changes(): Promise<string[]> {
    const calls = (await this.read(`${STATE}/calls`) ?? "").trim().split("\n");
    await this.write(`${STATE}/calls`, "");
    return calls.filter((call) => !/-s |^-n|^launchctl print/.test(call));
  }

  /** Somebody else's `pfctl -E`; the answer is its token. */
  async foreignReference(): Promise<string> {
    const { stderr } = await this.exec("pfctl", "-E");
    return /Token : (\d+)/.exec(stderr)![1]!;
  }

  /** A restart: references and anchors are gone, pf is off, pf.conf is loaded, LaunchDaemons run. */
  async reboot(): Promise<void> {
    await this.must(
      "sh",
      "-c",
      `cd ${STATE}; rm -rf enabled tokens anchors main nat dummynet tables jobs leaving`,
    );
    await this.must("pfctl", "-f", "/etc/pf.conf");
    await this.must(
      ...["sh", "-c"],
      `for f in /Library/LaunchDaemons/*.plist; do test ! -e $f || launchctl bootstrap system $f; done`,
    );
  }

  /** What has been written below a folder since the machine was made, as `find -ls` prints it. */
  async written(folder: string): Promise<string> {
    const holder = `${this.#holder.pid}`;
    return await must(
      "nsenter",
      "-t",
      holder,
      "-m",
      "find",
      `${this.#directory}/upper/${folder}`,
      "-ls",
    );
  }

  /** All that a lock may touch, as the tools print it, files with mode and owner. */
  async state(): Promise<string> {
    return await this.must("sh", "-c", STATE_SCRIPT);
  }

  /** Ends the machine; what it held was in memory only. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#program[Symbol.asyncDispose]();
    await this.#holder.stdin.close();
    await this.#holder.status;
    await this.#lines.cancel();
    await Deno.remove(this.#directory);
  }
}
