/**
 * The files of `--persist`: what each holds, and the commands that write and remove one.
 *
 * @module
 */
import { feed, sudo } from "../../lock/line.ts";
import type { Step } from "../../lock/piece.ts";
import afterUnit from "./fishnet-after@.service" with { type: "text" };
import againUnit from "./fishnet-again.service" with { type: "text" };
import besideUnit from "./fishnet-beside@.service" with { type: "text" };
import lockUnit from "./fishnet-lock.service" with { type: "text" };
import watchUnit from "./fishnet-watch.service" with { type: "text" };
import lockTable from "../table_fishnet.nft" with { type: "text" };
import loopbackTable from "../table_fishnet_loopback.nft" with { type: "text" };
import lockScript from "./lock.sh" with { type: "text" };
import { FOLDER, UNITS } from "./read_boot.ts";

/** A file that all accounts share. */
export interface SharedFile {
  readonly path: string;
  /** With its last newline. */
  readonly text: string;
  readonly why: string;
  /** The unit's name, where it is one. */
  readonly unit?: string;
  /** What the name of an account's piece says where that account needs the file; without it, all do. */
  readonly needed?: RegExp;
}

const unit = (name: string, text: string, why: string): SharedFile => ({
  path: `${UNITS}/${name}`,
  text,
  why,
  unit: name,
});

/** The script and the units, in the order in which they are written. */
export const SHARED_FILES: readonly SharedFile[] = [
  {
    path: `${FOLDER}/lock.sh`,
    text: lockScript,
    why: "puts the lock of every account in force that has a file beside it",
  },
  {
    path: `${FOLDER}/fishnet.nft`,
    text: lockTable,
    why: "the table of the locks, as it is now",
    needed: /backend nftables/,
  },
  {
    path: `${FOLDER}/fishnet_loopback.nft`,
    text: loopbackTable,
    why: "the table of the ports, as it is now",
    needed: /backend nftables, ports \d/,
  },
  unit("fishnet-lock.service", lockUnit, "locks at boot, before anything runs for an account"),
  unit("fishnet-again.service", againUnit, "the same after what flushes the rules at boot"),
  unit("fishnet-beside@.service", besideUnit, "holds before another firewall starts"),
  unit("fishnet-after@.service", afterUnit, "holds before it stops"),
  unit("fishnet-watch.service", watchUnit, "holds, and puts back what that firewall flushes"),
];

/**
 * Writes a file: beside its place, to the disk, then into it. The undo puts back what was there.
 *
 * @param path may hold `$(id -u NAME)`, where the dry-run cannot know a uid
 * @param text without its last newline, which echo adds
 * @param back the line that puts back what is there now; without it, nothing is
 */
export function writeSteps(path: string, text: string, why: string, back?: string): Step[] {
  const beside = `${path}.new`;
  const remove = asked(sudo("rm", "-f", beside));
  return [
    { line: asked(`${feed(text, "tee", beside)} >/dev/null`), why, undo: [remove] },
    { line: asked(sudo("sync", beside)), why: "so that a power cut leaves it whole", undo: [""] },
    {
      line: asked(sudo("mv", beside, path)),
      why: "into its place, at once",
      undo: [back ?? asked(sudo("rm", "-f", path))],
    },
  ];
}

/** Only the shell that a dry-run is pasted into knows a uid: there the word stands without quotes. */
export function asked(line: string): string {
  return line.replace(/'([\w/.-]*\$\(id -u [\w-]+\)[\w/.-]*)'/g, "$1");
}
