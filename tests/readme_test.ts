/** What README.md and docs say is so: the commands run, the recording is what they print. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { svgOf, textsIn } from "../docs/record.ts";
import { COMMANDS, OPTIONS } from "../src/cli/options.ts";
import { linux } from "../src/linux/linux.ts";
import { macos } from "../src/macos/macos.ts";
import { Audit, whyNoAudit } from "./support/audit.ts";
import { run } from "./support/process.ts";
import { commandsBelow, quickStart, type Scene } from "./support/quick_start.ts";
import { program, worldTest } from "./support/world.ts";

const ROOT = new URL("../", import.meta.url);

const PAGES = new Map<string, string>();
for (const folder of ["", "docs/"]) {
  for await (const { name } of Deno.readDir(new URL(folder || ".", ROOT))) {
    const path = folder + name;
    if (name.endsWith(".md")) PAGES.set(path, await Deno.readTextFile(new URL(path, ROOT)));
  }
}
const README = PAGES.get("README.md")!;
const RECORDING = await Deno.readTextFile(new URL("docs/recording.svg", ROOT));

const why = whyNoAudit();

/** The rules of a lock are printed as the machine's own tools do, which differ. */
async function isAsRecorded(): Promise<boolean> {
  const release = await Deno.readTextFile("/etc/os-release");
  return Deno.build.arch === "x86_64" && release.includes('VERSION_ID="12"') &&
    release.includes("ID=debian");
}

function withoutCommands(shown: string): string {
  return shown.split("\n").filter((line) => !/\[fishnet\]|applying/.test(line)).join("\n");
}

/** Defines a test with a world, or says what of the quick start's own tools is missing. */
function quickStartTest(name: string, body: Parameters<typeof worldTest>[1]): void {
  const lacks = ["curl", "node"].filter((tool) =>
    !new Deno.Command("sh", { args: ["-c", `command -v ${tool}`] }).outputSync().success
  );
  if (lacks.length === 0) worldTest(name, body);
  else Deno.test({ name: `${name} (skipped: needs ${lacks})`, ignore: true, fn() {} });
}

quickStartTest(
  why === undefined
    ? "the README's quick start works, and the recording shows what it prints"
    : `the README's quick start works (without the log and the recording: ${why})`,
  async (world, t) => {
    const before = await world.state();
    await using _audit = why === undefined ? await Audit.begin() : undefined;
    const scenes = await quickStart(world, { log: why === undefined });
    const scene = (part: string): Scene => {
      const found = scenes.find(({ command }) => command.includes(part));
      if (found === undefined) throw new Error(`no command of the quick start has ${part}`);
      return found;
    };
    await t.step("the account is locked, and it is said how", () => {
      const { code, shown } = scene("--apply");
      assertEquals(code, 0, shown);
      assertMatch(shown, /agent_runner \(uid 1002\): locked; loopback only on port 3777/);
    });
    await t.step("it is answered on the proxy's port, and refused outside at once", () => {
      assertEquals(scene("/health"), { ...scene("/health"), code: 0, shown: "ok\n" });
      const { code, shown } = scene("https://203.0.113.9/");
      assertEquals(code, 7, shown); // CURLE_COULDNT_CONNECT: libcurl-errors(3)
      assertMatch(shown, /^curl: \(7\) Failed to connect to 203\.0\.113\.9 port 443 after 0 ms/);
    });
    await t.step("verify proves it", () => {
      const { code, shown } = scene("verify");
      assertEquals(code, 0, shown);
      assertMatch(shown, /locked, and proven to be refused outside/);
    });
    await t.step("with its variables, the agent comes to the proxy", () => {
      // The one for the try is no proxy: it hangs up. CURLE_RECV_ERROR.
      assertEquals(scene("HTTPS_PROXY").code, 56, scene("HTTPS_PROXY").shown);
    });
    if (why === undefined) {
      await t.step("the log names what was refused", () => {
        const { shown } = scene("firewall log");
        assertMatch(shown, /agent_runner +curl\[4242\] +203\.0\.113\.9:443 +no route/);
      });
    }
    await t.step("disable leaves everything as it was", async () => {
      assertEquals(scene("disable").code, 0, scene("disable").shown);
      assertEquals(await world.state(), before);
    });
    if (why === undefined) {
      await t.step("the recording shows that; deno task record makes it anew", async () => {
        // In which order the rules of a uid and of its ranges go depends on their numbers.
        const recorded = textsIn(RECORDING).sort();
        if (await isAsRecorded()) return assertEquals(textsIn(svgOf(scenes)).sort(), recorded);
        const own = scenes.map((scene) => ({ ...scene, shown: withoutCommands(scene.shown) }));
        for (const text of textsIn(svgOf(own))) assert(recorded.includes(text), text);
      });
    }
  },
);

Deno.test("the recording's plan is the one that the program shows", async () => {
  const { stdout } = await run([
    ...program(),
    ...["firewall", "enable", "--agent-user", "agent_runner", "--os", "linux"],
  ]);
  const [command, shown] = ["fishnet firewall enable --agent-user agent_runner", stdout];
  const rows = textsIn(svgOf([{ command, shown, code: 0 }]));
  assertEquals(textsIn(RECORDING).slice(0, rows.length), rows);
});

Deno.test("what a world cannot have of the quick start, the program knows as well", async () => {
  const [start] = commandsBelow("Quick start");
  const enable = start!.find((line) => line.includes("--persist"))!;
  const words = enable.replace(" --apply", " --os linux").split(" ").slice(1);
  const { code, stdout } = await run([...program(), ...words]);
  assertEquals(code, 0);
  for (const part of ["/etc/fishnet-firewall/lock.sh", "auditctl", "3777"]) {
    assert(stdout.includes(part), part);
  }
});

Deno.test("the README is one that is read: short, and no line has to be scrolled sideways", () => {
  assert(README.split("\n").length < 150);
  for (const line of README.split("\n").filter((line) => line.startsWith("|"))) {
    assert(line.length <= 100, line);
  }
});

Deno.test("what no packet filter stops is named in the program's words", () => {
  const security = PAGES.get("docs/security-model.md")!;
  for (const words of linux.notCovered) {
    assert(README.includes(`\n- ${words}\n`), words);
    assert(security.includes(`\n- ${words}\n`), words);
  }
  for (const words of macos.notCovered) assert(security.includes(`\n- ${words}\n`), words);
});

Deno.test("the reference of commands has every command and every option", () => {
  const page = PAGES.get("docs/commands.md")!;
  for (const name of Object.keys(COMMANDS)) assert(page.includes(`fishnet firewall ${name}`), name);
  for (const name of Object.keys(OPTIONS)) assert(page.includes(`\`--${name}`), name);
});

Deno.test("every link, and every name of a test, leads to a file that is there", async () => {
  const isThere = (file: URL) => Deno.stat(file).then(() => true, () => false);
  for (const [page, text] of PAGES) {
    for (const [test] of text.matchAll(/\btests\/[\w/]+\.ts\b/g)) {
      assert(await isThere(new URL(test, ROOT)), `${page}: ${test}`);
    }
    for (const [, target] of text.matchAll(/\]\(([^)#]+)(?:#[^)]*)?\)/g)) {
      if (/^https?:/.test(target!)) continue;
      assert(await isThere(new URL(target!, new URL(page, ROOT))), `${page}: ${target}`);
    }
  }
});

Deno.test("nothing waits to be filled in, and the project speaks of itself alone", () => {
  const foreign =
    /\b(?:OWNER|REPOSITORY|SITE|TAP|TODO|FIXME)\b|\bissue #?\d|(?<![\w.])\/(?:work|home)\/\w|design page/;
  for (const [page, text] of PAGES) assertEquals(foreign.exec(text)?.[0], undefined, page);
});
