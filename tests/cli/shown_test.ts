/** Text from outside: nothing in it is obeyed by a terminal, or hidden by one. */
import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { json, shown } from "../../src/shown.ts";
import { linux } from "../../src/linux/linux.ts";
import { attemptOf, parseAnswers } from "../../src/lock/tries.ts";
import { must } from "../support/process.ts";
import { PYTHON, whyNoWorld } from "../support/world.ts";

/** Said otherwise than by the program: everything but letters, marks, numbers, signs and the space. */
const SAFE = /^[\p{L}\p{M}\p{N}\p{P}\p{S} \u00a0\p{Zs}]*$/u;

/** Text as hostile as it gets: any character, and those that terminals obey more often. */
const hostile = fc.string({
  unit: fc.oneof(
    fc.string({ unit: "binary", minLength: 1, maxLength: 1 }),
    fc.constantFrom("\x1b[8m", "\x1b]0;", "\x07", "\x9b", "\x7f", "\r", "\n", "\u202e", "\u2066"),
    fc.constantFrom("\u200b", "\ufeff", "\u{e0041}", "\ud800", "\u2028", "\u0301", "\ufe0f"),
  ),
  maxLength: 300,
});

Deno.test("what is shown has no character that a terminal obeys or hides, and is short", () => {
  fc.assert(
    fc.property(hostile, fc.integer({ min: 1, max: 300 }), (text, longest) => {
      const fit = shown(text, longest);
      assert(SAFE.test(fit), JSON.stringify(fit));
      assert([...fit].length <= longest);
      assertEquals(shown(fit, longest), fit);
    }),
    { numRuns: 2000 },
  );
});

Deno.test("plain text in any script is shown as it is", () => {
  for (const text of ["HTTP/1.1 200 OK", "Größe 3 µs", "日本語 テスト", "العربية", "नमस्ते"]) {
    assertEquals(shown(text), text);
  }
  assertEquals(shown("a\r\n\tb"), "a b");
  assertEquals(shown("x".repeat(201)), `${"x".repeat(199)}…`);
});

const why = whyNoWorld();
Deno.test({
  name: "any bytes that were answered on loopback reach a terminal as text" +
    (why === undefined ? "" : ` (skipped: ${why})`),
  ignore: why !== undefined,
  async fn() {
    const answers = fc.sample(
      fc.oneof(
        fc.uint8Array({ maxLength: 200 }),
        hostile.map((text) => new TextEncoder().encode(text)),
      ),
      { numRuns: 300, seed: 10 },
    );
    const lines = answers.map((bytes) => {
      const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
      const [answer] = parseAnswers(`m 0 ok ${hex} \n`, "m", 1);
      return attemptOf({ name: "a", uid: 1, groups: [1] }, answer, "", linux.trying).said;
    });
    const file = await Deno.makeTempFile();
    try {
      await Deno.writeTextFile(file, lines.map((line) => `${line}\n`).join(""));
      const terminal = new URL("../support/terminal.py", import.meta.url).pathname;
      const { code, shown } = JSON.parse(await must(PYTHON, terminal, "80", "[]", "cat", file));
      assertEquals(code, 0);
      assertEquals(shown, lines.map((line) => `${line}\r\n`).join(""));
      for (const line of shown.split("\r\n")) assert(SAFE.test(line), JSON.stringify(line));
    } finally {
      await Deno.remove(file);
    }
  },
});

Deno.test("JSON has nothing that a terminal obeys, and says the same", () => {
  const document = { program: "a\x9b31m\x7f\u202e\u{e0041}\u2028b é 漢", lines: ["\n\x1b["] };
  for (const indent of [undefined, 2]) {
    const text = json(document, indent);
    assertEquals(JSON.parse(text), document);
    assertEquals(text.replaceAll("\n", "").match(/[\x7f-\x9f\p{Cc}\p{Cf}\p{Zl}]/u), null, text);
    assertEquals(text.includes("é 漢"), true);
  }
});
