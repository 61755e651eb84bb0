/** /etc/pf.conf on a stand-in for a Mac: whatever it ends in; tests/macos/pf_conf_test.ts has one of these. */
import { CALL, comesBack } from "../macos/support/in_use.ts";
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
      await t.step(name, () => comesBack(mac, text));
    }
  },
);
