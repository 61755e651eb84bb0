/**
 * Root elsewhere than behind sudo: inside a world, or in mounts of its own.
 *
 * @module
 */
import type { Root } from "../../src/root.ts";
import { Session } from "../../src/sudo.ts";

/**
 * Root as the program has it, with a session for what is asked at once: it ends when all of it is
 * answered, so that nobody has to.
 *
 * @param command what runs the program behind it
 */
export function rootBy(...command: readonly string[]): Root {
  let session: Promise<Session> | undefined;
  let users = 0;
  async function use<T>(what: (session: Session) => Promise<T>): Promise<T> {
    users++;
    session ??= Session.open([...command, "perl"]);
    const used = session;
    try {
      return await what(await used);
    } finally {
      if (--users === 0) {
        session = undefined;
        await (await used)[Symbol.asyncDispose]();
      }
    }
  }
  return {
    ask: (words, options) => use((session) => session.ask(words, options)),
    look: (paths) => use((session) => session.look(paths)),
  };
}
