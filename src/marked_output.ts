/**
 * What the root shell prints, cut at the marks that end each answer.
 *
 * @module
 */
/** One output of the session, cut at its marks. */
export class MarkedOutput {
  readonly #reader: ReadableStreamDefaultReader<string>;
  #text = "";
  #word: { readonly word: string; readonly heard: () => void } | undefined;

  constructor(stream: ReadableStream<Uint8Array>) {
    this.#reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  }

  /** Calls back once, when the word was printed before the next mark. */
  onWord(word: string, heard: () => void): void {
    this.#word = { word, heard };
  }

  /** What was printed up to the next mark, and what stands behind it; nothing where all has ended. */
  async upTo(mark: string): Promise<{ readonly text: string; readonly last?: string }> {
    const start = `\n${mark}`;
    // What surely holds no mark is put aside: a text of any length is searched once.
    const before: string[] = [];
    while (true) {
      const at = this.#text.indexOf(start);
      const end = at < 0 ? -1 : this.#text.indexOf("\n", at + start.length);
      if (end >= 0) {
        const last = this.#text.slice(at + start.length, end).trim();
        const text = before.join("") + this.#text.slice(0, at);
        this.#text = this.#text.slice(end + 1);
        this.#word = undefined; // what comes later is no answer to what was waited for
        return { text, last };
      }
      const searched = at < 0 ? Math.max(0, this.#text.length - start.length) : at;
      before.push(this.#text.slice(0, searched));
      const { value, done } = await this.#reader.read();
      this.#text = this.#text.slice(searched) + (value ?? "");
      if (done) {
        this.#text = before.join("") + this.#text;
        return { text: this.#text };
      }
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
