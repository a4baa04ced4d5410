import { type Command, type CommandUnknownOpts, Option } from '@commander-js/extra-typings';
import { present } from '../errors.js';
import { writeResult } from '../terminal/output.js';
import { parseName } from './command.js';

const shells = ['bash', 'zsh', 'fish'] as const;
type Shell = (typeof shells)[number];

/** `group-robust completion SHELL`: a script by which the shell completes commands, options and their values. */
export function registerCompletion(program: Command): void {
  program
    .command('completion')
    .description('print a completion script: source <(group-robust completion bash), or | source in fish')
    .argument('<shell>', shells.join(', '), (text: string) => parseName('shell', text, shells))
    .action((shell) => writeResult(completionScript(program, shell)));
}

export function completionScript(program: CommandUnknownOpts, shell: Shell): string {
  const places = placesOf(program);
  if (shell === 'fish') return fish(program.name(), places);
  const script = bash(program.name(), places);
  return shell === 'bash' ? script : `autoload -U +X compinit bashcompinit && compinit && bashcompinit\n${script}`;
}

/** A command with what may follow it. */
interface Place {
  /** "data survey"; empty for the program. */
  path: string;
  commands: { name: string; description: string }[];
  options: readonly Option[];
}

function placesOf(command: CommandUnknownOpts, path = ''): Place[] {
  const { commands } = command;
  const help = new Option('--help', 'display help');
  return [
    {
      path,
      commands: commands.map((child) => ({ name: child.name(), description: child.description() })),
      options: [...command.options, help],
    },
    ...commands.flatMap((child) => placesOf(child, `${path} ${child.name()}`.trim())),
  ];
}

/** Files are completed where nothing else is. */
function bash(name: string, places: readonly Place[]): string {
  const id = name.replaceAll('-', '_');
  const cases = places.map(({ path, commands, options }) => {
    const words = [...commands.map((command) => command.name), ...options.map(({ long }) => long)];
    return `    '${path}') words='${words.join(' ')}' ;;`;
  });
  const values = places.flatMap(({ path, options }) =>
    options.flatMap(({ long, argChoices }) =>
      argChoices ? [`    '${path} ${long}') words='${argChoices.join(' ')}' ;;`] : [],
    ),
  );
  const commands = places.flatMap(({ path }) => (path === '' ? [] : [`'${path}'`]));
  return `_${id}() {
  local word current="\${COMP_WORDS[COMP_CWORD]}" previous="\${COMP_WORDS[COMP_CWORD-1]}" path='' words=''
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "\${path:+$path }$word" in
      ${commands.join(' | ')}) path="\${path:+$path }$word" ;;
    esac
  done
  case "$path" in
${cases.join('\n')}
  esac
  case "$path $previous" in
${values.join('\n')}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o default -F _${id} ${name}
`;
}

function fish(name: string, places: readonly Place[]): string {
  const quoted = (text: string) => `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
  return `${places
    .flatMap(({ path, commands, options }) => {
      const within = path.split(' ').filter(Boolean);
      const seen = within.map((word) => `__fish_seen_subcommand_from ${word}`);
      const none =
        commands.length > 0
          ? [`not __fish_seen_subcommand_from ${commands.map((command) => command.name).join(' ')}`]
          : [];
      const when = quoted([...seen, ...none].join('; and ') || 'true');
      return [
        ...commands.map((one) => `complete -c ${name} -f -n ${when} -a ${one.name} -d ${quoted(one.description)}`),
        ...options.map(({ long, description, argChoices, required }) => {
          const values = argChoices ? ` -x -a ${quoted(argChoices.join(' '))}` : required ? ' -r' : '';
          return `complete -c ${name} -n ${when} -l ${present(long).slice(2)}${values} -d ${quoted(description)}`;
        }),
      ];
    })
    .join('\n')}\n`;
}
