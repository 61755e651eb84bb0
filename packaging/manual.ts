/**
 * Writes the manual page from what `--help` says, so that the two cannot
 * differ: `deno run packaging/manual.ts > fishnet-firewall.8`.
 *
 * @module
 */
import denoJson from "../deno.json" with { type: "json" };
import { COMMANDS, OPTIONS } from "../src/cli/options.ts";
import { helpText } from "../src/cli/help.ts";
import { FOLDER, SHARED_FILES } from "../src/linux/boot/pieces.ts";
import { linux } from "../src/linux/linux.ts";
import { PF_CONF, PLIST_FILE, SCRIPT_FILE, TOKEN_FILE } from "../src/macos/machine.ts";
import { RULES_FILE } from "../src/macos/rules.ts";
import { macos } from "../src/macos/macos.ts";

/**
 * fishnet-firewall(8) in the man(7) macros.
 *
 * @param date of the version, as in 2026-01-31.
 */
export function manualPage(date: string): string {
  const help = sectionsOf(helpText("firewall", Infinity));
  return [
    `.TH FISHNET-FIREWALL 8 ${date} "fishnet ${denoJson.version}"`,
    // Options are copied out of a manual page: no word of it is broken at a line's end.
    ".nh",
    ".ad l",
    ".SH NAME",
    "fishnet-firewall, fishnet \\- keep the account of an AI agent on this machine",
    ".SH SYNOPSIS",
    ...Object.keys(COMMANDS).flatMap(synopsis),
    ...[".br", ".B fishnet completions", "bash|zsh|fish"],
    ".SH DESCRIPTION",
    ...help.introduction.map(roff),
    ".SH COMMANDS",
    ...Object.entries(COMMANDS).flatMap(([name, help]) => item(`.B ${name}`, help)),
    ".SH OPTIONS",
    ...Object.entries(OPTIONS).flatMap(([name, { value, values, on, help }]) =>
      item(
        value === undefined ? `.B ${roff(`--${name}`)}` : `.BI ${roff(`--${name}`)} " ${value}"`,
        `${help}${values ? ` [${values.join(", ")}]` : ""}. For ${on.join(", ")}.`,
      )
    ),
    ...help.sections.flatMap(({ title, lines }) => [
      `.SH ${title.toUpperCase()}`,
      ...lines.flatMap((line) => [roff(line), ".br"]).slice(0, -1),
    ]),
    ".SH LIMITS",
    "What no packet filter stops, whoever writes its rules:",
    ...Object.entries({ Linux: linux, macOS: macos }).flatMap(([system, { notCovered }]) =>
      notCovered.flatMap((limit) => item('.B "\\(bu"', `${system}: ${limit}`))
    ),
    ".SH EXAMPLES",
    ...["enable", "verify", "disable"].flatMap((command) =>
      item(COMMANDS[command as keyof typeof COMMANDS] + ":", "", [
        ".EX",
        roff(
          `fishnet firewall ${command} --agent-user agent_runner` +
            (command === "verify" ? "" : " --apply"),
        ),
        ".EE",
      ])
    ),
    ".SH FILES",
    "What a lock is kept in, beside rules; disable removes it:",
    ...Object.entries(FILES).flatMap(([path, use]) => item(`.I ${roff(path)}`, use)),
    ".SH SEE ALSO",
    [...SEE_ALSO].map((page) => `.BR ${page.replace("(", " (")}`).join(" ,\n"),
    "",
  ].join("\n");
}

const FILES = {
  [`${FOLDER}/UID.account`]: "Linux, with --persist: what the account is locked with",
  ...Object.fromEntries(
    SHARED_FILES.map(({ path, why }) => [path, `Linux, with --persist: ${why}`]),
  ),
  "/etc/dbus-1/system.d/fishnet-UID.conf":
    "Linux, with --only-port: keeps the account from calling services on the system bus",
  "/etc/sudoers.d/fishnet-UID": "Linux, with --only-port: keeps sudo from looking names up for it",
  "/etc/tmpfiles.d/fishnet-UID.conf":
    "Linux, with --only-port and --persist: the same for the sockets of such services",
  "/etc/audit/rules.d/fishnet-USER.rules":
    "Linux, with --log and --persist: what is recorded of the account",
  [RULES_FILE]: "macOS: the rules of all accounts",
  [PF_CONF]: "macOS: two lines, which call those rules",
  [TOKEN_FILE]: "macOS: the reference that keeps pf on",
  [SCRIPT_FILE]: "macOS, with --persist: loads the rules at boot, and whenever they are gone",
  [PLIST_FILE]: "macOS, with --persist: runs that script",
};

const SEE_ALSO = ["auditctl(8)", "ip-rule(8)", "iptables(8)", "nft(8)", "pfctl(8)", "sudo(8)"];

function synopsis(command: string, index: number): string[] {
  return [...(index === 0 ? [] : [".br"]), `.B fishnet firewall ${command}`, "[options]"];
}

function item(term: string, text: string, more: readonly string[] = []): string[] {
  return [".TP", term, ...(text === "" ? [] : [roff(text)]), ...more];
}

/** Text as roff reads it: no hyphen may become a dash, no line start a request (groff(7)). */
function roff(text: string): string {
  return text.replaceAll("\\", "\\e").replaceAll("-", "\\-")
    .replaceAll(/(.{1,78})(?: |$)/g, "$1\n").trimEnd()
    .replaceAll(/^['.]/gm, "\\&$&");
}

/** Takes a help text apart: what stands before `Usage:`, and each `Title:` with its lines. */
function sectionsOf(help: string) {
  const [introduction, ...rest] = help.trimEnd().split("\n\n").map((block) => block.split("\n"));
  const sections = rest
    .map(([title, ...lines]) => ({
      title: title!.replace(/:$/, ""),
      lines: lines.map((line) => line.trim()),
    }))
    .filter(({ title }) => title !== "Commands" && !title.startsWith("Usage"));
  return { introduction: introduction!, sections };
}

if (import.meta.main) {
  const [date] = Deno.args;
  if (!/^\d{4}-\d\d-\d\d$/.test(date ?? "")) throw new Error("usage: manual.ts YYYY-MM-DD");
  await Deno.stdout.write(new TextEncoder().encode(manualPage(date!)));
}
