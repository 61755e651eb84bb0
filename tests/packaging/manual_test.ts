/** The manual page: complete, and clean to the tools that read it. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { manualPage } from "../../packaging/manual.ts";
import { COMMANDS, OPTIONS } from "../../src/cli/options.ts";
import { helpText } from "../../src/cli/help.ts";
import { linux } from "../../src/linux/linux.ts";
import { macos } from "../../src/macos/macos.ts";
import { must, run } from "../support/process.ts";
import { packagingTest, temporaryFolder } from "./support.ts";

const PAGE = manualPage("2026-01-31");

packagingTest(
  "the manual page shows every command, every option and all that --help says",
  { tools: ["man", "groff"] },
  async () => {
    await using folder = await temporaryFolder();
    const file = `${folder.path}/fishnet-firewall.8`;
    await Deno.writeTextFile(file, PAGE);
    const { code, stdout, stderr } = await run(
      ["man", "--warnings", "--encoding=ascii", "--local-file", file],
      { env: { MANWIDTH: "100", LC_ALL: "C.UTF-8" } },
    );
    assertEquals([code, stderr], [0, ""]);
    const shown = oneLine(stdout);
    for (const [name, text] of Object.entries(COMMANDS)) {
      assertStringIncludes(shown, `fishnet firewall ${name}`);
      assertStringIncludes(shown, oneLine(text));
    }
    for (const [name, { help, value }] of Object.entries(OPTIONS)) {
      assertStringIncludes(shown, `--${name}${value ? ` ${value}` : ""} ${oneLine(help)}`);
    }
    for (const limit of [...linux.notCovered, ...macos.notCovered]) {
      assertStringIncludes(shown, oneLine(limit));
    }
    for (const line of helpText("firewall").split("\n").filter((line) => line.startsWith("  "))) {
      assertStringIncludes(shown, oneLine(line));
    }
  },
);

packagingTest("mandoc finds no fault with the manual page", { tools: ["mandoc"] }, async () => {
  const { code, stdout } = await run(["mandoc", "-Tlint"], { input: PAGE });
  assertEquals([code, stdout], [0, ""]);
});

packagingTest("groff has no warning about the manual page", { tools: ["groff"] }, async () => {
  const { stderr } = await run(["groff", "-ww", "-man", "-Tutf8"], { input: PAGE });
  assertEquals(stderr, "");
});

packagingTest("man finds the page's name and purpose", { tools: ["lexgrog"] }, async () => {
  await using folder = await temporaryFolder();
  await Deno.writeTextFile(`${folder.path}/fishnet-firewall.8`, PAGE);
  assertStringIncludes(
    await must("lexgrog", "--man", `${folder.path}/fishnet-firewall.8`),
    "fishnet-firewall - keep the account of an AI agent on this machine",
  );
});

function oneLine(text: string): string {
  return text.trim().replaceAll(/\s+/g, " ");
}
