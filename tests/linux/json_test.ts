/** Every JSON document that the program prints, against the schema that is published with it. */
import { assert, assertEquals } from "@std/assert";
import { Ajv2020 } from "ajv";
import { run } from "../support/process.ts";
import { program, worldTest } from "../support/world.ts";

const schema = JSON.parse(
  await Deno.readTextFile(new URL("../../schema/fishnet-firewall.schema.json", import.meta.url)),
);
const validate = new Ajv2020({ allErrors: true }).compile(schema);

/** The one document on stdout, which has to be valid. */
function documentOf(stdout: string): Record<string, unknown> {
  const document = JSON.parse(stdout);
  assert(validate(document), JSON.stringify(validate.errors, null, 1) + stdout);
  assertEquals(Object.keys(document)[0], "formatVersion");
  return document;
}

Deno.test("the plans of both systems and both backends, and errors, are as the schema says", async () => {
  for (const action of ["enable", "disable"]) {
    for (
      const options of [
        ["--os", "macos"],
        ["--os", "linux"],
        ["--os", "linux", "--backend", "nftables"],
      ]
    ) {
      const { code, stdout } = await run([
        ...program(),
        ...["firewall", action, "--agent-user", "a", "--json", ...options],
      ]);
      assertEquals([code, documentOf(stdout).applied], [0, false]);
    }
  }
  const { stdout } = await run([...program(), "firewall", "enable", "--agent-user", "1", "--json"]);
  assert("error" in documentOf(stdout));
});

Deno.test("the schema refuses what is no document of this program", () => {
  for (
    const document of [{}, { formatVersion: "2.0", error: { message: "x" } }, {
      formatVersion: "1.0",
      command: "status",
      os: "linux",
      state: "fine",
      accounts: [],
      warnings: [],
      notCovered: [],
    }]
  ) assert(!validate(document));
});

worldTest(
  "enable, status, verify and disable print documents as the schema says",
  async (world) => {
    const agent = await world.account();
    const json = async (command: string, ...more: string[]) => {
      const { stdout, stderr } = await world.fishnet(
        ...["firewall", command, "--agent-user", agent, "--json", ...more],
      );
      assert(stdout !== "", stderr);
      return documentOf(stdout);
    };
    assertEquals((await json("status")).state, "unlocked");
    for (const backend of ["iptables", "nftables"]) {
      const enabled = await json("enable", "--backend", backend, "--apply", "--only-port", "3777");
      assertEquals([enabled.applied, enabled.changed], [true, true]);
      assertEquals((await json("status")).state, "locked");
      if (backend === "iptables") continue; // the other takes its place
      await json("verify");
      await world.must("ip", "-4", "rule", "add", "pref", "5", "lookup", "main");
      assertEquals((await json("status")).state, "partial");
      await json("verify");
      await world.must("ip", "-4", "rule", "del", "pref", "5");
      await json("disable", "--apply");
    }
    const { stdout } = await world.fishnet("firewall", "status", "--json");
    assertEquals(documentOf(stdout).accounts, []);
  },
);
