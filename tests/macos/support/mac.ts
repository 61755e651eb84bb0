/**
 * A real Mac to test on: its pf as it was found, accounts of the test's own, and
 * programs that run as them. What is changed here is put back.
 *
 * @module
 */
import { linesOf, must, type Result, run } from "../../support/process.ts";
import { program } from "../../support/world.ts";

const PROBE = await Deno.readTextFile(new URL("probe.pl", import.meta.url));

/** Who runs a program: the test's own user, root, or an account. */
export type Who = "runner" | "root" | { readonly account: string };

/** Why the tests with a real pf cannot run here; undefined where they can. */
export function whyNoPf(): string | undefined {
  if (Deno.build.os !== "darwin") return "needs macOS";
  if (Deno.uid() === 0) return "needs a user who may use sudo, not root";
  const may = (...args: string[]) =>
    new Deno.Command("sudo", { args: ["-n", ...args] }).outputSync().success;
  if (!may("true")) return "needs sudo without a password";
  if (!may("pfctl", "-s", "info")) return "needs the right to use pf";
  return undefined;
}

/** Runs a command as root. */
export const asRoot = (...command: readonly string[]): Promise<Result> =>
  run(["sudo", "-n", ...command]);

/** Runs a command as root that has to succeed. */
export const mustAsRoot = (...command: readonly string[]): Promise<string> =>
  must("sudo", "-n", ...command);

function commandAs(who: Who, command: readonly string[]): string[] {
  if (who === "runner") return [...command];
  return ["sudo", "-n", ...(who === "root" ? [] : ["-u", who.account]), ...command];
}

/** Runs a command as somebody. */
export const runAs = (who: Who, ...command: readonly string[]): Promise<Result> =>
  run(commandAs(who, command));

/** Runs the program under test, with the permissions that it ships with. */
export const fishnet = (...args: readonly string[]): Promise<Result> =>
  run([...program(), "firewall", ...args]);

/** What came of a try, and how long it took. */
export interface Attempt {
  /** `answered`, `unanswered`, `closed`, or `failed (…)` with the system's word. */
  readonly outcome: string;
  readonly milliseconds: number;
}

/** Tries one thing as somebody: `tcp HOST PORT`, or `udp HOST PORT HEX`. */
export async function attempt(who: Who, ...args: readonly string[]): Promise<Attempt> {
  // The text, not the file: an account need not be able to read the test's directory.
  const { stdout, stderr } = await runAs(who, "perl", "-e", PROBE, ...args);
  const [, outcome, milliseconds] = /^(.*) (\d+)\n$/.exec(stdout) ?? [];
  if (outcome === undefined) {
    throw new Error(`the probe ${args.join(" ")} said: ${stdout}${stderr}`);
  }
  return { outcome, milliseconds: Number(milliseconds) };
}

/** A program that runs until it is disposed of, or until its input ends. */
export class Running implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #lines: ReadableStreamDefaultReader<string>;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;

  private constructor(child: Deno.ChildProcess) {
    this.#child = child;
    this.#lines = linesOf(child.stdout);
    this.#input = child.stdin.getWriter();
  }

  /** Starts `serve PORT…` or `hold HOST PORT` as somebody, and waits for its first line. */
  static async start(who: Who, ...args: readonly string[]): Promise<Running> {
    const [name, ...rest] = commandAs(who, ["perl", "-e", PROBE, ...args]);
    const running = new Running(
      new Deno.Command(name!, { args: rest, stdin: "piped", stdout: "piped" }).spawn(),
    );
    const line = await running.line();
    if (line !== "listening" && line !== "connected") {
      await running[Symbol.asyncDispose]();
      throw new Error(`${args.join(" ")}: ${line}`);
    }
    return running;
  }

  /** The next line that it prints; undefined when it has ended. */
  async line(): Promise<string | undefined> {
    return (await this.#lines.read()).value;
  }

  /** Sends it a line, and returns what it says to that. */
  async ask(): Promise<string | undefined> {
    await this.#input.write(new TextEncoder().encode("go\n"));
    return await this.line();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#input.close().catch(() => {}); // it has ended by itself
    await this.#lines.cancel();
    await this.#child.status;
  }
}

/** An account without a password, a home or a group of its own, gone in the end. */
export class MacAccount implements AsyncDisposable {
  readonly name: string;

  private constructor(name: string) {
    this.name = name;
  }

  /** Makes it with a free uid, and waits until the directory service knows it. */
  static async create(name: string): Promise<MacAccount> {
    const taken = await must("dscl", ".", "-list", "/Users", "UniqueID");
    const uid = Math.max(600, ...[...taken.matchAll(/ (\d+)$/gm)].map(([, n]) => Number(n))) + 1;
    const set = (...pair: string[]) =>
      mustAsRoot("dscl", ".", "-create", `/Users/${name}`, ...pair);
    await set();
    const account = new MacAccount(name);
    await set("UniqueID", `${uid}`);
    await set("PrimaryGroupID", "20");
    await set("UserShell", "/bin/sh");
    await set("NFSHomeDirectory", "/var/empty");
    await until(
      `the account ${name} is known`,
      async () => (await run(["id", "-u", name])).stdout === `${uid}\n`,
    );
    return account;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await asRoot("dscl", ".", "-delete", `/Users/${this.name}`);
  }
}

/**
 * An outside that is on this Mac: a pair of fake interfaces (feth, ifconfig(8)), behind one of which
 * documentation addresses lie. Their neighbours are written down, so that packets go out; nobody
 * answers.
 */
export class Outside implements AsyncDisposable {
  private constructor(
    /** The addresses, IPv4 first; IPv6 where the interface takes it. */
    readonly addresses: readonly string[],
    readonly devices: readonly [string, string],
  ) {}

  /** Makes the pair, and waits until the kernel would send through it. */
  static async create(): Promise<Outside> {
    const near = (await mustAsRoot("ifconfig", "feth", "create")).trim();
    const far = (await mustAsRoot("ifconfig", "feth", "create")).trim();
    await mustAsRoot("ifconfig", near, "peer", far);
    await mustAsRoot("ifconfig", far, "up");
    await mustAsRoot("ifconfig", near, "inet", "192.0.2.1/24", "up");
    await mustAsRoot("arp", "-s", "192.0.2.2", "02:00:00:00:00:02");
    const hasIpv6 = [
      await asRoot("ifconfig", near, "inet6", "2001:db8::1/64"),
      await asRoot("ndp", "-s", "2001:db8::2", "02:00:00:00:00:02"),
    ].every(({ code }) => code === 0);
    const outside = new Outside(
      hasIpv6 ? ["192.0.2.2", "2001:db8::2"] : ["192.0.2.2"],
      [near, far],
    );
    await until("packets go through the fake interface", async () => {
      const routes = await Promise.all(
        outside.addresses.map((address) =>
          run(["/sbin/route", "-n", "get", address.includes(":") ? "-inet6" : "-inet", address])
        ),
      );
      return routes.every(({ stdout }) => stdout.includes(`interface: ${near}`));
    });
    record("outside", `${outside.addresses.join(", ")} behind ${near}`);
    return outside;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const device of this.devices) await asRoot("ifconfig", device, "destroy");
  }
}

/** Prints what a Mac said, for whoever reads the log. */
export function record(what: string, text: string): void {
  const indented = text.trimEnd().split("\n").map((line) => `    ${line}`).join("\n");
  Deno.stdout.writeSync(new TextEncoder().encode(`[record] ${what}:\n${indented}\n`));
}

/** Waits until a condition holds, for a minute at most: launchd starts a job once in ten seconds. */
export async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  for (const end = Date.now() + 60_000; Date.now() < end;) {
    if (await holds()) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`not within a minute: ${what}`);
}

/** The tokens of the references that pf knows. */
export async function tokens(): Promise<string[]> {
  const { stdout } = await asRoot("pfctl", "-s", "References");
  return [...stdout.matchAll(/^\d+ .* (\d+) +\d+ days /gm)].map(([, token]) => token!).sort();
}

const DAEMONS = "/Library/LaunchDaemons";

/** All that a lock may touch, without what counts or passes by itself. */
export async function snapshot(): Promise<Record<string, string>> {
  const info = await mustAsRoot("pfctl", "-s", "info");
  return {
    status: /^Status: \w+/m.exec(info)![0],
    rules: await mustAsRoot("pfctl", "-s", "rules"),
    nat: await mustAsRoot("pfctl", "-s", "nat"),
    dummynet: (await asRoot("pfctl", "-s", "dummynet")).stdout, // not every version knows it
    references: (await tokens()).join("\n"),
    pfConf: await mustAsRoot("cat", "/etc/pf.conf"),
    pfConfMode: await mustAsRoot("stat", "-f", "%Sp %u:%g", "/etc/pf.conf"),
    files: (await mustAsRoot("ls", "-1", "/etc", "/etc/pf.anchors", "/var/db", DAEMONS)).split("\n")
      .filter((name) => /fishnet|pf\.conf/.test(name)).join("\n"),
  };
}
