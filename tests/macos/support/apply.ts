/**
 * The program on the stand-in, with its own modules, its permissions and the stand-in's sudo:
 * `main.ts` picks the system by itself, and would not. It reads a line for each run, and answers with
 * one, since its start takes longer than what it does:
 *
 *     {"action":"enable","accounts":["a"],"onlyPorts":[],"persist":false,"stopBefore":2}
 *     {"code":1,"text":"stopped"}
 *
 * @module
 */
import { FishnetError } from "../../../src/errors.ts";
import { makeChange } from "../../../src/lock/change.ts";
import { readStatus } from "../../../src/lock/status.ts";
import { macos } from "../../../src/macos/macos.ts";
import { SignalTrap } from "../../../src/signals.ts";
import { Session } from "../../../src/sudo.ts";
import { linesOf } from "../../support/process.ts";
import type { Request } from "./program.ts";

async function change(kind: "enable" | "disable", request: Request): Promise<string> {
  const { accounts, onlyPorts = [], persist = false, stopBefore } = request;
  const sessions = { sessions: false, log: false };
  let number = 0;
  using signals = new SignalTrap();
  const { steps } = await makeChange(
    macos,
    { kind, accounts, accountsGiven: true, onlyPorts, persist, ...sessions },
    {
      onWaiting() {},
      onPlan() {},
      onStep() {
        // What ends the program in the middle of a plan ends its session, which undoes by itself.
        if (++number === stopBefore) throw new FishnetError("stopped");
      },
      onLong() {},
    },
    { opening: Session.open(), signals },
  );
  return `changed ${steps.length}`;
}

async function answer(request: Request): Promise<{ code: number; text: string }> {
  const { action, accounts } = request;
  try {
    const text = action === "status"
      ? JSON.stringify((await readStatus(macos, accounts, Session.open())).report)
      : await change(action, request);
    return { code: 0, text };
  } catch (error) {
    if (!(error instanceof FishnetError)) throw error;
    return { code: 1, text: error.message };
  }
}

const requests = linesOf(Deno.stdin.readable);
for (let line = await requests.read(); !line.done; line = await requests.read()) {
  const text = JSON.stringify(await answer(JSON.parse(line.value)));
  Deno.stdout.writeSync(new TextEncoder().encode(`${text}\n`));
}
