/** How `verify` reads what pf does to a try. */
import { assertEquals } from "@std/assert";
import { judgeRefusal } from "../../src/verify.ts";
import { asPfRefuses, type Attempt } from "../../src/verify_attempts.ts";

const tried = (outcome: Attempt["outcome"], said: string): Attempt => ({ by: "a", outcome, said });
const reset = tried("broken", "Connection refused");
const notSent = tried("broken", "No route to host");
const reached = tried("reached", "it went out");

Deno.test("macOS: a reset, or a datagram that is not sent, is a refusal beside a control that got through", () => {
  for (const own of [reset, notSent]) {
    assertEquals(judgeRefusal("TCP", asPfRefuses(own), reached).verdict, "proven");
  }
});

Deno.test("macOS: where the control is refused too, nothing is shown", () => {
  assertEquals(judgeRefusal("TCP", asPfRefuses(reset), asPfRefuses(reset)).verdict, "inconclusive");
});

Deno.test("macOS: what gets through, waits, or breaks otherwise is no refusal", () => {
  for (
    const other of [reached, tried("unanswered", "no answer"), tried("broken", "bash: not found")]
  ) {
    assertEquals(asPfRefuses(other), other);
  }
});
