/**
 * Has root try what accounts may do, without anything running as them: `try.pl`
 * takes an account's effective uid for a moment, and its real one never.
 *
 * @module
 */
import type { Ask } from "../root.ts";
import script from "./try.pl" with { type: "text" };

/** An account, as the kernel knows it. */
export interface Person {
  readonly name: string;
  readonly uid: number;
  /** The groups, the account's own first. */
  readonly groups: readonly number[];
}

/** Where to. */
export interface Endpoint {
  readonly host: string;
  readonly port: number;
}

/** One thing to try, whoever tries it. */
export type What =
  /** `told`: UDP to a peer, which hears ICMP's answer: macOS tells a sender nothing of what pf drops. */
  | Endpoint & { readonly kind: "tcp" | "udp" | "told" }
  /** UDP by one device, whatever the routes say. */
  | Endpoint & { readonly kind: "device"; readonly device: string }
  | Endpoint & { readonly kind: "http"; readonly path: string }
  /** May it write to this file or Unix socket? */
  | { readonly kind: "write"; readonly path: string }
  /** May it call this name on the bus that listens on this Unix socket? */
  | { readonly kind: "bus"; readonly host: string; readonly name: string };

/** One thing to try, as somebody. */
export type Attempted = { readonly as: Person } & What;

/** What the very call said. */
export interface Answer {
  /** `ok`, or the call that failed; `wait` for no answer in time, `sent` where nobody said a thing. */
  readonly call: string;
  /** The name of its error (`EACCES`), and what that means. */
  readonly word?: string;
  readonly words?: string;
  /** HTTP: the first line of what was answered, 200 bytes of it at most. Somebody else's text. */
  readonly text?: string;
  /** HTTP on Linux: the uids of those who listened on that port meanwhile. */
  readonly listeners: readonly number[];
}

/** Seconds for all the tries together; the script takes 7 at most, by itself. */
const SECONDS = 9;

/**
 * Tries everything at once. A try that did not come to its end has no answer.
 *
 * @returns the answers in the order of what was asked, and what the script said besides.
 */
export async function tryAll(
  ask: Ask,
  what: readonly Attempted[],
): Promise<{ answers: (Answer | undefined)[]; complaint: string }> {
  // The mark goes by standard input, which no account can read.
  const mark = crypto.randomUUID();
  const input = [script.trimEnd(), mark, ...what.map(lineOf), ""].join("\n");
  const { exitCode, stdout, stderr } = await ask(["perl", "-"], { input, seconds: SECONDS });
  const answers = parseAnswers(stdout, mark, what.length);
  const said = `${stdout}\n${stderr}`.split("\n").filter((line) => line && !line.startsWith(mark));
  return { answers, complaint: said.at(-1) ?? `perl ended with ${exitCode}` };
}

function lineOf(one: Attempted, number: number): string {
  const { host = "-", port = 0, device, path, name } = one as Partial<
    Record<"host" | "device" | "path" | "name", string> & { port: number }
  >;
  const more = device ?? path ?? name ?? "-";
  const words = [one.as.uid, one.as.groups.join(","), one.kind, host, port, more];
  return [number, ...words].map(String).map(word).join(" ");
}

/** @throws {Error} for what would be another word, or another line. */
function word(text: string): string {
  if (!/^[!-~]+$/.test(text)) throw new Error(`not a word for try.pl: ${JSON.stringify(text)}`);
  return text;
}

/** Reads what the script printed; the first answer to a try counts. */
export function parseAnswers(text: string, mark: string, count: number): (Answer | undefined)[] {
  const answers = Array.from<Answer | undefined>({ length: count });
  const listeners = answers.map(() => new Set<number>());
  for (const line of text.split("\n")) {
    const [first, number = "", call = "", word = "", ...words] = line.split(" ");
    const index = /^\d+$/.test(number) ? Number(number) : count;
    if (first !== mark || index >= count || call === "") continue;
    if (call === "listen") word.split(",").forEach((uid) => listeners[index]!.add(Number(uid)));
    else {
      answers[index] ??= call === "ok"
        ? { call, text: fromHex(word), listeners: [] }
        : { call, word, words: words.join(" "), listeners: [] };
    }
  }
  return answers.map((answer, i) => answer && { ...answer, listeners: [...listeners[i]!] });
}

function fromHex(digits: string): string {
  const bytes = (digits.match(/[0-9a-f]{2}/g) ?? []).map((pair) => Number.parseInt(pair, 16));
  return new TextDecoder().decode(new Uint8Array(bytes));
}
