/**
 * The dev container feature: installed over this machine's own /usr/local, which stays as it is,
 * and started as a container starts it, with and without the right to change the network.
 */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import denoJson from "../../deno.json" with { type: "json" };
import { must, type Result, run } from "../support/process.ts";
import { OUTSIDE_V4, PYTHON, World } from "../support/world.ts";
import { lockedDeno, npmPackage } from "./npm_support.ts";
import { packagingTest, ROOT, temporaryFolder } from "./support.ts";

const PROBE = `${ROOT}tests/support/probe.py`;
const SHARE = "/usr/local/share/fishnet-firewall";

/** What a pod's init container has in NOTES.md, and what its agent has: of root's rights, these. */
const INIT = "-all,+net_admin,+net_raw,+setuid,+setgid";
const NOTHING = "-all";

/** An image that the feature is installed in: this machine, with a /usr/local and a /run of its own. */
class Image {
  readonly #folder: string;

  private constructor(folder: string) {
    this.#folder = folder;
  }

  /** Builds the feature and lays an empty layer over /usr/local. */
  static async create(folder: string): Promise<Image> {
    const file = await npmPackage(await lockedDeno(folder), folder);
    await must(`${ROOT}packaging/devcontainer/build.sh`, file, `${folder}/feature`);
    for (const name of ["upper", "work", "run"]) await Deno.mkdir(`${folder}/${name}`);
    return new Image(folder);
  }

  /** The words that run a command in a container of the image, with these of root's capabilities. */
  command(capabilities: string, ...command: readonly string[]): string[] {
    const enter = 'mount -t overlay -o "lowerdir=/usr/local,upperdir=$0/upper,workdir=$0/work" ' +
      'overlay /usr/local && mount --bind "$0/run" /run && exec "$@"';
    return [
      ...["unshare", "--mount", "sh", "-c", enter, this.#folder],
      ...["setpriv", `--bounding-set=${capabilities}`, "--inh-caps=-all", ...command],
    ];
  }

  /** Installs the feature as the dev container tools do while they build an image. */
  install(options: Readonly<Record<string, string>>): Promise<Result> {
    const script = `${this.#folder}/feature/src/fishnet-firewall/install.sh`;
    return run(this.command("+all", "sh", script), { env: options });
  }

  /** What the start of the container said of the lock. */
  report(): Promise<string> {
    return Deno.readTextFile(`${this.#folder}/run/fishnet-firewall/report`);
  }
}

packagingTest(
  "the feature locks the container's user where it may, and says what is missing where not",
  { root: true, world: true, tools: ["npm", "setpriv"] },
  async (t) => {
    await using folder = await temporaryFolder();
    await using world = await World.create();
    const agent = await world.account();
    const image = await Image.create(folder.path);
    const before = await world.state();
    const start = (capabilities: string, ...command: readonly string[]) =>
      world.exec(...image.command(capabilities, `${SHARE}/lock.sh`, ...command));
    const sent = () =>
      world.captured("udp", () => world.as(agent, PYTHON, PROBE, "udp", OUTSIDE_V4, "4000"));

    await t.step("it is not installed for root, nobody, or a name that is none", async () => {
      for (
        const [user, words] of [
          ["root", "root can't be locked"],
          ["", "no account to lock"],
          ["nobody_here", "no account nobody_here"],
        ] as const
      ) {
        const { code, stderr } = await image.install({ _REMOTE_USER: user });
        assertEquals(code, 1);
        assertStringIncludes(stderr, words);
      }
    });
    await t.step("it installs the program", async () => {
      const { code, stdout, stderr } = await image.install({
        _REMOTE_USER: agent,
        ONLYPORT: "3777",
      });
      assertEquals(code, 0, stderr);
      assertStringIncludes(stdout, `fishnet ${denoJson.version}\n`);
    });
    await t.step("nobody but root can write what root will run", async () => {
      const { stdout } = await run(
        image.command(
          "+all",
          "find",
          SHARE,
          "(",
          "-perm",
          "/022",
          "-not",
          "-type",
          "l",
          "-o",
          "-not",
          "-user",
          "0",
          ")",
        ),
      );
      assertEquals(stdout, "");
    });
    await t.step("without NET_ADMIN it says so, and opening the container fails", async () => {
      assert((await sent()).length > 0, "the control got out");
      const { code, stderr } = await start(NOTHING, `${SHARE}/report.sh`);
      assertEquals(code, 1);
      assertStringIncludes(stderr, "not locked: NET_ADMIN is missing");
      assertEquals((await start(NOTHING, "echo", "begun")).stdout, "");
      assert((await sent()).length > 0);
    });
    await t.step("half a lock from outside, or a route that nobody has, is none", async () => {
      const uid = await must("id", "-u", agent);
      const half = ["pref", "77", "uidrange", `${uid.trim()}-${uid.trim()}`, "prohibit"];
      const refused = async () => {
        const { code, stderr } = await start(NOTHING, `${SHARE}/report.sh`);
        assertEquals(code, 1, stderr);
        assertStringIncludes(stderr, "not locked: NET_ADMIN is missing");
      };
      await world.must("ip", "-4", "rule", "add", ...half);
      await refused();
      await world.must("ip", "-4", "rule", "del", ...half);
      for (const family of ["-4", "-6"]) {
        await world.must("ip", family, "rule", "add", "pref", "78", "prohibit");
      }
      await refused();
      for (const family of ["-4", "-6"]) {
        await world.must("ip", family, "rule", "del", "pref", "78", "prohibit");
      }
    });
    await t.step("with NET_ADMIN it locks, and what the container runs then begins", async () => {
      const { code, stdout, stderr } = await start("+all", "echo", "begun");
      assertEquals([code, stdout], [0, "begun\n"], stderr);
      assertMatch(await image.report(), new RegExp(`^locked: ${agent}$`, "m"));
      assertEquals(await sent(), []);
      await world.must(...image.command("+all", `${SHARE}/report.sh`));
      // What is locked and starts again is locked.
      assertEquals((await start("+all")).code, 0);
      const disable = ["firewall", "disable", "--agent-user", agent, "--apply"];
      await world.must(...image.command("+all", "fishnet", ...disable, "--backend", "nftables"));
      assertEquals(await world.state(), before);
    });
    await t.step("an init container that alone has NET_ADMIN locks the others", async () => {
      assert((await sent()).length > 0, "the control got out");
      const { code, stdout, stderr } = await start(INIT, `${SHARE}/report.sh`);
      assertEquals(code, 0, stdout + stderr);
      assertMatch(stdout, new RegExp(`^locked: ${agent}$`, "m"));
      assertEquals(await sent(), []);
    });
    await t.step("and not even root of another container can take the lock away", async () => {
      const locked = await world.state();
      for (
        const command of [
          ["nft", "flush", "ruleset"],
          ["ip", "rule", "flush"],
          ["iptables", "-F"],
          ["fishnet", "firewall", "disable", "--agent-user", agent, "--apply"],
        ]
      ) {
        assert((await world.exec(...image.command(NOTHING, ...command))).code !== 0, command[0]);
      }
      assertEquals(await world.state(), locked);
      const { code, stdout } = await start(NOTHING, `${SHARE}/report.sh`);
      assertEquals(code, 0);
      assertStringIncludes(stdout, `locked from outside: ${agent}`);
      assertEquals(await sent(), []);
    });
  },
);

Deno.test("the feature is the version that the program is, and has tests in the features' own layout", async () => {
  const place = `${ROOT}packaging/devcontainer`;
  const read = async (path: string) => JSON.parse(await Deno.readTextFile(`${place}/${path}`));
  const { id, version } = await read("src/fishnet-firewall/devcontainer-feature.json");
  assertEquals([id, version], ["fishnet-firewall", denoJson.version]);
  for (const scenario of Object.keys(await read("test/fishnet-firewall/scenarios.json"))) {
    assert((await Deno.stat(`${place}/test/fishnet-firewall/${scenario}.sh`)).isFile);
  }
  assert((await Deno.stat(`${place}/test/fishnet-firewall/test.sh`)).isFile);
});

packagingTest("the dev container tools package the feature", {
  tools: ["npm", "npx"],
}, async () => {
  await using folder = await temporaryFolder();
  const source = `${ROOT}packaging/devcontainer/src`;
  const { code, stdout, stderr } = await run([
    ...["npx", "--yes", "@devcontainers/cli@0.89.0", "features", "package", source],
    ...["--output-folder", `${folder.path}/out`],
  ]);
  assertEquals(code, 0, stdout + stderr);
  const [collection] = JSON.parse(
    await Deno.readTextFile(`${folder.path}/out/devcontainer-collection.json`),
  ).features;
  assertEquals([collection.id, collection.capAdd], ["fishnet-firewall", ["NET_ADMIN"]]);
});
