/**
 * The kernel's audit for a test: there is one a machine, so one test has it at a time, and leaves its
 * rules and settings as they were.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import type { Step } from "../../src/lock/piece.ts";
import type { Ask } from "../../src/root.ts";
import { audit } from "../../src/linux/audit.ts";
import { auditAtBoot } from "../../src/linux/audit_at_boot.ts";
import { askAll, type Machine } from "../../src/linux/machine.ts";
import { rootBy } from "./root.ts";
import { must, run } from "./process.ts";

/** Why the audit cannot be tested here; undefined where it can. */
export function whyNoAudit(): string | undefined {
  if (Deno.build.os !== "linux" || Deno.uid() !== 0) return "needs root, on Linux";
  for (const tool of ["auditd", "auditctl", "ausearch", "curl", "ping", "dig"]) {
    const { success } = new Deno.Command("sh", { args: ["-c", `command -v ${tool}`] }).outputSync();
    if (!success) return `needs ${tool}`;
  }
  const { stdout } = new Deno.Command("auditctl", { args: ["-s"] }).outputSync();
  const enabled = /^enabled (\d)/m.exec(new TextDecoder().decode(stdout))?.[1];
  if (enabled === undefined) return "this kernel has no audit for us";
  return enabled === "2" ? "the audit rules are locked" : undefined;
}

/** Runs one command as root, as the program's own session does. */
export const ask: Ask = async (words, options = {}) => {
  const input = options.input === undefined ? {} : { input: options.input };
  const { code, ...said } = await run(["env", "LC_ALL=C", ...words], input);
  return { exitCode: code, ...said };
};

/**
 * Waits until something is so, for three minutes at most.
 *
 * @returns after how many milliseconds the look at it began that found it so
 */
export async function until(isSo: () => Promise<boolean>, what: string): Promise<number> {
  const start = performance.now();
  while (true) {
    const look = performance.now() - start;
    if (await isSo()) return look;
    if (look > 180_000) throw new Error(`three minutes, and not yet: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Where auditd writes, as Debian sets it (auditd.conf(5)). */
const LOG = "/var/log/audit";

/** The audit, on, with auditd. */
export class Audit implements AsyncDisposable {
  readonly #lock: Deno.FsFile;
  readonly #before: { readonly enabled: string; readonly rules: string };
  /** Undefined where somebody else's was there. */
  #auditd: Deno.ChildProcess | undefined;
  #logAside: string | undefined;

  private constructor(lock: Deno.FsFile, before: { enabled: string; rules: string }) {
    this.#lock = lock;
    this.#before = before;
  }

  /** Waits for other tests to be done with it, and starts auditd where none runs. */
  static async begin(): Promise<Audit> {
    const lock = await Deno.open("/run/fishnet-test-audit.lock", { create: true, write: true });
    await lock.lock(true);
    const { enabled, pid } = await Audit.status();
    const audit = new Audit(lock, { enabled: enabled!, rules: await Audit.rules() });
    if (pid === "0") {
      await audit.#setLogAside();
      const child = new Deno.Command("auditd", {
        args: ["-n"],
        stdin: "null",
        stdout: "null",
        stderr: "null",
      }).spawn();
      audit.#auditd = child;
      await until(async () => (await Audit.status()).pid === `${child.pid}`, "auditd runs");
    }
    await must("auditctl", "-e", "1");
    return audit;
  }

  /** A log of its own, so that no earlier test's flood is read again and again. */
  async #setLogAside(): Promise<void> {
    const aside = `${LOG}.set-aside`;
    if ((await run(["test", "-e", aside])).code === 0) await must("rm", "-rf", LOG); // it was killed
    else await must("mv", LOG, aside);
    await must("install", "-d", "-m", "750", LOG);
    this.#logAside = aside;
  }

  /** The rules of the kernel, as it lists them. */
  static rules(): Promise<string> {
    return must("auditctl", "-l");
  }

  /** The values that `auditctl -s` prints, by their names. */
  static async status(): Promise<Partial<Record<string, string>>> {
    const lines = (await must("auditctl", "-s")).trim().split("\n");
    return Object.fromEntries(lines.map((line) => line.split(" ")));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      const after = await Audit.rules();
      // What a test that failed has left behind.
      const machine = await readAudit();
      const own = this.#before.rules.split("\n");
      const left = after.split("\n").filter((line) => !own.includes(line));
      const pieces = audit.found({
        ...machine,
        answers: new Map([...machine.answers, [
          "audit rules",
          { exitCode: 0, stdout: left.join("\n"), stderr: "" },
        ]]),
      });
      await paste(audit.unmake(pieces));
      await must("auditctl", "-e", this.#before.enabled);
      if (this.#auditd !== undefined) {
        this.#auditd.kill("SIGTERM");
        await this.#auditd.status;
      }
      if (this.#logAside !== undefined) {
        await must("rm", "-rf", LOG);
        await must("mv", this.#logAside, LOG);
      }
      assertEquals(after, this.#before.rules, "the audit rules are what they were");
    } finally {
      this.#lock.close();
    }
  }
}

/** The machine, as the audit's own questions show it. */
export async function readAudit(): Promise<Machine> {
  const files = await rootBy("env").look(auditAtBoot.files!);
  const known = { files, answers: new Map(), asked: { log: true } };
  const answers = await askAll(ask, audit.questions!(known));
  return { answers, files, passwd: [], subuid: { ranges: [], unclear: [] }, families: [4, 6] };
}

/** Carries steps out, as a person who pastes them. */
export async function paste(steps: readonly Step[]): Promise<void> {
  await must("sh", "-ec", steps.map(({ line }) => line).join("\n"));
}

/** Takes steps back, last first. */
export async function takeBack(steps: readonly Step[]): Promise<void> {
  const lines = steps.toReversed().flatMap(({ undo }) => undo.toReversed());
  await must("sh", "-ec", lines.join("\n"));
}
