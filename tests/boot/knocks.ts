/**
 * What of a machine's accounts came out, by how each process was started and which way it took:
 * knock.py sends it.
 *
 * @module
 */
import type { World } from "../support/world.ts";
import { AGENT, type Boot, CONTROL, type Machine } from "./machine.ts";

/** How a process of an account starts; knock.py has the same list, and one port for each way. */
const KINDS = ["cron", "linger", "service", "login"] as const;
const WAYS = 9;

/** How many frames of an account were captured, by how it was started; `ways` of how many ways. */
export interface Knocks {
  readonly frames: Readonly<Record<string, number>>;
  readonly ways: number;
}

/** Sorts captured frames, as tcpdump prints them. */
export function knocksOf(frames: readonly string[], { uid }: typeof AGENT): Knocks {
  const ports = frames.flatMap((frame) => {
    const port = Number(/ > \S+\.(\d+): UDP/.exec(frame)?.[1]) - uid;
    return port >= 0 && port < 10 * KINDS.length ? [port] : [];
  });
  const counts = KINDS.map((kind, i): [string, number] => [
    kind,
    ports.filter((port) => Math.floor(port / 10) === i).length,
  ]);
  return {
    frames: Object.fromEntries(counts.filter(([, count]) => count > 0)),
    ways: new Set(ports.map((port) => port % 10)).size,
  };
}

/** Whether all nine ways got through, of each of these kinds. */
export function gotThrough({ frames, ways }: Knocks, kinds = 3): boolean {
  return ways === WAYS && Object.keys(frames).length >= kinds;
}

/** Switches on, and waits until each process that starts by itself has tried for long enough. */
export async function powerOn(
  machine: Machine,
  world: World,
): Promise<{ boot: Boot; frames: string[] }> {
  await using stack = new AsyncDisposableStack();
  const boots: Boot[] = [];
  const frames = await world.captured("udp", async () => {
    const boot = stack.use(await machine.boot(world));
    boots.push(boot);
    await boot.finished();
    for (const { uid } of [AGENT, CONTROL]) {
      for (const kind of KINDS.slice(0, 3)) {
        await boot.until("test", "-e", `/tmp/knocked-${kind}-${uid}`);
      }
    }
  });
  stack.move();
  return { boot: boots[0]!, frames };
}

/** Lets both accounts knock, one frame every 3 ms, from services of their own, until it is disposed of. */
export async function knocking(boot: Boot): Promise<AsyncDisposable> {
  const units = [AGENT, CONTROL].map(({ name }) => `knocking-${name}.service`);
  for (const [i, { name }] of [AGENT, CONTROL].entries()) {
    await boot.must(
      ...["systemd-run", "--quiet", "--collect", `--unit=${units[i]}`, `--uid=${name}`],
      ...["/usr/bin/python3", "/opt/knock.py", "login", "3600"],
    );
  }
  return { [Symbol.asyncDispose]: async () => void await boot.must("systemctl", "stop", ...units) };
}

/** What the system's own tools show of the accounts' locks, in no order. */
export async function lockIn(world: World, by: Pick<World, "must"> = world): Promise<string> {
  const lines = (await world.state(by)).split("\n");
  return lines.filter((line) => /fishnet|uid-owner|uidrange|skuid|elements/.test(line))
    .sort().join("\n");
}

/** Waits until a lock is as it was. */
export async function mended(
  world: World,
  lock: string,
  what: string,
  by: Pick<World, "must"> = world,
): Promise<void> {
  const end = Date.now() + 60_000;
  let now = await lockIn(world, by);
  while (now !== lock) {
    if (Date.now() > end) throw new Error(`not whole after ${what}:\n${now}\ninstead of\n${lock}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
    now = await lockIn(world, by);
  }
}
