/**
 * What only a Mac can tell, and the documentation calls open or derived: asked here, printed, and
 * never asserted.
 *
 * @module
 */
import { PF_CONF } from "../../../src/macos/machine.ts";
import { ANCHOR, RULES_FILE } from "../../../src/macos/rules.ts";
import { must, type Result, run } from "../../support/process.ts";
import { asRoot, attempt, fishnet, mustAsRoot, type Outside, record, runAs } from "./mac.ts";

/** An anchor that no rule calls: what is tried in it touches nobody. */
const SCRATCH = "com.fishnet.try";

/** What an unknown pfctl may do to rules that are alike, shown on two of each kind. */
const ALIKE = `block drop in proto tcp from any to any port = 445
block drop in proto tcp from any to any port = 139
pass quick on utun4 all
pass quick on utun5 all
`;

const text = ({ stdout, stderr, code }: Result) => `${stdout}${stderr}exit ${code}`;

/** The machine as it was found. */
export async function recordMachine(): Promise<void> {
  record("sw_vers", await must("sw_vers"));
  for (const what of ["info", "rules", "nat", "dummynet", "References", "Anchors", "Interfaces"]) {
    record(`pfctl -s ${what}`, text(await asRoot("pfctl", "-v", "-s", what)));
  }
  record(PF_CONF, await mustAsRoot("cat", PF_CONF));
  record(
    "an anchor that is not there",
    text(await asRoot("pfctl", "-a", "com.fishnet.nowhere", "-s", "rules")),
  );
}

/** The open questions, while an account is locked. */
export async function recordOpenQuestions(agent: string, outside: Outside): Promise<void> {
  await recordLoads();
  await recordCalls(outside);
  await recordTools();
  await recordWhatNoRuleDecides(agent, outside);
}

/** Whether -R empties a list in which two rules are alike, with the optimizer and without it. */
async function recordLoads(): Promise<void> {
  for (const options of [["-R"], ["-o", "none", "-R"], []]) {
    const load = ["pfctl", "-a", SCRATCH, ...options, "-f", "-"];
    const result = await run(["sudo", "-n", ...load], { input: ALIKE });
    const left = await asRoot("pfctl", "-a", SCRATCH, "-s", "rules");
    record(
      `${load.join(" ")}, of rules of which two and two are alike`,
      `${text(result)}\nleft in it:\n${left.stdout}`,
    );
  }
  record("pfctl -F rules of an anchor", text(await asRoot("pfctl", "-a", SCRATCH, "-F", "rules")));
  const nv = await asRoot("pfctl", "-nv", "-a", ANCHOR, "-f", RULES_FILE);
  const loaded = await mustAsRoot("pfctl", "-a", ANCHOR, "-s", "rules");
  const blocks = nv.stdout.split("\n").filter((line) => line.startsWith("block")).join("\n");
  record("pfctl -nv prints what -s rules prints", `${blocks === loaded.trim()}\n${text(nv)}`);
  // -n loads nothing; with -v, pfctl says which anchors a load anchor line would load.
  record(`pfctl -nv -f ${PF_CONF}`, text(await asRoot("pfctl", "-nv", "-f", PF_CONF)));
}

/** Whether a wildcard call reaches an anchor below it, as ours, which is plain, is reached. */
async function recordCalls(outside: Outside): Promise<void> {
  const below = "com.apple/fishnet-try";
  const input = `block drop out quick proto udp from any to ${outside.addresses[0]!} port = 9\n`;
  await run(["sudo", "-n", "pfctl", "-a", below, "-f", "-"], { input });
  await attempt("root", "udp", outside.addresses[0]!, "9", "68");
  record(
    `a rule in ${below}, which "com.apple/*" calls, after a datagram that it matches`,
    text(await asRoot("pfctl", "-a", below, "-v", "-s", "rules")),
  );
  await asRoot("pfctl", "-a", below, "-F", "rules");
}

/** The tools of the plan, where their BSD forms may differ from what was read of them. */
async function recordTools(): Promise<void> {
  const directory = (await must("mktemp", "-d")).trim();
  const file = `${directory}/file`;
  const commands: readonly (readonly string[])[] = [
    ["id", "-un", "4294967"],
    ["readlink", PF_CONF],
    ["readlink", "/etc"],
    ["install", "-m", "600", "/dev/null", file],
    ["sync", file],
    ["sh", "-c", `printf 'one\\ntwo' >${file}; sed -i '' '/^one/d' ${file}; od -c ${file}`],
    ["dd", `if=${PF_CONF}`, `of=${file}`, "bs=10", "count=1"],
    ["cat", file],
    [
      "sh",
      "-c",
      "exec 9</etc/sudoers; perl -MFcntl=:flock -e 'open F, q(<&=9); exit !flock F, LOCK_EX'",
    ],
    ["ls", "-lde", "/var/db", "/etc/pf.anchors", "/Library/LaunchDaemons"],
    ["launchctl", "print", "system/com.fishnet.nowhere"],
  ];
  for (const command of commands) record(command.join(" "), text(await asRoot(...command)));
  await mustAsRoot("rm", "-r", directory);
}

/** What leaves under another uid, or without any: the README names it. */
async function recordWhatNoRuleDecides(account: string, outside: Outside): Promise<void> {
  const [v4, v6] = outside.addresses;
  const commands: readonly (readonly string[])[] = [
    ["ping", "-c", "1", "-t", "3", v4!],
    ...(v6 === undefined ? [] : [["ping6", "-c", "1", v6]]),
  ];
  for (const command of commands) {
    record(
      `as the locked account: ${command.join(" ")}`,
      text(await runAs({ account }, ...command)),
    );
  }
  const verify = await fishnet("verify", "--agent-user", account, "--target", `${v4}:443`);
  record("fishnet firewall verify", text(verify));
}
