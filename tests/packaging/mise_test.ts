/** The archive by mise, the real one, from a release as the hosting service lists it, on loopback. */
import { assertEquals } from "@std/assert";
import denoJson from "../../deno.json" with { type: "json" };
import { HOST, TARGETS } from "../../packaging/compile.ts";
import { must, run } from "../support/process.ts";
import { packagingTest, ROOT, temporaryFolder } from "./support.ts";

const VERSION = denoJson.version;
const SYSTEMS = Object.values(TARGETS);

/** What is in a release beside the archives: nothing of it may be taken for the program. */
const OTHERS = [
  ...["INSTALL.md", "SHA256SUMS", "fishnet.rb", `fishnet-${VERSION}.cdx.json`],
  ...[`fishnet-firewall-${VERSION}.tgz`, `fishnet_${VERSION}_amd64.deb`],
  `fishnet_${VERSION}_arm64.deb`,
];

packagingTest(
  "mise takes the archive of this system out of a release, and finds the program in it",
  {
    tools: ["npm", "dpkg-parsechangelog"],
  },
  async () => {
    await using folder = await temporaryFolder();
    const tool = `@jdxcode/mise-linux-${Deno.build.arch === "x86_64" ? "x64" : "arm64"}`;
    await must(
      "npm",
      "install",
      "--silent",
      "--prefix",
      `${folder.path}/mise`,
      `${tool}@2026.9.15`,
    );
    // Stands in for the program, which is large: what counts is where it lies, and under which name.
    for (const system of SYSTEMS) {
      const binary = `${folder.path}/fishnet-${system}`;
      await Deno.writeTextFile(binary, `#!/bin/sh\necho "for ${system}: $*"\n`);
      await Deno.chmod(binary, 0o755);
      const { code, stderr } = await run(
        [`${ROOT}packaging/archive.sh`, binary, `${folder.path}/release`],
        { env: { DENO: Deno.execPath() } },
      );
      assertEquals(code, 0, stderr);
    }
    for (const name of OTHERS) {
      await Deno.writeTextFile(
        `${folder.path}/release/${name}`,
        "no program\n",
      );
    }
    await using server = releaseServer(`${folder.path}/release`);
    const home = `${folder.path}/home`;
    await Deno.mkdir(home);
    const api = `http://127.0.0.1:${server.addr.port}`;
    const name = `github:made-up/fence[api_url=${api}]@${VERSION}`;
    const { code, stdout, stderr } = await run([
      ...["env", "-C", home, `${folder.path}/mise/node_modules/${tool}/bin/mise`],
      ...["exec", name, "--", "fishnet", "--version"],
    ], { env: { HOME: home, MISE_YES: "1", MISE_GITHUB_TOKEN: "" } });
    assertEquals(
      [code, stdout],
      [0, `for ${TARGETS[HOST]}: --version\n`],
      stderr,
    );
  },
);

/** Answers as the hosting service's API does when it is asked for the releases of a repository. */
function releaseServer(folder: string): Deno.HttpServer<Deno.NetAddr> {
  return Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, async (request) => {
    const { origin, pathname } = new URL(request.url);
    const file = /^\/download\/([\w.-]+)$/.exec(pathname)?.[1];
    if (file !== undefined) return new Response(await Deno.readFile(`${folder}/${file}`));
    const assets = [...Deno.readDirSync(folder)].map(({ name }) => {
      const url = `${origin}/download/${name}`;
      return { name, browser_download_url: url, url };
    });
    const release = {
      tag_name: `v${VERSION}`,
      draft: false,
      prerelease: false,
      created_at: "2026-01-01T00:00:00Z",
      assets,
    };
    const base = "/repos/made-up/fence/releases";
    if (pathname === base) return Response.json([release]);
    if (pathname === `${base}/latest` || pathname === `${base}/tags/v${VERSION}`) {
      return Response.json(release);
    }
    return new Response("{}", { status: 404 });
  });
}
