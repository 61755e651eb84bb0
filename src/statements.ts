/** What root's session (`session.pl`), or one shell for many commands, is told; and its answers. */
import { quoted } from "./line.ts";
import type { Answer, Files, Seen } from "./root.ts";

/** How many words, and each behind its length in bytes: so one that is cut off is not begun. */
export function statement(words: readonly string[]): string {
  const lengthOf = (word: string) => new TextEncoder().encode(word).length;
  return `${words.length}\n${words.map((word) => `${lengthOf(word)}\n${word}`).join("")}`;
}

/** What `look` printed: seven fields of each name, the sixth of which says why it could not be read. */
export function filesIn(printed: string): { files: Files; unreadable: readonly string[] } {
  const fields = printed.split("\0");
  const files = new Map<string, Seen>();
  const unreadable: string[] = [];
  for (let i = 0; i + 7 < fields.length; i += 7) {
    const [path, type, mode, uid, target, error, text] = fields.slice(i, i + 7) as string[];
    files.set(path!, { type: type!, mode: mode!, uid: Number(uid), target: target!, text: text! });
    if (error !== "") unreadable.push(`${path} could not be read: ${error!.trim()}`);
  }
  return { files, unreadable };
}

/** The commands one after another, for a shell, each with a line of the mark on both outputs behind it. */
export function askingScript(asked: readonly (readonly string[])[], mark: string): string {
  const end = `printf "\\n%s %s\\n" ${mark} $?; printf "\\n%s\\n" ${mark} >&2`;
  return asked.map((words) => `${words.map(quoted).join(" ")} </dev/null; ${end}\n`).join("");
}

/** The answers of {@link askingScript}; fewer than were asked for where it did not come to its end. */
export function answersIn({ stdout, stderr }: Answer, mark: string): Answer[] {
  const errors = stderr.split(`\n${mark}\n`);
  const [first, ...others] = stdout.split(`\n${mark} `);
  let text = first!;
  return others.map((other, i) => {
    const [code, ...rest] = other.split("\n");
    const stderr = errors[i] ?? "";
    // dash says 127 also of a program that is there and may not be run, and the loader of one that lacks a library.
    const isThere = code === "127" && !/(: |command )not found\s*$/.test(stderr);
    const answer = { exitCode: isThere ? 126 : Number(code), stdout: text, stderr };
    text = rest.join("\n");
    return answer;
  });
}

/** One output of the session, cut at the marks that end each answer. */
export class MarkedOutput {
  readonly #reader: ReadableStreamDefaultReader<string>;
  #text = "";

  constructor(stream: ReadableStream<Uint8Array>) {
    this.#reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  }

  /** What was printed up to the next mark, and what stands behind it; nothing where all has ended. */
  async upTo(mark: string): Promise<{ readonly text: string; readonly last?: string }> {
    const end = new RegExp(`\n${mark}(.*)\n`);
    // What surely holds no mark is put aside: a text of any length is searched once.
    let before = "";
    while (true) {
      const found = end.exec(this.#text);
      if (found !== null) {
        const text = before + this.#text.slice(0, found.index);
        this.#text = this.#text.slice(found.index + found[0].length);
        return { text, last: found[1]!.trim() };
      }
      const searched = Math.max(0, this.#text.length - mark.length - " 255\n".length);
      before += this.#text.slice(0, searched);
      const { value = "", done } = await this.#reader.read();
      this.#text = this.#text.slice(searched) + value;
      if (done) {
        this.#text = before + this.#text;
        return { text: this.#text };
      }
    }
  }

  /** Hears no more. */
  async cancel(): Promise<void> {
    await this.#reader.cancel();
  }

  /** Waits for the end, which comes when the last command has ended. */
  async end(): Promise<void> {
    while (!(await this.#reader.read()).done);
  }
}
