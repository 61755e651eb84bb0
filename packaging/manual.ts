/**
 * Writes the manual page from what `--help` says, so that the two cannot
 * differ: `deno run packaging/manual.ts > fishnet-firewall.8`.
 *
 * @module
 */
import denoJson from "../deno.json" with { type: "json" };
import { COMMANDS, OPTIONS } from "../src/cli/options.ts";
import { helpText } from "../src/cli/help.ts";
import { BOOT_DIRECTORY, LOCK_UNIT, REPAIR_UNIT, UNIT_DIRECTORY } from "../src/linux/persist.ts";
import { daemonFileOf, ruleFileOf, tokenFileOf } from "../src/macos/pf.ts";

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
    "With",
    ".B \\-\\-persist",
    "on Linux, and always on macOS, a lock is kept in files, which disable removes:",
    ...Object.entries(FILES).flatMap(([path, use]) => item(`.I ${roff(path)}`, use)),
    ".SH SEE ALSO",
    [...SEE_ALSO].map((page) => `.BR ${page.replace("(", " (")}`).join(" ,\n"),
    "",
  ].join("\n");
}

const FILES = {
  [`${BOOT_DIRECTORY}/UID.sh`]: "Linux: the lines that lock the account at boot",
  [`${UNIT_DIRECTORY}/${LOCK_UNIT}.service`]: "Linux: the unit that runs them",
  [`${UNIT_DIRECTORY}/${REPAIR_UNIT}`]: "Linux: runs them again after another firewall was started",
  [ruleFileOf("USER")]: "macOS: the account's rules",
  "/etc/pf.conf": "macOS: one line, which calls the rules of all accounts",
  [tokenFileOf("USER")]: "macOS: the reference that keeps pf on",
  [daemonFileOf("USER")]: "macOS: loads the rules at boot",
};

const SEE_ALSO = ["ip-rule(8)", "iptables(8)", "nft(8)", "pfctl(8)", "sudo(8)"];

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
