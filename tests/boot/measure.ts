/**
 * How many frames of a locked account come out, at boot and while other firewalls start, reload and
 * stop: a table, for each Debian, backend and firewall.
 */
import { must } from "../support/process.ts";
import { World } from "../support/world.ts";
import { gotThrough, knocking, knocksOf, lockIn, mended, powerOn } from "./knocks.ts";
import { AGENT, type Boot, CONTROL, Machine, type Tree, whyNoMachine } from "./machine.ts";

const SRC = new URL("../../src/linux/boot/", import.meta.url).pathname;

async function persist(machine: Machine, backend: string): Promise<void> {
  const folder = `${machine.root}/etc/fishnet-firewall`;
  await must("mkdir", "-p", "-m", "700", folder);
  await must("cp", `${SRC}lock.sh`, folder);
  for (const table of ["fishnet", "fishnet_loopback"]) {
    await must("cp", `${SRC}../table_${table}.nft`, `${folder}/${table}.nft`);
  }
  for (const unit of ["lock", "again", "beside@", "watch"]) {
    await must("cp", `${SRC}fishnet-${unit}.service`, `${machine.root}/etc/systemd/system/`);
  }
  await must(
    "chroot",
    machine.root,
    "systemctl",
    "-q",
    "enable",
    "fishnet-lock",
    "fishnet-again",
  );
  await Deno.writeTextFile(
    `${folder}/${AGENT.uid}.account`,
    `name=${AGENT.name}\nbackend=${backend}\nports=\n`,
  );
}

interface Event {
  readonly name: string;
  readonly run: readonly string[];
  /** Nothing mends it by itself. */
  readonly open?: true;
}

const operations = (unit: string): Event[] => [
  ...["restart", "reload", "stop", "start"].map((verb) => ({
    name: `systemctl ${verb} ${unit}`,
    run: ["systemctl", verb, unit],
  })),
];
const EVENTS: Record<string, readonly Event[]> = {
  none: [],
  nftables: operations("nftables"),
  ufw: [
    ...operations("ufw").filter(({ name }) => !name.includes("reload")),
    { name: "ufw reload", run: ["ufw", "reload"] },
  ],
  firewalld: [
    ...operations("firewalld"),
    { name: "firewall-cmd --reload", run: ["firewall-cmd", "-q", "--reload"] },
    { name: "firewall-cmd --complete-reload", run: ["firewall-cmd", "-q", "--complete-reload"] },
  ],
  "netfilter-persistent": [
    ...operations("netfilter-persistent"),
    { name: "netfilter-persistent flush", run: ["netfilter-persistent", "flush"], open: true },
  ],
};

function row(...cells: readonly (string | number)[]): void {
  console.log(`| ${cells.join(" | ")} |`);
}

const sum = (frames: Readonly<Record<string, number>>) =>
  Object.values(frames).reduce((a, b) => a + b, 0);

async function measure(tree: Tree, backend: string, firewall: string): Promise<void> {
  await using machine = await Machine.create("200M", tree);
  await persist(machine, backend);
  if (firewall === "ufw") {
    await must("sed", "-i", "s/ENABLED=no/ENABLED=yes/", `${machine.root}/etc/ufw/ufw.conf`);
  } else if (firewall !== "none") {
    await must("chroot", machine.root, "systemctl", "-q", "enable", firewall);
  }
  const title = [tree.suite, backend, firewall];
  await using world = await World.create();
  const { boot: on, frames } = await powerOn(machine, world);
  await using boot = on;
  const control = knocksOf(frames, CONTROL);
  const out = knocksOf(frames, AGENT);
  row(
    ...title,
    "boot",
    sum(out.frames),
    gotThrough(control) ? "control ok" : JSON.stringify(control),
  );
  if (Deno.args.includes("--verbose")) {
    console.log(await boot.must("systemctl", "list-units", "fishnet*", "--all", "--no-legend"));
    console.log((await boot.exec("journalctl", "-b", "--no-pager", "-u", "fishnet*")).stdout);
    console.log(
      (await boot.exec("sh", "-c", "journalctl -b --no-pager | grep -i -E 'cycle|fishnet'")).stdout,
    );
  }
  const lock = await lockIn(world);
  if (!lock.includes(`${AGENT.uid}`)) throw new Error(`no lock: ${lock}`);
  await using _ = await knocking(boot);
  for (const event of EVENTS[firewall]!) {
    await measureEvent(event, boot, world, lock, title);
  }
}

async function measureEvent(
  { name, run, open }: Event,
  boot: Boot,
  world: World,
  lock: string,
  title: readonly string[],
): Promise<void> {
  if (!Deno.args.includes("--hurry")) {
    await boot.until(
      "sh",
      "-c",
      "! systemctl -q is-active fishnet-watch || systemctl -q is-active firewalld",
    );
  }
  let healed = true;
  const frames = await world.captured("udp", async () => {
    await boot.must(...run);
    if (name.includes("firewalld") && !name.includes("stop")) {
      await boot.until("firewall-cmd", "-q", "--state");
    }
    if (open) return;
    await mended(world, lock, name).catch((error) => {
      healed = false;
      console.error(error.message);
    });
    await new Promise((resolve) => setTimeout(resolve, 2000));
  });
  const afterwards = await world.captured("udp", () => new Promise((r) => setTimeout(r, 500)));
  const left = sum(knocksOf(afterwards, AGENT).frames);
  const control = sum(knocksOf(afterwards, CONTROL).frames);
  row(
    ...title,
    name,
    sum(knocksOf(frames, AGENT).frames),
    `afterwards ${left}, control ${control}`,
    healed ? "" : "NOT WHOLE",
  );
  if (open) await boot.must("sh", "/etc/fishnet-firewall/lock.sh");
}

const only = Deno.args.filter((arg) => !arg.startsWith("--"));
for (const suite of ["bookworm", "trixie"] as const) {
  for (const backend of ["iptables", "nftables"]) {
    for (const firewall of ["none", "nftables", "ufw", "firewalld", "netfilter-persistent"]) {
      if (!only.every((word) => [suite, backend, firewall].includes(word))) continue;
      const tree: Tree = {
        suite,
        firewall: firewall === "netfilter-persistent" ? "iptables-persistent" : "ufw",
      };
      const why = await whyNoMachine(tree);
      if (why !== undefined) row(suite, backend, firewall, "not measured", why);
      else await measure(tree, backend, firewall);
    }
  }
}
