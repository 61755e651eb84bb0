/** Lines and columns for any width: no word is lost, and a command that is to be copied stays whole. */
import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { columnsOf, table, wrap } from "../../src/cli/layout.ts";

Deno.test("a line is broken between words, and the next lines are indented", () => {
  assertEquals(wrap("  one two three four", 10, 4), ["  one two", "    three", "    four"]);
  assertEquals(wrap("one two three", undefined, 4), ["one two three"]);
});

Deno.test("a command of this program stays whole, whatever stands around it", () => {
  const command = "fishnet firewall enable --agent-user agent_runner --only-port 3777 --apply";
  for (const width of [20, 40, 80]) {
    const lines = wrap(`a lock of that account is there: ${command}; and more words`, width, 2);
    assert(lines.some((line) => line.trim().startsWith(`${command};`)), lines.join("\n"));
  }
});

Deno.test("a colour that goes on over lines is closed at the end of each", () => {
  assertEquals(wrap("\x1b[31mone two\x1b[39m three", 5), [
    "\x1b[31mone\x1b[0m",
    "\x1b[31mtwo\x1b[39m",
    "three",
  ]);
});

const word = fc.string({ unit: fc.constantFrom(..."abc:/.-"), minLength: 1, maxLength: 12 });
const sentence = fc.array(word, { minLength: 1, maxLength: 12 }).map((words) => words.join(" "));

Deno.test("whatever the width, no word is lost, and only one that is too long stands out", () => {
  fc.assert(
    fc.property(sentence, fc.integer({ min: 16, max: 100 }), (text, width) => {
      const lines = wrap(text, width, 2);
      assertEquals(lines.join(" ").replace(/ +/g, " "), text);
      return lines.every((line) => columnsOf(line) <= width);
    }),
  );
});

Deno.test("whatever the width, a table keeps to it and shows every letter of every cell", () => {
  const rows = fc.array(fc.tuple(sentence, word, sentence), { minLength: 2, maxLength: 6 });
  const letters = (text: string) => [...text.replace(/\s/g, "")].sort().join("");
  fc.assert(
    fc.property(rows, fc.integer({ min: 46, max: 120 }), (rows, width) => {
      const lines = table(rows, width).flat();
      assertEquals(letters(lines.join("")), letters(rows.flat().join("")));
      return lines.every((line) => columnsOf(line) <= width && line === line.trimEnd());
    }),
  );
});

Deno.test("a table too wide for the terminal becomes a block for each row", () => {
  const rows = [["ACCOUNT", "UID", "STATE", "BACKEND"], ["agent", "1002", "locked", "iptables"]];
  assertEquals(table(rows, 80).flat(), [
    "ACCOUNT  UID   STATE   BACKEND",
    "agent    1002  locked  iptables",
  ]);
  assertEquals(table(rows, 24).flat(), [
    "agent",
    "  UID      1002",
    "  STATE    locked",
    "  BACKEND  iptables",
  ]);
});
