/**
 * Carries out a plan for macOS on the stand-in, or reads a status there, with the
 * program's own modules: `main.ts` picks the system by itself, and would not.
 *
 *     apply.ts status '{"accounts":["a"]}'
 *     apply.ts enable|disable '{"accounts":["a"],"onlyPorts":[],"persist":false}' [stop before step N]
 *
 * @module
 */
import { applyPlan } from "../../../src/apply.ts";
import { FishnetError } from "../../../src/errors.ts";
import { statusOf } from "../../../src/status.ts";
import { planDisable, planEnable } from "../../../src/planner.ts";

const [action, text, stopAt] = Deno.args;
const { accounts, onlyPorts, persist } = JSON.parse(text!);
const named = accounts.map((name: string) => ({ name }));
const options = {
  system: "macos",
  backend: "iptables",
  onlyPorts,
  persist,
  sessions: false,
} as const;
const steps = action === "enable" ? planEnable(named, options) : planDisable(named, options);
const say = (line: string) => Deno.stdout.writeSync(new TextEncoder().encode(`${line}\n`));
try {
  if (action === "status") {
    say(JSON.stringify(await statusOf(accounts, "macos")));
    Deno.exit();
  }
  const changes = await applyPlan(() => Promise.resolve(steps), {
    onPlan() {},
    onStep(_step, number) {
      if (`${number}` !== stopAt) return;
      say("stopped");
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0); // until the test kills us
    },
  });
  say(`changed ${changes} of ${steps.length}`);
} catch (error) {
  if (!(error instanceof FishnetError)) throw error;
  say(error.message);
  Deno.exit(1);
}
