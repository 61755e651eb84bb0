/** /etc/pf.conf on a stand-in for a Mac: whatever it ends in; tests/macos/pf_conf_test.ts has one of these. */
import { assert, assertEquals } from "@std/assert";
import { A, CALL } from "../macos/support/in_use.ts";
import { standInTest, STOCK_PF_CONF } from "../macos/support/stand_in.ts";

standInTest(
  "pf.conf comes back byte for byte, with its mode, whatever it ends in",
  async (mac, t) => {
    const withoutEnd = STOCK_PF_CONF.trimEnd();
    for (
      const [name, text] of Object.entries({
        "a file that ends in a newline": STOCK_PF_CONF,
        "one that does not": withoutEnd,
        "one that ends in a comment": `${withoutEnd}\n# ${CALL}`,
        "one that ends in empty lines": `${STOCK_PF_CONF}\n\n`,
        "one with quotes and backslashes": `# what's \\n this: "$HOME" %s\n${STOCK_PF_CONF}`,
        "an empty one": "",
      })
    ) {
      await t.step(name, async () => {
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
      });
    }
  },
);
