/** What the kernel does for any account: sockets of some families, subflows of MPTCP, lent uids. */
import { wordOf } from "../../line.ts";
import type { Warning } from "../../lock/report.ts";
import { shown } from "../../shown.ts";
import type { Files } from "../../root.ts";
import { isOf } from "../../lock/uid_range.ts";
import { type Locked, ONLY_PORT, warningOf, withoutPorts } from "./locked.ts";

/**
 * Families of sockets that any account may open, of which the kernel sends packets without asking a
 * rule for a uid: by the module's name, which is also that in /proc/net/protocols, what the kernel asks
 * modprobe for (`socket`, net/socket.c, and the families' own `create`). The last two are none: an account
 * makes such a device in a network of its own. When that ends the kernel moves the one to the first
 * network, as it does with a real one (default_device_exit_net); the other the account moves there itself
 * (nl80211_wiphy_netns).
 */
const FAMILIES: Readonly<Record<string, string>> = {
  sctp: "net-pf-2-proto-132",
  pppoe: "net-pf-24-proto-0",
  smc: "net-pf-43",
  rds: "net-pf-21",
  tipc: "net-pf-30",
  rxrpc: "net-pf-33",
  l2tp_eth: "net-l2tp-type-5",
  mac80211_hwsim: "net-pf-16-proto-16-family-MAC80211_HWSIM",
};

/** What modprobe is asked for. */
export const FAMILY_ALIASES: readonly string[] = Object.values(FAMILIES);

/**
 * The families that are there, or that modprobe would load for an account: `insmod /…/smc.ko.xz`.
 *
 * @param there the protocols and the modules that the kernel has
 */
export function familyWarnings(there: string, autoload: string): Warning[] {
  const isThere = (name: string) => new RegExp(`^${name}\\s`, "im").test(there);
  const isLoadable = (name: string) => new RegExp(`^insmod \\S*/${name}\\.ko`, "m").test(autoload);
  const open = Object.keys(FAMILIES).filter((name) => isThere(name) || isLoadable(name));
  if (open.length === 0) return [];
  const names = open.join(", ");
  const reboot = open.some(isThere) ? ", and reboot" : "";
  return [{
    reason: `any account may use ${names}: no rule for a uid holds all they send`,
    remedy: `printf 'install %s /bin/false\\n' ${open.join(" ")} ` +
      `>/etc/modprobe.d/no-sockets.conf${reboot}`,
  }];
}

/**
 * With an endpoint (`10.0.2.15 id 1 subflow dev eth0`), the kernel opens a subflow from an outside
 * address also for a connection over loopback: a packet with bits of the account's choice.
 */
export function mptcpWarnings(accounts: readonly Locked[], endpoints: string): Warning[] {
  if (!/\bid \d+\b/.test(endpoints)) return [];
  return warningOf(
    accounts.filter(({ mptcpHeld }) => !mptcpHeld),
    "MPTCP over loopback sends packets to outside, and the rule against it is not there",
    "sysctl -w net.mptcp.enabled=0, and the same line in /etc/sysctl.d",
  );
}

/** Until April 2026 (distributions mend older kernels) a user namespace was enough to do that. */
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

/** The queues that programs read, a line each. */
export const QUEUES = "/proc/net/netfilter/nfnetlink_queue";

/** Packets that wait for a program's word (NFQUEUE: OpenSnitch, say) before the lock's rules. */
export function queueWarnings(accounts: readonly Locked[], queues: string): Warning[] {
  if (queues.trim() === "") return [];
  return warningOf(
    accounts.filter(({ backend }) => backend !== "nftables"),
    "a program decides on packets in a queue: one whose socket is closed meanwhile is " +
      "nobody's when it comes to the lock",
    "enable again with --backend nftables, whose rules come first, or stop that program",
  );
}

/** Whose each tap or tun device is, whether it lasts (the kernel's drivers/net/tun.c), and of what kind others are. */
export const DEVICE_FILES: readonly string[] = [
  ...["owner", "group", "tun_flags", "uevent"].map((name) => `/sys/class/net/*/${name}`),
  "/dev/net/tun",
];

/** The devices that have a file of this name, and what reads their files. */
function devicesWith(name: string, files: Files) {
  return [...files.keys()].flatMap((path) => {
    const [, device, file] = /^\/sys\/class\/net\/([^/]+)\/(\w+)$/.exec(path) ?? [];
    if (device === undefined || file !== name) return [];
    const read = (name: string) => files.get(`/sys/class/net/${device}/${name}`)?.text.trim() ?? "";
    return [{ device: shown(device), read }];
  });
}

/** Devices that unpack what comes to a UDP port of this machine, from itself as well. */
const UNPACKING = /^DEVTYPE=(vxlan|geneve|bareudp|gtp|amt|pfcp)$/m;

/** Tunnels of root's: a frame that comes to its port is unpacked, and is nobody's from then on. */
export function tunnelWarnings(accounts: readonly Locked[], files: Files): Warning[] {
  return devicesWith("uevent", files).flatMap(({ device, read }) => {
    const [, kind] = UNPACKING.exec(read("uevent")) ?? [];
    const passes = "unpacks what is sent to its UDP port here, and passes on what is in it";
    return kind === undefined
      ? []
      : warningOf(withoutPorts(accounts), `the ${kind} device ${device} ${passes}`, ONLY_PORT);
  });
}

/** IFF_PERSIST: it is there while nobody has it open (linux/if_tun.h). */
const PERSISTENT = 0x0800;

/** Those of an account, and of nobody: they are everybody's who may open /dev/net/tun. */
export function deviceWarnings(accounts: readonly Locked[], files: Files): Warning[] {
  const anybodyOpens = /[2367]$/.test(files.get("/dev/net/tun")?.mode ?? "");
  return devicesWith("owner", files).flatMap(({ device, read }) => {
    const owner = read("owner");
    const account = owner === "" ? undefined : accounts.find((one) => isOf(one, Number(owner)));
    const isAnybodys = anybodyOpens && owner === "-1" && read("group") === "-1" &&
      (Number(read("tun_flags")) & PERSISTENT) !== 0;
    if (account === undefined && !isAnybodys) return [];
    const may = account === undefined ? "any account may open" : "owns";
    return [{
      ...(account && { account: account.name }),
      reason: `${may} the device ${device}: what it writes there goes on by bridge or routing`,
      remedy: `ip link delete ${wordOf(device)}, or give it to another account`,
    }];
  });
}

/**
 * systemd-nsresourced(8) lends ranges that all share, and from version 258 on one end of a pair of devices
 * whose other end is here, where systemd-networkd leads it on (80-namespace-ns.network). `subid` may name
 * a plugin (subuid(5)).
 */
export function lentUidsWarnings(nsresourced: boolean, nsswitch: string): Warning[] {
  const source = shown(/^subid:\s*(\S+)/m.exec(nsswitch)?.[1] ?? "files");
  const lent = {
    reason:
      "systemd-nsresourced lends any account uids that are not locked, and a network device: " +
      "what it sends there comes as a neighbour's, and is forwarded or answered",
    remedy: "systemctl mask --now systemd-nsresourced.socket systemd-nsresourced.service",
    urgency: 1,
  };
  const elsewhere = {
    reason: `subordinate uids come from ${source}, and only those in /etc/subuid are locked`,
    remedy: "have /etc/nsswitch.conf say 'subid: files', with the ranges in /etc/subuid",
  };
  return [...(nsresourced ? [lent] : []), ...(source === "files" ? [] : [elsewhere])];
}
