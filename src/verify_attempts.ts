/**
 * The tries of `verify`: what each runs, as whom, and how it is read.
 *
 * @module
 */
import { FishnetError } from "./errors.ts";
import type { System } from "./planner.ts";
import { readAsRoot, type Reading } from "./sudo.ts";

/**
 * `refused`: this machine's own rules said no. `unanswered`: it waited in vain. `broken`: it
 * failed for another reason, so it shows nothing.
 */
export type Outcome = "reached" | "refused" | "unanswered" | "broken";

/** What one try did. */
export interface Attempt {
  /** The account that tried. */
  readonly by: string;
  readonly outcome: Outcome;
  /** What it said, in a few words. */
  readonly said: string;
  /** Where the kernel was asked for a route: the device that it leads to. */
  readonly device?: string;
}

/** An address outside. */
export interface Target {
  readonly family: 4 | 6;
  readonly address: string;
}

/** Addresses reserved for documentation (RFC 5737, RFC 3849): nobody has them. */
export const ADDRESSES: readonly Target[] = [
  { family: 4, address: "203.0.113.9" },
  { family: 6, address: "2001:db8::9" },
];

/**
 * What a socket bound to a device reaches without asking a routing rule (measured): in IPv4 any
 * address, in IPv6 a multicast one, here of those reserved for documentation (RFC 6676). Only the
 * packet filter is left to stop it.
 */
export const PAST_ROUTING = { 4: "203.0.113.9", 6: "ff02::db8:0:9" } as const;

/** Seconds for one try: a refusal takes milliseconds. */
const TIMEOUT_SECONDS = 4;

/** Linux has timeout(1), in coreutils and in busybox; macOS has not, but it has perl. */
const LIMITED = [
  ...[
    "sh",
    "-c",
    `command -v timeout >/dev/null && exec timeout ${TIMEOUT_SECONDS} "$@"; ` +
    `exec perl -e "alarm ${TIMEOUT_SECONDS}; exec @ARGV" "$@"`,
    "sh",
  ],
] as const;

/** Two writes: the second reports the ICMP error that answered the first. */
const UDP = 'exec 3<>"/dev/udp/$1/$2" && printf x >&3 && printf x >&3';

const HTTP = 'exec 3<>"/dev/tcp/$1/$2" && printf "GET %s HTTP/1.0\\r\\nHost: %s\\r\\n\\r\\n" ' +
  '"$3" "$1" >&3 && read -r line <&3 && printf "%s" "$line"';

/** 25 is SO_BINDTODEVICE (socket(7)): the kernel then needs no route, and asks no routing rule. */
const DEVICE = `use Socket qw(:all);
my ($host, $port, $device) = @ARGV;
my $six = $host =~ /:/;
socket(my $s, $six ? AF_INET6 : AF_INET, SOCK_DGRAM, 0) or die "probe: $!\\n";
setsockopt($s, SOL_SOCKET, 25, "$device\\0") or die "probe-broken: $!\\n";
my $to = $six ? pack_sockaddr_in6($port, inet_pton(AF_INET6, $host))
  : pack_sockaddr_in($port, inet_pton(AF_INET, $host));
defined send($s, "x", 0, $to) or die "probe: $!\\n";`;

/** The ways to try. */
export type Kind = "tcp" | "udp" | "http" | "device";

/** Tries one thing as an account; `more` is the path of an HTTP request, or the device. */
export async function attempt(
  account: string,
  kind: Kind,
  host: string,
  port: number,
  more = "",
): Promise<Attempt> {
  const script = kind === "tcp" ? 'exec 3<>"/dev/tcp/$1/$2"' : kind === "udp" ? UDP : HTTP;
  const command = kind === "device"
    ? ["perl", "-e", DEVICE]
    : ["bash", "--norc", "--noprofile", "-c", script, "bash"];
  const reading = await readAsRoot(
    ...["-u", account, "--", "env", "LC_ALL=C", ...LIMITED, ...command],
    ...[host, `${port}`, more],
  );
  return { by: account, ...readAttempt(reading) };
}

/** How timeout(1) ends, and a program that an alarm ended: 128 + SIGALRM. */
const TIMED_OUT = [124, 142];

/**
 * Reads what a try printed. Only the words of the very call that sends count as a refusal: a
 * program that could not be started is denied something too.
 */
export function readAttempt({ exitCode, stdout, stderr }: Reading): Omit<Attempt, "by"> {
  if (exitCode === 0) return { outcome: "reached", said: stdout.trim() || "it went out" };
  const error = /^(?:bash: (?:line \d+: )?(?:connect|printf: write error)|probe): (.+)$/m
    .exec(stderr)?.[1]?.trim();
  if (error === "Permission denied" || error === "Operation not permitted") {
    return { outcome: "refused", said: `refused at once (${error})` };
  }
  if (TIMED_OUT.includes(exitCode)) {
    return { outcome: "unanswered", said: `no answer in ${TIMEOUT_SECONDS} s` };
  }
  const said = error ?? stderr.trim().split("\n").at(-1) ?? "";
  return { outcome: "broken", said: said || `it ended with ${exitCode}` };
}

/**
 * On macOS, pf answers a blocked connection with a reset, and the kernel does not send a blocked
 * datagram (EHOSTUNREACH: xnu, pf_af_hook). Other refusals look the same: a control must get through.
 */
export function asPfRefuses(tried: Attempt): Attempt {
  const { outcome, said } = tried;
  const isRefusal = outcome === "broken" && /Connection refused|No route to host/.test(said);
  return isRefusal ? { ...tried, outcome: "refused", said: `refused at once (${said})` } : tried;
}

/** Asks the kernel whether it has a route for an account's socket; no packet is sent. */
export async function routeOf(account: string, family: 4 | 6, address: string): Promise<Attempt> {
  const reading = await readAsRoot(
    ...["sh", "-c", 'LC_ALL=C exec ip "-$1" route get "$2" uid "$(id -u "$3")"', "sh"],
    ...[`${family}`, address, account],
  );
  return { by: account, ...readRoute(reading) };
}

/** Reads what `ip route get` printed. */
export function readRoute({ exitCode, stdout, stderr }: Reading): Omit<Attempt, "by"> {
  const device = /\bdev (\S+)/.exec(stdout)?.[1];
  if (exitCode === 0 && device !== undefined && device !== "lo") {
    return { outcome: "reached", said: `there is a route by ${device}`, device };
  }
  // The answer to a prohibit rule, and to no other (ip-rule(8)).
  if (exitCode !== 0 && /^RTNETLINK answers: Permission denied$/m.test(stderr)) {
    return { outcome: "refused", said: "the kernel refuses a route (Permission denied)" };
  }
  const said = stderr.trim().split("\n").at(-1)?.replace("RTNETLINK answers: ", "");
  return { outcome: "broken", said: said || "there is no route" };
}

/** The target's addresses, one a family. Names are looked up as root: the account may not. */
export async function resolve(host: string, system: System, name: string): Promise<Target[]> {
  if (/^[\d.]+$/.test(host)) return [{ family: 4, address: host }];
  if (host.includes(":")) return [{ family: 6, address: host }];
  if (system === "macos") {
    throw new FishnetError(`give --target an address instead of '${host}', to try it as ${name}`);
  }
  const found: Target[] = [];
  for (const family of [4, 6] as const) {
    const { stdout } = await readAsRoot("getent", `ahostsv${family}`, "--", host);
    const address = stdout.split(/\s/, 1)[0];
    // A name without IPv6 is answered with IPv4 addresses in IPv6's clothes.
    if (address && !address.startsWith("::ffff:")) found.push({ family, address });
  }
  if (found.length === 0) {
    throw new FishnetError(`the target '${host}' has no address here: give one instead`);
  }
  return found;
}
