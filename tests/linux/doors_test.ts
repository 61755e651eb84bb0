/**
 * MPTCP over loopback: with an endpoint on the machine's outside device, the kernel itself opens a
 * second path from there, with a token of the account's choice in the first packet.
 */
import { assert, assertEquals } from "@std/assert";
import { change, WAYS } from "../support/lock.ts";
import { linesOf } from "../support/process.ts";
import { INSIDE_V4, INSIDE_V6, PYTHON, type World, worldTest } from "../support/world.ts";

const BOTH_ENDS = await Deno.readTextFile(new URL("../support/both_ends.py", import.meta.url));

/** Addresses of the outside device that are an endpoint each: NetworkManager makes such. */
const ENDPOINTS = { "10.77.0.9": "24", "fd77::9": "64" };

/** Where the kernel opens a second path, from the endpoint of the family; own addresses beside. */
const LEADING_OUT = ["127.0.0.1", "127.5.5.5", "::1"];
const OWN = [INSIDE_V4, INSIDE_V6];

/** Opens a connection with both ends an account's, and leaves it open; says what it became. */
async function connect(world: World, as: string, address: string, port: number): Promise<string> {
  const child = world.start(
    world.commandAs(as, PYTHON, "-c", BOTH_ENDS, address, `${port}`),
    { stdin: "piped" },
  );
  const lines = linesOf(child.stdout);
  const { value = "it ended" } = await lines.read();
  lines.releaseLock();
  return value;
}

const hasMptcp = () => {
  try {
    return Deno.readTextFileSync("/proc/sys/net/mptcp/enabled").trim() === "1";
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    return false;
  }
};

if (!hasMptcp()) {
  Deno.test({ name: "MPTCP over loopback (skipped: needs MPTCP)", ignore: true, fn() {} });
}

for (const { backend, variant, label } of hasMptcp() ? WAYS : []) {
  worldTest(`${label}: MPTCP over loopback opens no path to outside`, async (world, t) => {
    const agent = await world.account();
    const other = await world.account();
    await world.subordinate(`${agent}:${world.firstUid}:100`);
    const held = [agent, `${world.firstUid + 7}`];
    for (const [address, length] of Object.entries(ENDPOINTS)) {
      const nodad = address.includes(":") ? ["nodad"] : [];
      await world.must("ip", "addr", "add", `${address}/${length}`, "dev", "out0", ...nodad);
      await world.must("ip", "mptcp", "endpoint", "add", address, "dev", "out0", "subflow");
    }
    await world.must("ip", "mptcp", "limits", "set", "subflow", "8", "add_addr_accepted", "8");
    let port = 5000;

    /**
     * What the accounts' connections became, and whose second path was seen outside: by the port, as
     * the first packets of those before may be seen again.
     */
    const opened = async (
      capture: "captured" | "capturedLater",
      accounts: readonly string[],
      address: string,
      to = port + 1,
    ) => {
      const first = to;
      const became: string[] = [];
      const filter = `tcp and dst portrange ${first}-${first + accounts.length - 1}`;
      const frames = await world[capture](filter, async () => {
        for (const account of accounts) became.push(await connect(world, account, address, to++));
      });
      if (first > port) port = to;
      const escaped = accounts.filter((_, i) =>
        frames.some((frame) => frame.includes(`.${first + i}: Flags`))
      );
      return [became, escaped];
    };

    await t.step("without a lock, everybody's second path is seen outside", async () => {
      for (const address of LEADING_OUT) {
        const seen = await opened("capturedLater", [agent], address);
        assertEquals(seen, [["mptcp"], [agent]], address);
      }
    });

    await change(world, "enable", agent, backend);

    await t.step("with it, the account's connections work, as plain TCP", async () => {
      for (const address of LEADING_OUT) {
        // Whoever is not locked comes last: his frame is what is waited for.
        const seen = await opened("capturedLater", [...held, other], address);
        assertEquals(seen, [["tcp", "tcp", "mptcp"], [other]], address);
      }
    });

    await t.step("over the machine's own addresses as well", async () => {
      for (const address of OWN) {
        assertEquals(await opened("captured", held, address), [["tcp", "tcp"], []], address);
      }
    });

    await t.step("with --only-port as well", async () => {
      await change(world, "enable", agent, backend, "--only-port", "3777");
      const seen = await opened("captured", [agent], "127.0.0.1", 3777);
      assertEquals(seen, [["tcp"], []]);
    });

    await t.step("disable gives MPTCP back", async () => {
      await change(world, "disable", agent, backend);
      assertEquals(await opened("capturedLater", [agent], "127.0.0.1"), [["mptcp"], [agent]]);
      assert(!(await world.state()).includes("fishnet"));
    });
  }, variant);
}
