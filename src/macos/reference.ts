/** Our reference, which keeps pf on until nobody holds one. `pfctl -d` is not used: it ends all. */
import { restoreFile } from "../lock/file.ts";
import { sudo } from "../line.ts";
import { type Machine, type Shared, TOKEN_FILE, tokenIn } from "./machine.ts";

/** Which root alone may read. */
const EMPTY_FILE = sudo("install", "-m", "600", "/dev/null", TOKEN_FILE);

/** The reference. */
export const reference: Shared = {
  piece: {
    is: "a reference of our own that keeps pf on",
    why: "pf stays on as long as one account is locked, whatever others turn off",
  },
  found(machine) {
    if (machine.tokenFile === undefined) return undefined;
    const token = tokenIn(machine.tokenFile);
    if (token === undefined) return { fault: "it has no token" };
    if (!machine.enabled) return { fault: "pf is off" };
    if (machine.tokens.has(token)) return {};
    return { fault: "pf no longer knows it: it ended with a restart, or with pfctl -d" };
  },
  make(machine) {
    return [{
      line: EMPTY_FILE,
      why: "a file for the token, which root alone may read",
      undo: [fileBack(machine?.tokenFile)],
    }, {
      line: `${sudo("pfctl", "-E")} 2>&1 | ${sudo("tee", TOKEN_FILE)} >/dev/null`,
      why: "turn pf on by a reference of our own, and keep its token",
      undo: [giveBackNew(machine), ""],
    }];
  },
  unmake(machine) {
    const why = "give our reference back; pf stays on while others hold one";
    const remove = { line: sudo("rm", TOKEN_FILE), why: "the token is spent" };
    if (machine === undefined) {
      // It stands behind the one colon of the file: `Token : 1234`.
      const token = `$(${sudo("cut", "-s", "-d", ":", "-f", "2", TOKEN_FILE)})`;
      return [
        { line: `${sudo("pfctl", "-X")} ${token}`, why, undo: [""] },
        { ...remove, undo: [""] },
      ];
    }
    const token = tokenIn(machine.tokenFile);
    // Where it could not be given back, it is still ours.
    const again = `sudo pfctl -s References | grep -qw ${token} || ` +
      `${sudo("pfctl", "-E")} 2>&1 | ${sudo("tee", TOKEN_FILE)} >/dev/null`;
    return [
      // One that pf no longer knows has ended already.
      ...(token !== undefined && machine.tokens.has(token)
        ? [{ line: sudo("pfctl", "-X", token), why, undo: [again] }]
        : []),
      { ...remove, undo: [fileBack(machine.tokenFile)] },
    ];
  },
};

function fileBack(text: string | undefined): string {
  const back = restoreFile(TOKEN_FILE, text);
  return text === undefined ? back : `${EMPTY_FILE} && ${back}`;
}

/**
 * Gives back the reference whose token was just written down. Where the disk was too full for it, it
 * is the one reference of pfctl's that is new; two new ones are told apart by nobody. One that pf no
 * longer knows has ended.
 */
function giveBackNew(machine: Machine | undefined): string {
  const known = [...machine?.tokens ?? []].map((token) => ` -e ${token}`).join("") || " -e none";
  return `( t=$(sed -n "s/^Token : //p" ${TOKEN_FILE}); if ! [ -s ${TOKEN_FILE} ]; then ` +
    `t=$(sudo pfctl -s References | sed -n "s/^[0-9]* *pfctl  *\\([0-9]*\\) .*/\\1/p" | grep -vw${known}); fi; ` +
    `case $t in "") exit 0 ;; *[!0-9]*) echo "which of these is ours? $t" >&2; exit 1 ;; esac; ` +
    `m=$(sudo pfctl -X $t 2>&1) || case $m in *"token invalid"* | *"not enabled"*) ;; ` +
    `*) echo "$m" >&2; exit 1 ;; esac )`;
}
