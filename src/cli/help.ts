/** The help texts, written from the description of the command line. */
import { table, wrap } from "./layout.ts";
import { COMMANDS, FIRST_WORDS, isFirewallCommand, optionsOf } from "./options.ts";
import type { FirewallCommand, Topic } from "./options.ts";
import { PROXY_VARIABLES } from "./outcome_text.ts";

/** The two columns of the options need at least this width. */
const MIN_WIDTH = 40;

/** The help for one level; for `firewall` it ends with what no packet filter of this system stops. */
export function helpText(topic: Topic, width = 80, notCovered: readonly string[] = []): string {
  const text = isFirewallCommand(topic) ? commandHelp(topic) : LEVELS[topic];
  const limits = listed("No packet filter stops", notCovered.map((limit) => `- ${limit}`));
  const blocks = [...text.trim().split("\n\n"), ...notCovered.length > 0 ? [limits] : []];
  const usable = Math.max(width, MIN_WIDTH);
  return blocks.map((block) => linesOf(block, usable).join("\n")).join("\n\n");
}

/** A title with lines below it. */
const listed = (title: string, lines: readonly string[]) => [`${title}:`, ...lines].join("\n  ");

/** The same with two columns. */
const tabled = (title: string, rows: Readonly<Record<string, string>>) =>
  listed(title, Object.entries(rows).map((row) => row.join("  ")));

/** A paragraph, or a title with lines below it; a gap of two spaces in a line separates two columns. */
function linesOf(block: string, width: number): string[] {
  // What is indented by two begins a line; any other line goes on with the one above.
  const [first, ...lines] = block.replaceAll(/\n(?! {2}\S)\s*/g, " ").split("\n  ");
  const rows = lines.map((line) => line.split(/ {2,}/));
  const indent = lines.length > 1 ? 4 : 2; // of several lines each begins further out
  return [
    ...wrap(first!, width),
    ...rows[0]?.length === 2
      ? table(rows, width - 2).flat().map((line) => `  ${line}`)
      : lines.flatMap((line) => wrap(`  ${line}`, width, indent)),
  ];
}

const COMMAND_LIST = tabled("Commands", COMMANDS);

const LEVELS: Readonly<Record<Exclude<Topic, FirewallCommand>, string>> = {
  fishnet: `
Keeps the account of an AI agent on this machine.

Usage: fishnet firewall COMMAND [OPTIONS]

${COMMAND_LIST}

More:
  fishnet help firewall          the whole help
  fishnet help firewall COMMAND  the options of a command
  fishnet completions SHELL      completions, for bash, zsh or fish
  fishnet --version              the version`,
  completions: `
${FIRST_WORDS.completions}. To load them: eval "$(fishnet completions bash)".

Usage: fishnet completions bash|zsh|fish`,
  firewall: `
Configures the system's packet filter so that the account of an AI agent reaches only this machine,
and the proxy on it. Without --apply nothing runs and nothing is read: the plan is shown, command by
command, also for an account that does not exist yet.

Usage: fishnet firewall COMMAND [OPTIONS]

${COMMAND_LIST}

With the firewall enabled:
  the account can connect to http://127.0.0.1:3777 (the Fishnet proxy)
  the account can access other localhost services (but see --only-port)
  the account cannot connect to external APIs
  other accounts reach what they reached before

${listed("For the agent", PROXY_VARIABLES)}

Exit codes:
  0  done, or the dry-run was shown
  1  an error: nothing was changed, or the message says what is left
  3  status or verify found the account not fully locked, or enable left it so

All or nothing:
  If a step fails, or after Ctrl-C or kill -9, the steps before it are undone.
  A second enable changes nothing. A disable without an enable is no error.
  Of two runs at once the second waits.

Accounts:
  A name has 1 to 32 characters: ASCII letters, digits, underscores and hyphens.
  It begins with a letter or an underscore, and is taken as it is.
  root, and any account with uid 0, is refused: that lock would cut off the machine.
  Under sudo, $USER is root: give --agent-user.

Testing:
  fishnet firewall verify --agent-user USER tries what must fail and what must work.
  By hand: sudo -u USER curl https://api.openai.com/v1/models must be refused.
  By hand: sudo -u USER curl http://127.0.0.1:3777/health must answer.

Permissions:
  --apply, status, verify and log run commands through sudo, which may ask for your password.
  The program itself may start sudo and read $USER, and nothing else.

Output:
  Results go to standard output.
  Errors, warnings and each command as it runs go to standard error, marked [fishnet].
  Colours appear only on a terminal, and never with NO_COLOR.

Systems:
  Linux (iptables or nftables) and macOS (pf). No other system, Windows included, is supported.`,
};

function commandHelp(command: FirewallCommand): string {
  const options = optionsOf(command);
  const apply = options.has("apply") ? " [--apply]" : "";
  const rows = Array.from(options, ([name, { value, values, help }]) => [
    `--${name}${value ? ` ${value}` : ""}`,
    `${help}${values ? ` [${values.join(", ")}]` : ""}`,
  ]);
  return `
${COMMANDS[command]}.

Usage: fishnet firewall ${command} [--agent-user USER]${apply} [OPTIONS]

${tabled("Options", Object.fromEntries(rows))}

Example:
  fishnet firewall ${command} --agent-user agent_runner${apply && " --apply"}
${NOTES[command]}`;
}

/** What a command does, and its exit codes, if its options do not say it. */
const NOTES: Readonly<Record<FirewallCommand, string>> = {
  enable: `
If the account is locked already, enable adds what the options ask for, without opening the lock.
What they do not name stays.

Exit codes, with --apply: 0 locked; 3 all steps are done, but an account is not fully locked: status
says why; 1 an error.`,
  disable: `
With --apply it finds what is there, so you need not repeat the options of the enable. A dry-run
reads nothing, and shows the way back from an enable without options.`,
  status: `
States:
  locked    every piece is in force
  partial   some are in force; each missing one is named, with the command that mends it
  unlocked  no piece is in force
  unknown   the system's state could not be read (sudo was refused)

Without --agent-user it shows every account of which any part of a lock is there, also deleted ones.

Exit codes: 0 every account shown is locked; 3 one is not, or none is shown; 1 an error.`,
  verify: `
Each try has a control: the same try as an account that is not locked (nobody, or root). If the
control fails too, the try shows nothing, and its result is unclear. Without --target no packet of an
account that is not locked leaves this machine: the kernel is only asked for a route.

Exit codes: 0 locked, and proven; 3 not locked, or not proven; 1 an error.`,
  log: `
Each line says when, which program, where to, and how it was refused. Equal refusals in a row are one
line with a count. Linux only: macOS has no such record.`,
};
