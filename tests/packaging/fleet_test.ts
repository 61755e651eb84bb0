/** The Ansible role, by real Ansible against a world of the test; and the cloud-init example. */
import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { userData } from "../../packaging/cloud-init/user_data.ts";
import { project } from "../../packaging/project.ts";
import { must, run } from "../support/process.ts";
import { World } from "../support/world.ts";
import { changes, playbook, ROLES, throughSsh } from "./ansible.ts";
import { DebianSystem } from "./debian_system.ts";
import { binary, debianPackage, packagingTest, ROOT, temporaryFolder } from "./support.ts";

packagingTest(
  "the Ansible role keeps accounts locked, and says changed only when something did",
  { binary: true, root: true, world: true, tools: ["ansible-playbook"] },
  async (t) => {
    await using folder = await temporaryFolder();
    await using world = await World.create();
    const [agent, other] = [await world.account(), await world.account()];
    const before = await world.state();
    const variables = {
      ansible_connection: "local",
      fishnet_install: "binary",
      fishnet_binary: await binary(),
      fishnet_path: `${folder.path}/fishnet`,
      fishnet_persist: false, // systemd's units would be this machine's own
      fishnet_accounts: [agent, other],
    };
    const play = (more: Record<string, unknown> = {}, ...flags: string[]) =>
      playbook(folder.path, { ...variables, ...more }, world.command(), ...flags);

    await t.step("check mode says what would change, and changes nothing", async () => {
      assertEquals(await changes(play({}, "--check")), 2, "the program and the lock");
      assertEquals(await world.state(), before);
    });
    await t.step(
      "check mode does not look for a package before it names the repository",
      async () => {
        const key = `${folder.path}/key.asc`;
        await Deno.writeTextFile(key, "");
        const fromApt = {
          fishnet_install: "package",
          fishnet_apt_key: key,
          fishnet_apt_uri: "https://example.org/apt",
        };
        assertEquals(await changes(play(fromApt, "--check")), 3, "the key, the source, the lock");
      },
    );
    await t.step("the first run installs and locks", async () => {
      assertEquals(await changes(play()), 2);
      assertMatch((await world.fishnet("firewall", "status")).stdout, /(.* locked .*\n){2}/);
    });
    await t.step("the second run changes nothing, nor does check mode say so", async () => {
      const locked = await world.state();
      assertEquals(await changes(play()), 0);
      assertEquals(await changes(play({}, "--check")), 0);
      assertEquals(await world.state(), locked);
    });
    await t.step("what somebody flushed is put back", async () => {
      const locked = await world.state();
      await world.must("iptables", "-F", "OUTPUT");
      assertEquals(await changes(play()), 1);
      assertEquals(await world.state(), locked);
    });
    const found = async () => {
      const { stdout } = await world.fishnet("firewall", "status", "--json");
      type Account = Record<"name" | "state" | "backend" | "onlyPorts", unknown>;
      // The kernel's audit rules have no namespace: status tells of other machines' accounts too.
      return (JSON.parse(stdout).accounts as Account[])
        .filter(({ name }) => name === agent || name === other)
        .map(({ state, backend, onlyPorts }) => [state, backend, onlyPorts]);
    };
    await t.step("ports, other ports, another backend, and less strict than before", async () => {
      assertEquals(await changes(play({ fishnet_only_ports: [3777] }, "--check")), 1);
      for (
        const [ports, backend, times] of [
          [[3777], "iptables", 1],
          [[8080], "iptables", 1],
          [[8080], "nftables", 1],
          [[], "nftables", 2], // unlocked, and locked again
        ] as const
      ) {
        const wanted = { fishnet_only_ports: ports, fishnet_backend: backend };
        assertEquals(await changes(play(wanted)), times, JSON.stringify(wanted));
        assertEquals(await found(), [["locked", backend, ports], ["locked", backend, ports]]);
      }
    });
    await t.step(
      "an account that does not exist fails the run, in the program's words",
      async () => {
        const { code, stdout } = await play({ fishnet_accounts: ["nobody_here"] });
        assertEquals(code, 2);
        const enable = ["firewall", "enable", "--apply", "--json", "--agent-user", "nobody_here"];
        const { error } = JSON.parse((await world.fishnet(...enable)).stdout);
        assertStringIncludes(stdout, `"msg": ${JSON.stringify(error.message)}`);
      },
    );
    await t.step("what is no list, or names one account wrongly, opens no lock", async () => {
      assertEquals(await changes(play({ fishnet_only_ports: [3777] })), 1);
      const locked = await world.state();
      const { code, stdout } = await play({ fishnet_accounts: `${agent}_and_more` });
      assertEquals(code, 2);
      assertStringIncludes(stdout, "fishnet_only_ports are lists");
      assertEquals((await play({ fishnet_accounts: [agent, "nobody_here"] })).code, 2);
      assertEquals(await world.state(), locked, "no account lost its ports");
    });
    await t.step("accounts are unlocked, once", async () => {
      const unlock = { fishnet_accounts: [], fishnet_unlocked_accounts: [agent, other] };
      assertEquals(await changes(play(unlock, "--check")), 1);
      assertEquals(await changes(play(unlock)), 1);
      assertEquals(await world.state(), before);
      assertEquals(await changes(play(unlock)), 0);
    });
  },
);

packagingTest(
  "the Ansible role installs the package on another machine, once, and locks there",
  {
    binary: true,
    root: true,
    world: true,
    tools: ["ansible-playbook", "mmdebstrap", "apt-ftparchive"],
  },
  async () => {
    await using folder = await temporaryFolder();
    await using world = await World.create();
    const packages = ["python3", "python3-apt", "sudo", "iproute2", "nftables"];
    const system = await DebianSystem.create(folder.path, world, packages);
    await system.forgetDebian();
    await system.publish(await debianPackage(folder.path));
    await system.must("useradd", "--no-create-home", "agent_runner");
    const variables = {
      ...await throughSsh(folder.path, system.command()),
      fishnet_apt_uri: "copy:/srv/repository",
      fishnet_apt_key: system.keyFile,
      fishnet_persist: false, // no systemd runs there
      fishnet_accounts: ["agent_runner"],
    };
    const play = () => playbook(folder.path, variables, world.command());
    assertEquals(await changes(play()), 4, "the key, the source, the package, the lock");
    assertEquals(await system.must("dpkg-query", "-W", "-f", "${Version}", "fishnet"), "0.1.0");
    const status = await system.must("fishnet", "firewall", "status");
    assertMatch(status, /agent_runner +\d+ +locked +nftables/); // iptables is not there
    assertEquals(await changes(play()), 0);
  },
);

packagingTest(
  "Ansible reads the example playbook and the role that it uses",
  { tools: ["ansible-playbook"] },
  async () => {
    const { code, stderr } = await run(
      [
        "ansible-playbook",
        "--syntax-check",
        "-i",
        "agents,",
        `${ROOT}packaging/ansible/example.yml`,
      ],
      { env: { ANSIBLE_ROLES_PATH: ROLES, LC_ALL: "C.UTF-8" } },
    );
    assertEquals(code, 0, stderr);
  },
);

packagingTest(
  "ansible-lint finds no fault with the role",
  { tools: ["ansible-lint"] },
  async () => {
    await using folder = await temporaryFolder();
    // It makes folders of its own where it runs.
    await must("cp", "-R", `${ROOT}packaging/ansible`, folder.path);
    const { code, stdout, stderr } = await run(
      ["env", "-C", `${folder.path}/ansible`, "ansible-lint", "--offline", "--nocolor"],
      { env: { LC_ALL: "C.UTF-8", HOME: folder.path } },
    );
    assertEquals(code, 0, stdout + stderr);
  },
);

packagingTest(
  "cloud-init finds what is generated for it valid",
  { tools: ["cloud-init"], root: true },
  async () => {
    await using folder = await temporaryFolder();
    const file = `${folder.path}/user-data.yml`;
    const key =
      "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nbase64\n-----END PGP PUBLIC KEY BLOCK-----\n";
    await Deno.writeTextFile(file, userData(project({ GITHUB_REPOSITORY: "made-up/fence" }), key));
    assertStringIncludes(await must("cloud-init", "schema", "--config-file", file), "Valid");
  },
);
