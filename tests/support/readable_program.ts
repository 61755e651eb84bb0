/**
 * The program under test where any account can read it: Deno, the sources and
 * their packages often lie in a home directory that nobody else may enter.
 *
 * @module
 */
import { must } from "./process.ts";
import { PROGRAM } from "./world.ts";

const ROOT = new URL("../../", import.meta.url).pathname;

/** A copy of the program under test, and how an account starts it. */
export class ReadableProgram implements AsyncDisposable {
  readonly #directory: string;

  private constructor(
    readonly command: readonly string[],
    readonly env: Readonly<Record<string, string>>,
    directory: string,
  ) {
    this.#directory = directory;
  }

  /** Makes the copy; the account owns the folder that Deno writes its caches into. */
  static async for(account: string): Promise<ReadableProgram> {
    const directory = await Deno.makeTempDir({ prefix: "fishnet-test-" });
    const [program, cache] = [`${directory}/program`, `${directory}/deno`];
    const [binary, bundle] = ["FISHNET_BIN", "FISHNET_BUNDLE"].map((name) => Deno.env.get(name));
    await must("cp", binary ?? Deno.execPath(), program);
    await must("mkdir", cache);
    if (binary === undefined && bundle === undefined) {
      const sources = ["main.ts", "deno.json", "deno.lock", "src"].map((file) => ROOT + file);
      const { denoDir } = JSON.parse(await must(Deno.execPath(), "info", "--json"));
      await must("cp", "-a", ...sources, directory);
      await must("cp", "-a", `${denoDir}/npm`, cache);
    }
    await must("chmod", "-R", "a+rX", directory);
    await must("chmod", "a+x", program);
    await must("chown", "-R", account, cache);
    const command = binary !== undefined ? [program] : [
      ...[program, ...PROGRAM.slice(1, -1)],
      // Whoever made the bundle lets anybody read it: tests/run.ts.
      ...(bundle === undefined ? [`${directory}/main.ts`] : ["--no-config", bundle]),
    ];
    return new ReadableProgram(command, { DENO_DIR: cache }, directory);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await must("rm", "-rf", this.#directory);
  }
}
