/** What can be told of `--persist` without a boot; tests/boot and boot_files_test.ts have the rest. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import {
  accountPiece,
  AGAIN,
  BOOTED,
  FOLDER,
  LINKS,
  LOCK,
  PACKAGED_UNITS,
  SHARED_FILES,
  UNITS,
} from "../../src/linux/boot/pieces.ts";
import { linux } from "../../src/linux/linux.ts";
import { sightOf, statusIn } from "../../src/lock/status.ts";
import type { Answer, Seen } from "../../src/root.ts";
import { LOCKED, machineWith, type Printed } from "../support/fake_machine.ts";
import { run } from "../support/process.ts";
import { program, worldTest } from "../support/world.ts";

worldTest(
  "where systemd does not run, --persist is refused, and nothing is changed",
  async (world) => {
    const agent = await world.account();
    const before = await world.state();
    // A system that systemd does run, as this one may be, looks like this one without its folder.
    const hide = 'test ! -d /run/systemd || mount -t tmpfs tmpfs /run/systemd; exec "$@"';
    for (const backend of ["iptables", "nftables"]) {
      const result = await world.exec(
        ...["sh", "-c", hide, "sh", ...program(), "firewall", "enable", "--agent-user", agent],
        ...["--backend", backend, "--persist", "--apply"],
      );
      assertEquals(result.code, 1);
      assertStringIncludes(result.stderr, "--persist needs systemd, which does not run here");
      assertEquals(await world.state(), before);
      for (const path of ["/etc/fishnet-firewall", "/etc/systemd/system/fishnet-lock.service"]) {
        assertEquals((await run(["test", "-e", path])).code, 1, path);
      }
    }
  },
);

const OPTIONS = { name: "agent", uid: 1001, backend: "iptables", onlyPorts: [] } as const;
const PLACE: Seen = { type: "f", mode: "644", uid: 0, target: "", text: "" };
const CONTROL = "/etc/systemd/system.control/user-1001.slice.d/50-IPAddress";

const ACCOUNT = `${FOLDER}/1001.account`;

/** All that `--persist --sessions` makes. */
const KEPT: Readonly<Record<string, Seen>> = {
  [BOOTED]: { ...PLACE, type: "d" },
  [FOLDER]: { ...PLACE, type: "d", mode: "700" },
  ...Object.fromEntries(SHARED_FILES.map(({ path, text }) => [path, { ...PLACE, text }])),
  ...Object.fromEntries(LINKS.map((path) => [path, { ...PLACE, type: "l" }])),
  [ACCOUNT]: { ...PLACE, text: accountPiece({ ...OPTIONS, sessions: true }).text },
  [`${CONTROL}Deny.conf`]: { ...PLACE, text: "IPAddressDeny=0.0.0.0/0\nIPAddressDeny=::/0\n" },
  [`${CONTROL}Allow.conf`]: {
    ...PLACE,
    text: "IPAddressAllow=127.0.0.0/8\nIPAddressAllow=::1/128\n",
  },
};

/** What status says where these files are others, or are gone, and systemctl says this. */
async function told(
  files: Readonly<Record<string, Partial<Seen> | undefined>>,
  units: string | Answer = "",
  rules: Printed = {},
) {
  const machine = await machineWith({ ...LOCKED, ...rules });
  const there = { ...KEPT, ...files };
  const seen = Object.entries(there).flatMap(([path, one]) =>
    one === undefined ? [] : [[path, { ...PLACE, ...KEPT[path], ...one }] as const]
  );
  const said = typeof units === "string" ? { exitCode: 0, stdout: units, stderr: "" } : units;
  const { accounts: [account] } = statusIn(
    sightOf(linux, {
      ...machine,
      files: new Map([...machine.files, ...seen]),
      answers: new Map([...machine.answers, ["boot: units", said]]),
    }),
    ["agent"],
  );
  return account!;
}

Deno.test("what would not lock at the next boot is told, and what would is not doubted", async () => {
  const [lock, again] = [`${UNITS}/${LOCK}`, `${UNITS}/sysinit.target.wants/${AGAIN}`];
  const slice = "Id=user-1001.slice\n";
  const { text } = KEPT[lock]!;
  const dropIn = (path: string) => `Id=${LOCK}\nDropInPaths=${path}\n`;
  const condition = (asked: string, result: string) =>
    `Id=${AGAIN}\nConditionTimestampMonotonic=${asked}\nConditionResult=${result}\n`;
  const rows: readonly (readonly [string | undefined, ...Parameters<typeof told>])[] = [
    [undefined, {}],
    [undefined, { [lock]: undefined, [`${PACKAGED_UNITS}/${LOCK}`]: { text } }],
    [`${lock} was changed`, { [lock]: undefined, [`${PACKAGED_UNITS}/${LOCK}`]: { text: "x" } }],
    [`missing: at boot: ${LOCK}`, { [lock]: undefined }],
    [`${LOCK} is masked`, { [lock]: { type: "l", target: "/dev/null", text: "" } }],
    [`${LOCK} is masked`, {}, `Id=${AGAIN}\nLoadState=loaded\n\nId=${LOCK}\nLoadState=masked\n`],
    [
      "fishnet-beside@.service is masked",
      {},
      "Id=fishnet-beside@nftables.service\nLoadState=masked\n",
    ],
    [undefined, { [`${FOLDER}/fishnet.nft`]: undefined }], // it is needed with nftables alone
    [`${FOLDER}/lock.sh was changed`, { [`${FOLDER}/lock.sh`]: { text: "exit\n" } }],
    [undefined, {}, dropIn("/usr/lib/systemd/system/service.d/10-own.conf")],
    [`${LOCK} is changed by ${lock}.d/own.conf`, {}, dropIn(`/run/x.conf ${lock}.d/own.conf`)],
    [undefined, {}, condition("0", "no")],
    [undefined, {}, condition("5", "yes")],
    [`a condition of ${AGAIN} was not met`, {}, condition("5", "no")],
    [`${FOLDER} is not root's alone`, { [FOLDER]: { mode: "755" } }],
    [`${FOLDER} is not root's alone`, { [FOLDER]: { uid: 1001 } }],
    [`${FOLDER} is not root's alone`, { [FOLDER]: { type: "l" } }],
    [`missing: ${again}`, { [again]: undefined }],
    [undefined, { [again]: undefined }, "Id=nftables.service\nAfter=x.mount sysinit.target\n"],
    [
      "systemctl does not say what becomes of the units: exit status 1",
      {},
      { exitCode: 1, stdout: "", stderr: "" },
    ],
    [
      "systemctl does not say what becomes of the units: no bus",
      {},
      { exitCode: 1, stdout: "", stderr: "x\nno bus\n" },
    ],
    [undefined, { [BOOTED]: undefined }, { exitCode: 1, stdout: "", stderr: "" }],
    [`${ACCOUNT} was changed`, { [ACCOUNT]: { text: `${KEPT[ACCOUNT]!.text}more\n` } }],
    ["the addresses of user-1001.slice are set otherwise", {
      [`${CONTROL}Allow.conf`]: { text: "IPAddressAllow=0.0.0.0/0\n" },
    }],
    ["the addresses of user-1001.slice are set otherwise", { [`${CONTROL}Deny.conf`]: undefined }],
    ["the addresses of user-1001.slice are set otherwise", {}, `${slice}IPAddressAllow=any\n`],
    [undefined, {}, `${slice}IPAddressDeny=::/0 0.0.0.0/0\n`],
    ["missing: login sessions are shut, uid 1001", {
      [`${CONTROL}Allow.conf`]: undefined,
      [`${CONTROL}Deny.conf`]: undefined,
    }],
  ];
  for (const [fault, ...how] of rows) {
    const { state, pieces, survivesReboot, rebootFaults = [] } = await told(...how);
    const faults = [
      ...rebootFaults,
      ...pieces.flatMap(({ name, present, detail }) => present ? [] : detail ?? `missing: ${name}`),
    ];
    assertEquals(faults[0], fault, JSON.stringify(how));
    assertEquals(survivesReboot && state === "locked", fault === undefined);
  }
});

Deno.test("which backend has the lock, the rules say; where they are gone, what the next boot brings", async () => {
  const text = KEPT[ACCOUNT]!.text.replace("iptables", "nftables");
  assertEquals((await told({ [ACCOUNT]: { text } })).backend, "iptables");
  const gone = { "iptables-nft-save": "", "ip6tables-nft-save": "" };
  assertEquals((await told({ [ACCOUNT]: { text } }, "", gone)).backend, "nftables");
});
