/**
 * A world to test in: two network namespaces joined by a veth. `inside` is the
 * machine with the locked account; `outside` is the rest of the Internet. No
 * packet leaves the two, and both are gone when the test ends.
 *
 * @module
 */
import { Prober, PYTHON } from "./prober.ts";
import { linesOf, must, type Result, run } from "./process.ts";

/** The outside's addresses, and the inside's own. */
export const OUTSIDE_V4 = "10.77.0.2";
export const OUTSIDE_V6 = "fd77::2";
export const INSIDE_V4 = "10.77.0.1";
export const INSIDE_V6 = "fd77::1";

export { PYTHON };

const ROOT = new URL("../../", import.meta.url).pathname;

/** How every user starts the program: with these permissions and no others. */
export const PROGRAM = [
  Deno.execPath(),
  "run",
  "--quiet",
  "--no-prompt",
  "--allow-run=sudo",
  "--allow-env=USER",
  `${ROOT}main.ts`,
] as const;

/**
 * The program under test: the sources, what `deno bundle` made of them where FISHNET_BUNDLE names it,
 * or the binary that FISHNET_BIN names.
 */
export function program(): readonly string[] {
  const [binary, bundle] = ["FISHNET_BIN", "FISHNET_BUNDLE"].map((name) => Deno.env.get(name));
  if (binary !== undefined) return [binary];
  return bundle === undefined ? PROGRAM : [...PROGRAM.slice(0, -1), "--no-config", bundle];
}

/** Which of Debian's two iptables the plain names stand for, inside a world. */
export type Variant = "nft" | "legacy";

/** Why the tests with real packets cannot run here; undefined where they can. */
export function whyNoWorld(): string | undefined {
  if (Deno.build.os !== "linux") return "needs Linux's network namespaces";
  if (Deno.uid() !== 0) return "needs root, to make network namespaces";
  for (
    const tool of ["ip", "iptables-nft", "iptables-legacy", "nft", "sudo", "tcpdump", PYTHON]
  ) {
    const { success } = new Deno.Command("sh", { args: ["-c", `command -v ${tool}`] }).outputSync();
    if (!success) return `needs ${tool}`;
  }
  return undefined;
}

/** Tells this process, and this worker of `deno test --parallel`, from every other. */
const RUN = Math.floor(Math.random() * 300_000);

/** See {@link World.state}: one process of a shell, since tests ask for it again and again. */
const STATE = `
for command in iptables ip6tables; do
  for variant in nft legacy; do
    echo $command-$variant
    $command-$variant-save
  done
done
ip -4 rule show
ip -6 rule show
nft list ruleset inet
`;

/** What iptables-save prints of others' chains, and around them. */
const NO_RULE = /^(?:#|\*|COMMIT$|:(?!fishnet)).*\n/gm;

/**
 * See {@link World.create}. Everyone may ping, and an IPv6 address works as soon as it is there. A
 * device whose number is not its peer's is up at once, and not within a second (the kernel's
 * linkwatch_urgent_event).
 */
const CREATE = `
inside=$1 outside=$2 variant=$3
# What lies here is laid over /etc inside (ip-netns(8)): the one variant has the plain names.
etc=/etc/netns/$inside
mkdir -p "$etc"
# Runs of the program wait for each other by a lock on the sudoers file: each world has its own, and
# its own settings of sudo.
cp -a /etc/alternatives /etc/sudoers /etc/sudoers.d "$etc"
cd "$etc/alternatives"
for command in iptables ip6tables; do
  for suffix in "" -save -restore; do
    [ "$command$suffix" -ef "/usr/sbin/$command-$variant$suffix" ] ||
      ln -sfn "/usr/sbin/$command-$variant$suffix" "$command$suffix"
  done
done
ip -batch - <<end
netns add $inside
netns add $outside
end
for ns in "$inside" "$outside"; do
  nsenter --net="/run/netns/$ns" sysctl -qw "net.ipv4.ping_group_range=0 2147483647" \\
    net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.default.router_solicitations=0
done
ip -n "$inside" -batch - <<end
link set lo up
link add out0 index 7 type veth peer in0 netns $outside
addr add ${INSIDE_V4}/24 dev out0
addr add ${INSIDE_V6}/64 dev out0 nodad
link set out0 up
end
ip -n "$outside" -batch - <<end
link set lo up
addr add ${OUTSIDE_V4}/24 dev in0
addr add ${OUTSIDE_V6}/64 dev in0 nodad
link set in0 up
end
ip -n "$inside" -batch - <<end
route add default via ${OUTSIDE_V4}
route add default via ${OUTSIDE_V6}
end
`;

let worlds = 0;

/** Defines a test with a world of its own, or counts it as skipped and says why. */
export function worldTest(
  name: string,
  body: (world: World, t: Deno.TestContext) => Promise<void>,
  variant: Variant = "nft",
): void {
  const why = whyNoWorld();
  Deno.test({
    name: why === undefined ? name : `${name} (skipped: ${why})`,
    ignore: why !== undefined,
    async fn(t) {
      await using world = await World.create(variant);
      await body(world, t);
    },
  });
}

/** A frame of root's to this port marks the end: what came before it has been captured. */
const MARK_PORT = 9999;

/** What comes out, as tcpdump sees it on the outside, a frame a line: no answer, however late. */
class Capture implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #frames: ReadableStreamDefaultReader<string>;
  readonly #said: ReadableStreamDefaultReader<string>;

  private constructor(outside: string, filter: string) {
    this.#child = new Deno.Command("nsenter", {
      args: [
        ...[`--net=/run/netns/${outside}`, "tcpdump", "-i", "in0", "-n", "-l", "--immediate-mode"],
        // The kernel keeps some 19,000 frames until they are read, which is after the action. To
        // make room for them is what takes long: headers are enough.
        ...["--snapshot-length=256", "--buffer-size=8192", "--direction=in"],
        `(${filter}) or (udp and dst port ${MARK_PORT})`,
      ],
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    this.#frames = linesOf(this.#child.stdout);
    this.#said = linesOf(this.#child.stderr);
  }

  /** Resolves when nothing that is sent from now on is missed. */
  static async start(outside: string, filter: string): Promise<Capture> {
    const capture = new Capture(outside, filter);
    let line = await capture.#said.read();
    while (!line.done && !line.value.includes("listening on")) line = await capture.#said.read();
    return capture;
  }

  /** The next frame; undefined when tcpdump has ended. */
  async next(): Promise<string | undefined> {
    return (await this.#frames.read()).value;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGTERM");
    await Promise.all([this.#child.status, this.#frames.cancel(), this.#said.cancel()]);
  }
}

/** Two joined network namespaces, and the accounts that a test made. */
export class World implements AsyncDisposable {
  readonly inside: string;
  readonly outside: string;
  /** The first of 10,000 uids that no other world uses: for subordinate ranges. */
  readonly firstUid: number;
  readonly #accounts: string[] = [];
  readonly #subordinate: string[] = [];
  readonly #children: Deno.ChildProcess[] = [];
  #prober: Prober | undefined;

  private constructor() {
    const id = `${RUN}-${++worlds}`;
    // Above what useradd gives (SUB_UID_MAX of login.defs(5)), below 2^32.
    this.firstUid = 700_000_000 + (RUN + worlds) * 10_000;
    this.inside = `fnin-${id}`;
    this.outside = `fnout-${id}`;
  }

  /** Makes the namespaces, with addresses of both families and a default route. */
  static async create(variant: Variant = "nft"): Promise<World> {
    const world = new World();
    try {
      await must("sh", "-ec", CREATE, "sh", world.inside, world.outside, variant);
      // A packet to a neighbour that has not answered yet waits in a queue behind every rule, and
      // may leave a second later, when the account that sent it is locked.
      for (const address of [OUTSIDE_V4, OUTSIDE_V6]) {
        const { code, stdout } = await world.try("root", "meet", address, 9);
        if (code !== 0) throw new Error(`the outside does not answer: ${stdout}`);
      }
      return world;
    } catch (error) {
      await world[Symbol.asyncDispose]();
      throw error;
    }
  }

  /**
   * Adds an account, with the next free uid and, as useradd does, a range of
   * subordinate uids.
   */
  async account(options: { name?: string; args?: readonly string[] } = {}): Promise<string> {
    const name = options.name ?? `fn${RUN}_${worlds}_${this.#accounts.length}`;
    await must("useradd", "--no-create-home", "--shell", "/bin/sh", ...options.args ?? [], name);
    this.#accounts.push(name);
    return name;
  }

  /** Whether it is a name, or a uid, of this world's own. */
  owns(name: string): boolean {
    const uid = Number(/^uids? (\d+)/.exec(name)?.[1] ?? NaN);
    return this.#accounts.includes(name) || name.startsWith(`gone${RUN}_`) ||
      (uid >= this.firstUid && uid < this.firstUid + 10_000);
  }

  /** A name of this world's own for a uid that has no account. */
  named(uid: number): string {
    return `gone${RUN}_${uid}`;
  }

  /** The words that put a command inside. */
  command(...command: readonly string[]): string[] {
    return ["ip", "netns", "exec", this.inside, ...command];
  }

  /** Runs a command inside, as root. */
  exec(...command: readonly string[]): Promise<Result> {
    return run(this.command(...command));
  }

  /** Runs a command inside that has to succeed. */
  async must(...command: readonly string[]): Promise<string> {
    return await must(...this.command(...command));
  }

  /** The words that put a command inside as an account, or as a bare uid, without other rights. */
  commandAs(account: string, ...command: readonly string[]): string[] {
    return this.command(
      ...["setpriv", "--reuid", account, "--regid", account, "--clear-groups", ...command],
    );
  }

  /** Runs a command inside as an account, or as a bare uid. */
  as(account: string, ...command: readonly string[]): Promise<Result> {
    return run(this.commandAs(account, ...command));
  }

  /** Adds lines to /etc/subuid and /etc/subgid, which go when the world ends. */
  async subordinate(...lines: readonly string[]): Promise<void> {
    this.#subordinate.push(...lines);
    await editSubordinate("add", lines);
  }

  /** Adds such lines for the time of an action. */
  async withSubordinate(lines: readonly string[], action: () => Promise<void>): Promise<void> {
    await this.subordinate(...lines);
    try {
      await action();
    } finally {
      await editSubordinate("remove", lines);
    }
  }

  /** Tries inside, as an account or as a bare uid, to reach an address in a way of `probe.py`. */
  try(account: string, vector: string, address: string, port: number): Promise<Result> {
    this.#prober ??= new Prober((...command) => this.command(...command));
    return this.#prober.try(account, vector, address, port);
  }

  /** Runs the program inside, with the permissions that it ships with. */
  fishnet(...args: readonly string[]): Promise<Result> {
    return this.exec(...program(), ...args);
  }

  /**
   * Waits until no run of the program is at work here: the root shell of one that was killed holds
   * the lock until it has undone what there was.
   */
  async settled(): Promise<void> {
    await this.must("flock", "-w", "120", "/etc/sudoers", "true");
  }

  /** Starts a command and keeps it until the world ends. */
  start(
    command: readonly string[],
    options: { stdin?: "piped" | "null" } = {},
  ): Deno.ChildProcess {
    const [name, ...args] = command;
    const child = new Deno.Command(name!, {
      args,
      stdin: options.stdin ?? "null",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    this.#children.push(child);
    return child;
  }

  /**
   * All that a lock touches inside, as the system's own tools print it: the
   * rules of both families and both variants, the routing rules, our tables. An
   * empty built-in table that iptables-nft leaves behind is no difference.
   *
   * @param by whose tools: those of a newer system write what older ones cannot read
   */
  async state(by: Pick<World, "must"> = this): Promise<string> {
    const [rules, ...tables] = (await by.must("sh", "-ec", STATE)).split(/^(?=table )/m);
    const ours = tables.filter((table) => /^table inet fishnet(?!_guard)/.test(table)).sort();
    // A set is a hash: nft prints its elements in the order of their buckets.
    return rules!.replaceAll(NO_RULE, "") + ours.join("").replace(
      /elements = \{((?:[^}"]|"[^"]*")*)\}/g,
      (_, elements: string) =>
        `elements = { ${elements.split(",").map((one) => one.trim()).sort().join(", ")} }`,
    );
  }

  /**
   * Captures on the outside while an action runs, and returns the frames from
   * inside that match a pcap filter, as tcpdump prints them.
   */
  async captured(filter: string, action: () => Promise<unknown>): Promise<string[]> {
    return (await this.capturedEach(filter, [action]))[0]!;
  }

  /** The same for several actions, one after another. */
  async capturedEach(
    filter: string,
    actions: readonly (() => Promise<unknown>)[],
  ): Promise<string[][]> {
    await using capture = await Capture.start(this.outside, filter);
    const frames: string[][] = [];
    for (const action of actions) {
      await action();
      frames.push(await this.#upToNow(capture));
    }
    return frames;
  }

  /**
   * The same for what is sent a while after the action, by a timer of the kernel or by another
   * process: waits for the first frame, a minute at most.
   */
  async capturedLater(filter: string, action: () => Promise<unknown>): Promise<string[]> {
    await using capture = await Capture.start(this.outside, filter);
    await action();
    const first = capture.next();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const waited = new Promise((resolve) => timer = setTimeout(resolve, 60_000));
    await Promise.race([first, waited]);
    clearTimeout(timer);
    return await this.#upToNow(capture, first);
  }

  /** The frames from `first` on, up to one of root's that is sent now. */
  async #upToNow(capture: Capture, first = capture.next()): Promise<string[]> {
    await this.try("root", "udp_once", OUTSIDE_V4, MARK_PORT);
    const frames: string[] = [];
    for (let frame = await first;; frame = await capture.next()) {
      if (frame === undefined || frame.includes(`${OUTSIDE_V4}.${MARK_PORT}:`)) return frames;
      frames.push(frame);
    }
  }

  /** Ends what was started, and removes the accounts and the namespaces. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#prober?.[Symbol.asyncDispose]();
    for (const child of this.#children) {
      try {
        child.kill("SIGKILL");
      } catch (error) {
        if (!(error instanceof TypeError)) throw error; // it has ended already
      }
      await child.stdout.cancel().catch(() => {});
      await child.status;
    }
    for (const account of this.#accounts) {
      await run(["userdel", "--force", account]);
    }
    if (this.#subordinate.length > 0) {
      await editSubordinate("remove", this.#subordinate);
    }
    for (const ns of [this.inside, this.outside]) await run(["ip", "netns", "del", ns]);
    await run(["rm", "-rf", `/etc/netns/${this.inside}`]);
  }
}

/**
 * Adds lines to /etc/subuid and /etc/subgid, or removes them, under the lock that useradd and the
 * like wait for (lckpwdf(3): a lock of fcntl(2) on /etc/.pwd.lock), and by a rename, so that nobody
 * reads half of a file.
 */
const EDIT = `
import fcntl, os, sys
action, lines = sys.argv[1], sys.argv[2:]
with open("/etc/.pwd.lock", "w") as lock:
    fcntl.lockf(lock, fcntl.LOCK_EX)
    for name in "/etc/subuid", "/etc/subgid":
        with open(name) as file:
            text = file.read()
        if action == "add":
            text += "".join(line + "\\n" for line in lines)
        else:
            text = "".join(line for line in text.splitlines(True) if line.rstrip("\\n") not in lines)
        with open(name + ".test", "w") as file:
            file.write(text)
        os.chmod(name + ".test", 0o644)
        os.rename(name + ".test", name)
`;

async function editSubordinate(action: "add" | "remove", lines: readonly string[]): Promise<void> {
  await must(PYTHON, "-c", EDIT, action, ...lines);
}
