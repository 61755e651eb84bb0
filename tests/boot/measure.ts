// deno-lint-ignore-file no-console -- its figures are what it is for
/**
 * How many frames of a locked account come out, at boot and while other firewalls start, reload and
 * stop: a table, for each Debian, backend and firewall.
 */
import { must } from "../support/process.ts";
import { World } from "../support/world.ts";
import { gotThrough, knocking, knocksOf, lockIn, mended, powerOn } from "./knocks.ts";
import {
  AGENT,
  type Boot,
  CONTROL,
  Machine,
  type Tree,
  treeWith,
  whyNoMachine,
} from "./machine.ts";

/** Locks the account on a machine that has booted, so that it is locked again at the next boot. */
async function persist(machine: Machine, backend: string): Promise<void> {
  await using world = await World.create();
  await using boot = await machine.boot(world);
  await boot.finished();
  const options = ["--agent-user", AGENT.name, "--backend", backend, "--persist", "--apply"];
  const enabled = await boot.fishnet("enable", ...options);
  if (enabled.code !== 0) throw new Error(enabled.stderr);
}

interface Event {
  readonly name: string;
  readonly run: readonly string[];
}

const operations = (unit: string): Event[] => [
  ...["restart", "reload", "stop", "start"].map((verb) => ({
    name: `systemctl ${verb} ${unit}`,
    run: ["systemctl", verb, unit],
  })),
];
/** What the package iptables-services of Fedora and its kin does, which Debian has not got. */
const SERVICE = `[Unit]
Wants=network-pre.target
Before=network-pre.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh /opt/iptables.sh -restore
ExecReload=/bin/sh /opt/iptables.sh -restore
ExecStop=/bin/sh /opt/iptables.sh
[Install]
WantedBy=basic.target
`;
const SERVICE_SCRIPT = `for i in iptables ip6tables; do
  if [ "$1" = -restore ]; then printf "*mangle\\nCOMMIT\\n*filter\\nCOMMIT\\n" | $i-restore
  else for table in mangle filter; do $i -t $table -F; $i -t $table -X; done; fi
done
`;

const EVENTS: Record<string, readonly Event[]> = {
  none: [
    { name: "nft flush ruleset", run: ["nft", "flush", "ruleset"] },
    {
      name: "iptables -F, both families, all tables",
      run: [
        "sh",
        "-c",
        "for i in iptables ip6tables; do for t in mangle filter; do $i -t $t -F; done; done",
      ],
    },
    {
      name: "iptables-restore of an empty file",
      run: [
        "sh",
        "-c",
        "for i in iptables ip6tables; do printf '*mangle\nCOMMIT\n*filter\nCOMMIT\n' | $i-restore; done",
      ],
    },
  ],
  "nftables.service": operations("nftables"),
  ufw: [
    ...operations("ufw").filter(({ name }) => !name.includes("reload")),
    { name: "ufw reload", run: ["ufw", "reload"] },
  ],
  firewalld: [
    ...operations("firewalld"),
    { name: "firewall-cmd --reload", run: ["firewall-cmd", "-q", "--reload"] },
    { name: "firewall-cmd --complete-reload", run: ["firewall-cmd", "-q", "--complete-reload"] },
  ],
  "iptables.service": operations("iptables"),
  "netfilter-persistent": [
    ...operations("netfilter-persistent").filter(({ name }) => !name.includes("reload")),
    { name: "netfilter-persistent flush", run: ["netfilter-persistent", "flush"] },
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
  if (firewall === "iptables.service") {
    await Deno.writeTextFile(`${machine.root}/etc/systemd/system/iptables.service`, SERVICE);
    await Deno.writeTextFile(`${machine.root}/opt/iptables.sh`, SERVICE_SCRIPT);
  }
  if (firewall === "ufw") {
    await must("sed", "-i", "s/ENABLED=no/ENABLED=yes/", `${machine.root}/etc/ufw/ufw.conf`);
  } else if (firewall !== "none") {
    await must("chroot", machine.root, "systemctl", "-q", "enable", firewall);
  }
  const title = [tree.suite, backend, firewall];
  await using world = await World.create();
  const { boot, frames } = await powerOn(machine, world);
  await using stack = new AsyncDisposableStack();
  stack.use(boot);
  const control = knocksOf(frames, CONTROL);
  const out = knocksOf(frames, AGENT);
  row(
    ...title,
    "boot",
    sum(out.frames),
    gotThrough(control) ? "control ok" : JSON.stringify(control),
  );
  const lock = await lockIn(world, boot);
  if (!lock.includes(`${AGENT.uid}`)) throw new Error(`no lock: ${lock}`);
  await knocking(boot);
  for (const event of EVENTS[firewall]!) {
    await measureEvent(event, boot, world, lock, title);
  }
  if (firewall !== "none") await boot.must("systemctl", "start", firewall);
  const last = await world.captured("udp", () => stack.disposeAsync());
  const count = (account: typeof AGENT) => sum(knocksOf(last, account).frames);
  row(...title, "shutdown", count(AGENT), `control ${count(CONTROL)}`);
}

async function measureEvent(
  { name, run }: Event,
  boot: Boot,
  world: World,
  lock: string,
  title: readonly string[],
): Promise<void> {
  let healed = true;
  // Nobody hears it once what listened to the last firewall that started has ended.
  if (title.includes("none")) await boot.must("systemctl", "stop", "fishnet-watch");
  const frames = await world.captured("udp", async () => {
    await boot.must(...run);
    if (name.includes("firewalld") && !name.includes("stop")) {
      await boot.until("firewall-cmd", "-q", "--state");
    }
    // What somebody flushes by hand, nobody mends.
    if (!title.includes("none")) {
      await mended(world, lock, name, boot).catch((error) => {
        healed = false;
        console.error(error.message);
      });
    }
    await new Promise((resolve) => setTimeout(resolve, 2000));
  });
  if (title.includes("none")) {
    await boot.fishnet("enable", "--agent-user", AGENT.name, "--apply");
    await mended(world, lock, "enable", boot);
  }
  // What came out is counted; that nothing does any more is the point.
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
}

/** Words that name what is to be measured, out of each list below; all of it without any. */
const only = Deno.args;
for (const suite of ["bookworm", "trixie"] as const) {
  for (const backend of ["iptables", "nftables"]) {
    for (const firewall of Object.keys(EVENTS)) {
      if (!only.every((word) => [suite, backend, firewall].includes(word))) continue;
      const other = firewall === "netfilter-persistent" ? "iptables-persistent" : "ufw";
      const tree = treeWith(suite, other);
      const why = await whyNoMachine(tree);
      if (why !== undefined) row(suite, backend, firewall, "not measured", why);
      else await measure(tree, backend, firewall);
    }
  }
}
