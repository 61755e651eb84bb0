/**
 * Where the project is published: every generated address comes from here, and
 * here from the repository that a workflow runs in. Prints one of the fields:
 * `deno run --allow-env packaging/project.ts maintainer`
 *
 * @module
 */

/** What a release says of its own origin. */
export interface Project {
  /** Whether it was built for a repository on a hosting service, or for nobody to download. */
  readonly published: boolean;
  /** As in "owner/name". */
  readonly repository: string;
  /** The project's page. */
  readonly homepage: string;
  /** Where the apt repository is served. */
  readonly site: string;
  /** For package managers that ask for one: `NAME <ADDRESS>`. */
  readonly maintainer: string;
  /** The Homebrew tap as in "owner/tap", where there is one. */
  readonly tap?: string;
  /** The fingerprint of the apt repository's key, where there is one. */
  readonly aptKey?: string;
}

/** Variables of a workflow that say it; all but the first two are the repository's own choice. */
export const VARIABLES = [
  "GITHUB_REPOSITORY",
  "GITHUB_SERVER_URL",
  "PAGES_URL",
  "HOMEBREW_TAP",
  "APT_KEY_FINGERPRINT",
] as const;

type Variables = { readonly [name in typeof VARIABLES[number]]?: string | undefined };

/**
 * No domain can be under `.invalid` (RFC 2606), so that nothing of a local
 * build leads to somebody else's server.
 */
const NOWHERE: Project = {
  published: false,
  repository: "not-published/fishnet-firewall",
  homepage: "https://not-published.invalid/fishnet-firewall",
  site: "https://not-published.invalid",
  maintainer: "a local build of fishnet-firewall <local-build@not-published.invalid>",
};

/**
 * The project as a workflow's variables name it; without them, a build for nobody to download.
 *
 * @throws {Error} where a variable is not of its form: it would end up in a script.
 */
export function project(variables: Variables): Project {
  const given = (name: keyof Variables, form: RegExp) => {
    const value = variables[name] || undefined;
    if (value === undefined || form.test(value)) return value;
    throw new Error(`${name} is not of its form: '${value}'`);
  };
  const repository = given("GITHUB_REPOSITORY", /^[\w-]+\/[\w.-]+$/);
  if (repository === undefined) return NOWHERE;
  const [owner, name] = repository.split("/") as [string, string];
  const server = given("GITHUB_SERVER_URL", /^https:\/\/[\w.:-]+$/) ?? "https://github.com";
  // The address that GitHub Pages gives a project, unless it has a domain of its own.
  const pages = name.toLowerCase() === `${owner}.github.io`.toLowerCase() ? "" : `/${name}`;
  const site = given("PAGES_URL", /^https:\/\/[\w.:/-]+$/)?.replace(/\/$/, "") ??
    `https://${owner.toLowerCase()}.github.io${pages}`;
  // A tap "owner/homebrew-tap" is called "owner/tap" (Homebrew's documentation, "Taps").
  const tap = given("HOMEBREW_TAP", /^[\w-]+\/[\w.-]+$/)?.replace("/homebrew-", "/");
  const aptKey = given("APT_KEY_FINGERPRINT", /^[0-9A-F]{40}$/);
  return {
    published: true,
    repository,
    homepage: `${server}/${repository}`,
    site,
    maintainer: `${owner} <${owner}@users.noreply.github.com>`,
    ...(tap === undefined ? {} : { tap }),
    ...(aptKey === undefined ? {} : { aptKey }),
  };
}

/** The project as this process's own environment names it. */
export function projectHere(): Project {
  return project(Object.fromEntries(VARIABLES.map((name) => [name, Deno.env.get(name)])));
}

if (import.meta.main) {
  const field = (projectHere() as unknown as Record<string, unknown>)[Deno.args[0] ?? ""];
  if (Deno.args.length !== 1 || typeof field !== "string") {
    throw new Error("usage: project.ts FIELD");
  }
  await Deno.stdout.write(new TextEncoder().encode(`${field}\n`));
}
