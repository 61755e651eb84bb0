/**
 * Faults on purpose, inside one world: the tools that change the firewall count their calls, and
 * at a chosen call something goes wrong. sudo, the tools and the kernel are the real ones.
 *
 * @module
 */
import { assert } from "@std/assert";
import type { Result } from "./process.ts";
import { program, type World } from "./world.ts";

/** What goes wrong at a call. */
export type Fault =
  | "fails before it has done its work"
  | "fails after it has done its work"
  | "fails at one of its lines"
  | "SIGINT"
  | "SIGTERM"
  | "SIGHUP"
  | "SIGKILL"
  | "fails from then on";

/** Waits until no thread of the program has anything to do: by then it has seen the signal. */
const SEEN = 'while grep -q "^State:.R" /proc/"$program"/task/*/status; do sleep 0.01; done';

const ACTIONS: Readonly<Record<Fault, string>> = {
  "fails before it has done its work": 'echo "broken" >&2; exit 9',
  "fails after it has done its work": '"$tool" "$@"; echo "broken" >&2; exit 9',
  // Its second line of many is refused, by the tool itself.
  "fails at one of its lines":
    '{ IFS= read -r first; echo "$first"; echo broken; cat; } | "$tool" "$@"; exit',
  "SIGINT": `kill -INT "$program"; ${SEEN}`,
  "SIGTERM": `kill -TERM "$program"; ${SEEN}`,
  "SIGHUP": `kill -HUP "$program"; ${SEEN}`,
  "SIGKILL": 'kill -KILL "$program"',
  "fails from then on": 'echo $call > $here/forever; echo "broken" >&2; exit 9',
};

/** Lays the counting tools over the real ones, inside a world. */
export class Faults {
  readonly #world: World;
  /** Seen inside as /etc/alternatives/faults: `ip netns exec` lays it there. */
  readonly #directory: string;

  private constructor(world: World) {
    this.#world = world;
    this.#directory = `/etc/netns/${world.inside}/alternatives/faults`;
  }

  /** Writes the world's sudoers file: its secure_path finds the counting tools first. */
  static async in(world: World): Promise<Faults> {
    const faults = new Faults(world);
    await Deno.mkdir(faults.#directory);
    const families = ["iptables", "ip6tables"];
    const tools = [...families, ...families.map((tool) => `${tool}-restore`), "ip", "nft"];
    for (const tool of tools) {
      const file = `${faults.#directory}/${tool}`;
      await Deno.writeTextFile(file, faults.#script(`/usr/sbin/${tool}`));
      await Deno.chmod(file, 0o755);
    }
    await faults.clear();
    return faults;
  }

  #script(tool: string): string {
    return `#!/bin/sh
here=${this.#directory}
tool=${tool}
case " $* " in *" -S "* | *" show "* | *" list "* | *" --version "* | *" peer "*) exec "$tool" "$@" ;; esac
[ ! -s $here/forever ] || { echo "broken" >&2; exit 9; }
call=$(($(cat $here/calls) + 1))
echo $call 1<> $here/calls # in place: a reader must not find it empty
[ $call -eq $(cat $here/at) ] || exec "$tool" "$@"
until [ -s $here/program ]; do sleep 0.01; done
read program < $here/program
. $here/action
exec "$tool" "$@"
`;
  }

  /** From now on nothing goes wrong. */
  async clear(): Promise<void> {
    const sudoers = `/etc/netns/${this.#world.inside}/sudoers`;
    await Deno.writeTextFile(
      sudoers,
      'Defaults secure_path="/etc/alternatives/faults:/usr/sbin:/usr/bin:/sbin:/bin"\n' +
        "root ALL=(ALL:ALL) ALL\n",
    );
    await Deno.chmod(sudoers, 0o440);
    await this.#set("0", "");
  }

  async #set(at: string, action: string): Promise<void> {
    for (
      const [name, text] of Object.entries({ calls: "0", at, program: "", forever: "", action })
    ) {
      await Deno.writeTextFile(`${this.#directory}/${name}`, text);
    }
  }

  /** Runs the program, and at its n-th changing call, counted from 1, has something go wrong. */
  async run(fault: Fault, call: number, ...args: readonly string[]): Promise<Result> {
    await this.#set(`${call}`, ACTIONS[fault]);
    const [name, ...rest] = this.#world.command(...program(), ...args);
    const child = new Deno.Command(name!, {
      args: rest,
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    await Deno.writeTextFile(`${this.#directory}/program`, `${child.pid}\n`);
    const { code, stdout, stderr } = await child.output();
    const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
    const result = { code, stdout: text(stdout), stderr: text(stderr) };
    await this.#world.settled();
    const calls = await this.calls();
    await this.clear();
    assert(calls >= call, `call ${call} was never made, only ${calls}: ${result.stderr}`);
    return result;
  }

  /** How many changing calls there were since the last {@link clear} or {@link run}. */
  async calls(): Promise<number> {
    return Number(await Deno.readTextFile(`${this.#directory}/calls`));
  }
}
