/** Addresses: all that is generated has those of the repository that it is made in. */
import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import denoJson from "../../deno.json" with { type: "json" };
import { userData } from "../../packaging/cloud-init/user_data.ts";
import { TARGETS } from "../../packaging/compile.ts";
import { formula } from "../../packaging/homebrew/formula.ts";
import { installPage } from "../../packaging/install_page.ts";
import { project } from "../../packaging/project.ts";
import { must, run } from "../support/process.ts";
import { lockedDeno } from "./npm_support.ts";
import { debianPackageOf, packagingTest, ROOT, temporaryFolder } from "./support.ts";

/** A repository that somebody made up. */
const MADE_UP = {
  GITHUB_REPOSITORY: "made-up-owner/some.fence",
  GITHUB_SERVER_URL: "https://git.made-up.test",
  PAGES_URL: "https://pages.made-up.test/fence/",
  HOMEBREW_TAP: "made-up-owner/homebrew-fences",
  APT_KEY_FINGERPRINT: "0123456789ABCDEF0123456789ABCDEF01234567",
};

const CHECKSUMS = Object.values(TARGETS).map((system) =>
  `${"a".repeat(64)}  fishnet-${denoJson.version}-${system}.tar.gz`
).join("\n");

const KEY = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nbase64\n-----END PGP PUBLIC KEY BLOCK-----\n";

/** Words that somebody has to fill in first, and addresses that are nobody's. */
const PLACEHOLDER =
  /\b(OWNER|NAME|REPOSITORY|REPO|SITE|TAP|TODO|FIXME|CHANGEME)\b|@[A-Z_]+@|\bexample\b|\.invalid|not-published|<(your|owner|name)\b/;

/** Every text that is generated without the compiled program. */
function texts(variables: Parameters<typeof project>[0]): Record<string, string> {
  const here = project(variables);
  return {
    INSTALL: installPage(here),
    formula: formula(here, CHECKSUMS),
    "user-data": userData(here, KEY),
  };
}

Deno.test("what is generated for a made-up owner has its addresses, and no placeholder", () => {
  const made = texts(MADE_UP);
  for (const [name, text] of Object.entries(made)) {
    assertEquals(PLACEHOLDER.exec(text), null, name);
    assert(!text.includes("github.com"), name);
  }
  const { INSTALL, formula: ruby, "user-data": data } = made;
  assertStringIncludes(INSTALL!, "https://pages.made-up.test/fence/apt/fishnet.asc");
  assertStringIncludes(INSTALL!, "brew install made-up-owner/fences/fishnet");
  assertStringIncludes(INSTALL!, "    0123456789ABCDEF0123456789ABCDEF01234567\n");
  assertStringIncludes(INSTALL!, '"github:made-up-owner/some.fence@');
  assertStringIncludes(ruby!, 'homepage "https://git.made-up.test/made-up-owner/some.fence"');
  assertStringIncludes(data!, "https://pages.made-up.test/fence/apt stable main");
});

Deno.test("a repository that says no more than its name has the hosting service's own addresses", () => {
  const { homepage, site, maintainer } = project({ GITHUB_REPOSITORY: "Some-One/fence" });
  assertEquals([homepage, site, maintainer], [
    "https://github.com/Some-One/fence",
    "https://some-one.github.io/fence",
    "Some-One <Some-One@users.noreply.github.com>",
  ]);
  const { INSTALL } = texts({ GITHUB_REPOSITORY: "Some-One/fence" });
  assertEquals(PLACEHOLDER.exec(INSTALL!), null);
  // Without a key there is no apt repository, without a tap no formula to install.
  assert(!INSTALL!.includes("fishnet.asc") && !INSTALL!.includes("brew"));
});

Deno.test("a clone that is on no hosting service builds everything, and the page says so", () => {
  const { INSTALL, formula } = texts({});
  assertStringIncludes(INSTALL!, "built from a clone that is on no hosting service");
  assertStringIncludes(formula!, "https://not-published.invalid/");
});

Deno.test("a variable that is not of its form is refused: it would end up in a script", () => {
  for (
    const [name, value] of [
      ["GITHUB_REPOSITORY", "owner/name; rm -rf /"],
      ["GITHUB_REPOSITORY", "owner"],
      ["GITHUB_SERVER_URL", "http://plain.test"],
      ["PAGES_URL", "https://pages.test/$(id)"],
      ["HOMEBREW_TAP", "owner/tap\n"],
      ["APT_KEY_FINGERPRINT", "01234567"],
    ]
  ) {
    assertThrows(
      () => project({ ...MADE_UP, [name!]: value }),
      Error,
      `${name} is not of its form`,
    );
  }
});

packagingTest(
  "the Debian package names the repository that it was made in, in its fields and its changelog",
  { binary: true, tools: ["dpkg-shlibdeps"] },
  async () => {
    await using folder = await temporaryFolder();
    const made = await debianPackageOf(MADE_UP, `${folder.path}/made-up`);
    const field = (file: string, name: string) => must("dpkg-deb", "--field", file, name);
    const maintainer = "made-up-owner <made-up-owner@users.noreply.github.com>";
    assertEquals(await field(made, "Maintainer"), `${maintainer}\n`);
    assertEquals(
      await field(made, "Homepage"),
      "https://git.made-up.test/made-up-owner/some.fence\n",
    );
    await must("dpkg-deb", "--extract", made, `${folder.path}/root`);
    const changelog = await must("zcat", `${folder.path}/root/usr/share/doc/fishnet/changelog.gz`);
    assertStringIncludes(changelog, ` -- ${maintainer}  `);
    assertEquals(PLACEHOLDER.exec(changelog), null);
    assertEquals(
      await Deno.readTextFile(`${folder.path}/root/usr/share/fishnet/fishnet-firewall.schema.json`),
      await Deno.readTextFile(`${ROOT}schema/fishnet-firewall.schema.json`),
    );
  },
);

packagingTest("the npm package names the repository that it was made in", {
  tools: ["npm"],
}, async () => {
  await using folder = await temporaryFolder();
  const deno = await lockedDeno(folder.path);
  const stage = `${folder.path}/npm`;
  const build = ["run", "--no-prompt", "--allow-read", "--allow-write", "--allow-env"];
  const { code, stderr } = await run(
    [deno, ...build, `${ROOT}packaging/npm/build.ts`, stage],
    { env: MADE_UP },
  );
  assertEquals(code, 0, stderr);
  const { repository, version } = JSON.parse(await Deno.readTextFile(`${stage}/package.json`));
  assertEquals(repository.url, "git+https://git.made-up.test/made-up-owner/some.fence.git");
  assertEquals(version, denoJson.version);
});

Deno.test("nothing in the tree waits for an owner, a repository, a site or a tap to be filled in", async () => {
  const places = ["packaging", ".github", "action.yml"].map((name) => `${ROOT}${name}`);
  const files = await must("find", ...places, "-type", "f", "-not", "-path", "*/node_modules/*");
  for (const path of files.trim().split("\n")) {
    // A template's own fields are filled in by the script beside it; a licence has its own words.
    if (path.endsWith(".in") || path.endsWith("/copyright")) continue;
    const text = await Deno.readTextFile(path);
    const found = /\b(OWNER|REPOSITORY|SITE|TAP)\b|fishnet\.example/.exec(text)?.[0];
    assertEquals(found, undefined, path);
  }
});
