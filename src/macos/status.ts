/**
 * `status` on macOS: which pieces of each account's lock are in force.
 *
 * @module
 */
import { FishnetError } from "../errors.ts";
import type { AccountStatus, Piece } from "../status.ts";
import { type AccountFacts, type PfFacts, readPf } from "./inspect.ts";
import { ANCHOR_CALL, anchorOf, PRINTED_CALL } from "./pf.ts";

/**
 * What is in force for the accounts; for none, for every account that anything
 * of a lock is there for.
 *
 * @throws {UnreadableError} where pf's state cannot be read.
 * @throws {FishnetError} for an account that neither exists nor has anything of a lock.
 */
export async function macosStatus(names: readonly string[]): Promise<AccountStatus[]> {
  return pfStatus(await readPf(names), names);
}

/** The same, from a state that was read before. */
export function pfStatus(facts: PfFacts, names: readonly string[]): AccountStatus[] {
  return facts.accounts
    .filter((account) => names.length > 0 || hasAny(account))
    .map((account) => judge(account, facts));
}

/** An anchor that was emptied may keep its name until the next start: that is nothing. */
function hasAny({ loaded, hasFile, token, hasDaemonFile }: AccountFacts): boolean {
  return loaded.length > 0 || hasFile || token !== undefined || hasDaemonFile;
}

function judge(account: AccountFacts, facts: PfFacts): AccountStatus {
  const { name, uid, loaded, hasFile, hasDaemonFile, daemonIsLoaded } = account;
  const isHeld = hasAny(account);
  if (uid === undefined && !isHeld) {
    throw new FishnetError(`the account '${name}' does not exist`);
  }
  const { onlyPorts, fault } = readRules(loaded, uid);
  const remedy = uid === undefined ? `fishnet firewall disable --agent-user ${name} --apply` : [
    `fishnet firewall enable --agent-user ${name}`,
    ...onlyPorts.map((port) => `--only-port ${port}`),
    ...(hasDaemonFile ? ["--persist"] : []),
    "--apply",
  ].join(" ");
  const piece = (label: string, present: boolean): Piece =>
    present ? { name: label, present } : { name: label, present, remedy };
  const sound = (label: string, detail: string | undefined): Piece =>
    detail === undefined
      ? { name: label, present: true }
      : { name: label, present: false, detail, remedy };
  const isInPfConf = facts.pfConf.some((line) => line.startsWith(ANCHOR_CALL));
  const pieces = isHeld
    ? [
      piece("pf is on", facts.enabled),
      sound("a reference that keeps pf on", referenceFault(account, facts)),
      piece("the line in /etc/pf.conf", isInPfConf),
      callPiece(facts, remedy),
      skipPiece(facts, onlyPorts),
      sound(`the rules in anchor ${anchorOf(name)}`, fault),
      piece("the file with the rules", hasFile),
    ]
    : [];
  return {
    name,
    uid,
    state: !isHeld ? "unlocked" : pieces.every(({ present }) => present) ? "locked" : "partial",
    pieces,
    survivesReboot: hasDaemonFile && daemonIsLoaded && hasFile && isInPfConf,
    onlyPorts,
    notes: [
      ...(uid === undefined ? ["the account no longer exists, its rules do"] : []),
      ...(hasDaemonFile && !daemonIsLoaded
        ? ["launchd has not loaded the LaunchDaemon: it will at the next start"]
        : []),
      ...foreignCalls(facts),
    ],
  };
}

function referenceFault({ token }: AccountFacts, { tokens }: PfFacts): string | undefined {
  if (token === undefined) return "none is recorded";
  return tokens.has(token)
    ? undefined
    : "pf no longer knows ours: it ended with a restart, or with pfctl -d";
}

/** Our call, unless something before it may let pass at once what it should judge. */
function callPiece({ mainRules, called }: PfFacts, remedy: string): Piece {
  const name = "the call of our anchors in the running rules";
  const place = mainRules.indexOf(PRINTED_CALL);
  if (place < 0) return { name, present: false, remedy };
  const before = mainRules.slice(0, place);
  const shadow = before.find((rule) => PASSES_QUICK.test(rule));
  if (shadow !== undefined) {
    return {
      name,
      present: false,
      detail: `before it stands "${shadow}", which decides first: ` +
        `move our line in /etc/pf.conf above it and restart`,
    };
  }
  const anchor = foreignAnchors(before).find((anchor) => mayPassQuick(called.get(anchor)));
  return anchor === undefined ? { name, present: true } : {
    name,
    present: false,
    detail: `before it stands the anchor "${anchor}", which decides first what it passes quick: ` +
      `end what it belongs to, disable and enable again, and start that after it`,
  };
}

const PASSES_QUICK = /^pass\b.* quick\b/;

/** Rules that pfctl did not print, or that call others, may do anything. */
function mayPassQuick(rules: readonly string[] | undefined): boolean {
  return rules?.some((rule) => PASSES_QUICK.test(rule) || rule.startsWith("anchor ")) ?? true;
}

/** The anchors that rules call, but for those that macOS has. */
function foreignAnchors(rules: readonly string[]): string[] {
  return rules.flatMap((rule) => /^anchor "([^"]+)"/.exec(rule)?.[1] ?? [])
    .filter((name) => !name.startsWith("com.apple"));
}

/** A skipped interface has no rules at all; lo0 needs none unless loopback is limited. */
function skipPiece({ skipped }: PfFacts, onlyPorts: readonly number[]): Piece {
  const name = "pf looks at every interface";
  const open = skipped.filter((device) => device !== "lo0" || onlyPorts.length > 0);
  return open.length === 0 ? { name, present: true } : {
    name,
    present: false,
    detail: `"set skip on ${open.join(" ")}" is in force: take it out of /etc/pf.conf and restart`,
  };
}

/** Anchors of others before ours may hold anything, and change at any time. */
function foreignCalls({ mainRules }: PfFacts): string[] {
  const place = mainRules.indexOf(PRINTED_CALL);
  return foreignAnchors(mainRules.slice(0, Math.max(place, 0))).map((name) =>
    `the anchor "${name}" is called before ours: what it passes quick, ours does not see`
  );
}

const BASE_RULES = [
  /^block return out quick on ! lo0 proto tcp from any to any port 1:65535 user = (\d+)$/,
  /^block return out quick on ! lo0 proto udp from any to any port 1:65535 user = (\d+)$/,
  /^block drop in quick on ! lo0 proto tcp from any to any port 1:65535 user = (\d+)$/,
] as const;
const LOOPBACK_TCP =
  /^block return out quick on lo0 proto tcp from any to any port (\d+):(\d+) user = (\d+) flags S\/SA$/;
const LOOPBACK_UDP =
  /^block return out quick on lo0 proto udp from any to any port 1:65535 user = (\d+)$/;

/** Reads an anchor's rules as pfctl prints them: one for each value of a list, users as numbers. */
export function readRules(
  loaded: readonly string[],
  uid: number | undefined,
): { readonly onlyPorts: readonly number[]; readonly fault: string | undefined } {
  const limits = loaded.flatMap((rule) => {
    const [, first, last] = LOOPBACK_TCP.exec(rule) ?? [];
    return first === undefined ? [] : [[Number(first), Number(last)] as const];
  });
  const limited = limits.length > 0;
  const onlyPorts = limited ? portsBetween(limits) : [];
  const expected = [...BASE_RULES, ...(limited ? [LOOPBACK_UDP] : [])];
  const missing = expected.filter((pattern) => !loaded.some((rule) => pattern.test(rule)));
  const strange = loaded.filter((rule) =>
    ![...BASE_RULES, LOOPBACK_UDP, LOOPBACK_TCP].some((pattern) => pattern.test(rule))
  );
  const uids = new Set(loaded.flatMap((rule) => /user = (\d+)/.exec(rule)?.[1] ?? []));
  const fault = loaded.length === 0
    ? "there are none"
    : strange.length > 0
    ? `"${strange[0]}" is none of ours`
    : missing.length > 0
    ? "not all of them are there"
    : uids.size !== 1 || (uid !== undefined && !uids.has(`${uid}`))
    ? `they are for uid ${[...uids].join(", ")}`
    : undefined;
  return { onlyPorts, fault };
}

/** The ports that no range holds. */
function portsBetween(ranges: readonly (readonly [number, number])[]): number[] {
  const shut = ranges.toSorted(([a], [b]) => a - b);
  return [0, ...shut.map(([, last]) => last)]
    .flatMap((last, i) => {
      const next = shut[i]?.[0] ?? 65536;
      // A range of ours never leaves out more than the fifteen ports that the command line takes.
      return Array.from({ length: Math.min(next - last - 1, 16) }, (_, k) => last + 1 + k);
    });
}
