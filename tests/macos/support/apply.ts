/**
 * Plans and carries out on the stand-in what `src/macos` describes, as the program does: read, plan,
 * run the lines in dax's shell, compare, and undo last first. `main.ts` picks the system by itself,
 * and would not.
 *
 *     apply.ts enable|disable '{"accounts":["a"],"onlyPorts":[],"persist":false}' [stop before step N]
 *     apply.ts plan …       prints the dry-run's lines
 *     apply.ts status …     prints the pieces that are wanted, and those that are there
 *
 * @module
 */
import { CommandBuilder } from "dax";
import { FishnetError } from "../../../src/errors.ts";
import type { Answer, Found, Kind, Lock, Piece, Step } from "../../../src/lock/piece.ts";
import type { Machine } from "../../../src/macos/machine.ts";
import {
  currentLock,
  kinds,
  notes,
  readMachine,
  refuse,
  verifyAfter,
} from "../../../src/macos/macos.ts";
import { run } from "../../support/process.ts";

const [action, text, stopAt] = Deno.args;
const options = JSON.parse(text!) as {
  accounts: string[];
  onlyPorts: number[];
  persist: boolean;
  undo?: "enable" | "disable";
};
const say = (line: string) => Deno.stdout.writeSync(new TextEncoder().encode(`${line}\n`));

const ask = async (words: readonly string[]): Promise<Answer> => {
  const { code, stdout, stderr } = await run(words);
  return { exitCode: code, stdout, stderr };
};

const lockOf = (name: string, machine?: Machine): Lock => {
  const uid = machine?.accounts.get(name)?.uid;
  const lock = {
    name,
    ...(uid === undefined ? {} : { uid }),
    ranges: [],
    backend: "iptables",
    onlyPorts: options.onlyPorts,
    persist: options.persist,
    sessions: false,
    log: false,
  } as const;
  const current = machine && currentLock(machine, name);
  if (current === undefined) return lock;
  return {
    ...lock,
    onlyPorts: options.onlyPorts.length > 0 ? options.onlyPorts : current.onlyPorts,
    persist: options.persist || current.persist,
  };
};

const key = ({ is, uids, owner }: Piece) =>
  `${is} ${JSON.stringify(uids)} ${uids === "name" ? owner : ""}`;

/** The pieces of all locks, what they share once. */
function wantedOf(kind: Kind<Machine>, locks: readonly Lock[], machine?: Machine): Piece[] {
  const all = locks.flatMap((lock) => kind.wanted(lock, machine));
  return [...new Map(all.map((piece) => [key(piece), piece])).values()];
}

const isTheirs = (machine: Machine, names: readonly string[]) => ({ uids, owner }: Found) =>
  uids !== undefined &&
  names.some((name) => name === owner || machine.accounts.get(name)?.uid === uids.first);

function planEnable(names: readonly string[], machine: Machine): Step[] {
  const locks = names.map((name) => lockOf(name, machine));
  for (const lock of locks) refuse(machine, lock);
  const make = kinds.flatMap((kind) => {
    const there = new Set(kind.found(machine).filter(({ fault }) => !fault).map(key));
    const missing = wantedOf(kind, locks, machine).filter((piece) => !there.has(key(piece)));
    return missing.length === 0 ? [] : kind.make(missing, machine);
  });
  const unmake = kinds.toReversed().flatMap((kind) => {
    const wanted = new Set(wantedOf(kind, locks, machine).map(key));
    const old = kind.found(machine).filter(isTheirs(machine, names))
      .filter((piece) => !wanted.has(key(piece)));
    return old.length === 0 ? [] : kind.unmake(old, machine);
  });
  return [...make, ...unmake];
}

function planDisable(names: readonly string[], machine: Machine): Step[] {
  const found = kinds.map((kind) => [kind, kind.found(machine)] as const);
  const theirs = isTheirs(machine, names);
  const isLast = found.every(([, all]) =>
    all.every((piece) => piece.uids === undefined || theirs(piece))
  );
  return found.toReversed().flatMap(([kind, all]) => {
    const gone = all.filter((piece) => piece.uids === undefined ? isLast : theirs(piece));
    return gone.length === 0 ? [] : kind.unmake(gone, machine);
  });
}

/** Runs one line; the undo of each of its commands goes onto the stack. */
async function runLine({ line, undo }: Step, undos: string[]): Promise<string | undefined> {
  let commands = 0;
  const { code, stderr } = await new CommandBuilder().clearEnv().cwd("/")
    .registerCommand("sudo", async (context) => {
      const back = undo[commands++];
      if (back === undefined) throw new Error(`no undo is given for a command of: ${line}`);
      let input = "";
      const { stdin } = context;
      if (typeof stdin !== "string") {
        const buffer = new Uint8Array(65536);
        const decoder = new TextDecoder();
        for (let n = await stdin.read(buffer); n; n = await stdin.read(buffer)) {
          input += decoder.decode(buffer.slice(0, n), { stream: true });
        }
      }
      const result = await run(context.args, { input });
      if (back !== "" && result.code === 0) undos.push(back);
      await context.stdout.writeAll(new TextEncoder().encode(result.stdout));
      await context.stderr.writeAll(new TextEncoder().encode(result.stderr));
      return { code: result.code };
    })
    .command(line).noThrow().stdout("piped").stderr("piped");
  return code === 0 ? undefined : `command failed (exit status ${code}): ${line}\n${stderr}`;
}

async function apply(): Promise<string> {
  const machine = await readMachine(ask, options.accounts);
  const steps = (action === "enable" ? planEnable : planDisable)(options.accounts, machine);
  const undos: string[] = [];
  let failure: string | undefined;
  for (const [index, step] of steps.entries()) {
    if (stopAt === `${index + 1}`) failure = "stopped";
    failure ??= await runLine(step, undos);
    if (failure !== undefined) break;
  }
  failure ??= steps.length === 0
    ? undefined
    : verifyAfter(machine, await readMachine(ask, options.accounts));
  if (failure === undefined) return `changed ${steps.length}`;
  for (const undo of undos.toReversed()) {
    const { code, stderr } = await run(["sh", "-c", undo]);
    if (code !== 0) failure += `\ncould not be undone: ${undo}\n${stderr}`;
  }
  throw new FishnetError(`${failure}\nnothing was changed`);
}

async function status(): Promise<string> {
  const machine = await readMachine(ask, options.accounts);
  const found = kinds.flatMap((kind) => kind.found(machine));
  const owners = found.flatMap(({ owner, uids }) => uids === undefined ? [] : [owner!]);
  const names = options.accounts.length > 0 ? options.accounts : [...new Set(owners)];
  return JSON.stringify(names.map((name) => {
    const lock = currentLock(machine, name);
    const wanted = lock === undefined ? [] : kinds.flatMap((kind) => kind.wanted(lock, machine));
    const there = new Map(found.map((piece) => [key(piece), piece]));
    const faults = wanted.flatMap((piece) => {
      const is = there.get(key(piece));
      return is === undefined
        ? [`${piece.is}: missing`]
        : is.fault === undefined
        ? []
        : [`${piece.is}: ${is.fault}`];
    });
    return {
      name,
      uid: lock?.uid,
      state: lock === undefined ? "unlocked" : faults.length === 0 ? "locked" : "partial",
      onlyPorts: lock?.onlyPorts ?? [],
      persist: lock?.persist ?? false,
      faults,
      notes: notes(machine, name),
    };
  }));
}

function dryRun(): string {
  const locks = options.accounts.map((name) => lockOf(name));
  const all = kinds.map((kind) => [kind, wantedOf(kind, locks)] as const)
    .filter(([, wanted]) => wanted.length > 0);
  const steps = options.undo === "disable"
    ? all.toReversed().flatMap(([kind, pieces]) => kind.unmake(pieces))
    : all.flatMap(([kind, pieces]) => kind.make(pieces));
  return JSON.stringify(steps.map(({ line }) => line));
}

try {
  say(await (action === "status" ? status() : action === "plan" ? dryRun() : apply()));
} catch (error) {
  if (!(error instanceof FishnetError)) throw error;
  say(error.message);
  Deno.exit(1);
}
