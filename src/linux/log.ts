/**
 * What locked accounts were refused, as the kernel's audit recorded it: read through `ausearch`, in
 * the records' own raw form, where whatever a program could write is in quotes or in hex.
 */
import { FishnetError } from "../errors.ts";
import type { Ask } from "../root.ts";
import type { Refusal } from "../lock/report.ts";
import { KEY } from "./audit.ts";

/** Which refusals are asked for. */
export interface Query {
  /** None stands for every account that is recorded. */
  readonly accounts: readonly string[];
  /** How far to look back, in seconds; undefined for as far as the log reaches. */
  readonly since?: number | undefined;
}

/** What was refused, oldest first. @throws {FishnetError} where the log cannot be read. */
export async function readLog(ask: Ask, query: Query): Promise<Refusal[]> {
  const from = query.since === undefined ? 0 : Date.now() - query.since * 1000;
  const { refusals } = parse(await search(ask, query), query.accounts);
  return refusals.filter(({ time }) => time >= from);
}

/** What is tried is seen in less than two seconds. */
const PAUSE = 1000;

const sleep = (milliseconds: number) => new Promise((wake) => setTimeout(wake, milliseconds));

/** The same, and then for ever what is refused from now on, in batches. */
export async function* followLog(ask: Ask, query: Query): AsyncGenerator<Refusal[]> {
  let [since, seen] = [query.since ?? 0, new Set<string>()];
  const from = Date.now() - since * 1000;
  while (true) {
    const asked = Date.now();
    const refusals = await readLog(ask, { ...query, since: since + 60 });
    const news = refusals.filter(({ id, time }) => time >= from && !seen.has(id));
    if (news.length > 0) yield news;
    seen = new Set(refusals.map(({ id }) => id));
    await sleep(PAUSE);
    since = (Date.now() - asked) / 1000;
  }
}

/** How often a lock refused its account, since when, and the file that the records are in. */
export interface Tally {
  readonly count: number;
  /** When its rules were made, in milliseconds since 1970; undefined where the log starts later. */
  readonly since: number | undefined;
  /** Undefined where auditd's own file does not tell. */
  readonly file: string | undefined;
}

/** Tallies, out of one search. @throws {FishnetError} where the log cannot be read in that time. */
export async function refusedSince(
  ask: Ask,
  accounts: readonly string[],
  seconds?: number,
): Promise<Map<string, Tally>> {
  const { refusals, since } = parse(await search(ask, { accounts }, seconds), accounts);
  const { stdout } = await ask(["grep", "^log_file", "/etc/audit/auditd.conf"]);
  const file = /^log_file\s*=\s*(\S+)/.exec(stdout)?.[1];
  const byAccount = Map.groupBy(refusals, ({ account }) => account);
  return new Map(accounts.map((name) => {
    const from = since.get(name);
    const refused = byAccount.get(name)?.filter(({ time }) => time >= (from ?? 0)) ?? [];
    return [name, { count: refused.length, since: from, file }];
  }));
}

/** Milliseconds in which a record of what was just refused must be there. */
const PROMPT = 2000;

/**
 * How many of root's own tries as the account were recorded since then, in milliseconds since 1970:
 * waits for one, two seconds at most. An account can't make such a record.
 * @throws {FishnetError} where the log cannot be read.
 */
export async function recordedTries(ask: Ask, account: string, from: number): Promise<number> {
  const deadline = Date.now() + PROMPT;
  while (true) {
    const isLast = Date.now() >= deadline;
    const since = (Date.now() - from) / 1000;
    const refusals = await readLog(ask, { accounts: [account], since });
    const count = refusals.filter(({ realUid, uid }) => realUid === 0 && uid !== 0).length;
    if (count > 0 || isLast) return count;
    await sleep(100);
  }
}

/** How many of the kernel's records, of whatever kind, were lost since the machine was started. */
export async function lostRecords(ask: Ask): Promise<number> {
  const { stdout } = await ask(["auditctl", "-s"]);
  return Number(/^lost (\d+)/m.exec(stdout)?.[1] ?? 0);
}

/** A log that a flood has filled takes seconds to read, on a busy machine many. */
const SECONDS = 300;

async function search(ask: Ask, { accounts, since }: Query, seconds = SECONDS): Promise<string> {
  const [only, ...others] = accounts;
  // Without -w, a part of the key is enough (ausearch(8)): one reading for all accounts.
  const key = only !== undefined && others.length === 0 ? ["-w", "-k", KEY + only] : ["-k", KEY];
  const words = ["ausearch", "--input-logs", "--raw", ...key, ...startOf(since)];
  const { exitCode, stdout, stderr } = await ask(words, { seconds });
  const said = stderr.trim();
  if (exitCode === 127) {
    throw new FishnetError("ausearch is not installed: install the package auditd");
  }
  // 1 is also what it says where there is nothing (ausearch(8)).
  if (exitCode === 0 || (exitCode === 1 && /^(?:<no matches>)?$/.test(said))) return stdout;
  throw new FishnetError(`could not read the audit log: ${said || `ausearch: ${exitCode}`}`);
}

/** A word that reaches back far enough, and means the same to ausearch in every language and time zone. */
function startOf(since: number | undefined): string[] {
  const day = 24 * 60 * 60;
  if (since === undefined || since > 6 * day) return [];
  // "recent" is 10 minutes ago; "yesterday" and "week-ago" begin with their day (ausearch(8)).
  return ["-ts", since < 9 * 60 ? "recent" : since < day - 60 ? "yesterday" : "week-ago"];
}

type Fields = ReadonlyMap<string, string>;

/** The refusals, and when the first of each account's rules was made that are there still. */
function parse(text: string, accounts: readonly string[]) {
  // The records of one call have the same id.
  const calls = new Map<string, Map<string, Fields>>();
  const since = new Map<string, number>();
  for (const line of text.split("\n")) {
    const [, type, id = "", rest = ""] =
      /^(?:node=\S+ )?type=(\w+) msg=audit\(([\d.]+:\d+)\): (.*)$/.exec(line) ?? [];
    if (type === undefined) continue;
    // What auditd adds for the reader's convenience stands behind this (auditd.conf(5), log_format).
    const fields = fieldsOf(rest.split("\x1d", 1)[0]!);
    calls.set(id, (calls.get(id) ?? new Map()).set(type, fields));
    const account = type === "CONFIG_CHANGE" ? accountOf(fields, accounts) : undefined;
    if (account === undefined) continue;
    if (fields.get("op") === "remove_rule") since.delete(account);
    if (fields.get("op") === "add_rule" && !since.has(account)) since.set(account, timeOf(id));
  }
  return { refusals: [...calls].flatMap(([id, call]) => refusalOf(id, call, accounts)), since };
}

/** The errors that our rules record, as numbers (errno(3)). */
const BY: Readonly<Record<string, Refusal["by"]>> = { "-13": "routing", "-1": "filter" };

/** How long auditd may take to write the records of one call, in milliseconds. */
const WRITING = 2000;

function refusalOf(
  id: string,
  records: ReadonlyMap<string, Fields>,
  accounts: readonly string[],
): Refusal[] {
  const call: Fields = records.get("SYSCALL") ?? new Map();
  const sent = records.get("SOCKADDR");
  const address = sent && endpointOf(sent.get("saddr") ?? "");
  const account = accountOf(call, accounts);
  const by = BY[call.get("exit") ?? ""];
  const time = timeOf(id);
  if (account === undefined || by === undefined || sent && address === undefined) return [];
  // That is the last of a call's records.
  if (!records.has("PROCTITLE") && !sent && Date.now() - time < WRITING) return [];
  return [{
    id,
    time,
    account,
    uid: Number(call.get("euid")),
    realUid: Number(call.get("uid")),
    pid: Number(call.get("pid")),
    program: call.get("comm") ?? "",
    executable: call.get("exe") ?? "",
    ...address,
    by,
  }];
}

const timeOf = (id: string) => Math.round(Number(id.split(":", 1)[0]) * 1000);

/** The account in a record's key, which may be one of several, with 1 between them. */
function accountOf(fields: Fields, accounts: readonly string[]): string | undefined {
  const ours = fields.get("key")?.split("\x01").find((key) => key.startsWith(KEY));
  const name = ours?.slice(KEY.length);
  return accounts.length === 0 || accounts.includes(name ?? "") ? name : undefined;
}

/** `name=value …`: a text is in quotes, or in hex where it has a quote, a space or a control character. */
function fieldsOf(text: string): Fields {
  const fields = new Map<string, string>();
  for (const [, name = "", quoted, word = ""] of text.matchAll(/(\S+?)=(?:"([^"]*)"|(\S*))/g)) {
    fields.set(name, quoted ?? (TEXTS.includes(name) ? textOf(word) : word));
  }
  return fields;
}

/** The fields whose text is in hex where it is not in quotes. */
const TEXTS = ["comm", "exe", "key"];

function textOf(word: string): string {
  const bytes = bytesOf(word);
  return bytes === undefined ? word : new TextDecoder().decode(bytes);
}

const bytesOf = (hex: string) =>
  /^(?:[0-9A-F]{2})+$/i.test(hex) ? Uint8Array.fromHex(hex) : undefined;

/**
 * Reads a `struct sockaddr`: the family in the machine's order, little-endian wherever this runs,
 * then as in ip(7) and ipv6(7). Undefined for families that are none of a lock's (a Unix socket, say).
 */
function endpointOf(saddr: string): { address: string; port: number } | undefined {
  const bytes = bytesOf(saddr);
  if (bytes === undefined) return undefined;
  const view = new DataView(bytes.buffer);
  const family = bytes.length < 4 ? 0 : view.getUint16(0, true);
  // UDP takes an address of no family for one of IPv4 (udp_sendmsg).
  if ((family === 2 || family === 0) && bytes.length >= 8) {
    return { address: bytes.subarray(4, 8).join("."), port: view.getUint16(2) };
  }
  if (family !== 10 || bytes.length < 24) return undefined;
  const groups = [...Array(8).keys()].map((i) => view.getUint16(8 + 2 * i).toString(16));
  const scope = bytes.length >= 28 ? view.getUint32(24, true) : 0;
  // A URL has the short form of RFC 5952.
  const short = new URL(`http://[${groups.join(":")}]`).hostname.slice(1, -1);
  return { address: short + (scope === 0 ? "" : `%${scope}`), port: view.getUint16(2) };
}
