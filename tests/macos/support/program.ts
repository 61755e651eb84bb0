/**
 * The program, running on a stand-in for as long as that is there: `apply.ts`.
 *
 * @module
 */
import { linesOf } from "../../support/process.ts";

/** What a plan is made from. */
export interface Options {
  readonly accounts: readonly string[];
  readonly onlyPorts?: readonly number[];
  readonly persist?: boolean;
}

/** One run. */
export interface Request extends Options {
  readonly action: "enable" | "disable" | "status";
  /** The run ends before this command of its plan; the first is 1. */
  readonly stopBefore?: number;
}

/** What came of a run. */
export interface Response {
  readonly code: number;
  readonly text: string;
}

/** The command, with the permissions that the program ships with. */
const COMMAND = [
  Deno.execPath(),
  "run",
  "--quiet",
  "--no-prompt",
  "--no-check",
  "--allow-run=sudo",
  "--allow-env=USER",
  new URL("apply.ts", import.meta.url).pathname,
];

/** A program that does one run after another. */
export class Program implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  readonly #lines: ReadableStreamDefaultReader<string>;

  /** Starts it by a command that enters the stand-in. */
  constructor(enter: readonly string[]) {
    const [program, ...args] = [...enter, ...COMMAND];
    this.#child = new Deno.Command(program!, { args, stdin: "piped", stdout: "piped" }).spawn();
    this.#input = this.#child.stdin.getWriter();
    this.#lines = linesOf(this.#child.stdout);
  }

  /** Does one run. */
  async run(request: Request): Promise<Response> {
    await this.#input.write(new TextEncoder().encode(`${JSON.stringify(request)}\n`));
    const { value } = await this.#lines.read();
    if (value === undefined) throw new Error(`the program ended at ${JSON.stringify(request)}`);
    return JSON.parse(value);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#input.close().catch(() => {}); // it has ended by itself
    await this.#child.status;
    await this.#lines.cancel();
  }
}
