/** User names: what is accepted, in the page's words and order. */
import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { parseAccountName, refuseRoot } from "../src/account.ts";
import { FishnetError } from "../src/errors.ts";

Deno.test("a name is refused in the page's words, and in the page's order", () => {
  const cases = [
    ["", "must be 1-32 characters"],
    ["verylongusernamethatexceeds32chars", "must be 1-32 characters"],
    ["1".repeat(33), "must be 1-32 characters"],
    ["1user", "must start with a letter or underscore"],
    ["-user!", "must start with a letter or underscore"],
    ["bad-user!", "only alphanumeric, underscore, and hyphen are allowed"],
    ["bad user", "only alphanumeric, underscore, and hyphen are allowed"],
    ["user\n", "only alphanumeric, underscore, and hyphen are allowed"],
  ] as const;
  for (const [name, why] of cases) {
    assertThrows(
      () => parseAccountName(name),
      FishnetError,
      `invalid unix username '${name}': ${why}`,
    );
  }
});

Deno.test("a name of 1 or 32 characters is accepted as it is", () => {
  for (const name of ["a", "_", "Agent-Runner_1", "a".repeat(32)]) {
    assertEquals(parseAccountName(name), name);
  }
});

Deno.test("letters and digits outside ASCII are refused", () => {
  for (const name of ["ägent", "agentß", "агент", "agent１", "agent\u0301"]) {
    assertThrows(() => parseAccountName(name), FishnetError);
  }
});

Deno.test("root is refused, and the message says what to pass", () => {
  assertThrows(() => refuseRoot("root"), FishnetError, "--agent-user");
});

Deno.test("whatever is accepted is safe in a line of shell, and unchanged", () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.string({ unit: "binary" })), (text) => {
      let name: string;
      try {
        name = parseAccountName(text);
      } catch (error) {
        return error instanceof FishnetError;
      }
      return name === text && /^[A-Za-z_][A-Za-z0-9_-]{0,31}$/.test(name);
    }),
    { numRuns: 10_000 },
  );
});
