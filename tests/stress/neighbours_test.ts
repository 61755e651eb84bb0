/** Other firewalls on the same machine: neither side loses a rule to the other, and the lock holds. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { must, run } from "../support/process.ts";
import { OUTSIDE_V4, OUTSIDE_V6, PYTHON, type World, worldTest } from "../support/world.ts";

// Passed as text: an account need not be able to read where the sources lie.
const PROBE = await Deno.readTextFile(new URL("../support/probe.py", import.meta.url));

/** Somebody else's firewall. */
interface Neighbour {
  readonly name: string;
  /** The program that it needs. */
  readonly program?: string;
  /** Puts it in force. */
  start(world: World): Promise<void>;
  /** Puts its rules in force again, as an administrator, or a daemon of its own, does. */
  reload(world: World): Promise<void>;
}

/** Reads rules as nft(8) does from a file. */
async function nft(world: World, rules: string): Promise<void> {
  const { code, stderr } = await run(world.command("nft", "-f", "-"), { input: rules });
  assertEquals(code, 0, stderr);
}

/** Debian's ufw, with the files that it writes in a copy that only the world sees. */
const UFW: Neighbour = {
  name: "ufw",
  program: "ufw",
  async start(world) {
    const copy = `/etc/netns/${world.inside}/ufw`;
    await must("cp", "-a", "/etc/ufw", copy);
    await must("sh", "-c", `rm -f ${copy}/*.rules && cp /usr/share/ufw/iptables/* ${copy}`);
    await world.must("ufw", "--force", "enable");
    await world.must("ufw", "allow", "out", "to", OUTSIDE_V4);
  },
  async reload(world) {
    await world.must("ufw", "reload");
  },
};

/** The chains that a container engine makes, and a container's published port. */
const CONTAINERS: Neighbour = {
  name: "a container engine's chains",
  async start(world) {
    const commands = [
      "-t nat -N DOCKER",
      "-t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER",
      "-t nat -A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER",
      "-t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE",
      "-t nat -A DOCKER ! -i docker0 -p tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80",
      "-N DOCKER",
      "-N DOCKER-USER",
      "-A DOCKER-USER -j RETURN",
      "-A FORWARD -j DOCKER-USER",
      "-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
      "-A FORWARD -o docker0 -j DOCKER",
    ];
    for (const command of commands) await world.must("iptables", "-w", ...command.split(" "));
  },
  async reload(world) {
    await world.must("iptables", "-w", "-t", "nat", "-F", "DOCKER");
    const rule = "-t nat -A DOCKER ! -i docker0 -p tcp --dport 8080 -j DNAT " +
      "--to-destination 172.17.0.2:80";
    await world.must("iptables", "-w", ...rule.split(" "));
  },
};

/** A VPN that marks, and accepts, what goes into its tunnel, before anybody else is asked. */
const VPN: Neighbour = {
  name: "a VPN's ruleset",
  async start(world) {
    await nft(
      world,
      `table inet vpn
       flush table inet vpn
       table inet vpn {
         chain mangle {
           type route hook output priority -150
           meta skuid != 0 meta mark set 0x6d6f6c65
         }
         chain output {
           type filter hook output priority -100; policy accept
           oifname "lo" accept
           meta mark 0x6d6f6c65 accept
         }
       }`,
    );
    await world.exec("ip", "rule", "del", "pref", "5209");
    await world.must("ip", "rule", "add", "pref", "5209", "fwmark", "0x6d6f6c65", "table", "main");
  },
  reload(world) {
    return this.start(world);
  },
};

/** What only lines of ours have. */
const OURS = /fishnet|uidrange|--uid-owner|--icmpv6-type 3\/1 -m addrtype/;

/** All that is not ours, as the system's own tools print it. */
async function theirs(world: World): Promise<string> {
  const parts: string[] = [];
  for (const command of ["iptables-save", "ip6tables-save"]) parts.push(await world.must(command));
  const tables = (await world.must("nft", "list", "tables")).trim().split("\n");
  for (const table of tables.filter((line) => /^table inet (?!fishnet)/.test(line))) {
    parts.push(await world.must("nft", "--stateless", "list", ...table.split(" ")));
  }
  parts.push(await world.must("ip", "rule", "show"));
  return parts.join("\n").split("\n")
    .filter((line) => !line.startsWith("#") && !OURS.test(line))
    // A built-in chain or table that iptables-nft has made for a rule of ours stays, empty.
    .filter((line) => !/^(\*|COMMIT|$)/.test(line) && !/^:[A-Z]+ ACCEPT /.test(line))
    .map((line) => line.replace(/\[\d+:\d+\]/, ""))
    .join("\n");
}

/** Expects just these accounts to get out, by what is captured outside: each has its own port there. */
async function expectOut(
  world: World,
  accounts: readonly string[],
  expected: readonly string[],
): Promise<void> {
  const portOf = (account: string) => 4000 + accounts.indexOf(account);
  const frames = await world.captured("tcp or udp", async () => {
    for (const account of accounts) {
      for (const [vector, address] of [["tcp", OUTSIDE_V4], ["udp", OUTSIDE_V6]] as const) {
        await world.as(account, PYTHON, "-c", PROBE, vector, address, `${portOf(account)}`);
      }
    }
  });
  const out = accounts.filter((account) =>
    frames.some((frame) => frame.includes(`.${portOf(account)}: `))
  );
  assertEquals(out, expected, frames.join("\n"));
}

async function isInstalled(program: string): Promise<boolean> {
  return (await run(["sh", "-c", `command -v ${program}`])).code === 0;
}

for (const backend of ["iptables", "nftables"]) {
  for (const neighbour of [UFW, CONTAINERS, VPN]) {
    const name = `${backend} beside ${neighbour.name}: the lock holds, both stay whole`;
    if (neighbour.program !== undefined && !await isInstalled(neighbour.program)) {
      Deno.test.ignore(`${name} (skipped: needs ${neighbour.program})`, () => {});
      continue;
    }
    worldTest(
      name,
      async (world, t) => {
        const agent = await world.account();
        const other = await world.account();
        const firewall = async (command: string, ...more: string[]) =>
          await world.fishnet("firewall", command, "--agent-user", agent, ...more);
        const changed = async (command: "enable" | "disable") => {
          const result = await firewall(command, "--backend", backend, "--apply");
          assertEquals(result.code, 0, result.stderr);
        };

        await t.step("it starts after enable", async () => {
          await changed("enable");
          await neighbour.start(world);
          await expectOut(world, [agent, other], [other]);
          await neighbour.reload(world);
          await expectOut(world, [agent, other], [other]);
        });

        let before = "";
        await t.step("disable takes ours alone", async () => {
          const shown = await theirs(world);
          await changed("disable");
          before = await theirs(world);
          assertEquals(before, shown);
          assert(!OURS.test(await world.state()), await world.state());
          await expectOut(world, [agent, other], [agent, other]);
        });

        await t.step("enable after it leaves its rules, and comes first", async () => {
          await changed("enable");
          assertEquals(await theirs(world), before);
          await expectOut(world, [agent, other], [other]);
          await neighbour.reload(world);
          assertEquals(await theirs(world), before);
          await expectOut(world, [agent, other], [other]);
        });

        for (
          const [flush, ...commands] of [
            [
              "iptables -F",
              "iptables -F",
              "iptables -t mangle -F",
              "ip6tables -F",
              "ip6tables -t mangle -F",
            ],
            ["nft flush ruleset", "nft flush ruleset"],
          ] as const
        ) {
          await t.step(`after ${flush} it still holds; status tells, enable mends`, async () => {
            for (const chain of ["INPUT", "OUTPUT", "FORWARD"]) {
              for (const command of ["iptables", "ip6tables"]) {
                await world.must(command, "-P", chain, "ACCEPT");
              }
            }
            for (const command of commands) await world.must(...command.split(" "));
            await expectOut(world, [agent, other], [other]);
            const lost = backend === "iptables" || flush.startsWith("nft");
            const status = await firewall("status");
            assertEquals(status.code, lost ? 3 : 0, status.stdout + status.stderr);
            if (lost) assertStringIncludes(status.stdout, "missing");
            await changed("enable");
            assertEquals((await firewall("status")).code, 0);
            await expectOut(world, [agent, other], [other]);
          });
        }
      },
    );
  }
}
