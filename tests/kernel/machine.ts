/**
 * An emulated machine with Debian's own kernel, which loads modules when an account asks for a family
 * of sockets. Nothing is connected to it: its network is all inside.
 *
 * @module
 */
import { must, type Result, run } from "../support/process.ts";

const SUITE = "bookworm";
const PACKAGES = [
  ...["kmod", "iptables", "nftables", "iproute2", "perl-base", "passwd", "sudo", "libcap2-bin"],
];

/** What the root that is shared with the machine needs before it is there. */
const MODULES = ["virtio_pci", "9pnet_virtio", "9p", "overlay"];

const HERE = new URL(".", import.meta.url).pathname;
/** The kernel is laid into the tree, not installed: what would boot from a disk takes minutes to make. */
const CUSTOMIZE = `set -e
for uid in 5001 5101; do chroot "$1" useradd --uid $uid "u$uid"; done
chroot "$1" sh -ec 'cd /tmp
package=$(apt-cache depends linux-image-amd64 | sed -n "s/.*Depends: \\(linux-image-.*\\)/\\1/p")
apt-get -q download "$package"
dpkg-deb --fsys-tarfile linux-image-*.deb | tar -x --keep-directory-symlink -C /
rm linux-image-*.deb
depmod "$(ls /lib/modules)"'
`;
const CACHE = `/var/cache/fishnet-kernel-tree-${await digestOf([SUITE, ...PACKAGES, CUSTOMIZE])}`;

async function digestOf(words: readonly string[]): Promise<string> {
  const bytes = new TextEncoder().encode(words.join(" "));
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex().slice(0, 12);
}

/** Why there is no such machine; undefined where there is one. Builds it where it is not there. */
async function whyNoMachine(): Promise<string | undefined> {
  if (Deno.build.os !== "linux" || Deno.build.arch !== "x86_64") return "needs Linux on x86-64";
  if (Deno.uid() !== 0) return "needs root, to make a Debian tree";
  for (const tool of ["qemu-system-x86_64", "mmdebstrap", "busybox", "cpio"]) {
    if ((await run(["sh", "-c", `command -v ${tool}`])).code !== 0) return `needs ${tool}`;
  }
  if ((await run(["test", "-d", CACHE])).code === 0) return undefined;
  const parts = `${CACHE}.${Deno.pid}`;
  const built = await run([
    ...["mmdebstrap", "--quiet", "--variant=minbase", `--include=${PACKAGES.join(",")}`],
    ...[`--customize-hook=${CUSTOMIZE}`, SUITE, parts],
  ]);
  if (built.code === 0) await must("mv", "-T", parts, CACHE);
  else await run(["rm", "-rf", parts]);
  return built.code === 0 ? undefined : `no Debian tree: ${built.stderr.trim().split("\n").pop()}`;
}

const why = await whyNoMachine();

/** Defines a test with such a machine, or counts it as skipped and says why. */
export function kernelTest(name: string, body: (t: Deno.TestContext) => Promise<void>): void {
  Deno.test({
    name: why === undefined ? name : `${name} (skipped: ${why})`,
    ignore: why !== undefined,
    fn: body,
  });
}

/** Longest time that the machine may take, in seconds; it takes about a minute where nothing else runs. */
const LIMIT = 600;

/** Starts the machine with files of the given texts, and returns those that it left when it ended. */
export async function runInside(
  files: Readonly<Record<string, string>>,
): Promise<(name: string) => string> {
  const folder = await Deno.makeTempDir({ prefix: "fishnet-kernel-" });
  try {
    const work = `${folder}/work`;
    await must("mkdir", work);
    for (const name of ["inside.sh", "outside.pl", "tries.pl"]) {
      await must("cp", `${HERE}${name}`, work);
    }
    for (const [name, text] of Object.entries(files)) {
      await Deno.writeTextFile(`${work}/${name}`, text);
    }
    await makeInitramfs(folder);
    const kernel = (await must("sh", "-c", `ls ${CACHE}/boot/vmlinuz-*`)).trim();
    const share = (tag: string, path: string, more: string) => [
      "-virtfs",
      `local,path=${path},mount_tag=${tag},security_model=none,multidevs=remap${more}`,
    ];
    const ended: Result = await run([
      ...["timeout", `${LIMIT}`, "qemu-system-x86_64", "-m", "512", "-nic", "none", "-no-reboot"],
      ...["-display", "none", "-serial", "stdio", "-kernel", kernel],
      ...["-initrd", `${folder}/initrd`, "-append", "console=ttyS0 quiet panic=-1"],
      ...share("tree", CACHE, ",readonly=on"),
      ...share("work", work, ""),
    ]);
    const texts = new Map<string, string>();
    for await (const { name } of Deno.readDir(work)) {
      texts.set(name, await Deno.readTextFile(`${work}/${name}`));
    }
    if (!texts.has("done")) {
      throw new Error(`the machine did not end: ${ended.stdout}${ended.stderr}${texts.get("log")}`);
    }
    return (name) => texts.get(name) ?? "";
  } finally {
    await run(["rm", "-rf", folder]);
  }
}

/** A busybox, the modules for the root, and what mounts it. */
async function makeInitramfs(folder: string): Promise<void> {
  const root = `${folder}/initramfs`;
  await must("mkdir", "-p", `${root}/bin`, `${root}/modules`);
  // What it loads, if it is not the static one.
  const copies = `busybox=$(command -v busybox); cp "$busybox" ${root}/bin/busybox
ldd "$busybox" 2>&1 | grep -o '/[^ ]*' | xargs -r cp --parents -t ${root}`;
  await must("sh", "-c", copies);
  await must("install", "-m", "755", `${HERE}init.sh`, `${root}/init`);
  const version = (await must("ls", `${CACHE}/lib/modules`)).trim();
  const shown = await must(
    ...["chroot", CACHE, "modprobe", "--set-version", version, "--show-depends", "--all"],
    ...MODULES,
  );
  const paths = new Set([...shown.matchAll(/^insmod (\S+)/gm)].map(([, path]) => path!));
  for (const path of paths) await must("cp", `${CACHE}${path}`, `${root}/modules`);
  await Deno.writeTextFile(
    `${root}/modules/order`,
    [...paths].map((path) => `${path.split("/").at(-1)}\n`).join(""),
  );
  await must("sh", "-c", `cd ${root} && find . | cpio -o -H newc --quiet >${folder}/initrd`);
}
