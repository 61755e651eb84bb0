/** The GitHub Action, its two halves started as a runner starts them, with real packets. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { must, type Result, run } from "../support/process.ts";
import { OUTSIDE_V4, PYTHON, World } from "../support/world.ts";
import { packagingTest, ROOT, temporaryFolder } from "./support.ts";

const PROBE = `${ROOT}tests/support/probe.py`;

/** The action as a runner checks it out, with its Deno, and a place for the runner's own files. */
class Checkout {
  readonly #folder: string;
  readonly #world: World;

  private constructor(folder: string, world: World) {
    this.#folder = folder;
    this.#world = world;
  }

  static async create(folder: string, world: World): Promise<Checkout> {
    const checkout = new Checkout(folder, world);
    await Deno.mkdir(`${folder}/action/packaging`, { recursive: true });
    for (const name of ["action.yml", "main.ts", "src", "deno.json", "deno.lock"]) {
      await must("cp", "-R", `${ROOT}${name}`, `${folder}/action`);
    }
    for (const name of ["action", "deno"]) {
      await must("cp", "-R", `${ROOT}packaging/${name}`, `${folder}/action/packaging`);
    }
    // What the action does first needs a registry, which no world reaches.
    await must("rm", "-rf", `${folder}/action/packaging/deno/node_modules`);
    const { code, stderr } = await run([
      "node",
      "-e",
      `require("${folder}/action/packaging/action/fishnet.js").install()`,
    ]);
    assertEquals(code, 0, stderr);
    const deno = `${folder}/action/packaging/deno/node_modules/.bin/deno`;
    await must(deno, "cache", "--quiet", "--frozen", `${folder}/action/main.ts`);
    return checkout;
  }

  /** Starts the file that action.yml names for one half, in the world. */
  async start(half: "main" | "post", inputs: Record<string, string>): Promise<Result> {
    const manifest = await Deno.readTextFile(`${this.#folder}/action/action.yml`);
    const file = new RegExp(`^  ${half}: (.+)$`, "m").exec(manifest)![1]!;
    const state = await this.#file("state");
    const saved = /^accounts<<(.*)\n([^]*)\n\1\n/.exec(await Deno.readTextFile(state));
    return await run(
      this.#world.command("node", `${this.#folder}/action/${file}`),
      {
        env: {
          ...Object.fromEntries(
            Object.entries(inputs).map(([name, value]) => [`INPUT_${name.toUpperCase()}`, value]),
          ),
          GITHUB_STATE: state,
          GITHUB_OUTPUT: await this.#file("output"),
          ...(half === "post" ? { STATE_accounts: saved?.[2] ?? "" } : {}),
        },
      },
    );
  }

  /** What the action has given out so far. */
  async output(): Promise<string> {
    return await Deno.readTextFile(await this.#file("output"));
  }

  /** Forgets what a job has left, as the next job's runner does. */
  async nextJob(): Promise<void> {
    for (const name of ["state", "output"]) await Deno.remove(await this.#file(name));
  }

  async #file(name: string): Promise<string> {
    const path = `${this.#folder}/${name}`;
    await Deno.writeTextFile(path, "", { append: true });
    return path;
  }
}

packagingTest(
  "the action locks the account, proves it, and lets it go at the end of the job",
  { root: true, world: true, tools: ["node", "npm"] },
  async (t) => {
    await using folder = await temporaryFolder();
    await using world = await World.create();
    const [agent, kept] = [await world.account(), await world.account()];
    const action = await Checkout.create(folder.path, world);
    // Routing rules of one preference come in any order.
    const stateOf = async () => (await world.state()).split("\n").sort();
    const before = await stateOf();
    const sent = () =>
      world.captured("udp", () => world.as(agent, PYTHON, PROBE, "udp", OUTSIDE_V4, "4000"));
    assert((await sent()).length > 0, "the control got out");

    await t.step("locked while the job runs, and shown to be", async () => {
      const { code, stdout, stderr } = await action.start("main", {
        "agent-user": agent,
        "only-port": "3777",
      });
      assertEquals(code, 0, stdout + stderr);
      assertStringIncludes(stdout, agent);
      assertEquals(await sent(), []);
      const output = /^status<<(.*)\n([^]*)\n\1\n/.exec(await action.output())![2]!;
      const [account] = JSON.parse(output).accounts;
      assertEquals([account.state, account.onlyPorts], ["locked", [3777]]);
    });
    await t.step("free when it has ended, and the machine as it was", async () => {
      const { code, stdout, stderr } = await action.start("post", {});
      assertEquals(code, 0, stdout + stderr);
      assertEquals(await stateOf(), before);
      assert((await sent()).length > 0);
    });
    await t.step("what was locked before the job stays so", async () => {
      await action.nextJob();
      const { code, stderr } = await world.fishnet(
        ...["firewall", "enable", "--agent-user", kept, "--apply"],
      );
      assertEquals(code, 0, stderr);
      const locked = await stateOf();
      assertEquals((await action.start("main", { "agent-user": `${kept}\n${agent}` })).code, 0);
      assert((await stateOf()).length > locked.length, "the other one is locked as well");
      assertEquals((await action.start("post", {})).code, 0);
      assertEquals(await stateOf(), locked);
    });
    await t.step("an account that may use sudo fails the step, and is let go", async () => {
      await action.nextJob();
      const rights = `/etc/netns/${world.inside}/sudoers.d/${agent}`;
      await Deno.writeTextFile(rights, `${agent} ALL=(ALL) NOPASSWD: ALL\n`, { mode: 0o440 });
      const locked = await stateOf();
      try {
        const { code, stdout } = await action.start("main", { "agent-user": agent });
        assertEquals(code, 1);
        assertMatch(stdout, /^::error title=fishnet firewall::\S+ may use sudo/m);
      } finally {
        await Deno.remove(rights);
      }
      assertEquals((await action.start("post", {})).code, 0);
      assertEquals(await stateOf(), locked);
    });
    await t.step("what cannot be locked fails the step in the program's words", async () => {
      await action.nextJob();
      const locked = await stateOf();
      for (
        const [user, words] of [
          ["nobody_here", /^::error title=fishnet firewall::the account 'nobody_here' does not/m],
          ["bad-user!", /^::error .*invalid unix username/m],
          ["", /^::error .*agent-user is empty/m],
        ] as const
      ) {
        const { code, stdout } = await action.start("main", { "agent-user": user });
        assertEquals(code, 1);
        assertMatch(stdout, words);
        assertEquals((await action.start("post", {})).code, 0);
        assertEquals(await stateOf(), locked);
      }
    });
  },
);

Deno.test("action.yml names files that are there, runs on Node 24, and unlocks however a job ends", async () => {
  const manifest = await Deno.readTextFile(`${ROOT}action.yml`);
  assertMatch(manifest, /^ {2}using: node24$/m);
  assertMatch(manifest, /^ {2}post-if: always\(\)$/m);
  for (const [, path] of manifest.matchAll(/^ {2}(?:main|post): (.+)$/gm)) {
    assert((await Deno.stat(`${ROOT}${path}`)).isFile, path);
    await must("grep", "-q", 'require("./fishnet.js")', `${ROOT}${path}`);
  }
});
