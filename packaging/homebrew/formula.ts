/**
 * Writes the Homebrew formula of a release from its checksums:
 * `deno run --allow-env packaging/homebrew/formula.ts < SHA256SUMS > fishnet.rb`
 *
 * @module
 */
import denoJson from "../../deno.json" with { type: "json" };
import { TARGETS } from "../compile.ts";
import { type Project, projectHere } from "../project.ts";

/**
 * The formula, in Ruby.
 *
 * @param project where the release is.
 * @param checksums what sha256sum(1) printed of the release's files.
 * @throws {Error} where the archive of a system is not among them, once.
 */
export function formula({ homepage }: Project, checksums: string): string {
  const { version } = denoJson;
  const source = (system: string) => {
    const file = `fishnet-${version}-${system}.tar.gz`;
    const sums = checksums.split("\n").flatMap((line) => {
      const match = /^([0-9a-f]{64}) [ *](.*)$/.exec(line);
      return match?.[2] === file ? [match[1]!] : [];
    });
    if (sums.length !== 1) throw new Error(`the checksum of ${file} is there ${sums.length} times`);
    return `      url "${homepage}/releases/download/v${version}/${file}"\n      sha256 "${
      sums[0]
    }"`;
  };
  const systems = Object.values(TARGETS);
  const on = (system: string, words: string) => {
    const named = systems.filter((name) => name.startsWith(system));
    const of = (processor: string) => source(named.find((name) => name.endsWith(processor))!);
    return `  ${words} do
    on_arm do
${of("aarch64")}
    end
    on_intel do
${of("x86_64")}
    end
  end`;
  };
  return `class Fishnet < Formula
  desc "Keep the account of an AI agent on this machine"
  homepage "${homepage}"
  version "${version}"
  license "MIT"

${on("macos", "on_macos")}

${on("linux", "on_linux")}

  def install
    bin.install "fishnet"
    man8.install "fishnet-firewall.8"
    bash_completion.install "completions/fishnet"
    zsh_completion.install "completions/_fishnet"
    fish_completion.install "completions/fishnet.fish"
  end

  def caveats
    <<~TEXT
      Unlock every account before you uninstall fishnet: Homebrew does not, and
      the locks stay without it.
        fishnet firewall status
        fishnet firewall disable --agent-user USER --apply
    TEXT
  end

  test do
    plan = shell_output("#{bin}/fishnet firewall enable --agent-user agent_runner")
    assert_match "Firewall enable: dry-run", plan
    assert_match "agent_runner", plan
  end
end
`;
}

if (import.meta.main) {
  const checksums = await new Response(Deno.stdin.readable).text();
  await Deno.stdout.write(new TextEncoder().encode(formula(projectHere(), checksums)));
}
