/**
 * The access lists of several accounts on one folder, beside somebody else's. What they and the rest
 * of this piece shut is tried on a machine that has booted: tests/boot/resolver_test.ts.
 */
import { assertEquals } from "@std/assert";
import { parseSubuid } from "../../src/linux/accounts.ts";
import { askAll, type Machine } from "../../src/linux/machine.ts";
import { resolver } from "../../src/linux/resolver.ts";
import type { Lock, Piece, Step } from "../../src/lock/piece.ts";
import { linesOf, must } from "../support/process.ts";
import { rootBy } from "../support/root.ts";
import { whyNoWorld } from "../support/world.ts";

const why = whyNoWorld();

const FOLDERS = ["/run/systemd/resolve", "/run/nscd", "/run/cups"];

/** A machine with a /run of its own, which lasts as long as this. */
class OwnRun implements AsyncDisposable {
  readonly #child = new Deno.Command("unshare", {
    args: [
      ...["--mount", "sh", "-ec"],
      `mount -t tmpfs tmpfs /run; mkdir -p ${FOLDERS.join(" ")}; echo ready; exec cat`,
    ],
    stdin: "piped",
    stdout: "piped",
  }).spawn();
  readonly #lines = linesOf(this.#child.stdout);

  async ready(): Promise<this> {
    assertEquals((await this.#lines.read()).value, "ready");
    return this;
  }

  readonly #in = ["nsenter", `--target=${this.#child.pid}`, "--mount"];

  async machine(): Promise<Machine> {
    const { ask, look } = rootBy(...this.#in);
    const files = await look(resolver.files!);
    const known = { files, answers: new Map(), asked: {} };
    const answers = await askAll(ask, resolver.questions!(known));
    return { answers, files, passwd: [], subuid: parseSubuid(""), families: [4, 6] };
  }

  async carryOut(lines: readonly string[]): Promise<void> {
    for (const line of lines) await must(...this.#in, "sh", "-ec", line);
  }

  lists = () => must(...this.#in, "getfacl", "--absolute-names", ...FOLDERS);

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#child.stdin.close();
    await this.#lines.cancel();
    await this.#child.status;
  }
}

const lockOf = (uid: number): Lock => ({
  ...{ name: `a${uid}`, uid, ranges: [], backend: "iptables", onlyPorts: [3777] },
  ...{ persist: false, sessions: false, log: false },
});

const linesIn = (steps: readonly Step[]) => steps.map(({ line }) => line);
const undoOf = (steps: readonly Step[]) => steps.toReversed().flatMap(({ undo }) => undo);

Deno.test({
  name: `access lists of many accounts come and go by themselves${why ? ` (skipped: ${why})` : ""}`,
  ignore: why !== undefined,
  async fn() {
    for (const somebodyElses of ["", "u:65534:r-x", "u:5001:r-x", "d:u:65534:r-x", "m::r--"]) {
      await using own = await new OwnRun().ready();
      if (somebodyElses !== "") {
        await own.carryOut([`setfacl -m ${somebodyElses} ${FOLDERS.join(" ")}`]);
      }
      const none = await own.lists();
      const make = async (...uids: number[]) => {
        const machine = await own.machine();
        const wanted = uids.flatMap((uid) => resolver.wanted(lockOf(uid), machine));
        assertEquals(wanted.length, uids.length * FOLDERS.length);
        return resolver.make(wanted, machine);
      };
      const unmake = async (...uids: number[]) => {
        const machine = await own.machine();
        const pieces: Piece[] = resolver.found(machine);
        return resolver.unmake(
          pieces.filter((piece) =>
            typeof piece.uids === "object" && uids.includes(piece.uids.first)
          ),
          machine,
        );
      };
      /** Each change, and its undo, and the change again. */
      const there = async (steps: Step[]) => {
        const before = await own.lists();
        await own.carryOut(linesIn(steps));
        const after = await own.lists();
        await own.carryOut(undoOf(steps));
        assertEquals(await own.lists(), before, somebodyElses);
        await own.carryOut(linesIn(steps));
        assertEquals(await own.lists(), after, somebodyElses);
      };
      await there(await make(5001));
      const one = await own.lists();
      await there(await make(5002, 5003));
      const held = resolver.found(await own.machine()).map(({ uids }) => uids?.first);
      assertEquals([...new Set(held)].sort(), [5001, 5002, 5003]);
      await there(await unmake(5002, 5003));
      assertEquals(await own.lists(), one);
      await there(await unmake(5001));
      // What somebody else had given the account itself is the one thing that does not come back.
      if (somebodyElses !== "u:5001:r-x") assertEquals(await own.lists(), none);
    }
  },
});
