/**
 * The one module that talks to `sudo`, and so to the machine. Lines run in
 * dax's own shell, in which `sudo` is the one external command.
 *
 * @module
 */
import type { CommandContext, ExecuteResult } from "dax";
import { FishnetError } from "./errors.ts";

/** What a line did. */
export interface LineResult {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
  /** The exit code of each `sudo` that the line started, in the order in which they ended. */
  readonly sudoCodes: readonly number[];
}

/**
 * All that a child gets of an environment. Of the caller's own nothing passes:
 * Deno refuses a child with `LD_*` or `DYLD_*` under a limited `--allow-run`, and
 * a `PATH` with somebody's own `sudo` in it must not decide which one runs.
 */
const CHILD_ENV = { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" };

/** Loads dax, which takes longer than many a line: only what runs lines has to wait for it. */
const loadShell = () => import("dax");

/** Runs one line of shell and collects what it printed; a failure is a result, not an error. */
export async function runLine(line: string): Promise<LineResult> {
  const { CommandBuilder } = await loadShell();
  const sudoCodes: number[] = [];
  const result = await new CommandBuilder()
    .clearEnv()
    .cwd("/")
    .registerCommand("sudo", async (context) => {
      const executed = await sudo(context);
      sudoCodes.push(executed.code);
      return executed;
    })
    .command(line)
    .noThrow()
    .stdout("piped")
    .stderr("piped");
  return { exitCode: result.code, stdout: result.stdout, stderr: result.stderr, sudoCodes };
}

/**
 * Starts `sudo` for dax. Its own way to start a program reads the whole
 * environment, which this program is not permitted to do.
 */
async function sudo(context: CommandContext): Promise<ExecuteResult> {
  const { stdin } = context;
  const child = spawnSudo(context.args, typeof stdin === "string" ? stdin : "piped");
  const fed = typeof stdin === "string" ? Promise.resolve() : feed(stdin, child.stdin);
  const [status] = await Promise.all([
    child.status,
    drain(child.stdout, (chunk) => context.stdout.writeAll(chunk)),
    drain(child.stderr, (chunk) => context.stderr.writeAll(chunk)),
    fed,
  ]);
  return { code: status.code };
}

function spawnSudo(args: string[], stdin: "inherit" | "null" | "piped"): Deno.ChildProcess {
  try {
    return new Deno.Command("sudo", {
      args,
      clearEnv: true,
      env: CHILD_ENV,
      cwd: "/",
      stdin,
      stdout: "piped",
      stderr: "piped",
    }).spawn();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) {
      throw new FishnetError("sudo is not installed: install it, and let this user use it");
    }
    if (error instanceof Deno.errors.NotCapable) {
      throw new FishnetError(
        `the sudo that PATH names is not the system's (${CHILD_ENV.PATH}): correct PATH`,
      );
    }
    throw error;
  }
}

/** What a command that only reads printed, and how it ended. */
export interface Reading {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs one `sudo` command that changes nothing; a failure is a result, not an error. */
export async function readAsRoot(...args: string[]): Promise<Reading> {
  const { code, stdout, stderr } = await spawnSudo(args, "inherit").output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { exitCode: code, stdout: text(stdout), stderr: text(stderr) };
}

/** Runs a command as root, with an input and a limit that root keeps; a failure is a result. */
export async function runAsRoot(
  words: readonly string[],
  { input = "", seconds }: { readonly input?: string; readonly seconds?: number } = {},
): Promise<Reading> {
  // macOS has no timeout(1), but it has perl.
  const limit = seconds === undefined
    ? []
    : Deno.build.os === "darwin"
    ? ["perl", "-e", "alarm shift; exec @ARGV", `${seconds}`]
    : ["timeout", "-s", "KILL", `${seconds}`];
  const child = spawnSudo([...limit, ...words], "piped");
  const [{ code, stdout, stderr }] = await Promise.all([
    child.output(),
    feedText(input, child.stdin),
  ]);
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { exitCode: code, stdout: text(stdout), stderr: text(stderr) };
}

/** Gives a program its input; one that ends early is no error. */
async function feedText(text: string, into: WritableStream<Uint8Array>): Promise<void> {
  try {
    await new Blob([text]).stream().pipeTo(into);
  } catch (error) {
    if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
  }
}

/** Copies a pipe into a program; one that stops reading early (`grep -q`) is no error. */
async function feed(
  from: { read(p: Uint8Array): Promise<number | null> | number | null },
  into: WritableStream<Uint8Array>,
): Promise<void> {
  const writer = into.getWriter();
  const buffer = new Uint8Array(65536);
  try {
    for (let n = await from.read(buffer); n !== null && n > 0; n = await from.read(buffer)) {
      await writer.write(buffer.slice(0, n));
    }
    await writer.close();
  } catch (error) {
    if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
  }
}

async function drain(
  from: ReadableStream<Uint8Array>,
  write: (chunk: Uint8Array) => Promise<void> | void,
): Promise<void> {
  for await (const chunk of from) await write(chunk);
}

/**
 * Waits until no other run changes the firewall, and keeps the next one
 * waiting until the returned function is called or this process is gone: the
 * lock's holder reads a pipe from us, and ends when that closes.
 *
 * The lock is flock(2) on /etc/sudoers, or on /root where the system's sudoers
 * file is elsewhere (openSUSE's is in /usr/etc, for all to read): only root can open
 * either, so nobody else can take the lock. Neither is ever made: an empty sudoers
 * file would take sudo from everybody.
 *
 * @param stopped ends the wait: then nothing is locked
 * @throws {FishnetError} after {@link LOCK_TIMEOUT_SECONDS}, or where sudo is refused.
 */
export async function lockOutOtherRuns(stopped: Promise<unknown>): Promise<() => Promise<void>> {
  // "-b" puts it into a process group of its own, out of reach of the terminal's Ctrl-C.
  const child = spawnSudo(
    ["-b", "sh", "-c", lockScript(Deno.build.os)],
    "piped",
  );
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  let said = "";
  const hears = async (word: string): Promise<boolean> => {
    while (!said.includes(word)) {
      const { value, done } = await reader.read();
      if (done) return false;
      said += value;
    }
    return true;
  };
  // The shell is loaded while sudo asks its questions, which nothing else ends.
  await Promise.all([hears("waiting\n"), loadShell()]);
  const answer = await Promise.race([hears("locked\n"), stopped.then(() => "stopped" as const)]);
  if (answer === false) {
    said += await new Response(child.stderr).text();
    await child.stdin.close();
    await child.status;
    const reason = said.replace("waiting\n", "").trim();
    throw new FishnetError(`could not run as root: ${reason || "sudo ended at once"}`);
  }
  return async () => {
    await child.stdin.close();
    // The holder's end: now the lock is free. One that waits for it still will not hold it.
    if (answer === true) await Promise.all([reader.read(), child.status]);
    await Promise.all([reader.cancel(), child.stderr.cancel()]);
  };
}

/** A run takes seconds; one that takes this long waits at a password prompt that nobody reads. */
const LOCK_TIMEOUT_SECONDS = 300;

const LOCK_TIMED_OUT =
  `another run of this program has not ended for ${LOCK_TIMEOUT_SECONDS} seconds`;

/**
 * Shell that prints `waiting`, and `locked` once it holds the lock, and holds it until its input
 * ends. macOS has no flock(1), and not in every version lockf(1); every version has perl.
 */
export function lockScript(os: typeof Deno.build.os): string {
  if (os !== "darwin") {
    // Opened by the shell: flock(1) makes a file that it does not find.
    return `echo waiting; f=/etc/sudoers; test -e $f || f=/root; exec 9<$f; ` +
      `if flock -w ${LOCK_TIMEOUT_SECONDS} 9; then echo locked; cat; ` +
      `else echo "${LOCK_TIMED_OUT}" >&2; fi`;
  }
  return `echo waiting; exec perl -MFcntl=:flock -e '$SIG{ALRM} = sub { die "${LOCK_TIMED_OUT}\\n" }; ` +
    `alarm ${LOCK_TIMEOUT_SECONDS}; open(F, "<", "/etc/sudoers") or die "/etc/sudoers: $!\\n"; ` +
    `flock(F, LOCK_EX) or die "flock: $!\\n"; alarm 0; syswrite(STDOUT, "locked\\n"); ` +
    `1 while sysread(STDIN, $_, 4096)'`;
}
