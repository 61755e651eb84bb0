/**
 * `status` on Linux: which pieces of each account's lock are in force.
 *
 * @module
 */
import { FishnetError } from "../errors.ts";
import type { Backend } from "../planner.ts";
import type { AccountStatus, LockState, Piece } from "../status.ts";
import {
  formerUids,
  type Held,
  heldBy,
  InForce,
  type Layer,
  type Remembered,
  rememberedUids,
  withoutLoopback,
} from "./in_force.ts";
import { familiesOf, type Machine, readMachine } from "./inspect.ts";
import { type PasswdEntry, subordinateRanges, unclearLines } from "./read_accounts.ts";
import { cutLine, ROUTING_PREFERENCE } from "./routing.ts";
import { printRange, type UidRange, UidSet } from "./uid_range.ts";

/**
 * What is in force for the accounts; for none, for every account that anything of a lock is there
 * for, those that were deleted included.
 *
 * @throws {UnreadableError} where the machine's state cannot be read.
 * @throws {FishnetError} for an account that neither exists nor has anything of a lock.
 */
export async function linuxStatus(names: readonly string[]): Promise<AccountStatus[]> {
  return statusIn(await readMachine(names), names);
}

/** The same, from a state that was read before. */
export function statusIn(machine: Machine, names: readonly string[]): AccountStatus[] {
  const held = heldBy(machine);
  const inForce = new InForce(held);
  const known = new KnownAccounts(machine, held);
  const accounts = names.length > 0 ? names.map((name) => known.named(name)) : known.held();
  return [
    ...accounts.map((account) => judge(account, machine, inForce)),
    ...(names.length > 0 ? [] : known.leftOver().map(leftOverStatus)),
  ];
}

/** An account as the machine knows it, or as its rules remember it. */
interface HeldAccount extends PasswdEntry {
  readonly deleted: boolean;
  /** Uids that it was locked with and has no more. */
  readonly former: readonly number[];
  /** The uid's own range, then the subordinate ranges that /etc/subuid has now. */
  readonly ranges: readonly UidRange[];
}

/** Names for the uids that rules hold. */
class KnownAccounts {
  readonly #machine: Machine;
  readonly #held: readonly Held[];
  readonly #byName: ReadonlyMap<string, PasswdEntry>;
  readonly #byUid: ReadonlyMap<number, PasswdEntry>;
  /** The uids that rules remember for a name. */
  readonly #remembered: Remembered;

  constructor(machine: Machine, held: readonly Held[]) {
    this.#machine = machine;
    this.#held = held;
    this.#byName = new Map(machine.passwd.map((entry) => [entry.name, entry]));
    this.#byUid = new Map(machine.passwd.toReversed().map((entry) => [entry.uid, entry]));
    this.#remembered = rememberedUids(held, machine);
  }

  /** @throws {FishnetError} for a name that neither the machine nor a rule knows. */
  named(name: string): HeldAccount {
    const entry = this.#byName.get(name);
    if (entry !== undefined) return this.#account(entry, false);
    const uid = [...this.#remembered.get(name) ?? []].at(-1);
    if (uid === undefined) throw new FishnetError(`the account '${name}' does not exist`);
    return this.#account({ name, uid }, true);
  }

  /** Every account that a rule was made for, or a script for boot, in the order of their names. */
  held(): HeldAccount[] {
    const names = new Set([...this.#machine.bootScripts.values()].map(({ name }) => name));
    for (const { owner, first, last } of this.#held) {
      if (owner !== undefined && (first === last || this.#byName.has(owner))) names.add(owner);
    }
    const ofNobody = new UidSet(this.#held.filter(({ owner }) => owner === undefined));
    const subordinate = new UidSet(this.#machine.subuid.ranges);
    for (const { name, uid } of this.#byUid.values()) {
      const own = { first: uid, last: uid };
      if (ofNobody.covers(own) && !subordinate.covers(own)) names.add(name);
    }
    return [...names].sort().map((name) => this.named(name));
  }

  /** What holds uids that belong to no account, and remembers none. */
  leftOver(): Held[] {
    const known = new UidSet([
      ...this.#held.filter(({ owner }) => owner !== undefined),
      ...this.#machine.subuid.ranges,
      ...[...this.#byUid.keys()].map((uid) => ({ first: uid, last: uid })),
    ]);
    return this.#held.filter(({ owner }) => owner === undefined).flatMap((one) => {
      const parts = known.without(one);
      const [first] = parts;
      if (first === undefined) return [];
      // A routing rule is for many accounts, and is cut; any other is for one.
      if (one.layer !== "routing" || printRange(first) === printRange(one)) return [one];
      return parts.map((part) => ({ ...one, ...part, removal: cutLine(one.family, part) }));
    });
  }

  #account(entry: PasswdEntry, deleted: boolean): HeldAccount {
    const own = { first: entry.uid, last: entry.uid };
    return {
      ...entry,
      deleted,
      former: deleted ? [] : formerUids(entry.name, entry, this.#machine, this.#remembered),
      ranges: [own, ...subordinateRanges(this.#machine.subuid, entry)],
    };
  }
}

/** The layers of each backend, and what an administrator calls them. */
const LAYERS: Readonly<Record<Backend, Readonly<Partial<Record<Layer, string>>>>> = {
  iptables: {
    routing: "routing rule (prohibit)",
    drop: "DROP in mangle POSTROUTING",
    refuse: "REJECT in OUTPUT",
    loopbackTcp: "loopback limit for TCP in OUTPUT",
    loopbackOther: "loopback limit for all but TCP in OUTPUT",
  },
  nftables: {
    routing: "routing rule (prohibit)",
    drop: "drop in table inet fishnet",
    refuse: "reject in table inet fishnet",
    loopbackTcp: "loopback limit in table inet fishnet_loopback",
  },
};

function judge(account: HeldAccount, machine: Machine, inForce: InForce): AccountStatus {
  const candidates = (["iptables", "nftables"] as const)
    .map((backend) => judgeBackend(account, machine, inForce, backend));
  const [best] = candidates.toSorted((a, b) => b.rank - a.rank);
  const other = candidates.find((candidate) => candidate !== best);
  const { backend, pieces, onlyPorts, held } = best!;
  const state = stateOf(pieces);
  const survivesReboot = machine.bootUnits.has(account.uid) &&
    machine.bootScripts.has(account.uid);
  return {
    name: account.name,
    uid: account.uid,
    state,
    pieces: state === "unlocked" ? [] : pieces,
    survivesReboot,
    ...(state === "unlocked" ? {} : { backend }),
    onlyPorts,
    notes: [
      ...(account.deleted
        ? [
          `the account no longer exists, its rules do: ${
            line("disable", account.name, backend)
          } removes them`,
        ]
        : []),
      ...account.former.map((uid) =>
        `rules of uid ${uid}, which it had, are left: ` +
        `${line("disable", account.name, backend)} removes them, then enable again`
      ),
      ...variantNotes(account, machine, held),
      ...(other!.own > 0 && best!.own > 0
        ? [
          `rules of --backend ${other!.backend} are there too: ${
            line("disable", account.name, other!.backend)
          } removes them, then enable again`,
        ]
        : []),
      ...withoutLoopback(machine).map(({ family, remedy }) =>
        `IPv${family}: a lock cuts it off loopback as well, where the routing rule ` +
        `'from all lookup local' is not before ${ROUTING_PREFERENCE}: ${remedy}`
      ),
      ...(machine.hasIpv6 ? [] : ["this kernel has no IPv6, so there is none to lock"]),
    ],
  };
}

function stateOf(pieces: readonly Piece[]): LockState {
  const present = pieces.filter((piece) => piece.present).length;
  if (present === pieces.length) return "locked";
  return present === 0 && pieces.every(({ detail }) => detail === undefined)
    ? "unlocked"
    : "partial";
}

/** How far one backend locks an account. */
interface Judgement {
  readonly backend: Backend;
  readonly pieces: readonly Piece[];
  readonly onlyPorts: readonly number[];
  readonly held: readonly Held[];
  /** How many rules of this backend are there for the account. */
  readonly own: number;
  readonly rank: number;
}

function judgeBackend(
  account: HeldAccount,
  machine: Machine,
  inForce: InForce,
  backend: Backend,
): Judgement {
  const families = familiesOf(machine);
  const [own] = account.ranges;
  const of = (layer: Layer) =>
    families.flatMap((family) => inForce.of(layer, family, backend, own!));
  const limit = (layer: Layer) =>
    families.flatMap((family) =>
      account.ranges.flatMap((range) => inForce.of(layer, family, backend, range))
    );
  const limits = [...limit("loopbackTcp"), ...limit("loopbackOther")];
  const onlyPorts = limits.find(({ ports }) => ports !== undefined && ports.length > 0)?.ports ??
    [];
  const atBoot = machine.bootScripts.get(account.uid);
  const wantedPorts = onlyPorts.length > 0 ? onlyPorts : atBoot?.onlyPorts ?? [];
  const sessions = machine.sessions.get(account.uid);
  const remedy = account.deleted
    ? line("disable", account.name, backend)
    : line("enable", account.name, backend, [
      ...wantedPorts.map((port) => `--only-port ${port}`),
      ...(atBoot !== undefined || sessions !== undefined ? ["--persist"] : []),
      ...(sessions === undefined ? [] : ["--sessions"]),
    ]);
  const layers = (Object.entries(LAYERS[backend]) as [Layer, string][])
    .filter(([layer]) => limits.length + wantedPorts.length > 0 || !layer.startsWith("loopback"));
  const pieces = layers.flatMap(([layer, label]) =>
    // One nft table is for both families, so one piece is.
    (backend === "nftables" && layer !== "routing" ? [4 as const] : families).flatMap((
      family,
    ) =>
      account.ranges
        // The page's rule is for the uid alone: POSTROUTING sees whatever OUTPUT sees.
        .filter((_, i) => i === 0 || layer !== "refuse" || backend === "nftables")
        .map((range, i) => {
          const familyName = backend === "nftables" && layer !== "routing"
            ? "IPv4 and IPv6"
            : `IPv${family}`;
          const whose = i === 0 ? `uid ${range.first}` : `subordinate uids ${printRange(range)}`;
          return pieceOf(
            `${familyName}: ${label}, ${whose}`,
            inForce.judge(layer, family, backend, range),
            remedy,
          );
        })
    )
  );
  const untouched = pieces.every(({ present, detail }) => !present && detail === undefined);
  for (const text of untouched ? [] : unclearLines(machine.subuid, account)) {
    pieces.push({
      name: `subordinate uids of the line ${JSON.stringify(text)}`,
      present: false,
      detail: "no range in decimal numbers",
      remedy: `write ${account.name}:FIRST:COUNT there in /etc/subuid, and enable again`,
    });
  }
  if (sessions !== undefined) {
    pieces.push({
      name: `login sessions shut (user-${account.uid}.slice)`,
      present: sessions,
      ...(sessions ? {} : { remedy }),
    });
  }
  const held = [...of("drop"), ...of("refuse"), ...limits];
  const present = pieces.filter((piece) => piece.present).length;
  return {
    backend,
    pieces,
    onlyPorts,
    held,
    own: held.length,
    // A whole lock counts most, then one with anything of its own, then what the next boot brings;
    // iptables where there is none of it.
    rank: (present === pieces.length ? 4 : 0) + (held.length > 0 ? 2 : 0) +
      (atBoot?.backend === backend ? 1 : 0),
  };
}

function pieceOf(
  name: string,
  judgement: ReturnType<InForce["judge"]>,
  remedy: string,
): Piece {
  switch (judgement.state) {
    case "effective":
      return { name, present: true };
    case "missing":
      return { name, present: false, remedy };
    case "shadowed":
      return {
        name,
        present: false,
        ...(judgement.by.shadow === undefined ? {} : { detail: judgement.by.shadow }),
        remedy: judgement.by.mend ?? remedy,
      };
  }
}

/** The command that mends an account's lock, with the options that it has. */
function line(
  command: "enable" | "disable",
  name: string,
  backend: Backend,
  options: readonly string[] = [],
): string {
  return [
    `fishnet firewall ${command} --agent-user ${name}`,
    ...(backend === "nftables" ? ["--backend nftables"] : []),
    ...options,
    "--apply",
  ].join(" ");
}

/** Rules in the variant that the plain name does not stand for hold, but disable cannot see them. */
function variantNotes(
  { name }: HeldAccount,
  { plainVariant }: Machine,
  held: readonly Held[],
): string[] {
  const variants = new Set(held.flatMap(({ variant }) => variant === undefined ? [] : [variant]));
  const other = plainVariant === "nft" ? "legacy" : "nft";
  if (plainVariant === undefined || !variants.has(other)) return [];
  return [
    `rules of ${name} are in iptables-${other}, while iptables is iptables-${plainVariant} here: ` +
    `they hold, but disable finds them only after ` +
    `update-alternatives --set iptables /usr/sbin/iptables-${other} (and the same for ip6tables)`,
  ];
}

/** A rule that nobody's name goes with: only removing it by hand is left. */
function leftOverStatus(held: Held): AccountStatus {
  return {
    name: held.first === held.last ? `uid ${held.first}` : `uids ${printRange(held)}`,
    uid: held.first,
    state: "partial",
    pieces: [{
      name: `IPv${held.family}: ${LAYERS[held.backend ?? "iptables"][held.layer]}, ` +
        `uid ${printRange(held)}`,
      present: held.shadow === undefined,
      detail: "left over: it belongs to no account",
      ...(held.removal === undefined ? {} : { remedy: held.removal }),
    }],
    survivesReboot: false,
    onlyPorts: [],
  };
}
