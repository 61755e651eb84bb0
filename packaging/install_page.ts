/**
 * Writes the INSTALL page of a release, with the addresses that it has:
 * `deno run --allow-env packaging/install_page.ts > INSTALL.md`
 *
 * @module
 */
import denoJson from "../deno.json" with { type: "json" };
import { TARGETS } from "./compile.ts";
import { type Project, projectHere } from "./project.ts";

/** The page in Markdown: what can be copied and run, and nothing that has to be filled in first. */
export function installPage(project: Project): string {
  const { version } = denoJson;
  return [
    `# Install, verify, upgrade, uninstall fishnet ${version}\n`,
    project.published
      ? ""
      : `**This copy was built from a clone that is on no hosting service.** Nothing was published:
addresses under \`not-published.invalid\` lead nowhere. What needs no address works.
`,
    `Releases are for Linux with glibc and macOS, each for x86_64 and aarch64. An upgrade leaves what
is locked locked. Before the program goes, unlock each account that \`fishnet firewall status\`
names: \`fishnet firewall disable --agent-user USER --apply\`. Only the Debian package does that by
itself.

## Without installing: npx

\`\`\`sh
npx fishnet-firewall@${version} firewall enable --agent-user agent_runner
npx ${project.homepage}/releases/download/v${version}/fishnet-firewall-${version}.tgz --version   # the same, from here
\`\`\`

Needs Node.js 18 or later. npm fetches Deno and the packages that the program uses by their
checksums; Deno runs the sources under \`--allow-run=sudo --allow-env=USER\`.
`,
    apt(project),
    brew(project),
    archive(project, version),
    mac(project, version),
    `## The command of a clone

\`\`\`sh
git clone --branch v${version} ${project.homepage}.git fishnet-firewall && cd fishnet-firewall
deno install --global --name fishnet --config deno.json --quiet --no-prompt \\
  --allow-run=sudo --allow-env=USER main.ts
\`\`\`

The command starts the sources where they are: keep the clone. \`deno uninstall --global fishnet\`
removes it.
`,
  ].filter((part) => part !== "").join("\n");
}

function apt({ site, aptKey, homepage }: Project): string {
  const { version } = denoJson;
  const file = `## Debian and Ubuntu: the package alone

\`\`\`sh
curl -fsSLO "${homepage}/releases/download/v${version}/fishnet_${version}_$(dpkg --print-architecture).deb"
sudo apt-get install "./fishnet_${version}_$(dpkg --print-architecture).deb"
sudo apt-get purge fishnet   # unlocks every account first, or stops
\`\`\`
`;
  if (aptKey === undefined) return file;
  return `## Debian and Ubuntu: apt

\`\`\`sh
sudo install -d -m 755 /etc/apt/keyrings
curl -fsSL ${site}/apt/fishnet.asc | sudo tee /etc/apt/keyrings/fishnet.asc >/dev/null
gpg --show-keys --with-colons /etc/apt/keyrings/fishnet.asc | grep -q ${aptKey} &&
sudo tee /etc/apt/sources.list.d/fishnet.sources >/dev/null <<'END'
Types: deb
URIs: ${site}/apt
Suites: stable
Components: main
Signed-By: /etc/apt/keyrings/fishnet.asc
END
sudo apt-get update
sudo apt-get install fishnet
sudo apt-get install --only-upgrade fishnet   # upgrade
sudo apt-get purge fishnet                    # unlocks every account first, or stops
\`\`\`

The repository's key has the fingerprint

    ${aptKey}

which stands here, beside the release, and not beside the key. Older versions stay in the
repository: \`apt-cache madison fishnet\` lists them, \`apt-get install fishnet=VERSION\` goes back.

${file}`;
}

function brew({ tap }: Project): string {
  if (tap === undefined) return "";
  return `## macOS and Linux: Homebrew

\`\`\`sh
brew install ${tap}/fishnet
brew upgrade fishnet
brew uninstall fishnet   # unlock first: Homebrew runs nothing then
\`\`\`
`;
}

function archive({ repository, homepage }: Project, version: string): string {
  const systems = Object.values(TARGETS);
  return `## The binary alone

By [mise](https://mise.jdx.dev), or by hand:

\`\`\`sh
mise use --global "github:${repository}@${version}"
\`\`\`

\`\`\`sh
system=${systems[0]}   # or ${systems.slice(1).join(", ")}
base=${homepage}/releases/download/v${version}
curl -fsSLO "$base/fishnet-${version}-$system.tar.gz" -O "$base/SHA256SUMS"
sha256sum --check --ignore-missing SHA256SUMS       # macOS: shasum -a 256 --check --ignore-missing
gh attestation verify "fishnet-${version}-$system.tar.gz" --repo ${repository}
tar -xzf "fishnet-${version}-$system.tar.gz"
sudo install -d /usr/local/bin
sudo install -m 755 "fishnet-${version}-$system/fishnet" /usr/local/bin/fishnet
\`\`\`

Completions: \`eval "$(fishnet completions bash)"\`, likewise for zsh, and
\`fishnet completions fish | source\`.
`;
}

function mac({ homepage }: Project, version: string): string {
  return `## On a Mac

No Mac has run this program yet: what is said of macOS is derived, and
[docs/macos.md](${homepage}/blob/v${version}/docs/macos.md) says from what.

- What a browser has downloaded is quarantined, and killed at its start. For a file whose checksum
  you have verified: \`xattr -d com.apple.quarantine fishnet\`.
- A restart, Internet Sharing, virtual machines and some VPNs take a lock away. Lock with
  \`--persist\`: its LaunchDaemon puts it back at boot, and within a minute. It stands under Login
  Items in System Settings and can be switched off there, which \`fishnet firewall status\` says.
- Disable every account before you remove the program: nothing else takes the rules and the
  LaunchDaemon away.
`;
}

if (import.meta.main) {
  await Deno.stdout.write(new TextEncoder().encode(installPage(projectHere())));
}
