/**
 * The program on the stand-in, with its own modules, its permissions and the stand-in's sudo:
 * `main.ts` picks the system by itself, and would not.
 *
 *     apply.ts enable|disable '{"accounts":["a"],"onlyPorts":[],"persist":false}' [stop before step N]
 *     apply.ts status …
 *
 * @module
 */
import { FishnetError } from "../../../src/errors.ts";
import { makeChange } from "../../../src/lock/change.ts";
import { readStatus } from "../../../src/lock/read_status.ts";
import { macos } from "../../../src/macos/macos.ts";

const [action, text, stopAt] = Deno.args;
const { accounts, onlyPorts, persist } = JSON.parse(text!);
const say = (line: string) => Deno.stdout.writeSync(new TextEncoder().encode(`${line}\n`));

async function change(kind: "enable" | "disable"): Promise<string> {
  const sessions = { sessions: false, log: false };
  let number = 0;
  const { steps } = await makeChange(
    macos,
    { kind, accounts, accountsGiven: true, asked: { onlyPorts, persist, ...sessions } },
    {
      onWaiting() {},
      onPlan() {},
      onStep() {
        // What ends the program in the middle of a plan ends its session, which undoes by itself.
        if (`${++number}` === stopAt) throw new FishnetError("stopped");
      },
      onLong() {},
    },
  );
  return `changed ${steps.length}`;
}

try {
  if (action === "status") say(JSON.stringify((await readStatus(macos, accounts)).report));
  else say(await change(action as "enable" | "disable"));
} catch (error) {
  if (!(error instanceof FishnetError)) throw error;
  say(error.message);
  Deno.exit(1);
}
