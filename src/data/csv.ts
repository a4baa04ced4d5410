import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { CsvError, type Info, type Parser, parse } from 'csv-parse';
import { InputError } from '../errors.js';
import { readBytes, utf8Decoder } from '../read-file.js';
import type { Row } from './row.js';

/** A longer row is surely an unclosed quote: without a limit it would take the rest of the file with it. In bytes. */
const LONGEST_ROW = 2 ** 26;

/**
 * Streams the rows of a CSV file in UTF-8 whose first row names the columns.
 * @throws InputError naming file and line
 */
export async function* readCsv(file: string): AsyncGenerator<Row> {
  const lines = new LineCounter();
  const parser = parse({ info: true, relax_column_count: true, max_record_size: LONGEST_ROW });
  const source = Readable.from(recoded(file, lines));
  // Errors of the source reach the loop below by way of the parser, which the pipeline destroys with them.
  pipeline(source, parser).catch(() => {});
  let columns: string[] | undefined;
  let start = 0;
  try {
    for await (const { record, info } of parser as Parser & AsyncIterable<{ record: string[]; info: Info }>) {
      // csv-parse tells the byte each record ends at; its own line numbers count "\r\n" inside quotes twice.
      const at = { file, line: lines.at(start) };
      start = info.bytes;
      if (record.length === 1 && record[0].trim() === '') continue;
      if (columns === undefined) {
        columns = checkedHeader(record, at);
        continue;
      }
      if (record.length !== columns.length)
        throw new InputError(`row of ${record.length} columns, the header has ${columns.length}`, {
          at,
          fix: 'quote values that hold commas or line breaks: "…"',
        });
      yield { at, columns, values: Object.fromEntries(columns.map((name, i) => [name, record[i]])), untyped: true };
    }
  } catch (error) {
    if (!(error instanceof CsvError)) throw error;
    // Rows before the fault may not have come out yet; `bytes` is where the last whole one ends.
    const line = lines.at(error.bytes as number);
    throw new InputError(`is not CSV: ${error.message.replace(/ at line \d+/, '')}`, {
      at: { file, line },
      cause: error,
    });
  }
}

function checkedHeader(header: string[], at: { file: string; line: number }): string[] {
  const names = header.map((name) => name.trim());
  const repeated = names.find((name, i) => name !== '' && names.indexOf(name) !== i);
  if (repeated !== undefined) throw new InputError('is the name of two columns', { at: { ...at, field: repeated } });
  return names;
}

/** Line numbers by byte, for bytes asked for in ascending order while text is still coming in. */
class LineCounter {
  /** Bytes of the line breaks seen and not yet passed. */
  private breaks: number[] = [];
  private passed = 0;
  private seen = 0;

  add(text: Uint8Array): void {
    for (let i = text.indexOf(0x0a); i >= 0; i = text.indexOf(0x0a, i + 1)) this.breaks.push(this.seen + i);
    this.seen += text.length;
  }

  /** Line that the bytes seen so far end on. */
  get last(): number {
    return this.passed + this.breaks.length + 1;
  }

  at(byte: number): number {
    let next = 0;
    while (next < this.breaks.length && this.breaks[next] < byte) next++;
    this.breaks.splice(0, next);
    this.passed += next;
    return this.passed + 1;
  }
}

/** The file as checked UTF-8 without byte-order mark, its line breaks counted. */
async function* recoded(file: string, lines: LineCounter): AsyncGenerator<Buffer> {
  const decode = utf8Decoder(file);
  const recode = (chunk?: Uint8Array): Buffer => {
    const text = Buffer.from(decode(chunk, lines.last));
    lines.add(text);
    return text;
  };
  for await (const chunk of readBytes(file)) yield recode(chunk);
  yield recode();
}
