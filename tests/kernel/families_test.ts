/**
 * Families of sockets that no rule for a uid holds, on a kernel that has them: SCTP, PPPoE and SMC; and
 * a device that any account can have the kernel put into this network.
 * What is said to be shut is tried by an account that is not locked, too.
 */
import { assert, assertEquals } from "@std/assert";
import { linux } from "../../src/linux/linux.ts";
import { FAMILY_ALIASES, familyWarnings } from "../../src/linux/side_doors/kernel.ts";
import { connectionWarnings } from "../../src/linux/side_doors/sockets.ts";
import type { Backend } from "../../src/account.ts";
import type { Machine } from "../../src/linux/machine.ts";
import { kernelTest, runInside } from "./machine.ts";

/** The families that Debian's kernel would load for anybody: it has taken that from rds and tipc. */
const FAMILIES = ["sctp", "pppoe", "smc", "rxrpc", "l2tp_eth"];
const REMEDY = "mkdir -p /etc/modprobe.d; printf 'install %s /bin/false\\n' " +
  `${FAMILIES.join(" ")} >/etc/modprobe.d/no-sockets.conf`;

/** The commands of a lock on a machine where there is nothing yet. */
function lockLines(backend: Backend): string {
  const lock = {
    ...{ name: "u5001", uid: 5001, ranges: [], backend, onlyPorts: [] },
    ...{ persist: false, sessions: false, log: false },
  };
  const nothing = { exitCode: 0, stdout: "", stderr: "" };
  const noTable = { exitCode: 1, stdout: "", stderr: "Error: No such file or directory" };
  const answers = {
    get: (name: string) => name.startsWith("nft") ? noTable : nothing,
    has: () => true,
  };
  const machine = {
    answers,
    files: new Map(),
    passwd: [],
    subuid: {},
    families: [4, 6],
  } as unknown as Machine;
  return linux.kinds.flatMap((kind) => {
    const pieces = kind.wanted(lock, machine);
    return pieces.length === 0 ? [] : kind.make(pieces, machine); // as a plan asks it
  }).map(({ line }) => `${line} || exit\n`).join("");
}

for (const backend of ["iptables", "nftables"] as const) {
  kernelTest(`${backend}: sockets of other families, with a kernel that loads them`, async (t) => {
    const text = await runInside({
      aliases: FAMILY_ALIASES.join(" "),
      remedy: REMEDY,
      "lock.sh": lockLines(backend),
    });
    const warned = (when: string) =>
      familyWarnings(text(`protocols.${when}`), text(`autoload.${when}`));
    const tries = (when: string) => text(`tries.${when}`).trim().split("\n");
    const frames = text("frames").split("\n");

    await t.step("what the kernel would load is warned of, with what shuts it", () => {
      const [warning] = warned("fresh");
      assertEquals(warning?.remedy, REMEDY.slice(REMEDY.indexOf("printf")));
      assertEquals(warned("remedied"), []);
      const refused = tries("remedied");
      assertEquals(refused.filter((line) => / no: /.test(line)).length, 8, refused.join("\n"));
    });

    await t.step("what is loaded already is warned of", () => {
      const [warning] = warned("open");
      assert(warning?.reason.includes("mac80211_hwsim"), warning?.reason);
      assert(warning?.remedy.endsWith(", and reboot"), warning?.remedy);
    });

    const before = frames.slice(0, frames.indexOf("mark"));
    const locked = frames.slice(frames.indexOf("mark"), frames.lastIndexOf("mark"));
    await t.step("without a lock all of them come out", () => {
      for (const uid of [5001, 5101]) {
        for (const frame of [`sctp ${uid}`, `pppoe uid${uid}`, `tcp ${uid}`]) {
          assert(before.includes(frame), `${frame}: ${text("tries.open")}${before.join(", ")}`);
        }
        for (const way of ["sctp_loopback", "l2tp_eth", "hwsim"]) {
          assert(tries("open").includes(`${way} ${uid} ok`), text("tries.open"));
        }
      }
    });

    await t.step("an association from before the lock is told", () => {
      const account = { name: "u5001", uid: 5001, ranges: [], onlyPorts: [] };
      const own = "inet 10.77.0.1/24";
      assertEquals(connectionWarnings([account], text("sockets.held"), own), [{
        account: "u5001",
        reason: "still holds 1 connection(s) (SCTP) to outside, to 10.77.0.2",
        remedy: "restart its processes",
      }]);
    });

    await t.step("with the lock SCTP is refused, on loopback as well", () => {
      const tried = tries("locked");
      for (const way of ["sctp", "sctp_loopback"]) {
        assert(tried.some((line) => line.startsWith(`${way} 5001 no: `)), tried.join("\n"));
        assert(tried.includes(`${way} 5101 ok`), tried.join("\n"));
      }
      assertEquals(
        [5001, 5101].map((uid) => locked.includes(`sctp ${uid}`)),
        [false, true],
        locked.join(", "),
      );
    });

    await t.step("a refusal of SCTP never goes to a source that is not this machine's", () => {
      assert(before.includes("forged 5001"), text("tries.open"));
      assert(locked.includes("forged 5101"), text("tries.locked"));
      assertEquals(locked.filter((frame) => /^(?:forged|answered) 5001/.test(frame)), []);
    });

    await t.step("PPPoE stays open, and so do devices over L2TP, as the docs say", () => {
      assert(locked.includes("pppoe uid5001"), locked.join(", "));
      assert(tries("locked").includes("l2tp_eth 5001 ok"), text("tries.locked"));
    });
  });
}
