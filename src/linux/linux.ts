/** Linux: all kinds of pieces, in their order, and what only Linux knows of accounts. */
import { FishnetError } from "../errors.ts";
import type { Kind, Known, Questions } from "../lock/piece.ts";
import { printRange, single } from "../lock/uid_range.ts";
import { disableLine } from "../lock/status.ts";
import type { System } from "../system.ts";
import { UnreadableError } from "../root.ts";
import { otherwiseNamed, parsePasswd, parseSubuid, unclearLines } from "./accounts.ts";
import { audit, recordedAccounts, staysRecorded } from "./audit.ts";
import { auditAtBoot } from "./audit_at_boot.ts";
import { boot } from "./boot/boot.ts";
import { holder, holders, leftOver, unlisted } from "./holders.ts";
import { iptables } from "./iptables.ts";
import { plainVariant } from "./iptables_saved.ts";
import { recordedTries, refusedSince, type Tally } from "./log.ts";
import { askAll, familiesOf, IPV6, type Machine } from "./machine.ts";
import { hasNft, lockTable, loopbackTable } from "./nftables.ts";
import {
  isSwapped,
  mayHideTable,
  othersAmong,
  refuse,
  refuseToFree,
  refuseTools,
} from "./refusals.ts";
import { resolver, RESOLVERS } from "./resolver.ts";
import { SAVED_FILES, savedNotes } from "./saved_rules.ts";
import { sessions } from "./sessions.ts";
import { sudoNames } from "./sudo_names.ts";
import { trying } from "./trying.ts";
import { rangeLoop, routing, withoutLoopback } from "./routing.ts";

const KINDS: readonly Kind<Machine>[] = [
  routing,
  lockTable,
  loopbackTable,
  audit,
  auditAtBoot,
  // Last of those that have something for each range: its rule for the uid has to come first.
  iptables,
  resolver,
  sudoNames,
  boot,
  sessions,
];

/** What every lock needs to know, and no lock changes, beside what its kinds ask. */
function commonQuestions({ answers, files }: Known, names: readonly string[]): Questions {
  const listed = new Set(parsePasswd(answers.get("passwd")?.stdout ?? "").map(({ name }) => name));
  const isUnlisted = (name: string) => answers.has("passwd") && !listed.has(name);
  const others = names.filter(isUnlisted);
  const owners = parseSubuid(files.get(SUBUID)?.text ?? "").ranges.map(({ owner }) => owner)
    .filter((owner) => isUnlisted(owner) && !/^\d+$/.test(owner));
  return {
    iptables: ["iptables", "--version"],
    passwd: ["getent", "passwd"],
    // A directory service need not list whom it knows.
    ...(others.length > 0 ? { [namedOf(others)]: ["getent", "passwd", "--", ...others] } : {}),
    // One by one: it answers to other spellings of a name with its own.
    ...Object.fromEntries(
      owners.map((owner) => [ownerOf(owner), ["getent", "passwd", "--", owner]]),
    ),
  };
}

const namedOf = (names: readonly string[]) => `passwd of ${names.join(" ")}`;
const ownerOf = (name: string) => `subuid owner ${name}`;

const SUBUID = "/etc/subuid";

const FILES = [IPV6, SUBUID, ...SAVED_FILES, ...KINDS.flatMap(({ files = [] }) => files)];

/** The system of this name. */
export const linux: System<Machine> = {
  kinds: KINDS,

  async read({ ask, look }, names, asked = {}, again) {
    let files = await look(FILES);
    // Where IPv6 is a module, any account's first socket loads it: then it has to be locked by then.
    if (!files.has(IPV6)) {
      await ask(["modprobe", "-q", "net-pf-10"]);
      files = await look(FILES);
    }
    const answers = new Map(again?.machine.answers);
    const known = { files, answers, asked };
    const questions = (kinds: readonly Kind<Machine>[]): Questions =>
      Object.assign({}, ...kinds.map((kind) => kind.questions?.(known)));
    Object.keys(questions(again?.kinds ?? [])).forEach((name) => answers.delete(name));
    while (true) {
      const all = { ...commonQuestions(known, names), ...questions(again?.kinds ?? KINDS) };
      const open = Object.entries(all).filter(([name]) => !answers.has(name));
      if (open.length === 0) break;
      const said = await askAll(ask, Object.fromEntries(open));
      said.forEach((answer, name) => answers.set(name, answer));
    }
    const passwd = answers.get("passwd")!;
    if (passwd.exitCode !== 0) {
      const said = passwd.stderr.trim().split("\n").at(-1) || `exit status ${passwd.exitCode}`;
      throw new UnreadableError(`the accounts could not be read: ${said}`);
    }
    return {
      answers,
      files,
      passwd: parsePasswd(
        [...answers].flatMap(([name, { stdout }]) => /^passwd\b/.test(name) ? [stdout] : [])
          .join("\n"),
      ),
      subuid: parseSubuid(
        files.get(SUBUID)?.text ?? "",
        (owner) => parsePasswd(answers.get(ownerOf(owner))?.stdout ?? "")[0]?.uid,
      ),
      families: familiesOf(files),
    };
  },

  holder,
  holders,
  leftOver,
  unlisted,

  backend(machine) {
    if (plainVariant(machine) !== undefined) return "iptables";
    if (hasNft(machine)) return "nftables";
    throw new FishnetError(
      "this machine has neither iptables nor nft: install the package iptables, or nftables",
    );
  },

  refuse,
  refuseToFree,
  refuseTools,

  notes(machine, holdings, holder, own) {
    const { name, names, uid, exists } = holder;
    const heir = exists ? undefined : machine.passwd.find((entry) => entry.uid === uid)?.name;
    const [other] = holdings.othersWith(single(uid), names);
    const backends = new Set(own.flatMap(({ says }) => says?.backend ?? []));
    const isLocked = own.some(({ foreign }) => !foreign);
    const notes = [
      heir !== undefined && `'${heir}' has its uid now, and is held by these rules`,
      other !== undefined &&
      `uid ${uid} is locked for '${other}', which had it: ` +
        disableLine(...isSwapped(machine, holdings, name, other) ? [name] : [], other),
      mayHideTable(machine, own) &&
      "nft is not installed: whether a table of its holds the account cannot be read",
      exists && isLocked && backends.size === 0 &&
      "its backend and ports went with its rules: give --backend and --only-port again",
      backends.size > 1 &&
      "rules of both backends are there: enable with the --backend that is to stay",
      ...withoutLoopback(machine).map(({ family, mend }) =>
        `IPv${family}: a lock cuts it off loopback as well, where the routing rule ` +
        `'from all lookup local' is not before ours: ${mend}`
      ),
      machine.families.length < 2 && "this kernel has no IPv6, so there is none to lock",
    ];
    return [
      ...notes.filter((note) => note !== false),
      ...(isLocked ? [] : staysRecorded(machine, name)),
      ...savedNotes(machine, holder),
    ];
  },

  faults(machine, { name, uid }) {
    const mend = `write ${name}:FIRST:COUNT for it in /etc/subuid, and enable again`;
    return [
      ...unclearLines(machine.subuid, { name, uid }).map((text) => ({
        is: `subordinate uids of the line ${JSON.stringify(text)}`,
        fault: "no range in decimal numbers",
        mend,
      })),
      ...otherwiseNamed(machine.subuid, { name, uid }).map((range) => ({
        is: `subordinate uids ${printRange(range)}`,
        fault: `they are under '${range.owner}', which is '${name}' by another name`,
        mend,
      })),
      ...othersAmong(machine, { name, uid }).map(({ range, whom }) => ({
        is: `subordinate uids ${printRange(range)}`,
        fault: `they ${whom}`,
        mend,
      })),
    ];
  },

  loop: rangeLoop,

  doors: async (...asked) => (await import("./side_doors.ts")).sideDoors(...asked),

  leaves: (machine, holder) => [
    ...staysRecorded(machine, holder.name),
    ...savedNotes(machine, holder),
  ],

  async recorded(ask, machine, accounts) {
    const recorded = recordedAccounts(machine);
    const names = accounts.filter((name) => recorded.has(name));
    if (names.length === 0) return new Map();
    try {
      const tallies = await refusedSince(ask, names, 5);
      return new Map(tallies.entries().map(([name, tally]) => [name, tallyLine(tally)]));
    } catch (error) {
      if (!(error instanceof FishnetError)) throw error;
      const why = `how often it was refused could not be read in 5 s: ${error.message}`;
      return new Map(names.map((name) => [name, why]));
    }
  },

  async recordedTries(ask, machine, name, from) {
    return recordedAccounts(machine).has(name) ? await recordedTries(ask, name, from) : undefined;
  },

  trying,
  resolvers: RESOLVERS,

  firstOrdinaryUid: 1000,

  notCovered: [
    "a socket that another account opened and handed over",
    "setuid-root programs, sudo, and groups that give root, which act as another account",
    "a relay on this machine (a DNS stub, a proxy, a VXLAN device), unless --only-port shuts it",
    "what services here send for any account (mail, a print job, a line of a forwarded log)",
    "its uid in another network namespace (a container that root started): only this one is locked",
    "PPPoE and SMC sockets, and L2TP devices, where the kernel has them or can load them",
    "sockets that are not IP (Bluetooth, InfiniBand, vsock from a virtual machine to its host)",
    "answers to scans from outside: of a closed port, or of a listener that is bound to a device",
    "bits in the packets of others: their ids and source ports, which all accounts share",
    "uids, or a device, that systemd-nsresourced lends; subordinate uids from a subid plugin",
    "what the kernel sends by itself when the account joins a multicast group (IGMP, MLD)",
    "what a closed socket still has to send over IPv4, by the device it is bound to or a DNAT of others",
  ],
};

function tallyLine({ count, since, file }: Tally): string {
  const from = since === undefined ? "" : ` since ${new Date(since).toISOString()}`;
  const where = file === undefined ? "" : ` in ${file}`;
  const times = count === 1 ? "once" : `${count} times`;
  return `refused ${times}${from}, recorded${where}: fishnet firewall log shows it`;
}
