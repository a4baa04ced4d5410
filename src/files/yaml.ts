import { type Document, isNode, LineCounter, parseDocument, type ScalarTag, stringify } from 'yaml';
import { InputError, type InputLocation } from '../errors.js';
import { refuseDeep } from './read.js';

export interface ParsedYaml {
  value: unknown;
  document: Document.Parsed;
  lines: LineCounter;
}

/** @throws InputError where the text is not YAML, or its aliases make it endless or huge */
export function parseYaml(text: string, at: InputLocation, fix?: string): ParsedYaml {
  const lines = new LineCounter();
  let document: Document.Parsed;
  let value: unknown;
  try {
    document = parseDocument(text, { lineCounter: lines, logLevel: 'error' });
    if (document.errors.length === 0) value = document.toJS();
  } catch (cause) {
    // An alias without its anchor, so many that they make the document huge, or nesting that exhausts the stack.
    throw new InputError(inWords((cause as Error).message), { at, fix, cause });
  }
  const [error] = document.errors;
  if (error) {
    const line = at.file === undefined ? undefined : error.linePos?.[0].line;
    throw new InputError(inWords(error.message.replace(/\n.*/s, '')), { at: { ...at, line }, fix, cause: error });
  }
  refuseDeep(value, at);
  return { value, document, lines };
}

/** The line of the innermost key of a path that the text has. */
export function lineOf({ document, lines }: ParsedYaml, path: readonly PropertyKey[]): number | undefined {
  for (let length = path.length; length > 0; length--) {
    const node = document.getIn(path.slice(0, length), true);
    if (isNode(node) && node.range) return lines.linePos(node.range[0]).line;
  }
  return undefined;
}

/** The parser tells of nesting that exhausts its stack as of any other fault. */
function inWords(message: string): string {
  return message.replace(/^Maximum call stack size exceeded/, 'is nested too deeply');
}

/** Readers of YAML 1.1, such as Python's, take 5e-7 for text: there a number has a point. */
const exponential: ScalarTag = {
  identify: (value) => typeof value === 'number' && /^-?\de/.test(String(value)),
  default: true,
  tag: 'tag:yaml.org,2002:float',
  test: /^-?\d\.0e[+-]\d+$/,
  resolve: Number,
  stringify: ({ value }) => String(value).replace('e', '.0e'),
};

/** YAML that all readers take for the same, those of 1.1 too. */
export function printYaml(value: unknown): string {
  return stringify(value, { compat: 'yaml-1.1', customTags: (tags) => [exponential, ...tags] });
}
