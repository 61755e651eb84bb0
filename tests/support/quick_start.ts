/**
 * The README's quick start, run for real inside a world: what a terminal of 80 columns shows.
 *
 * What cannot run there is left out, and is the same every time: nothing is installed, and the lock
 * is not kept over a reboot, since the units of `--persist` would be those of the machine itself.
 *
 * @module
 */
import { until } from "./audit.ts";
import { must, run } from "./process.ts";
import { program, PYTHON, type World } from "./world.ts";

const README = await Deno.readTextFile(new URL("../../README.md", import.meta.url));
const TERMINAL = await Deno.readTextFile(new URL("terminal.py", import.meta.url));

/** The account in the README. */
const NAME = "agent_runner";

/** How wide the terminal is. */
export const COLUMNS = 80;

/** One command, and what the terminal showed, with its colours; what differs by chance is made equal. */
export interface Scene {
  readonly command: string;
  readonly shown: string;
  readonly code: number;
}

/** The blocks of commands below a title of the README, without their comments. */
export function commandsBelow(title: string): string[][] {
  const section = README.split(/^## /m).find((part) => part.startsWith(`${title}\n`));
  if (section === undefined) throw new Error(`README.md has no section "${title}"`);
  return [...section.matchAll(/^```sh\n(.*?)^```$/gms)].map(([, block]) =>
    block!.replaceAll(/\\\n\s*/g, "").trim().split("\n").map((line) => line.replace(/\s+# .*$/, ""))
  );
}

/**
 * Runs the dry-run, and then the quick start up to the end.
 *
 * @param log whether the kernel's audit can be had; otherwise `--log` and the log are left out
 */
export async function quickStart(world: World, { log }: { log: boolean }): Promise<Scene[]> {
  const random = Math.floor(Math.random() * 36 ** 6).toString(36).padStart(6, "0");
  const name = `agent_${random}`; // as long as the README's, so that lines break at the same place
  const [start, agent, end] = commandsBelow("Quick start");
  const commands = [
    `fishnet firewall enable --agent-user ${NAME}`,
    ...start!.filter((line) => !line.includes("apt-get")),
    ...agent!,
    ...end!,
  ].map((line) => line.replace(" --persist", "").replace(log ? "" : " --log", ""));
  const scenes: Scene[] = [];
  for (const command of commands.filter((line) => log || !/\bfirewall log\b/.test(line))) {
    const scene = async () => await play(world, command.replaceAll(NAME, name));
    let { code, shown } = await scene();
    if (/\bfirewall log\b/.test(command)) { // auditd writes a moment later
      await until(async () => {
        ({ code, shown } = await scene());
        return shown.includes("203.0.113.9");
      }, "the refusal is recorded");
    }
    const isThere = (await run(["id", name])).code === 0;
    scenes.push({
      command,
      code,
      shown: isThere
        ? alike(shown, await whose(name))
        : shown.replaceAll("\r\n", "\n").replaceAll(name, NAME),
    });
  }
  return scenes;
}

async function play(world: World, command: string): Promise<{ code: number; shown: string }> {
  const [first, ...rest] = command.split(" ");
  if (command.startsWith("sudo useradd")) {
    await world.account({ name: rest.at(-1)! });
    return { code: 0, shown: "" };
  }
  if (command.endsWith(" &")) {
    world.start(world.command("sh", "-c", `exec ${command.slice(0, -2)}`));
    await world.must(PYTHON, "-c", LISTENING);
    return { code: 0, shown: "" };
  }
  const words = first === "fishnet"
    ? [...program(), ...rest]
    // For the agent's own program stands one that looks at the variables.
    : ["sh", "-c", command.replace("./agent.sh", "curl -sS https://203.0.113.9/")];
  const onTerminal = world.command(PYTHON, "-c", TERMINAL, `${COLUMNS}`, "[]", ...words);
  return JSON.parse(await must(...onTerminal));
}

/** Ends when something listens at the proxy's port. */
const LISTENING = `
import socket, time
for i in range(600):
    try:
        socket.create_connection(("127.0.0.1", 3777), 1).close()
        break
    except OSError:
        time.sleep(0.05)
else:
    raise SystemExit("nothing listens on port 3777")
`;

/** What differs from run to run and from machine to machine, made equal. */
function alike(shown: string, { name, uid, range }: Whose): string {
  const [first, last] = range.split("-");
  const number = (digits: string) => new RegExp(`\\b${digits}\\b`, "g");
  const lines = shown.replaceAll("\r\n", "\n")
    .replaceAll(name, NAME)
    .replaceAll(number(first!), "165536")
    .replaceAll(number(last!), "231071")
    .replaceAll(number(uid), "1002")
    .replaceAll(/\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\b/g, "2026-01-31 12:00:00")
    .replaceAll(/\bcurl\[\d+\]/g, "curl[4242]")
    .replaceAll(/after \d+ ms: Could(?:n't| not)/g, "after 0 ms: Could not")
    .split("\n");
  // That a command takes long is the machine's matter, and so is what else it has.
  // deno-lint-ignore no-control-regex
  const plain = lines.map((line) => line.replaceAll(/\x1b\[\d*m/g, ""));
  return lines.filter((_, i) => {
    const begin = plain.slice(0, i + 1).findLast((line) => !/^(?:\[fishnet\] )? {2}/.test(line));
    return !/^\[fishnet\] (?:waiting:|warning:|the kernel lost)/.test(begin ?? "");
  }).join("\n");
}

/** The account that was made. */
interface Whose {
  readonly name: string;
  readonly uid: string;
  /** Its subordinate uids, as useradd gives them. */
  readonly range: string;
}

async function whose(name: string): Promise<Whose> {
  const uid = (await must("id", "-u", name)).trim();
  const [, first, count] =
    new RegExp(`^${name}:(\\d+):(\\d+)$`, "m").exec(await Deno.readTextFile("/etc/subuid")) ?? [];
  if (first === undefined) throw new Error("useradd gives no subordinate uids here");
  return { name, uid, range: `${first}-${Number(first) + Number(count) - 1}` };
}
