/**
 * The npm package as a test has it, and a registry on loopback that has it too.
 *
 * @module
 */
import { must, run } from "../support/process.ts";
import { ROOT } from "./support.ts";

/** The Deno that the workflows use, installed by its lock file into a folder of the test. */
export async function lockedDeno(folder: string): Promise<string> {
  const place = `${folder}/deno`;
  await must("cp", "-R", `${ROOT}packaging/deno`, place);
  await must("rm", "-rf", `${place}/node_modules`);
  await must("npm", "ci", "--silent", "--prefix", place);
  return `${place}/node_modules/.bin/deno`;
}

/** Makes the package as a release does, and returns the file. */
export async function npmPackage(deno: string, folder: string): Promise<string> {
  const stage = `${folder}/npm`;
  const build = ["run", "--no-prompt", "--allow-read", "--allow-write", "--allow-env"];
  await must(deno, ...build, `${ROOT}packaging/npm/build.ts`, stage);
  const name = await must("npm", "pack", "--silent", "--pack-destination", folder, stage);
  return `${folder}/${name.trim()}`;
}

/** A registry that has one package, and sends who asks for others to the registry of this machine. */
export class Registry implements AsyncDisposable {
  readonly #server: Deno.HttpServer<Deno.NetAddr>;

  private constructor(server: Deno.HttpServer<Deno.NetAddr>) {
    this.#server = server;
  }

  /** Serves the package that `npm pack` wrote. */
  static async start(file: string): Promise<Registry> {
    const upstream = (await must("npm", "config", "get", "registry")).trim();
    const bytes = await Deno.readFile(file);
    const about = JSON.parse(await must("tar", "-xzOf", file, "package/package.json"));
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-512", bytes));
    const integrity = `sha512-${btoa(String.fromCharCode(...digest))}`;
    const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, (request) => {
      const { origin, pathname } = new URL(request.url);
      if (pathname === "/package.tgz") return new Response(bytes);
      if (pathname !== `/${about.name}`) {
        return Response.redirect(new URL(pathname.slice(1), upstream));
      }
      const dist = { tarball: `${origin}/package.tgz`, integrity };
      return Response.json({
        name: about.name,
        "dist-tags": { latest: about.version },
        versions: { [about.version]: { ...about, dist, _hasShrinkwrap: true } },
      });
    });
    return new Registry(server);
  }

  get url(): string {
    return `http://127.0.0.1:${this.#server.addr.port}/`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.shutdown();
  }
}

/** Runs a program in an empty home. */
export async function atHome(home: string, command: readonly string[], registry?: string) {
  await Deno.mkdir(home, { recursive: true });
  return await run(["env", "-C", home, ...command], {
    env: { HOME: home, ...(registry === undefined ? {} : { NPM_CONFIG_REGISTRY: registry }) },
  });
}
