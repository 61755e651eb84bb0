/**
 * What several tests on the stand-in look at, and what a Mac in use has.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { AGENTS, type StandIn, STOCK_PF_CONF } from "./stand_in.ts";

/** The two accounts. */
export const [A, B] = AGENTS;

/** The anchor. */
export const ANCHOR = "com.fishnet.localonly";
/** Its file. */
export const FILE = `/etc/pf.anchors/${ANCHOR}`;
/** Its call, as it is written. */
export const CALL = `anchor "${ANCHOR}"`;
/** Our lines of pf.conf. */
export const LINES = `${CALL}\nload anchor "${ANCHOR}" from "${FILE}"\n`;

/** The rules in our anchor. */
export const loaded = async (mac: StandIn) =>
  (await mac.exec("pfctl", "-a", ANCHOR, "-s", "rules")).stdout;

/** Whether they hold an account. */
export const isLocked = async (mac: StandIn, name: string) => {
  const uid = (await mac.must("id", "-u", name)).trim();
  return (await loaded(mac)).includes(
    `block return out quick on ! lo0 proto tcp from any to any port 1:65535 user = ${uid}`,
  );
};

/** What a Mac in use has: two rules alike, side by side, a table, scrub, and a VPN's anchor. */
export async function inUse(mac: StandIn): Promise<void> {
  await mac.write(
    "/etc/pf.conf",
    `table <bad> persist\nscrub in all fragment reassemble
${STOCK_PF_CONF}block drop in quick from <bad> to any
block drop in proto tcp from any to any port = 445
block drop in proto tcp from any to any port = 139\n`,
  );
  await mac.must("pfctl", "-f", "/etc/pf.conf");
  const rules = await mac.must("pfctl", "-s", "rules");
  const vpn = `${rules}anchor "mullvad" all\npass in on utun4 all\npass in on utun5 all\n`;
  assertEquals((await mac.feed(vpn, "pfctl", "-o", "none", "-R", "-f", "-")).code, 0);
  await mac.feed("block drop out on en0 all\n", "pfctl", "-a", "mullvad", "-f", "-");
}

/** Asserts that a pf.conf is what it was, with its mode, after a failed enable and after a disable. */
export async function comesBack(mac: StandIn, text: string): Promise<void> {
  await mac.write("/etc/pf.conf", text);
  await mac.must("chmod", "640", "/etc/pf.conf");
  await mac.fail("-E");
  assertEquals((await mac.apply("enable", { accounts: [A] })).code, 1);
  await mac.fail("");
  assertEquals(await mac.read("/etc/pf.conf"), text, "after a failure");
  await mac.applied("enable", { accounts: [A] });
  const enabled = (await mac.read("/etc/pf.conf"))!;
  assert(enabled.startsWith(text) && enabled.endsWith("\n"));
  await mac.applied("disable", { accounts: [A] });
  assertEquals(await mac.read("/etc/pf.conf"), text);
  assertEquals(await mac.must("stat", "-c", "%a", "/etc/pf.conf"), "640\n");
}
