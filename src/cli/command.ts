import {
  type Command,
  CommanderError,
  type CommandUnknownOpts,
  Option,
  type OptionValues,
} from '@commander-js/extra-typings';
import { parse } from 'csv-parse/sync';
import type { GroupBy } from '../data/pairs/groups.js';
import { parseTemplate } from '../data/pairs/prompt-template.js';
import { editDistance } from '../data/tables/near-matches.js';
import { InputError, messageOf, present, reportError } from '../errors.js';
import { parseSeedItems } from '../files/seeds.js';
import { parseYaml } from '../files/yaml.js';
import { checkDevice, deviceNames } from '../policy/device.js';
import { plainText, say, watchStdout, writeResult } from '../terminal/output.js';

/** For options that may be given several times, such as `--set`. */
export function collect(value: string, previous: string[] = []): string[] {
  return [...previous, value];
}

/** Runs a program on the arguments of this process: `group-robust`, or a file of experiments/ that takes some. */
export async function runProgram(program: CommandUnknownOpts): Promise<void> {
  throwUsageErrors(program);
  watchStdout();
  try {
    await program.parseAsync();
  } catch (error) {
    // Commander has printed its own message; a wrong flag is a usage error, --help and --version are not.
    if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : 2;
    else reportError(error);
  }
}

/** Left to itself Commander ends the process, with 1, and repeats what it was given as it is. */
function throwUsageErrors(command: CommandUnknownOpts): void {
  command.exitOverride();
  command.configureOutput({ outputError: (text, write) => write(plainText(misspelt(command, text) ?? text)) });
  command.commands.forEach(throwUsageErrors);
}

/** Of an option that is missing since its name is misspelt, the name is told; undefined where that is not so. */
function misspelt(command: CommandUnknownOpts, text: string): string | undefined {
  if (!text.startsWith('error: required option')) return undefined;
  const wrong = command.parseOptions(process.argv.slice(2)).unknown.find((word) => /^--?[a-z]/i.test(word));
  if (wrong === undefined) return undefined;
  const names = command.options.flatMap(({ long }) => long ?? []);
  const near = names.find((name) => editDistance(name, wrong.replace(/=.*/, '')) <= 2);
  return `error: unknown option '${wrong}'${near ? `\n(Did you mean ${near}?)` : ''}\n`;
}

/** What every command shares: `--json`, where text goes, and exit codes (src/errors.ts). */
export interface Output {
  json: boolean;
  /** Text for people: stdout, or stderr under `--json`. */
  log(text: string): void;
}

/**
 * Adds `--json` to `command` and runs `action` on its options. The action's value is printed as the one JSON object under
 * `--json`; for people the action itself logs what is worth reading.
 */
export function defineAction<Arguments extends unknown[], Options extends OptionValues, Globals extends OptionValues>(
  command: Command<Arguments, Options, Globals>,
  action: (options: Options, output: Output, ...positional: Arguments) => Promise<object> | object,
): void {
  command.option('--json', 'print one JSON object on stdout, logs on stderr').action(async () => {
    const json = command.getOptionValue('json') === true;
    const output: Output = { json, log: (text) => say(json ? process.stderr : process.stdout, text) };
    try {
      const result = await action(command.opts(), output, ...command.processedArgs);
      if (json) writeResult(`${JSON.stringify(result)}\n`);
    } catch (error) {
      reportError(error);
    }
  });
}

/** An option whose value `parse` makes of its text; where that throws an InputError, the flag is named as its place. */
export function parsedOption<const Flags extends string, T>(
  flags: Flags,
  description: string,
  parse: (flag: string, text: string) => T,
) {
  const flag = present(flags.split(' ', 1)[0]);
  return new Option(flags, description).argParser<T>((text) => parse(flag, text));
}

export function groupByOption() {
  return parsedOption(
    '--group-by <columns>',
    'column that names the group; several, separated by commas, make a cross product, and overlap:COLUMN,… groups that overlap',
    (flag, text): GroupBy => {
      const [, columns] = /^overlap:(.*)$/s.exec(text) ?? [];
      return columns === undefined ? parseColumns(flag, text) : { overlap: parseColumns(flag, columns) };
    },
  );
}

/** @throws InputError where one is given twice */
export function parseColumns(flag: string, text: string): string[] {
  const columns = parseList(flag, text);
  if (new Set(columns).size < columns.length)
    throw new InputError('holds the same name twice', { at: { field: flag }, fix: 'remove one' });
  return columns;
}

/** Of `eval` and `report`, for pairs that are not independent. */
export function clusterOption() {
  return new Option(
    '--cluster <column>',
    'column of the pairs, or field of their people, whose values are drawn as wholes for errors and intervals, such as user_id (default: every pair by itself)',
  );
}

/** The option that takes a text with {group} and {prompt}. */
export function templateOption(description: string) {
  return parsedOption('--template <text>', `${description}: a text with {group} and {prompt}`, (field, text) =>
    parseTemplate(text, { field }),
  );
}

/** The option that says where a model is computed. */
export function deviceOption(byDefault: string) {
  return parsedOption(
    '--device <device>',
    `where the model is computed: ${deviceNames} (default: ${byDefault})`,
    checkDevice,
  );
}

/** An option that takes a number. */
export function numberOption<const Flags extends string>(flags: Flags, description: string, bounds: Bounds = {}) {
  return parsedOption(flags, description, (flag, text) => parseNumber(flag, text, bounds));
}

/** An option that takes a whole number. */
export function countOption<const Flags extends string>(flags: Flags, description: string, bounds: Bounds) {
  return numberOption(flags, description, { ...bounds, integer: true });
}

/** "dpo,ipo" → ["dpo", "ipo"]; an item in double quotes may hold commas itself. @throws InputError */
export function parseList(flag: string, text: string): string[] {
  const items = parseLine(flag, text);
  if (items.includes('')) throw new InputError('holds an empty name or value', { at: { field: flag }, fix: separate });
  return items;
}

/** As {@link parseList}, where each is one of `allowed` and those given twice count once. @throws InputError */
export function parseNames<T extends string>(flag: string, text: string, allowed: readonly T[]): T[] {
  return [...new Set(parseList(flag, text).map((item) => parseName(flag, item, allowed)))];
}

/** @throws InputError where `text` is none of `allowed` */
export function parseName<T extends string>(flag: string, text: string, allowed: readonly T[]): T {
  const name = allowed.find((one) => one === text);
  if (name === undefined)
    throw new InputError(`"${text}" is not allowed`, { at: { field: flag }, fix: `use ${allowed.join(', ')}` });
  return name;
}

const separate = 'separate the values with single commas, and quote one that contains a comma: \'"A, B",C\'';

function parseLine(flag: string, text: string): string[] {
  let lines: string[][];
  try {
    lines = parse(text, { trim: true });
  } catch (cause) {
    throw new InputError(`cannot be read: ${messageOf(cause)}`, { at: { field: flag }, fix: separate, cause });
  }
  const [line, ...more] = lines;
  if (line === undefined || more.length > 0)
    throw new InputError('is not one line of values', { at: { field: flag }, fix: separate });
  return line;
}

/** "2021-2023,2030" → [2021, 2022, 2023, 2030]. @throws InputError */
export function parseSeeds(flag: string, text: string): number[] {
  return parseSeedItems(parseList(flag, text), { field: flag });
}

export interface Bounds {
  min?: number;
  max?: number;
  integer?: boolean;
}

/** "0.5,1" → [0.5, 1]. @throws InputError */
export function parseNumbers(flag: string, text: string, bounds?: Bounds): number[] {
  return parseList(flag, text).map((item) => parseNumber(flag, item, bounds));
}

/** One YAML mapping, written as `example` is. @throws InputError */
export function parseMapping(flag: string, text: string, example: string): object {
  const { value } = parseYaml(text, { field: flag });
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value;
  throw new InputError(`"${text}" is not a YAML mapping`, {
    at: { field: flag },
    fix: `write for example ${flag} '${example}'`,
  });
}

/** A number above zero. @throws InputError */
export function parsePositive(flag: string, text: string): number {
  const value = parseNumber(flag, text, { min: 0 });
  if (value === 0) throw new InputError('must be above zero', { at: { field: flag } });
  return value;
}

/** A finite number, with optional bounds. @throws InputError */
export function parseNumber(flag: string, text: string, bounds: Bounds = {}): number {
  const value = Number(text);
  const { min = Number.NEGATIVE_INFINITY, max = Number.POSITIVE_INFINITY, integer = false } = bounds;
  if (
    text.trim() === '' ||
    !Number.isFinite(value) ||
    value < min ||
    value > max ||
    (integer && !Number.isInteger(value))
  )
    throw new InputError(`"${text}" is not ${integer ? 'a whole number' : 'a number'}${boundsText(min, max)}`, {
      at: { field: flag },
    });
  return value;
}

function boundsText(min: number, max: number): string {
  if (max !== Number.POSITIVE_INFINITY) return ` in [${min}, ${max}]`;
  return min === Number.NEGATIVE_INFINITY ? '' : ` of at least ${min}`;
}
