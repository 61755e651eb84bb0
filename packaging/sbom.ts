/**
 * Writes what a release is made of, as a CycloneDX document: the packages that
 * are bundled into the program, as the lock file has them, and the runtime of
 * the Deno that runs this, which is the one that compiles:
 * `deno run --allow-run --allow-read=deno.lock packaging/sbom.ts > fishnet.cdx.json`
 *
 * @module
 */
import denoJson from "../deno.json" with { type: "json" };

/** The parts of a CycloneDX 1.5 document that are filled in here. */
export interface Sbom {
  readonly bomFormat: "CycloneDX";
  readonly specVersion: "1.5";
  readonly version: 1;
  readonly metadata: { readonly component: Component };
  readonly components: readonly Component[];
  readonly dependencies: readonly { readonly ref: string; readonly dependsOn: readonly string[] }[];
}

interface Component {
  readonly type: "application" | "library" | "platform";
  readonly "bom-ref": string;
  readonly name: string;
  readonly version: string;
  readonly purl: string;
  readonly licenses?: readonly { readonly license: { readonly id: string } }[];
  readonly hashes?: readonly { readonly alg: string; readonly content: string }[];
}

/**
 * The document for this version.
 *
 * @param packages what is bundled, each as `name@version`.
 * @param integrity says a package's checksum, as the lock file has it: `sha512-BASE64`.
 */
export function sbom(packages: readonly string[], integrity: (name: string) => string): Sbom {
  const program: Component = {
    ...component("application", "fishnet-firewall", denoJson.version, "generic", "MIT"),
  };
  const runtime = [
    component("platform", "deno", Deno.version.deno, "github/denoland", "MIT"),
    component("library", "v8", Deno.version.v8, "github/v8", "BSD-3-Clause"),
  ];
  const bundled = packages.map((name) => {
    const at = name.lastIndexOf("@");
    return {
      ...component("library", name.slice(0, at), name.slice(at + 1), "npm"),
      hashes: [{ alg: "SHA-512", content: hexOf(integrity(name)) }],
    };
  });
  const components = [...runtime, ...bundled];
  const refs = components.map((component) => component["bom-ref"]);
  return {
    bomFormat: "CycloneDX",
    specVersion: "1.5",
    version: 1,
    metadata: { component: program },
    components,
    dependencies: [{ ref: program["bom-ref"], dependsOn: refs }],
  };
}

function component(
  type: Component["type"],
  name: string,
  version: string,
  kind: string,
  license?: string,
): Component {
  const purl = `pkg:${kind}/${name}@${version}`;
  const licenses = license === undefined ? {} : { licenses: [{ license: { id: license } }] };
  return { type, "bom-ref": purl, name, version, purl, ...licenses };
}

function hexOf(integrity: string): string {
  const bytes = Uint8Array.from(atob(integrity.replace(/^sha512-/, "")), (c) => c.charCodeAt(0));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The packages that the program loads modules of, each as `name@version`. */
export async function bundledPackages(): Promise<string[]> {
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["info", "--frozen", "--json", new URL("../main.ts", import.meta.url).pathname],
    stderr: "inherit",
  }).output();
  const { modules } = JSON.parse(new TextDecoder().decode(stdout)) as {
    modules: { npmPackage?: string }[];
  };
  const names = modules.flatMap(({ npmPackage }) => npmPackage === undefined ? [] : [npmPackage]);
  return [...new Set(names)].sort();
}

if (import.meta.main) {
  const lock = JSON.parse(await Deno.readTextFile(new URL("../deno.lock", import.meta.url)));
  const packages: Readonly<Record<string, { integrity: string }>> = lock.npm;
  const document = sbom(await bundledPackages(), (name) => packages[name]!.integrity);
  const text = JSON.stringify(document, null, 2) + "\n";
  await Deno.stdout.write(new TextEncoder().encode(text));
}
