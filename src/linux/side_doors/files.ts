/** Files that lead past the lock: control sockets, setuid helpers, programs with capabilities. */
import { wordOf } from "../../line.ts";
import type { Warning } from "../../lock/report.ts";
import { shown } from "../../shown.ts";
import { RESOLVERS } from "../resolver.ts";
import { type Locked, ONLY_PORT } from "./locked.ts";

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

/** Sockets whose owner asks other machines for whoever may write to them; `--only-port` shuts some. */
const ASKING_SOCKETS: Readonly<Record<string, string>> = {
  "/run/systemd/resolve/io.systemd.Resolve": "systemd-resolved look any name up, in the DNS",
  "/run/nscd/socket": "nscd look any name up, in the DNS",
  "/run/avahi-daemon/socket": "avahi ask the local network for any name",
  // Any local account may make a queue that leads anywhere (CUPS-Create-Local-Printer).
  "/run/cups/cups.sock": "CUPS send anything to a printer of its choice",
  "/run/tor/socks": "Tor pass on anything",
  "/nix/var/nix/daemon-socket/socket": "the Nix daemon build anything, with the network",
  "/var/guix/daemon-socket/socket": "the Guix daemon build anything, with the network",
  "/run/mpd/socket": "mpd open any address",
  // Everybody may write to it, and say which machine to look at.
  "/run/libvirt/libvirt-sock-ro": "libvirt connect to any address",
  "/run/libvirt/virtqemud-sock-ro": "libvirt connect to any address",
  "/run/libvirt/virtproxyd-sock-ro": "libvirt connect to any address",
  // Whatever it is told to have found (the command NOTIFY, minissdpd's codelength.h) it answers to neighbours.
  "/run/minissdpd.sock": "minissdpd tell any neighbour any text",
  "/run/snapd.socket": "snapd search its store for any words",
  // Its LocalAPI's `dial` (`tailscale nc`) asks for no right, and goes to any address.
  "/run/tailscale/tailscaled.sock": "Tailscale connect it to any address",
  // Whoever may write to it may say which server or proxy is used (0666; 0766 without a group).
  "/run/netbird.sock": "NetBird connect to a server of its choice",
  "/run/mullvad-vpn": "Mullvad's daemon connect to a proxy of its choice",
};

/** Setuid root on some systems: then they send as root. A ping with a capability does not. */
const HELPERS: Readonly<Record<string, string>> = {
  "sends packets as root": `
    ping ping6 traceroute traceroute6 arping mtr mtr-packet mount.nfs mount.cifs mount.davfs pppd
    netselect clockdiff fping fping6 rsh rlogin rcp rsh-redone-rsh rsh-redone-rlogin oping noping
    tcptraceroute tcptraceroute.mt inetutils-traceroute ndisc6 rdisc6 rltraceroute6 tracert6
    tcptraceroute6 netkit-rsh netkit-rlogin netkit-rcp uucp uux /usr/lib/uucp/uucico
    /usr/lib/nagios/plugins/check_icmp /usr/lib/nagios/plugins/check_dhcp`,
  "asks DNS, and who it names, as root": "ksu",
  "sends mail for whoever asks": "exim4 exim sendmail postdrop smtpctl dma nullmailer-queue",
  "gives a network of its own": `
    firejail /usr/lib/qemu/qemu-bridge-helper /usr/libexec/qemu-bridge-helper
    /usr/lib/lxc/lxc-user-nic /usr/lib/x86_64-linux-gnu/lxc/lxc-user-nic
    /usr/lib/aarch64-linux-gnu/lxc/lxc-user-nic /usr/libexec/lxc/lxc-user-nic
    /usr/lib/virtualbox/VBoxHeadless /usr/lib/virtualbox/VirtualBoxVM
    /usr/lib/vmware/bin/vmware-vmx`,
};

/** The folders that programs are in, where the helpers are none of their own. */
const FOLDERS = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"];

/** What the helper does that may be at a path. */
const DOES_AT = new Map(
  Object.entries(HELPERS).flatMap(([does, names]) =>
    names.trim().split(/\s+/).flatMap((name) =>
      name.startsWith("/") ? [name] : FOLDERS.map((folder) => `${folder}/${name}`)
    ).map((path) => [path, does] as const)
  ),
);

/** Capabilities with which no rule for a uid holds, or that are as good as root: capabilities(7). */
const CAPABILITIES = [
  ...["cap_net_raw", "cap_net_admin", "cap_sys_admin", "cap_sys_module", "cap_sys_rawio"],
  ...["cap_bpf", "cap_sys_ptrace", "cap_setuid", "cap_setgid", "cap_setfcap"],
  ...["cap_dac_override", "cap_dac_read_search", "cap_chown", "cap_fowner"],
];

/** They use them for nothing else: raw IP sockets are held, newuidmap(1) goes by /etc/subuid. */
const HARMLESS: Readonly<Record<string, readonly string[]>> = {
  cap_net_raw: ["ping", "ping4", "ping6", "mtr-packet", "clockdiff", "fping"],
  cap_setuid: ["newuidmap"],
  cap_setgid: ["newgidmap"],
};

/** What `may.pl` is told of files. */
export const filePaths = (): string[] => [
  ...[...ROOT_SOCKETS, ...Object.keys(ASKING_SOCKETS)].map((path) => `write ${path}`),
  ...[...DOES_AT.keys()].map((path) => `run ${path}`),
];

/** The warnings of what `may.pl` found. */
export function fileWarnings(accounts: readonly Locked[], lines: string): Warning[] {
  const found = Map.groupBy(lines.matchAll(FOUND), ([, , what]) => what!);
  const warnings = [...found.values()].flatMap((matches): Warning[] => {
    const [, , , kind, path = ""] = matches[0]!;
    const uids = new Set(matches.map(([, uid]) => Number(uid)));
    const meant = accounts.filter(({ uid, ranges }) =>
      uids.has(uid) || ranges.some(({ first }) => uids.has(first))
    );
    if (kind === "write") {
      return meant.map((account) => socketWarning(path, account, uids.has(account.uid)));
    }
    // What many may do is of nobody.
    const isOnes = meant.length === 1 && accounts.length > 1;
    const warnings = kind === "run" ? helperWarnings(path) : capabilityWarnings(path);
    return warnings.map((one) => ({ ...(isOnes && { account: meant[0]!.name }), ...one }));
  });
  return !/^no getcap$/m.test(lines) ? warnings : [...warnings, {
    reason: "which programs have capabilities cannot be told without getcap",
    remedy: "install getcap (the package libcap2-bin, or libcap)",
  }];
}

const FOUND = /^(\d+) ((write|run|cap) (\/.*))$/gm;

function socketWarning(path: string, { name: account, onlyPorts }: Locked, own: boolean): Warning {
  const does = ASKING_SOCKETS[path];
  const who = own ? "" : "its subordinate uids ";
  if (does === undefined) {
    return {
      account,
      reason: `${who}may write to ${path}, and so have root do anything for it`,
      remedy: "take that right from it",
    };
  }
  const again = onlyPorts.length === 0
    ? ONLY_PORT
    : "install setfacl (the package acl), and enable again";
  const shut = RESOLVERS.some(({ socket }) => socket === path)
    ? again
    : `setfacl -m u:${account}:--- ${path}, whenever its service starts`;
  const take = `take the lines of ${account} out of /etc/subuid and /etc/subgid`;
  return {
    account,
    reason: `${who}may have ${does} (${path})`,
    remedy: own ? shut : `${take}, and end what runs with them`,
  };
}

function helperWarnings(path: string): Warning[] {
  const does = DOES_AT.get(path);
  const bit = /\/(?:postdrop|smtpctl|dma)$/.test(path) ? "setgid" : "setuid root";
  return does === undefined ? [] : [{
    reason: `${path} is ${bit} and ${does}, whoever runs it`,
    remedy: `chmod ug-s ${path}, or let only trusted groups run it`,
  }];
}

function capabilityWarnings(line: string): Warning[] {
  const [, path = "", text = ""] = /^(\S.*) (cap_\S+)$/.exec(line) ?? [];
  const name = path.split("/").at(-1)!;
  const given = CAPABILITIES.filter((capability) =>
    new RegExp(`\\b${capability}\\b`).test(text) && !HARMLESS[capability]?.includes(name)
  );
  return given.length === 0 ? [] : [{
    reason: `${shown(path)} has ${given.join(", ")}: what it sends no rule for a uid holds`,
    remedy: `setcap -r ${wordOf(shown(path))}, or let only trusted groups run it`,
  }];
}
