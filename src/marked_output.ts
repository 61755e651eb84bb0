/**
 * What the root shell prints, cut at the marks that end each answer.
 *
 * @module
 */
import type { Answer } from "./lock/piece.ts";

/** One output of the session, cut at its marks. */
export class MarkedOutput {
  readonly #reader: ReadableStreamDefaultReader<string>;
  #text = "";
  #word: { readonly word: string; readonly heard: () => void } | undefined;

  constructor(stream: ReadableStream<Uint8Array>) {
    this.#reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  }

  /** Calls back once, when the word was printed. */
  onWord(word: string, heard: () => void): void {
    this.#word = { word, heard };
  }

  /** What was printed up to the next mark, and what stands behind it; nothing where all has ended. */
  async upTo(mark: string): Promise<{ readonly text: string; readonly last?: string }> {
    const start = `\n${mark}`;
    let from = 0;
    while (true) {
      const at = this.#text.indexOf(start, from);
      const end = at < 0 ? -1 : this.#text.indexOf("\n", at + start.length);
      if (end >= 0) {
        const answer = {
          text: this.#text.slice(0, at),
          last: this.#text.slice(at + start.length, end).trim(),
        };
        this.#text = this.#text.slice(end + 1);
        return answer;
      }
      from = Math.max(0, this.#text.length - start.length);
      if (at >= 0) from = at;
      const { value, done } = await this.#reader.read();
      if (done) return { text: this.#text };
      this.#text += value;
      if (this.#word !== undefined && this.#text.includes(this.#word.word)) {
        this.#word.heard();
        this.#word = undefined;
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

/**
 * The answers of commands that ran one after another: of each what it printed, a line of the mark and
 * the exit code, the errors, and a line of the mark.
 */
export function answersIn(text: string, mark: string): Answer[] {
  const parts = text.split(`\n${mark}`);
  return Array.from({ length: Math.floor(parts.length / 2) }, (_, i): Answer => {
    const [code, ...errors] = parts[2 * i + 1]!.trimStart().split("\n");
    const stderr = errors.join("\n");
    // dash says 127 also of a program that is there and may not be run, and the loader of one that lacks a library.
    const isThere = code === "127" && !/(: |command )not found\s*$/.test(stderr);
    const stdout = parts[2 * i]!;
    return {
      exitCode: isThere ? 126 : Number(code),
      stdout: i === 0 ? stdout : stdout.slice(1),
      stderr,
    };
  });
}
