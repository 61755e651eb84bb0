/**
 * Completions for the shells, written from the description of the command
 * line. Accounts are looked up by the shell itself, when it completes: only it
 * knows which there are by then.
 *
 * @module
 */
import {
  COMMANDS,
  type FirewallCommand,
  FIRST_WORDS,
  OPTIONS,
  type Shell,
  SHELLS,
} from "./options.ts";

/** The script that a shell reads to complete `fishnet`. */
export function completionScript(shell: Shell): string {
  switch (shell) {
    case "bash":
      return bash();
    case "zsh":
      return zsh();
    case "fish":
      return fish();
    default: {
      const _: never = shell;
      throw new Error(`unreachable: ${_}`);
    }
  }
}

/** What stands beside {@link FIRST_WORDS}. */
const FIRST_OPTIONS = { "--help": "Show help", "--version": "Show the version" };

const commands = Object.keys(COMMANDS) as FirewallCommand[];
const options = Object.entries(OPTIONS);
const valued = options.filter(([, { value }]) => value !== undefined);

/** The options of a subcommand, each as it is typed. */
function optionsOf(command: FirewallCommand): string[] {
  return options.filter(([, { on }]) => on.includes(command)).map(([name]) => `--${name}`);
}

/** The one option whose values only the shell knows. */
const isAccount = (name: string) => name === "agent-user";

// Root is left out everywhere: the program refuses to lock it.

/** For bash 3.2, macOS's, too: nothing of bash-completion is needed. */
function bash(): string {
  const proposeValues = valued.map(([name, { values }]) =>
    `    --${name}) ${
      isAccount(name)
        ? 'COMPREPLY=($(compgen -u -X root -- "$cur"))'
        : values === undefined
        ? "COMPREPLY=()"
        : `COMPREPLY=($(compgen -W "${values.join(" ")}" -- "$cur"))`
    }; return ;;`
  );
  const proposeOptions = commands.map((command) =>
    `    "firewall ${command}") words="${optionsOf(command).join(" ")}" ;;`
  );
  return `# bash completions for fishnet
_fishnet() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD-1]} words=
  # bash takes "--option=value" for three words.
  if [[ $cur == = ]]; then cur=
  elif [[ $prev == = ]]; then prev=\${COMP_WORDS[COMP_CWORD-2]}
  fi
  case $prev in
${proposeValues.join("\n")}
  esac
  if ((COMP_CWORD == 1)); then words="${
    Object.keys({ ...FIRST_WORDS, ...FIRST_OPTIONS }).join(" ")
  }"
  elif ((COMP_CWORD == 2)); then
    case \${COMP_WORDS[1]} in
    firewall) words="${commands.join(" ")} --help" ;;
    completions) words="${SHELLS.join(" ")} --help" ;;
    help) words="firewall completions" ;;
    esac
  else
    case "\${COMP_WORDS[1]} \${COMP_WORDS[2]}" in
    "help firewall") ((COMP_CWORD > 3)) || words="${commands.join(" ")}" ;;
${proposeOptions.join("\n")}
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -F _fishnet fishnet`;
}

function zsh(): string {
  const quote = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`;
  const explained = (words: Readonly<Record<string, string>>) =>
    Object.entries(words).map(([word, help]) =>
      quote(`${word.replaceAll(":", "\\:")}:${help.replaceAll(":", "\\:")}`)
    ).join(" ");
  const argument = (name: string) => {
    const { value, values, repeatable, help } = OPTIONS[name]!;
    const action = isAccount(name) ? "_fishnet_accounts" : values ? `(${values.join(" ")})` : " ";
    return quote(
      `${repeatable ? "*" : ""}--${name}${value ? "=" : ""}[${
        help.replaceAll(/[[\]:]/g, "\\$&")
      }]` +
        (value ? `:${value.replaceAll(":", "\\:")}:${action}` : ""),
    );
  };
  const argumentsOf = (command: FirewallCommand) =>
    optionsOf(command).map((option) => `      ${argument(option.slice(2))}`).join(" \\\n");
  return `#compdef fishnet
# zsh completions for fishnet
_fishnet_accounts() {
  local -a ignored=(root)
  _users -F ignored
}
_fishnet() {
  local -a flags=('--help:Show help')
  if ((CURRENT == 2)); then
    flags=(${explained(FIRST_OPTIONS)})
    local -a first=(${explained(FIRST_WORDS)})
    _describe command first
    _describe -o option flags
  elif ((CURRENT == 3)); then
    local -a second=()
    case $words[2] in
    firewall) second=(${explained(COMMANDS)}) ;;
    completions) second=(${SHELLS.join(" ")}) ;;
    help) second=(firewall completions) ;;
    esac
    _describe command second
    _describe -o option flags
  else
    local command="$words[2] $words[3]"
    words=("$command" "\${(@)words[4,-1]}")
    ((CURRENT -= 2))
    case $command in
    "help firewall") ((CURRENT > 2)) || compadd ${commands.join(" ")} ;;
${
    commands.map((command) =>
      `    "firewall ${command}") _arguments \\\n${argumentsOf(command)} ;;`
    ).join("\n")
  }
    esac
  fi
}
if [[ $funcstack[1] == _fishnet ]]; then _fishnet "$@"; else compdef _fishnet fishnet; fi`;
}

function fish(): string {
  const quote = (text: string) => `'${text.replaceAll(/['\\]/g, "\\$&")}'`;
  const seen = "__fish_seen_subcommand_from";
  const anywhere = "complete -c fishnet -f";
  const level = (condition: string) => `${anywhere} -n ${quote(condition)}`;
  const first = level(`not ${seen} ${Object.keys(FIRST_WORDS).join(" ")}`);
  const topics = level(`${seen} help; and not ${seen} firewall completions`);
  const second = level(`${seen} firewall; and not ${seen} ${commands.join(" ")}`);
  const shells = level(`${seen} completions; and not ${seen} ${SHELLS.join(" ")}`);
  const proposeOptions = options.map(([name, { on, value, values, help }]) => {
    const proposal = isAccount(name)
      ? ` -a ${quote("(__fish_complete_users | string match -v -r '^root\\b')")}`
      : values === undefined
      ? ""
      : ` -a ${quote(values.join(" "))}`;
    const condition = level(`${seen} firewall; and ${seen} ${on.join(" ")}`);
    return `${condition} -l ${name}${value ? ` -x${proposal}` : ""} -d ${quote(help)}`;
  });
  const words = (entries: Readonly<Record<string, string>>, line: string) =>
    Object.entries(entries).map(([word, help]) =>
      word.startsWith("--")
        ? `${line} -l ${word.slice(2)} -d ${quote(help)}`
        : `${line} -a ${word} -d ${quote(help)}`
    );
  return [
    "# fish completions for fishnet",
    anywhere,
    ...words({ ...FIRST_WORDS, ...FIRST_OPTIONS }, first),
    ...words({ ...COMMANDS, "--help": FIRST_OPTIONS["--help"] }, second),
    `${shells} -a ${quote(SHELLS.join(" "))}`,
    `${topics} -a ${quote("firewall completions")}`,
    ...proposeOptions,
  ].join("\n");
}
