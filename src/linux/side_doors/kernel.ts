/**
 * What the kernel itself does for any account: sockets of families that no rule for a uid holds,
 * subflows of MPTCP, and uids from elsewhere than /etc/subuid.
 *
 * @module
 */
import type { Warning } from "../../lock/report.ts";
import { shown } from "../../shown.ts";
import type { Files } from "../../statements.ts";
import { isOf } from "../../lock/uid_range.ts";
import { type Locked, whose } from "./locked.ts";

/**
 * Families of sockets that any account may open, of which the kernel sends packets without asking a
 * rule for a uid: by the module's name, which is also that in /proc/net/protocols, what the kernel asks
 * modprobe for (`socket`, net/socket.c, and the families' own `create`).
 */
const FAMILIES: Readonly<Record<string, string>> = {
  sctp: "net-pf-2-proto-132",
  pppoe: "net-pf-24-proto-0",
  smc: "net-pf-43",
  rds: "net-pf-21",
  tipc: "net-pf-30",
  rxrpc: "net-pf-33",
};

/** What modprobe is asked for. */
export const FAMILY_ALIASES: readonly string[] = Object.values(FAMILIES);

/**
 * The families that are there, or would be when an account asks.
 *
 * @param protocols /proc/net/protocols
 * @param autoload what `modprobe --dry-run --verbose` printed: `insmod /…/smc.ko.xz`
 */
export function familyWarnings(protocols: string, autoload: string): Warning[] {
  const there = new Set(protocols.split("\n").map((line) => line.split(/\s/)[0]!.toLowerCase()));
  const loadable = new Set(
    [...autoload.matchAll(/^insmod \S*\/([\w-]+)\.ko/gm)].map(([, name]) => name!),
  );
  const open = Object.keys(FAMILIES).filter((name) => there.has(name) || loadable.has(name));
  if (open.length === 0) return [];
  const reboot = open.some((name) => there.has(name)) ? ", and reboot" : "";
  return [{
    reason: `any account may open sockets of ${
      open.join(", ")
    }: no rule for a uid holds all they send`,
    remedy: `printf 'install %s /bin/false\\n' ${open.join(" ")} ` +
      `>/etc/modprobe.d/no-sockets.conf${reboot}`,
  }];
}

/**
 * With an endpoint, the kernel opens a subflow from an outside address also for a connection over
 * loopback: a packet with bits of the account's choice.
 *
 * @param endpoints what `ip mptcp endpoint show` printed: `10.0.2.15 id 1 subflow dev eth0`
 */
export function mptcpWarnings(accounts: readonly Locked[], endpoints: string): Warning[] {
  const open = accounts.filter(({ mptcpHeld }) => !mptcpHeld);
  if (open.length === 0 || !/\bid \d+\b/.test(endpoints)) return [];
  return [{
    ...whose(open),
    reason: "MPTCP over loopback sends packets to outside, and the rule against it is not there",
    remedy: "sysctl -w net.mptcp.enabled=0, and the same line in /etc/sysctl.d",
  }];
}

/**
 * Before CVE-2026-31692 was mended (April 2026; distributions mend older kernels) whoever may make a user
 * namespace made a pair of devices with one end in anybody's network.
 *
 * @param may what `may.pl` printed
 */
export function peerWarnings(may: string): Warning[] {
  if (!/^any peer$/m.test(may)) return [];
  return [{
    reason:
      "this kernel lets any account put a device into this network (CVE-2026-31692): what it " +
      "sends there comes as a neighbour's, and is forwarded or answered",
    remedy: "update the kernel; until then, if nothing here needs user namespaces, " +
      "sysctl -w user.max_user_namespaces=0",
    urgency: 1,
  }];
}

/** The queues that programs read, a line each (nfnetlink_queue). */
export const QUEUES = "/proc/net/netfilter/nfnetlink_queue";

/**
 * Packets that wait for a program's word (NFQUEUE: OpenSnitch, say) before they come to the lock's
 * rules: one whose socket is closed meanwhile has no owner any more.
 *
 * @param queues what is in {@link QUEUES}
 */
export function queueWarnings(accounts: readonly Locked[], queues: string): Warning[] {
  const open = accounts.filter(({ backend }) => backend !== "nftables");
  if (open.length === 0 || queues.trim() === "") return [];
  return [{
    ...whose(open),
    reason: "a program decides on packets in a queue: one whose socket is closed meanwhile is " +
      "nobody's when it comes to the lock",
    remedy: "enable again with --backend nftables, whose rules come first, or stop that program",
  }];
}

/** Whose each tap or tun device is, whether it lasts (the kernel's drivers/net/tun.c), and of what kind others are. */
export const DEVICE_FILES: readonly string[] = [
  ...["/sys/class/net/*/owner", "/sys/class/net/*/group", "/sys/class/net/*/tun_flags"],
  "/dev/net/tun",
  "/sys/class/net/*/uevent",
];

/** Devices that unpack what comes to a UDP port of this machine, from itself as well. */
const UNPACKING = /^DEVTYPE=(vxlan|geneve|bareudp|gtp|amt|pfcp)$/m;

/**
 * Tunnels of root's: a frame that an account sends to such a port, at an address of this machine, is
 * unpacked, and is nobody's from then on: it is answered, bridged or routed.
 */
export function tunnelWarnings(accounts: readonly Locked[], files: Files): Warning[] {
  const open = accounts.filter(({ onlyPorts }) => onlyPorts.length === 0);
  return [...files].flatMap(([path, { text }]) => {
    const [, kind] = UNPACKING.exec(text) ?? [];
    const [, device] = /^\/sys\/class\/net\/([^/]+)\/uevent$/.exec(path) ?? [];
    if (kind === undefined || device === undefined || open.length === 0) return [];
    return [{
      ...whose(open),
      reason: `the ${kind} device ${
        shown(device)
      } unpacks what is sent to its UDP port here, and passes on what is in it`,
      remedy: "enable again with --only-port and the proxy's port",
    }];
  });
}

/** IFF_PERSIST: it is there while nobody has it open (linux/if_tun.h). */
const PERSISTENT = 0x0800;

/**
 * Devices of an account's own, and those of nobody, which are everybody's who may open /dev/net/tun: what
 * is written to one is a packet that comes in, and may be forwarded.
 */
export function deviceWarnings(accounts: readonly Locked[], files: Files): Warning[] {
  const anybodyOpens = /[2367]$/.test(files.get("/dev/net/tun")?.mode ?? "");
  return [...files].flatMap(([path, { text }]) => {
    const [, device] = /^\/sys\/class\/net\/([^/]+)\/owner$/.exec(path) ?? [];
    if (device === undefined || text.trim() === "") return [];
    const number = (name: string) =>
      Number(files.get(path.replace(/owner$/, name))?.text.trim() || "0");
    const account = accounts.find((one) => isOf(one, Number(text)));
    const isAnybodys = anybodyOpens && text.trim() === "-1" && number("group") === -1 &&
      (number("tun_flags") & PERSISTENT) !== 0;
    if (account === undefined && !isAnybodys) return [];
    return [{
      ...(account === undefined ? {} : { account: account.name }),
      reason: `${account === undefined ? "any account may open" : "owns"} the device ${
        shown(device)
      }: what it writes there goes on by bridge or routing`,
      remedy: `ip link delete ${shown(device)}, or give it to another account`,
    }];
  });
}

/**
 * Where accounts get uids that no rule holds. systemd-nsresourced(8) lends ranges to any account that
 * asks, out of one that all share; `subid` in nsswitch.conf may name a plugin for /etc/subuid (subuid(5)).
 *
 * @param nsresourced whether its socket is there
 */
export function lentUidsWarnings(nsresourced: boolean, nsswitch: string): Warning[] {
  const source = /^subid:\s*(\S+)/m.exec(nsswitch)?.[1] ?? "files";
  return [
    ...(nsresourced
      ? [{
        reason: "systemd-nsresourced lends any account uids that are not locked",
        remedy: "systemctl mask --now systemd-nsresourced.socket systemd-nsresourced.service",
      }]
      : []),
    ...(source === "files" ? [] : [{
      reason: `subordinate uids come from ${
        shown(source)
      }, and only those in /etc/subuid are locked`,
      remedy: "have /etc/nsswitch.conf say 'subid: files', with the ranges in /etc/subuid",
    }]),
  ];
}
