/**
 * The one door to the machine: one `sudo` starts one session of root for a whole run, which holds the
 * lock that keeps other runs out, reads the machine, carries out each command of a plan, and undoes
 * by itself what was not committed when this program is gone.
 *
 * It is a script of perl, not of sh: that starts no second process to limit a command, and none to
 * read a file.
 */
import { FishnetError } from "./errors.ts";
import { sudo } from "./line.ts";
import type { Step } from "./lock/piece.ts";
import { type Answer, type Ask, type Root, unreadable, UnreadableError } from "./root.ts";
import script from "./session.pl" with { type: "text" };
import { runInShell } from "./shell.ts";
import { answersIn, askingScript, filesIn, MarkedOutput, statement } from "./statements.ts";

/**
 * All that a child gets of an environment. Of the caller's own nothing passes: Deno refuses a child
 * with `LD_*` or `DYLD_*` under a limited `--allow-run`, and a `PATH` with somebody's own `sudo` in
 * it must not decide which one runs.
 */
const CHILD_ENV = { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" };

/** Seconds for one command: those of a lock take milliseconds. */
const LIMIT = 60;

/** Seconds for which a run waits for another one. */
const LOCK_TIMEOUT = 300;

/** What a command answers that has nothing to do. */
const NOTHING: Promise<Answer> = Promise.resolve({ exitCode: 0, stdout: "", stderr: "" });

/** What a command of a plan came to. */
export interface StepResult extends Answer {
  /** The `sudo` of it that failed. */
  readonly failed: string;
  /** What takes back what that did, if it did anything; empty where there is nothing to take back. */
  readonly undoOfFailed: string;
}

/** A session of root, from one password prompt to the end of the run. */
export class Session implements AsyncDisposable, Root {
  readonly #child: Deno.ChildProcess;
  readonly #stdin: WritableStreamDefaultWriter<Uint8Array>;
  readonly #stdout: MarkedOutput;
  readonly #stderr: MarkedOutput;
  /** It cannot be guessed and stands in no argument, so nobody else's text can end an answer. */
  readonly #mark = crypto.randomUUID();
  readonly #asked: (PromiseWithResolvers<Answer> & { readonly words: readonly string[] })[] = [];
  /** The wait for another run's lock was given up. */
  #isWaiting = false;
  /** A plan is to be carried out, and its shell is not loaded yet. */
  #lacksShell = false;
  /** The answers come one after another. */
  #last: Promise<unknown> = Promise.resolve();
  /** What takes back each change that is not committed; empty for one that may be needless. */
  #undo: string[] = [];

  private constructor(command: readonly string[]) {
    this.#child = spawn(command);
    this.#stdin = this.#child.stdin.getWriter();
    this.#stdout = new MarkedOutput(this.#child.stdout);
    this.#stderr = new MarkedOutput(this.#child.stderr);
    this.#write(`${script}\n__END__\n${this.#mark}\n`);
  }

  /** Starts perl as root; sudo may ask for a password. @throws {UnreadableError} if refused. */
  static async open(command = SUDO): Promise<Session> {
    const session = new Session(command);
    const { exitCode } = await session.#say("begin");
    if (exitCode !== 0) throw new UnreadableError(`could not run as root: answered ${exitCode}`);
    return session;
  }

  /**
   * Waits until no other run changes anything, and keeps the next one waiting until this commits;
   * if `stopped` before, nothing is locked. @throws {FishnetError} after {@link LOCK_TIMEOUT} seconds.
   */
  async lockOutOtherRuns(onWaiting: () => void, stopped: Promise<unknown>): Promise<void> {
    this.#lacksShell = true;
    let answer: Answer | undefined = await this.#say("lock", "0");
    if (answer.exitCode === 1) {
      onWaiting();
      const locked = this.#say("lock", `${LOCK_TIMEOUT}`);
      answer = await Promise.race([locked, stopped.then(() => undefined)]);
    }
    this.#isWaiting = answer === undefined;
    if (answer?.exitCode === 1) {
      throw new FishnetError(
        `another run of this program has not ended for ${LOCK_TIMEOUT} seconds: end it first`,
      );
    }
    if (answer !== undefined && answer.exitCode !== 0) {
      throw new UnreadableError(`other runs cannot be kept out: ${answer.stderr.trim()}`);
    }
  }

  /** Runs one command that changes nothing; those that are asked at once are asked together. */
  readonly ask: Ask = (words, { input, seconds } = {}) => {
    if (input !== undefined || seconds !== undefined) return this.#run(words, "", input, seconds);
    const answer = Promise.withResolvers<Answer>();
    if (this.#asked.push({ words, ...answer }) === 1) queueMicrotask(() => this.#askTogether());
    return answer.promise;
  };

  /** One shell for many commands: it starts each in half of the time that perl would take. */
  async #askTogether(): Promise<void> {
    const asked = this.#asked.splice(0);
    const mark = crypto.randomUUID();
    try {
      const script = askingScript(asked.map(({ words }) => words), mark);
      const running = this.#run(["sh"], "", script);
      if (this.#lacksShell) await runInShell("echo | sudo", () => NOTHING); // it takes as long
      this.#lacksShell = false;
      const said = await running;
      const answers = answersIn(said, mark);
      if (answers.length < asked.length) throw new UnreadableError(whyUnanswered(said));
      asked.forEach(({ resolve }, i) => resolve(answers[i]!));
    } catch (error) {
      for (const { reject } of asked) reject(error);
    }
  }

  readonly look: Root["look"] = async (paths) => {
    const { stdout } = await this.#say("look", ...paths);
    const { files, unreadable: [one] } = filesIn(stdout);
    if (one !== undefined) throw new UnreadableError(one);
    return files;
  };

  #run(
    words: readonly string[],
    undo: string,
    input: string | undefined,
    seconds = LIMIT,
  ): Promise<Answer> {
    const verb = input === undefined ? ["run"] : ["feed", input];
    return this.#say(...verb, `${seconds}`, undo, ...words);
  }

  /** Carries out one command of a plan, in dax's shell, where `sudo` is this session. */
  async perform(step: Step): Promise<StepResult> {
    const undo = [...step.undo];
    let [failed, undoOfFailed] = ["", ""];
    const answer = await runInShell(step.line, async (words, input) => {
      const back = undo.shift() ?? "";
      const answer = await this.#run(words, back, input);
      if (answer.exitCode !== 0) [failed, undoOfFailed] = [sudo(...words), back];
      else if (back !== "") this.#undo.push(back);
      return answer;
    });
    return { ...answer, failed, undoOfFailed };
  }

  /** Notes a change that a command may have made although it failed: its undo may fail, too. */
  async noteChange(undo: string): Promise<void> {
    await this.#say("note", undo);
    this.#undo.push("");
  }

  /** Takes back what was changed, last first; the lines that could not be: all, without a shell. */
  async takeBack(): Promise<string[]> {
    const stuck: string[] = [];
    for (let line = this.#undo.pop(); line !== undefined; line = this.#undo.pop()) {
      const { exitCode } = await this.#say("back").catch((error) => {
        if (!(error instanceof UnreadableError)) throw error;
        return { exitCode: undefined };
      });
      if (exitCode !== 0 && line !== "") stuck.push(line);
    }
    return stuck;
  }

  /** What was changed stays, and other runs are kept out no longer. @throws where that is not heard. */
  async commit(what: string): Promise<void> {
    await this.#say("commit", what).catch((error) => {
      throw new FishnetError(
        `${unreadable(error)}\nall had been done, and it is not known whether it stays: run status`,
      );
    });
    this.#undo = [];
  }

  /** Ends the session; what was not committed is undone. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stdin.close().catch(ignoreBrokenPipe);
    // One that waits for another run's lock still will find nothing to do when it has it.
    if (this.#isWaiting) await Promise.all([this.#stdout.cancel(), this.#stderr.cancel()]);
    else await Promise.all([this.#stdout.end(), this.#stderr.end(), this.#child.status]);
  }

  #write(text: string): Promise<void> {
    return this.#stdin.write(new TextEncoder().encode(text)).catch(ignoreBrokenPipe);
  }

  #say(...words: readonly string[]): Promise<Answer> {
    const written = this.#write(statement(words));
    const answer = this.#last.then(() => this.#answer(written));
    this.#last = answer.catch(() => {});
    return answer;
  }

  async #answer(written: Promise<void>): Promise<Answer> {
    const [stdout, stderr] = await Promise.all([
      this.#stdout.upTo(this.#mark),
      this.#stderr.upTo(this.#mark),
      written,
    ]);
    if (stdout.last === undefined) {
      throw new UnreadableError(`could not run as root: ${whyNot(stdout.text + stderr.text)}`);
    }
    return { exitCode: Number(stdout.last), stdout: stdout.text, stderr: stderr.text };
  }
}

/** What sudo said where it did not start a shell. */
function whyNot(said: string): string {
  if (/^usage: sudo/im.test(said)) {
    return "this sudo has no -b: sudo 1.8 is needed, or sudo-rs 0.2.12";
  }
  if (/\bperl\b.*not found/.test(said)) return "perl is not installed: install it";
  if (/\bterminal is required/.test(said)) {
    return "sudo: a password is required, and there is no terminal to ask for it: run this in one, " +
      "or let this user use sudo without a password";
  }
  return said.trim().replace(/\s*\n\s*/g, "; ") || "sudo ended at once";
}

/** Why the shell that was to ask all did not. */
function whyUnanswered({ exitCode, stderr }: Answer): string {
  if ([137, 142].includes(exitCode)) return "reading took too long";
  const said = stderr.trim().split("\n").at(-1)!;
  const cure = exitCode === 126
    ? "; where sudoers(5) says NOEXEC or noexec, allow /usr/bin/perl with EXEC"
    : "";
  return `root's shell could not ask (exit status ${exitCode}): ${said}${cure}`;
}

/** "-b": a process group of its own, out of reach of the terminal's Ctrl-C. */
const SUDO: readonly string[] = ["sudo", "-b", "perl"];

function spawn([name = "", ...args]: readonly string[]): Deno.ChildProcess {
  try {
    return new Deno.Command(name, {
      args,
      clearEnv: true,
      env: CHILD_ENV,
      cwd: "/",
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) {
      throw new FishnetError(
        "sudo is not installed, and root needs it too: install it, and let this user use it",
      );
    }
    if (error instanceof Deno.errors.NotCapable) {
      throw new FishnetError(
        `PATH names no sudo, or one that is not the system's (${CHILD_ENV.PATH}): correct PATH`,
      );
    }
    throw error;
  }
}

/** The second is what a stream says that was broken before. */
function ignoreBrokenPipe(error: unknown): void {
  if (!(error instanceof Deno.errors.BrokenPipe || error instanceof TypeError)) throw error;
}
