import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { CsvError, type Info, type Parser, parse } from 'csv-parse';
import { InputError, type InputLocation } from '../../errors.js';
import { utf8Decoder } from '../../files/read.js';
import { type BadRowHandler, type Row, refuseBadRow, refuseRepeated } from './row.js';

/** A longer row is surely an unclosed quote: without a limit it would take the rest of the file with it. In bytes. */
const LONGEST_ROW = 2 ** 26;

/** A row of a CSV file: its fields, however many, and the line it begins on. */
export interface ParsedCsvRow {
  line: number;
  fields: string[];
}

/**
 * Streams the rows of CSV in UTF-8, the header among them; blank lines are passed over.
 * @throws InputError naming file and line
 */
async function* csvRecords(
  chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  file: string,
): AsyncGenerator<ParsedCsvRow> {
  const lines = new LineCounter();
  const parser = parse({
    info: true,
    relax_column_count: true,
    max_record_size: LONGEST_ROW,
    // All of them anywhere, as in Python's csv: files that were appended to on another system mix them.
    record_delimiter: ['\r\n', '\n', '\r'],
  });
  const source = Readable.from(recoded(chunks, file, lines));
  // Errors of the source reach the loop below by way of the parser, which the pipeline destroys with them.
  pipeline(source, parser).catch(() => {});
  let start = 0;
  try {
    for await (const { record, info } of parser as Parser & AsyncIterable<{ record: string[]; info: Info }>) {
      // csv-parse tells the byte each record ends at; its own line numbers count "\r\n" inside quotes twice.
      const line = lines.at(start);
      const bytes = info.bytes - start;
      start = info.bytes;
      // A blank line, unlike "", has nothing but its value and a line break.
      const [only = '', ...others] = record;
      const blank = others.length === 0 && only.trim() === '' && bytes <= Buffer.byteLength(only) + 2;
      if (!blank) yield { line, fields: record };
    }
  } catch (error) {
    if (!(error instanceof CsvError)) throw error;
    // Rows before the fault may not have come out yet; `bytes` is where the last whole one ends.
    const line = lines.at(error.bytes as number);
    throw new InputError(`is not CSV: ${error.message.replace(/ at line \d+/, '')}`, {
      at: { file, line },
      fix: 'separate values with commas, and put "…" around a whole value that contains commas, quotes (doubled) or line breaks',
      cause: error,
    });
  }
}

/**
 * Streams the rows of CSV in UTF-8 whose first row names the columns.
 * @throws InputError naming file and line
 */
export async function* readCsv(
  file: string,
  chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  badRow: BadRowHandler = refuseBadRow,
): AsyncGenerator<Row> {
  let columns: string[] | undefined;
  let header: InputLocation | undefined;
  for await (const { line, fields } of csvRecords(chunks, file)) {
    const at = { file, line };
    if (columns === undefined) {
      columns = checkedHeader(fields, at);
      header = at;
      continue;
    }
    if (fields.length !== columns.length) {
      const short = fields.length < columns.length;
      const problem = `row of ${fields.length} columns, the header has ${columns.length}`;
      badRow(
        new InputError(problem, {
          at: { ...at, field: short ? columns[fields.length] : undefined },
          fix: 'quote values that contain commas or line breaks: "…"',
        }),
      );
      continue;
    }
    const values = Object.fromEntries(columns.map((name, i) => [name, fields[i]]));
    yield { at, columns, header, values, untyped: true };
  }
}

function checkedHeader(header: string[], at: { file: string; line: number }): string[] {
  const names = header.map((name) => name.trim());
  refuseRepeated(names, at);
  return names;
}

/** The parser would take what stands behind a quote for a fault, before it has given the header out. */
function refuseOtherSeparators(firstLine: string, file: string): void {
  const unquoted = firstLine.replaceAll(/"(?:[^"]|"")*("|$)/g, '');
  const other = { ';': 'semicolons', '\t': 'tabs' };
  for (const [separator, name] of Object.entries(other))
    if (unquoted.includes(separator) && !unquoted.includes(','))
      throw new InputError(`has its columns separated by ${name}`, {
        at: { file, line: 1 },
        fix: 'save it as CSV with commas',
      });
}

/** Line numbers by byte, for bytes asked for in ascending order while text is still coming in. */
class LineCounter {
  /** Bytes of line breaks seen, from the last piece of text that has not been passed. */
  private breaks: number[] = [];
  /** How many of them have been passed, and how many before them. */
  private next = 0;
  private passed = 0;
  private seen = 0;

  add(text: Uint8Array): void {
    this.breaks = this.breaks.slice(this.next);
    this.passed += this.next;
    this.next = 0;
    for (let i = text.indexOf(0x0a); i >= 0; i = text.indexOf(0x0a, i + 1)) this.breaks.push(this.seen + i);
    this.seen += text.length;
  }

  /** Line that the bytes seen so far end on. */
  get last(): number {
    return this.passed + this.breaks.length + 1;
  }

  at(byte: number): number {
    while ((this.breaks[this.next] ?? Number.POSITIVE_INFINITY) < byte) this.next++;
    return this.passed + this.next + 1;
  }
}

/** Checked UTF-8 without byte-order mark, its line breaks counted; a last line without one gets it. */
async function* recoded(
  chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  file: string,
  lines: LineCounter,
): AsyncGenerator<Buffer> {
  const decode = utf8Decoder(file);
  let started = false;
  const recode = (chunk?: Uint8Array): Buffer => {
    const decoded = decode(chunk, lines.last);
    if (!started && decoded !== '') refuseOtherSeparators(/^[^\r\n]*/.exec(decoded)![0], file);
    started ||= decoded !== '';
    const text = Buffer.from(decoded);
    lines.add(text);
    return text;
  };
  let last: number | undefined;
  const passOn = (text: Buffer): Buffer => {
    last = text.at(-1) ?? last;
    return text;
  };
  for await (const chunk of chunks) yield passOn(recode(chunk));
  yield passOn(recode());
  if (last !== undefined && last !== 0x0a && last !== 0x0d) yield Buffer.from('\n');
}
