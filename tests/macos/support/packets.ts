/**
 * What the tests of the rules judge: packets, under the rules of two locked accounts.
 *
 * @module
 */
import { writtenRules } from "../../../src/macos/rules.ts";
import type { Packet, Ruleset } from "./pf_evaluator.ts";
import { parsePf } from "./pf_language.ts";
import { STOCK_PF_CONF } from "./stand_in.ts";

/** The uids that packets are of. */
export const AGENT = 502;
export const OTHER_AGENT = 503;
export const SOMEBODY = 501;
export const ROOT = 0;
/** A port of loopback. */
export const PROXY = 3777;

/** Lines as a file's text. */
export const text = (lines: readonly string[]) => lines.map((line) => `${line}\n`).join("");

/** Our lines of pf.conf. */
export const ANCHOR_CALL = 'anchor "com.fishnet.localonly"';
export const LOAD =
  'load anchor "com.fishnet.localonly" from "/etc/pf.anchors/com.fishnet.localonly"';

/** The lines of one account in the file. */
export const rulesFor = (uid: number, onlyPorts: readonly number[]) =>
  writtenRules({
    uid,
    owner: "agent",
    base: true,
    onlyPorts: onlyPorts.length === 0 ? undefined : onlyPorts,
  });

/** What is loaded when the two agents are locked: one file has the rules of both. */
export function locked(onlyPorts: readonly number[] = [], before = ""): Ruleset {
  const file = [...rulesFor(AGENT, onlyPorts), ...rulesFor(OTHER_AGENT, [])];
  return {
    main: parsePf(`${before}${STOCK_PF_CONF}${ANCHOR_CALL}\n${LOAD}\n`),
    anchors: new Map([["com.fishnet.localonly", parsePf(text(file))]]),
    states: new Set(),
  };
}

/** The agent's first packet of a connection to outside, but for the differences. */
export const packet = (differences: Partial<Packet> = {}): Packet => ({
  direction: "out",
  interface: "en0",
  family: "inet",
  protocol: "tcp",
  fragment: false,
  port: 443,
  flags: "S",
  uid: AGENT,
  connection: "a",
  ...differences,
});
