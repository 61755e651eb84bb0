/** /etc/pf.conf on a stand-in for a Mac: others' text comes back as it was, or is not touched. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { A, comesBack } from "./support/in_use.ts";
import { standInTest, STOCK_PF_CONF } from "./support/stand_in.ts";

standInTest("pf.conf comes back byte for byte, after a failure and after disable", async (mac) => {
  // tests/long has other texts.
  const text = `# what's \\n this: "$HOME" %s\n${STOCK_PF_CONF.trimEnd()}`;
  await comesBack(mac, text);
});

standInTest("what somebody wrote below our lines stays, and only our lines go", async (mac) => {
  await mac.write("/etc/pf.conf", STOCK_PF_CONF.trimEnd());
  await mac.applied("enable", { accounts: [A] });
  await mac.write("/etc/pf.conf", `${await mac.read("/etc/pf.conf")}pass in all\n`);
  await mac.applied("disable", { accounts: [A] });
  assertEquals(await mac.read("/etc/pf.conf"), `${STOCK_PF_CONF}pass in all\n`);
});

standInTest(
  "a pf.conf that pfctl refuses, or that is a link, is refused and left alone",
  async (mac, t) => {
    await t.step("a broken one", async () => {
      await mac.write("/etc/pf.conf", `${STOCK_PF_CONF}let me through\n`);
      const before = await mac.state();
      const { code, text } = await mac.apply("enable", { accounts: [A] });
      assertEquals(code, 1);
      assertStringIncludes(text, "pf.conf:10: syntax error");
      assertStringIncludes(text, "nothing was changed");
      assertEquals(await mac.state(), before);
    });
    await t.step("a link", async () => {
      await mac.write("/etc/pf.conf", STOCK_PF_CONF);
      await mac.must("mv", "/etc/pf.conf", "/etc/pf.conf.real");
      await mac.must("ln", "-s", "pf.conf.real", "/etc/pf.conf");
      const before = await mac.state();
      const { code, text } = await mac.apply("enable", { accounts: [A] });
      assertEquals(code, 1);
      assertStringIncludes(text, "/etc/pf.conf is a link");
      assertEquals(await mac.state(), before);
    });
  },
);
