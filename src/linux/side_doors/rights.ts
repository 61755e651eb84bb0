/** What gives root's rights, or the network past any rule for a uid: sudo, groups, key requests. */
import type { Warning } from "../../lock/report.ts";
import type { Files } from "../../root.ts";
import { looksNamesUp } from "../sudo_names.ts";
import { type Locked, ONLY_PORT, warningOf, withoutPorts } from "./locked.ts";

/** Reads what `sudo -l -U` printed. */
export function sudoWarnings(account: string, text: string): Warning[] {
  if (!/\bmay run the following commands\b/.test(text)) return [];
  return [{
    account,
    reason: "may use sudo: what it runs as another account is not locked",
    remedy: `take it out of /etc/sudoers (sudo -l -U ${account} shows the rules)`,
  }];
}

/** Where sudo looks up, as root, the host name that it is given, whoever runs it (fqdn, sudoers(5)). */
export function sudoNameWarnings(accounts: readonly Locked[], settings: string): Warning[] {
  if (!looksNamesUp(settings)) return [];
  const open = accounts.filter(({ sudoHeld }) => !sudoHeld);
  const again = withoutPorts(open).length === open.length ? `${ONLY_PORT}, or ` : "";
  return warningOf(
    open,
    "sudo looks any name up, as root, for whoever runs it: sudo -h NAME -l",
    `${again}write the line 'Defaults !fqdn' with visudo, behind any other that sets it`,
  );
}

/** Services that the bus starts, and that ask nobody whether the caller may: what each does for whoever calls. */
const CALLED: Readonly<Record<string, readonly [name: string, does: string]>> = {
  "org.freedesktop.realmd": ["realmd", "looks any domain up, and asks its servers"],
  "org.freedesktop.PackageKit": ["PackageKit", "downloads the packages that it is told"],
  "net.openvpn.v3.sessions": ["OpenVPN 3", "connects to any address, as a VPN,"],
};
const fileOf = (name: string) => `/usr/share/dbus-1/system-services/${name}.service`;

/** The files by which the bus starts them. */
export const CALLED_FILES: readonly string[] = Object.keys(CALLED).map(fileOf);

/** Those that are there, for accounts without ports: with them, the bus denies all calls. */
export function calledWarnings(accounts: readonly Locked[], files: Files): Warning[] {
  return Object.entries(CALLED).flatMap(([name, [service, does]]) => {
    const reason = `${service} ${does} for whoever calls it on D-Bus`;
    return files.has(fileOf(name)) ? warningOf(withoutPorts(accounts), reason, ONLY_PORT) : [];
  });
}

/** Dropbear writes it when it begins to listen (dropbear(8)). */
export const DROPBEAR = "/run/dropbear.pid";

/** Dropbear, by whose session an account of an earlier version's connects as root (DROPBEAR_SVR_DROP_PRIVS). */
export function dropbearWarnings(accounts: readonly Locked[], files: Files): Warning[] {
  if (!files.has(DROPBEAR)) return [];
  return warningOf(
    withoutPorts(accounts),
    "Dropbear before 2025.89 connects, as root, to any address for whoever logs in by it (ssh -L)",
    `update it, start it with -j -k, or ${ONLY_PORT}`,
  );
}

/** fail2ban's socket, and the files in which its setting is overridden (jail.conf(5)). */
export const FAIL2BAN: readonly string[] = [
  ...["/run/fail2ban/fail2ban.sock", "/etc/fail2ban/jail.local", "/etc/fail2ban/jail.d/*"],
];

/** Where fail2ban looks up the names that stand in lines of the log, which any account may write. */
export function fail2banWarnings(files: Files): Warning[] {
  const [socket, ...folders] = FAIL2BAN;
  const isOff = [...files].some(([path, { text }]) =>
    folders.some((one) => path.startsWith(one.replace("*", ""))) && /^usedns\s*=\s*no/m.test(text)
  );
  return isOff || !files.has(socket!) ? [] : [{
    reason:
      "fail2ban looks up, as root, the names in lines of the log, which any account may write",
    remedy: "write usedns = no below [DEFAULT] in /etc/fail2ban/jail.local",
  }];
}

/** What a group gives, for those that give root, or the network past any rule for a uid. */
const GROUPS: Readonly<Record<string, string>> = {
  sudo: "may use sudo on Debian and its kin",
  wheel: "may use sudo on Fedora and its kin",
  admin: "may use sudo on old Ubuntu",
  root: "may write what is the group root's",
  staff: "writes /usr/local, where root and others find programs first",
  docker: "starts containers that are root, in any network",
  "nix-users": "has the Nix daemon build anything, with the network",
  podman: "starts containers that are root, in any network",
  lxd: "starts containers that are root, in any network",
  incus: "starts containers in a network of their own",
  "incus-admin": "starts containers that are root, in any network",
  libvirt: "starts virtual machines in a network of their own, with any disk of the host's",
  vboxusers: "starts virtual machines that share a network device",
  disk: "reads and writes whole disks, and so any file",
  kmem: "reads the kernel's memory, and so any secret",
  shadow: "reads the password hashes of other accounts",
  wireshark: "runs dumpcap, which has raw access to the network devices",
  netdev: "manages network devices through NetworkManager or bluetooth",
  dip: "runs pppd, which is setuid root, for a connection of its own",
  dialout: "reaches the network by a modem of its own",
  uucp: "reaches the network by a modem of its own, on Arch",
  lpadmin: "has CUPS, which runs as root, print to any machine",
};

/** The groups that lead past the lock, of what `id` printed. */
export function groupWarnings(account: string, id: string): Warning[] {
  const groups = id.replace(/^.*? groups=/, "").matchAll(/\d+\(([^()]*)\)/g);
  return [...groups].flatMap(([, group]) =>
    !Object.hasOwn(GROUPS, group!) ? [] : [{
      account,
      reason: `is in the group ${group}, which ${GROUPS[group!]}`,
      remedy: `gpasswd -d ${account} ${group}, and end its sessions`,
    }]
  );
}

/**
 * Any account may have the kernel ask for a key of a DNS name, and root then looks it up. The line
 * with the shortest wildcards counts, of equals the first (request-key.conf(5)); only one for every
 * name that refuses shuts this.
 */
export function requestKeyWarnings(text: string): Warning[] {
  const lines = text.split("\n").map((line) => line.trim().split(/\s+/))
    .filter(([op, type]) => op === "create" && type === "dns_resolver");
  const first = lines.find(([, , description]) => description === "*");
  const asks = ([, , , , program = "", action = ""]: readonly string[]) =>
    !(program.endsWith("/keyctl") && (action === "negate" || action === "reject"));
  if (!lines.some((line) => (line === first || line[2] !== "*") && asks(line))) return [];
  return [{
    reason: "any account has root look up a name: keyctl request2 dns_resolver NAME",
    remedy: "echo 'create dns_resolver * * /bin/keyctl negate %k 30 %S' " +
      ">/etc/request-key.d/00-no-dns.conf",
  }];
}
