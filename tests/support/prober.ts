/**
 * Who tries, inside a world: one process of root's that forks for each try, since starting a program
 * takes far longer than most tries.
 *
 * @module
 */
import { linesOf, type Result } from "./process.ts";

// Passed as text: an account need not be able to read where the sources lie.
const PROBE = await Deno.readTextFile(new URL("probe.py", import.meta.url));

/** Debian's own: a version manager's may lie where an account cannot read. */
export const PYTHON = "/usr/bin/python3";

/** The words for one probe of `probe.py` that runs by itself. */
export function probeWords(...words: readonly string[]): string[] {
  return [PYTHON, "-c", PROBE, ...words];
}

/** A running `probe.py`. */
export class Prober implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #stdin: WritableStreamDefaultWriter<Uint8Array>;
  readonly #answers: ReadableStreamDefaultReader<string>;
  #last: Promise<unknown> = Promise.resolve();

  /** @param within the words that put a command where it is to try */
  constructor(within: (...command: string[]) => string[]) {
    const [name, ...args] = within(...probeWords());
    this.#child = new Deno.Command(name!, {
      args,
      stdin: "piped",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    this.#stdin = this.#child.stdin.getWriter();
    this.#answers = linesOf(this.#child.stdout);
  }

  /** Tries as an account, or as a bare uid, in one of the ways of `probe.py`; one after another. */
  try(account: string, vector: string, address: string, port: number): Promise<Result> {
    const answer = this.#last.then(async (): Promise<Result> => {
      const line = [account, vector, address, port].join("\t");
      await this.#stdin.write(new TextEncoder().encode(`${line}\n`));
      const { value } = await this.#answers.read();
      const [code, said] = value?.split("\t") ?? [];
      if (said === undefined) throw new Error(`no answer to: ${line}`);
      return { code: Number(code), stdout: `${said}\n`, stderr: "" };
    });
    this.#last = answer.catch(() => {});
    return answer;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stdin.close().catch(() => {}); // it may have ended already
    await this.#answers.cancel();
    await this.#child.status;
  }
}
