/** Completions, from the description of the command line; the shell itself looks accounts up. */
import { COMMANDS, FIRST_WORDS, OPTIONS, optionsOf, SHELLS } from "./options.ts";
import type { FirewallCommand, Shell } from "./options.ts";

/** The script that a shell reads to complete `fishnet`. */
export function completionScript(shell: Shell): string {
  return { bash, zsh, fish }[shell]();
}

const HELP = { "--help": "Show help" };
const { firewall, completions } = FIRST_WORDS;

/** What may stand behind which words, and what it does; the options of subcommands are apart. */
const PLACES: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  "": { ...FIRST_WORDS, ...HELP, "--version": "Show the version" },
  "firewall": { ...COMMANDS, ...HELP },
  "completions": { ...Object.fromEntries(SHELLS.map((shell) => [shell, `For ${shell}`])), ...HELP },
  "help": { firewall, completions },
  "help firewall": COMMANDS,
};
const places = Object.entries(PLACES);
const options = Object.entries(OPTIONS);
const commands = (Object.keys(COMMANDS) as FirewallCommand[])
  .map((command) => [command, [...optionsOf(command)]] as const);

/** The one option whose values only the shell knows. */
const isAccount = (name: string) => name === "agent-user";

// Root is left out everywhere: the program refuses to lock it.

/** For bash 3.2, macOS's, too: nothing of bash-completion is needed. */
function bash(): string {
  const proposed = (words: readonly string[]) => `$(compgen -W "${words.join(" ")}" -- "$cur")`;
  const values = options.flatMap(([name, { value, values = [] }]) => {
    if (value === undefined) return [];
    const those = isAccount(name) ? '$(compgen -u -X root -- "$cur")' : proposed(values);
    return `  --${name}) COMPREPLY=(${those}); return ;;`;
  });
  const cases = [
    ...places.map(([before, words]) => [`"${before}"`, Object.keys(words)] as const),
    ...commands.map(([command, options]) =>
      [`"firewall ${command}"*`, options.map(([name]) => `--${name}`)] as const
    ),
  ].map(([pattern, words]) => `  ${pattern}) COMPREPLY=(${proposed(words)}) ;;`);
  return `# bash completions for fishnet
_fishnet() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD-1]}
  # bash takes "--option=value" for three words.
  if [[ $cur == = ]]; then cur=
  elif [[ $prev == = ]]; then prev=\${COMP_WORDS[COMP_CWORD-2]}
  fi
  COMPREPLY=()
  case $prev in
${values.join("\n")}
  esac
  case "\${COMP_WORDS[*]:1:COMP_CWORD-1}" in
${cases.join("\n")}
  esac
}
complete -F _fishnet fishnet`;
}

function zsh(): string {
  const quote = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`;
  const bare = (text: string) => text.replaceAll(/[[\]:]/g, "\\$&");
  const explained = (words: Readonly<Record<string, string>>) =>
    Object.entries(words).map(([word, help]) => quote(`${word}:${bare(help)}`)).join(" ");
  const cases = [
    ...places.map(([before, words]) => `  "${before}") proposals=(${explained(words)}) ;;`),
    ...commands.map(([command, options]) => {
      const lines = options.map(([name, { value, values, repeatable, help }]) => {
        const action = isAccount(name)
          ? "_fishnet_accounts"
          : values
          ? `(${values.join(" ")})`
          : " ";
        const option = `${repeatable ? "*" : ""}--${name}${value ? "=" : ""}[${bare(help)}]`;
        return ` \\\n    ${quote(option + (value ? `:${bare(value)}:${action}` : ""))}`;
      });
      return `  "firewall ${command}"*) _arguments${lines.join("")} ;;`;
    }),
  ];
  return `#compdef fishnet
# zsh completions for fishnet
_fishnet_accounts() {
  local -a ignored=(root)
  _users -F ignored
}
_fishnet() {
  local before="$words[2,CURRENT-1]"
  local -a proposals=()
  if [[ $before == firewall\\ * ]]; then
    words=("$words[2,3]" "\${(@)words[4,-1]}")
    ((CURRENT -= 2))
  fi
  case $before in
${cases.join("\n")}
  esac
  _describe command proposals
}
if [[ $funcstack[1] == _fishnet ]]; then _fishnet "$@"; else compdef _fishnet fishnet; fi`;
}

function fish(): string {
  const quote = (text: string) => `'${text.replaceAll(/['\\]/g, "\\$&")}'`;
  const complete = (before: string, what: string, help: string) =>
    `complete -c fishnet -n ${quote(`__fishnet_after ${quote(before)}`)} ${what} -d ${quote(help)}`;
  const accounts = "(__fish_complete_users | string match -v -r '^root\\b')";
  return [
    "# fish completions for fishnet",
    "function __fishnet_after",
    `  string match -q -- "*fishnet $argv" (commandline -poc | string join " ")" "`,
    "end",
    "complete -c fishnet -f",
    ...places.flatMap(([before, words]) =>
      Object.entries(words).map(([word, help]) =>
        complete(
          before === "" ? "" : `${before} `,
          word.startsWith("--") ? `-l ${word.slice(2)}` : `-a ${word}`,
          help,
        )
      )
    ),
    ...commands.flatMap(([command, options]) =>
      options.map(([name, { value, values = [], help }]) => {
        const proposal = quote(isAccount(name) ? accounts : values.join(" "));
        return complete(
          `firewall ${command} *`,
          `-l ${name}${value ? ` -x -a ${proposal}` : ""}`,
          help,
        );
      })
    ),
  ].join("\n");
}
