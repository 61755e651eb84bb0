/**
 * What the tests of a lock share: the ways to lock, servers, and attempts to reach one.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import type { Backend } from "../../src/account.ts";
import { linesOf, type Result } from "./process.ts";
import { probeWords, PYTHON } from "./prober.ts";
import type { Variant, World } from "./world.ts";

/** A way to lock an account, with the iptables variant behind the plain names. */
export interface Way {
  readonly backend: Backend;
  readonly variant: Variant;
  readonly label: string;
}

const ALL_WAYS: readonly Way[] = [
  { backend: "iptables", variant: "nft", label: "iptables (nft)" },
  { backend: "iptables", variant: "legacy", label: "iptables (legacy)" },
  { backend: "nftables", variant: "nft", label: "nftables" },
];

/** Each of them; `deno task test` leaves the older variant to `test:long`. */
export const WAYS = Deno.env.has("FISHNET_WITHOUT_LEGACY")
  ? ALL_WAYS.filter(({ variant }) => variant !== "legacy")
  : ALL_WAYS;

/** The port that the outside's server listens on. */
export const PORT = 4000;

// Passed as text: an account need not be able to read where the sources lie.
const SERVER = await Deno.readTextFile(new URL("server.py", import.meta.url));

/** Runs the program for an account, and expects it to succeed. */
export async function change(
  world: World,
  action: "enable" | "disable",
  account: string,
  backend: Backend,
  ...more: readonly string[]
): Promise<Result> {
  const result = await world.fishnet(
    ...["firewall", action, "--agent-user", account, "--backend", backend, ...more, "--apply"],
  );
  assertEquals(result.code, 0, result.stderr);
  return result;
}

/** The words for a probe of `probe.py`. */
export function probe(vector: string, address: string, port: number = PORT): string[] {
  return probeWords(vector, address, `${port}`);
}

/** Tries, as an account, to reach an address in one of the ways of `probe.py`. */
export function attempt(
  world: World,
  account: string,
  vector: string,
  address: string,
  port: number = PORT,
): Promise<Result> {
  return world.try(account, vector, address, port);
}

/** Starts a server on TCP and UDP, and returns when it listens. */
export async function serve(
  world: World,
  where: "outside" | { readonly as: string },
  port: number = PORT,
  address = "::",
): Promise<void> {
  const command = [PYTHON, "-c", SERVER, `${port}`, address];
  const child = world.start(
    where === "outside"
      ? ["ip", "netns", "exec", world.outside, ...command]
      : world.commandAs(where.as, ...command),
  );
  const lines = linesOf(child.stdout);
  assertEquals((await lines.read()).value, "listening");
  lines.releaseLock();
}

/** Waits until the kernel has tried again to send for orphaned sockets, or has none left. */
export async function sentAgain(world: World): Promise<void> {
  const tried = /timer:\((on|persist),[^,]*,[1-9]/; // ss(8): the third is retransmissions
  let orphans: string[] = [];
  for (let polls = 0; polls < 600; polls++) {
    orphans = (await world.must("ss", "-Htno", "state", "fin-wait-1")).trim().split("\n");
    if (orphans.every((line) => line === "" || tried.test(line))) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`the kernel has not sent again for half a minute: ${orphans.join("\n")}`);
}
