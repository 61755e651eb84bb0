/**
 * What a locked account on Linux could still do through somebody else: root's
 * rights, a relay on loopback, a connection from before the lock.
 *
 * @module
 */
import { shown } from "../cli/shown.ts";
import { type Ask, tryAll } from "../lock/tries.ts";
import type { AccountStatus } from "../status.ts";
import { runAsRoot } from "../sudo.ts";
import { readSections, type Section } from "../sections.ts";
import type { Warning } from "../warnings.ts";

/** Beyond this many, an account is asked about only by name: `sudo -l` takes a while for each. */
const MAX_ACCOUNTS = 20;

/**
 * The warnings for the accounts.
 *
 * @param accounts accounts whose state is known; deleted ones have nothing left to warn of
 */
export async function linuxWarnings(accounts: readonly AccountStatus[]): Promise<Warning[]> {
  const asked = accounts.slice(0, MAX_ACCOUNTS);
  const sections = await readSections(
    SCRIPT,
    asked.map(({ name }) => name).filter((name) => /^[A-Za-z_][\w-]*$/.test(name)),
  );
  return [
    ...asked.flatMap((account) => warningsOf(account, sections)),
    ...await socketWarnings(asked, sections),
    ...setuidWarnings(textOf(sections, "setuid")),
    ...lentUidsWarnings(sections.get("lends")?.code === 0, textOf(sections, "nsswitch")),
    ...relayWarnings(accounts, textOf(sections, "sockets")),
    ...(accounts.length > asked.length
      ? [{
        reason: `only the first ${MAX_ACCOUNTS} accounts were asked about sudo, groups and sockets`,
        remedy: "name the others with --agent-user",
      }]
      : []),
  ];
}

/** Control sockets whose owner does what it is told as root, in a network of its own choice. */
const ROOT_SOCKETS = [
  "/run/docker.sock",
  "/run/podman/podman.sock",
  "/run/containerd/containerd.sock",
  "/var/lib/incus/unix.socket",
  "/var/lib/lxd/unix.socket",
  "/var/snap/lxd/common/lxd/unix.socket",
  "/run/libvirt/libvirt-sock",
];

/**
 * Programs that send packets, or have them sent, and are setuid root on some systems: their
 * sockets are root's then. Where ping has a capability instead, its socket is still the account's.
 */
const NETWORK_HELPERS = [
  ...["ping", "ping6", "traceroute", "traceroute6", "arping", "mtr", "mtr-packet"],
  ...["mount.nfs", "mount.cifs", "pppd", "exim4", "exim", "sendmail"],
];

const SCRIPT = `
setuid() {
  for directory in /usr/bin /usr/sbin /usr/local/bin /usr/local/sbin; do
    for name in ${NETWORK_HELPERS.join(" ")}; do
      test ! -u "$directory/$name" || echo "$directory/$name"
    done
  done
}
section sockets ss -Htunae
section addresses ip -o addr show
section setuid setuid
section lends test -S /run/systemd/io.systemd.NamespaceResource
section nsswitch cat /etc/nsswitch.conf
for account; do
  section "sudo $account" sudo -n -l -U "$account"
  section "groups $account" id -Gn -- "$account"
  section "gids $account" id -G -- "$account"
done
`;

const textOf = (sections: ReadonlyMap<string, Section>, name: string) =>
  sections.get(name)?.code === 0 ? sections.get(name)!.text : "";

function warningsOf(
  { name, uid }: AccountStatus,
  sections: ReadonlyMap<string, Section>,
): Warning[] {
  const text = (section: string) => textOf(sections, section);
  return [
    ...sudoWarnings(name, text(`sudo ${name}`)),
    ...groupWarnings(name, text(`groups ${name}`).trim().split(/\s+/)),
    ...connectionWarnings(name, uid, text("sockets"), text("addresses")),
  ];
}

/** The control sockets that an account may write to, asked of the kernel with its uid. */
async function socketWarnings(
  accounts: readonly AccountStatus[],
  sections: ReadonlyMap<string, Section>,
): Promise<Warning[]> {
  const asks = accounts.flatMap(({ name, uid }): (Ask & { readonly kind: "write" })[] => {
    const gids = textOf(sections, `gids ${name}`).trim();
    if (uid === undefined || !/^\d+( \d+)*$/.test(gids)) return [];
    const groups = gids.split(" ").map(Number);
    return ROOT_SOCKETS.map((path) => ({ as: { name, uid, groups }, kind: "write", path }));
  });
  const { answers, complaint } = await tryAll(runAsRoot, asks);
  const untold = answers.includes(undefined);
  return [
    ...asks.filter((_, i) => answers[i]?.call === "ok").map(({ as, path }) => ({
      account: as.name,
      reason: `may write to ${path}, and so have root do anything for it`,
      remedy: "take that right from it",
    })),
    ...(untold
      ? [{
        reason: `whether the control sockets of containers are open could not be asked (${
          shown(complaint)
        })`,
        remedy: "install perl, and ask again",
      }]
      : []),
  ];
}

/** Reads what `sudo -l -U` printed. */
export function sudoWarnings(account: string, text: string): Warning[] {
  return /\bmay run the following commands\b/.test(text)
    ? [{
      account,
      reason: "may use sudo: what it runs as another account is not locked",
      remedy: `take it out of /etc/sudoers (sudo -l -U ${account} shows the rules)`,
    }]
    : [];
}

/** What a group gives, for those that give root, or the network past any rule for a uid. */
const GROUPS: Readonly<Record<string, string>> = {
  sudo: "may use sudo on Debian and its kin",
  wheel: "may use sudo on Fedora and its kin",
  admin: "may use sudo on old Ubuntu",
  root: "may write what is the group root's",
  docker: "starts containers that are root, in any network",
  podman: "starts containers that are root, in any network",
  lxd: "starts containers that are root, in any network",
  incus: "starts containers in a network of their own",
  "incus-admin": "starts containers that are root, in any network",
  libvirt: "starts virtual machines in a network of their own, with any disk of the host's",
  vboxusers: "starts virtual machines that share a network device",
  disk: "reads and writes whole disks, and so any file",
  shadow: "reads the password hashes of other accounts",
  wireshark: "runs dumpcap, which has raw access to the network devices",
  netdev: "manages network devices through NetworkManager or bluetooth",
  dip: "runs pppd, which is setuid root, for a connection of its own",
  dialout: "reaches the network by a modem of its own",
};

/** The groups that lead past the lock. */
export function groupWarnings(account: string, groups: readonly string[]): Warning[] {
  return groups.filter((group) => Object.hasOwn(GROUPS, group)).map((group) => ({
    account,
    reason: `is in the group ${group}, which ${GROUPS[group]}`,
    remedy: `gpasswd -d ${account} ${group}, and end its sessions`,
  }));
}

function setuidWarnings(text: string): Warning[] {
  return text.split("\n").filter((line) => line.startsWith("/")).map((path) => ({
    reason: `${path} is setuid root and sends packets as root, whoever runs it`,
    remedy: `chmod u-s ${path}, or let only trusted groups run it`,
  }));
}

/**
 * Where accounts get uids that no rule holds. systemd-nsresourced(8) lends ranges to any account that
 * asks, out of one that all share; `subid` in nsswitch.conf may name a plugin for /etc/subuid (subuid(5)).
 */
export function lentUidsWarnings(lends: boolean, nsswitch: string): Warning[] {
  const source = /^subid:\s*(\S+)/m.exec(nsswitch)?.[1] ?? "files";
  return [
    ...(lends
      ? [{
        reason: "systemd-nsresourced lends any account uids that are not locked",
        remedy: "systemctl mask --now systemd-nsresourced.socket systemd-nsresourced.service",
      }]
      : []),
    ...(source === "files" ? [] : [{
      reason: `subordinate uids come from ${source}, and only those in /etc/subuid are locked`,
      remedy: "have /etc/nsswitch.conf say 'subid: files', with the ranges in /etc/subuid",
    }]),
  ];
}

/** The states of sockets without a peer. */
const WAITING = ["LISTEN", "UNCONN"];

/** One socket as `ss -Hn` prints it. */
interface Socket {
  readonly protocol: string;
  readonly state: string;
  readonly localPort: number;
  readonly localAddress: string;
  readonly peerAddress: string;
  readonly uid: number;
}

function parseSockets(text: string): Socket[] {
  return text.split("\n").flatMap((line) => {
    const match = /^(\S+)\s+(\S+)\s+\d+\s+\d+\s+(\S+):(\d+)\s+(\S+):(?:\d+|\*)(.*)$/.exec(line);
    if (match === null) return [];
    const [, protocol = "", state = "", local = "", port = "", peer = "", more = ""] = match;
    return [{
      protocol,
      state,
      localAddress: plainAddress(local),
      localPort: Number(port),
      peerAddress: plainAddress(peer),
      uid: Number(/\buid:(\d+)/.exec(more)?.[1] ?? 0), // ss leaves root's out
    }];
  });
}

/** An address without its brackets, its device, and IPv6's clothes for IPv4. */
function plainAddress(text: string): string {
  return text.replace(/^\[|\]$/g, "").replace(/%.*$/, "").replace(/^::ffff:/, "");
}

/** Connections from before the lock: the account's processes may still read what comes in. */
export function connectionWarnings(
  account: string,
  uid: number | undefined,
  sockets: string,
  addresses: string,
): Warning[] {
  const own = new Set(
    [...addresses.matchAll(/\binet6? ([0-9a-f.:]+)/g)].map(([, address]) => address),
  );
  const outside = parseSockets(sockets).filter((socket) =>
    socket.uid === uid && !WAITING.includes(socket.state) && !isLoopback(socket.peerAddress) &&
    !own.has(socket.peerAddress)
  );
  if (uid === undefined || outside.length === 0) return [];
  return [{
    account,
    reason: `still holds ${outside.length} connection(s) to outside, to ` +
      [...new Set(outside.map(({ peerAddress }) => peerAddress))].slice(0, 3).join(", "),
    remedy: "restart its processes",
  }];
}

const isLoopback = (address: string) => address.startsWith("127.") || address === "::1";

/** Ports that relays are known by. */
const RELAYS: Readonly<Record<number, string>> = {
  53: "a DNS server, which asks other machines whatever it is asked",
  1080: "the port of SOCKS proxies",
  3128: "the port of HTTP proxies (Squid)",
  8118: "the port of HTTP proxies (Privoxy)",
  8888: "the port of HTTP proxies (Tinyproxy)",
  9050: "the port of SOCKS proxies (Tor)",
};

/** Services that an account reaches by loopback and that may pass things on. */
export function relayWarnings(
  accounts: readonly Pick<AccountStatus, "name" | "onlyPorts">[],
  sockets: string,
): Warning[] {
  const found = new Map<string, { protocol: string; port: number }>();
  for (const { protocol, state, localPort: port } of parseSockets(sockets)) {
    if (WAITING.includes(state) && Object.hasOwn(RELAYS, port)) {
      found.set(`${protocol} ${port}`, { protocol, port });
    }
  }
  return [...found.values()].flatMap(({ protocol, port }) => {
    const reaching = accounts.filter(({ onlyPorts }) =>
      onlyPorts.length === 0 || (protocol === "tcp" && onlyPorts.includes(port))
    );
    if (reaching.length === 0) return [];
    return [{
      ...(reaching.length === 1 ? { account: reaching[0]!.name } : {}),
      reason: `${protocol} port ${port} on this machine may relay: ${RELAYS[port]}`,
      remedy: "disable, then enable with --only-port and the proxy's port",
    }];
  });
}
