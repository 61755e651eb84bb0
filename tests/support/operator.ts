/**
 * An operator: an ordinary user who may use sudo with a password, inside one world only.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { must, type Result, run } from "./process.ts";
import { ReadableProgram } from "./readable_program.ts";
import { PYTHON, type World } from "./world.ts";

const TERMINAL = await Deno.readTextFile(new URL("terminal.py", import.meta.url));

/** What a terminal showed, how the program ended, and the seconds from the last answer to that. */
export interface Session {
  readonly code: number;
  readonly shown: string;
  readonly seconds: number;
}

/** A user with a password, and the program where that user can read it. */
export class Operator implements AsyncDisposable {
  readonly password = "correct horse";
  readonly #world: World;
  readonly #program: ReadableProgram;

  private constructor(world: World, readonly name: string, program: ReadableProgram) {
    this.#world = world;
    this.#program = program;
  }

  /** Makes the user, a sudoers file that only this world sees, and a copy of the program. */
  static async in(world: World): Promise<Operator> {
    const name = await world.account();
    const operator = new Operator(world, name, await ReadableProgram.for(name));
    const input = `${operator.name}:${operator.password}`;
    assertEquals((await run(["chpasswd"], { input })).code, 0);
    await operator.allow("ALL");
    return operator;
  }

  /** What sudo lets the user run: `ALL`, `NOPASSWD: ALL`, or nothing. */
  async allow(rule: string | undefined, defaults = ""): Promise<void> {
    const sudoers = `/etc/netns/${this.#world.inside}/sudoers`;
    await Deno.writeTextFile(
      sudoers,
      'Defaults env_reset, use_pty, lecture=never, passwd_tries=1, secure_path="/usr/sbin:/usr/bin:/sbin:/bin"\n' +
        (defaults === "" ? "" : `Defaults ${defaults}\n`) +
        (rule === undefined ? "" : `${this.name} ALL=(ALL:ALL) ${rule}\n`),
    );
    await Deno.chmod(sudoers, 0o440);
    await must("rm", "-f", `/run/sudo/ts/${this.name}`); // the password is asked for again
  }

  #command(env: Readonly<Record<string, string>>, args: readonly string[]): string[] {
    const variables = {
      PATH: "/usr/bin:/bin",
      TERM: "xterm",
      USER: this.name,
      ...this.#program.env,
      ...env,
    };
    return this.#world.commandAs(
      this.name,
      ...["env", "-i", ...Object.entries(variables).map(([name, value]) => `${name}=${value}`)],
      ...[...this.#program.command, ...args],
    );
  }

  /** Runs the program without any terminal. */
  run(...args: readonly string[]): Promise<Result> {
    return run(["setsid", "--wait", ...this.#command({}, args)]);
  }

  /**
   * Runs the program on a terminal; each pattern that shows up is answered, in turn, and a file made
   * then, where one is named.
   */
  async onTerminal(
    answers: readonly (readonly [pattern: string, text: string, note?: string])[],
    args: readonly string[],
    env: Readonly<Record<string, string>> = {},
    columns = 80,
  ): Promise<Session> {
    const command = this.#command(env, args);
    const shown = JSON.stringify(answers);
    return JSON.parse(await must(PYTHON, "-c", TERMINAL, `${columns}`, shown, ...command));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#program[Symbol.asyncDispose]();
    await must("rm", "-f", `/run/sudo/ts/${this.name}`);
  }
}
